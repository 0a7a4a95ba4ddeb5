"""Shell completion in real shells, as somebody who presses the tab key sees it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pexpect
import pytest

from queuectl.cli import completion
from tests.cli.conftest import PROGRAM, Program

SHELLS = ("bash", "zsh", "fish")
PROMPT = "READY> "
TAB = "\t"

START = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "-i"],
}
SET_PROMPT = {
    "bash": f"PS1='{PROMPT}'; bind 'set bell-style none'; bind 'set enable-bracketed-paste off'",
    "zsh": f"PROMPT='{PROMPT}'; unsetopt zle_bracketed_paste; setopt no_beep",
    "fish": f"function fish_prompt; echo -n '{PROMPT}'; end",
}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """Each shell; one that is not installed is a failure, not something to skip."""
    name = str(request.param)
    assert shutil.which(name), f"{name} is not installed; run tests/install-tools.sh"
    return name


def _open(queuectl: Program, shell: str, script: str) -> Any:
    """Start a shell in a terminal that has read the completion script."""
    terminal = pexpect.spawn(
        shell,
        START[shell],
        cwd=str(queuectl.folder),
        env={**queuectl.environment, "TERM": "dumb" if shell != "fish" else "xterm"},
        dimensions=(50, 160),
        timeout=30,
        encoding="utf-8",
    )
    terminal.sendline(SET_PROMPT[shell])
    terminal.expect_exact(PROMPT, timeout=60)
    terminal.sendline(f"source {script}; echo sou''rced")
    terminal.expect_exact("sourced")
    terminal.expect_exact(PROMPT)
    return terminal


def _script(queuectl: Program, shell: str) -> str:
    path = queuectl.folder / f"script.{shell}"
    path.write_text(queuectl("--show-completion", shell).out)
    return str(path)


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x07\x08\r]", "", text)


def _typed(terminal: Any, text: str, wanted: str) -> str:
    """Type something that ends in tabs, wait for what is wanted, and return what was shown."""
    terminal.send(text)
    terminal.expect(wanted)
    return _plain(str(terminal.before) + str(terminal.after))


def test_a_command_is_completed(queuectl: Program, shell: str) -> None:
    terminal = _open(queuectl, shell, _script(queuectl, shell))

    _typed(terminal, "queuectl doc" + TAB, "tor")
    terminal.close()


def test_an_id_is_completed(queuectl: Program, shell: str) -> None:
    queuectl("enqueue", "--id", "backup-2026", "true")
    terminal = _open(queuectl, shell, _script(queuectl, shell))

    terminal.send("queuectl show bac" + TAB)
    terminal.expect("kup-2026")
    terminal.send("--json\r")
    terminal.expect('"command"')
    terminal.close()


def test_ids_are_offered_with_their_commands_escaped(queuectl: Program, shell: str) -> None:
    queuectl("enqueue", "--id", "job-1", "echo $(touch pwned) 'a' \"b\" `touch pwned`; \x1b[31m:")
    queuectl("enqueue", "--id", "job-2", "echo second")
    terminal = _open(queuectl, shell, _script(queuectl, shell))

    terminal.send("queuectl show job-" + TAB)
    if shell == "bash":
        terminal.send(TAB)
    terminal.expect("echo second")
    terminal.expect(r"\$\(touch pwned\)")
    shown = str(terminal.before) + str(terminal.after)

    terminal.close()
    assert "\x1b[31m:" not in shown
    assert not (queuectl.folder / "pwned").exists()


def test_an_id_with_a_colon_is_completed(queuectl: Program, shell: str) -> None:
    queuectl("enqueue", "--id", "a:b:c", "true")
    terminal = _open(queuectl, shell, _script(queuectl, shell))

    terminal.send("queuectl show a:b" + TAB)
    terminal.send("\r")
    terminal.expect("true")
    shown = _plain(str(terminal.before))

    terminal.close()
    assert "there is no job" not in shown


def test_an_option_of_a_nested_command_is_completed(queuectl: Program, shell: str) -> None:
    terminal = _open(queuectl, shell, _script(queuectl, shell))

    _typed(terminal, "queuectl dlq retry --dry" + TAB, "-run")
    terminal.close()


def test_an_option_s_value_is_completed(queuectl: Program, shell: str) -> None:
    terminal = _open(queuectl, shell, _script(queuectl, shell))

    _typed(terminal, "queuectl list --state proc" + TAB, "essing")
    terminal.close()


def test_files_are_completed_where_nothing_is_known(queuectl: Program, shell: str) -> None:
    (queuectl.folder / "jobs-of-today.json").touch()
    terminal = _open(queuectl, shell, _script(queuectl, shell))

    _typed(terminal, "queuectl enqueue --file jobs-of" + TAB, "-today.json")
    terminal.close()


def test_it_is_installed_for_the_shell_that_asks(queuectl: Program, shell: str) -> None:
    done = subprocess.run(
        [shell, "-c", f"{PROGRAM} --install-completion; true"],
        env=queuectl.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    again = queuectl("--install-completion", shell)

    assert f"{shell} completion installed in {queuectl.folder}" in done.stdout
    assert f"{shell} completion" in again.out
    startup = {"bash": ".bashrc", "zsh": ".zshrc"}.get(shell)
    if startup is not None:
        assert (queuectl.folder / startup).read_text().count("source ") == 1


def test_an_installed_completion_works_in_a_new_shell(queuectl: Program, shell: str) -> None:
    queuectl("--install-completion", shell)
    queuectl("enqueue", "--id", "nightly", "true")
    options = {"bash": ["-i"], "zsh": ["-i", "-d"], "fish": ["-i"]}[shell]
    terminal = pexpect.spawn(
        shell,
        options,
        cwd=str(queuectl.folder),
        env={**queuectl.environment, "TERM": "dumb" if shell != "fish" else "xterm"},
        dimensions=(50, 160),
        timeout=30,
        encoding="utf-8",
    )
    terminal.sendline(SET_PROMPT[shell])
    terminal.expect_exact(PROMPT, timeout=60)
    terminal.sendline("echo sou''rced")
    terminal.expect_exact("sourced")

    terminal.send("queuectl show nigh" + TAB)
    terminal.expect("tly")
    terminal.close()


def _ask(queuectl: Program, *words: str, shell: str = "fish", **variables: str) -> list[str]:
    return queuectl(*words, variables={"_QUEUECTL_COMPLETE": shell, **variables}).lines


def test_candidates(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "-Q", "nightly", "exit 1")

    assert _ask(queuectl, "show", "") == ["last\tthe newest job", "j\texit 1"]
    assert _ask(queuectl, "list", "--queue", "n") == ["nightly"]
    for command in ("pause", "resume", "limit", "purge"):
        assert _ask(queuectl, "queue", command, "n") == ["nightly"]
        assert _ask(queuectl, "queue", command, "x") == []
    assert _ask(queuectl, "explain", "") == ["last\tthe newest job", "j\texit 1"]
    assert _ask(queuectl, "config", "get", "max-r") == ["max-retries"]
    assert _ask(queuectl, "worker", "st")[0].startswith("start\t")
    assert "--json\tPrint JSON." in _ask(queuectl, "list", "--j")
    assert _ask(queuectl, "dlq", "retry", "") == []
    assert _ask(queuectl, "queue", "limit", "nightly", "") == ["none"]


def test_names_are_offered_once_each_where_a_shell_takes_them_as_they_are(
    queuectl: Program,
) -> None:
    for name in ("cut-a", "cut-a", "cut b; rm", "paint"):
        queuectl("enqueue", "--name", name, "true")

    assert _ask(queuectl, "enqueue", "--name", "cut") == ["cut-a"]
    assert _ask(queuectl, "enqueue", "--name", "") == ["cut-a", "paint"]


def test_signals_are_offered_but_for_those_with_a_command_of_their_own() -> None:
    assert completion.complete_signal("IN") == ["INT"]
    assert {"TERM", "USR1"} < set(completion.complete_signal(""))
    assert not {"STOP", "CONT"} & set(completion.complete_signal(""))


def test_the_store_of_the_line_is_asked(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "true")
    elsewhere = {"QUEUECTL_DB_PATH": str(queuectl.folder / "none.db")}

    store = str(queuectl.location.path)
    assert _ask(queuectl, "show", "j", **elsewhere) == []
    assert _ask(queuectl, "--db", store, "show", "j", **elsewhere) == ["j\ttrue"]
    assert _ask(queuectl, "--db", "mysql://x/y", "show", "j") == []
    assert not Path(elsewhere["QUEUECTL_DB_PATH"]).exists()


def test_an_unknown_shell_is_refused(queuectl: Program) -> None:
    result = queuectl("--show-completion", "csh", code=2)

    assert "'csh'" in result.err
    assert "bash, zsh, fish" in result.err
