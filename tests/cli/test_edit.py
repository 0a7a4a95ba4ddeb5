"""``queuectl edit``, in a real terminal, with real scripts for editors."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from typing import Any

import pexpect
import pytest

from queuectl.domain.terms import FIELDS
from tests.cli.conftest import Program
from tests.waiting import wait_until

_JOB = '{"id": "a", "command": "true", "env": {"TOKEN": "hunter2"}, "tags": ["x"], "timeout": 90}'


@pytest.fixture
def filled(queuectl: Program) -> Program:
    """The program, on a store with one job that waits."""
    queuectl("enqueue", "--file", "-", given=_JOB)
    return queuectl


def editor(queuectl: Program, script: str) -> str:
    """Return the path of an editor that does this to the file ``$1``, in the tests' folder."""
    path = queuectl.folder / "the editor"
    path.write_text(f"#!/bin/sh\ncd '{queuectl.folder}'\n{script}\n")
    path.chmod(0o700)
    return f"'{path}'"


def edit(queuectl: Program, script: str, *words: str) -> Any:
    return queuectl.on_terminal(
        "edit", *(words or ("a",)), EDITOR=editor(queuectl, script), VISUAL=""
    )


def finish(terminal: Any, code: int = 0) -> str:
    """Wait until it has ended; return what it printed."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == code, terminal.before
    return str(terminal.before)


def show(queuectl: Program) -> dict[str, Any]:
    found: dict[str, Any] = queuectl("show", "a", "--json").json
    return found


def test_what_is_changed_in_the_editor_is_stored_and_the_job_is_let_go(filled: Program) -> None:
    script = """cp "$1" shown; stat -c '%a' "$1" "$(dirname "$1")" > modes; dirname "$1" > folder
sed -i 's/"priority": 0/"priority": 7/; s/"x"/"y"/; s/"command": "true"/"command": "echo hi"/' "$1"
"""

    told = finish(edit(filled, script))

    assert " 1 job changed" in told
    job = show(filled)
    assert (job["priority"], job["tags"], job["state"]) == (7, ["y"], "pending")
    assert (job["command"], job["timeout_seconds"], job["env"]) == ("echo hi", 90, ["TOKEN"])
    shown = (filled.folder / "shown").read_text()
    assert "hunter2" not in shown
    assert "# Its variables are not shown, and stay as they are: TOKEN\n" in shown
    assert (filled.folder / "modes").read_text().split() == ["600", "700"]
    assert not Path((filled.folder / "folder").read_text().strip()).exists()
    filled.drain()
    assert filled("logs", "a").out == "hi\n"


def test_the_job_is_named_by_what_nobody_else_has_in_common_with_it(filled: Program) -> None:
    filled("enqueue", "--id", "b", "--queue", "q", "true")
    filled("enqueue", "--id", "c", "--queue", "q", "--tag", "x", "true")
    priority = 's/"priority": 0/"priority": 7/'

    told = finish(edit(filled, f"""sed -i '{priority}' "$1" """, "--tag", "x", "--queue", "q"))

    assert " 1 job changed" in told
    assert filled("show", "c", "--json").json["priority"] == 7
    for words in (["--tag", "x"], ["a", "c"]):
        refused = finish(edit(filled, "touch opened", *words), code=2)
        assert "an editor is for one job, and these are 2: a, c" in refused
        assert "queuectl set ... KEY=VALUE" in refused
    refused = finish(edit(filled, "touch opened", "--tag", "nobody"), code=3)
    assert "no such job waits" in refused
    assert not (filled.folder / "opened").exists()
    assert filled("list", "--state", "held", "-q").lines == []


def test_a_job_with_its_own_backoff_is_edited_with_all_that_counts_as_its_failure(
    filled: Program,
) -> None:
    own = ("--backoff", "fixed", "--backoff-base", "0.5", "--retry-on", "75")
    filled("enqueue", "--hold", *own, "--id", "b", "--", "true")
    script = """cp "$1" shown
sed -i 's/"priority": 0/"priority": 7/; s/"jitter": null/"jitter": "20%"/
s/"expect": null/"expect": "^done"/; s/"stall": null/"stall": "10m"/' "$1" """

    finish(edit(filled, script, "b"))

    job = filled("show", "b", "--json").json
    assert (job["priority"], job["backoff"], job["backoff_base"]) == (7, "fixed", 0.5)
    assert (job["jitter"], job["expect"], job["stall_seconds"]) == (0.2, "^done", 600)
    assert job["retry_on"] == [75]
    shown = (filled.folder / "shown").read_text()
    for name in FIELDS:
        assert f'"{name}": ' in shown


def test_nobody_starts_a_job_while_it_is_edited(filled: Program) -> None:
    script = 'touch begun; until [ -e go ]; do sleep 0.02; done; sed -i s/true/false/ "$1"'
    terminal = edit(filled, script)
    wait_until((filled.folder / "begun").exists)

    filled.drain()

    assert show(filled)["state"] == "held"
    told = filled("explain", "a").out
    assert "it is held while somebody edits it, since 2" in told
    assert "queuectl release a" in told
    assert "edited      since 2" in filled("show", "a").out
    refused = filled.on_terminal("edit", "a", EDITOR="true")
    assert "somebody is editing job 'a' already" in finish(refused, code=4)
    (filled.folder / "go").touch()
    finish(terminal)
    assert (show(filled)["state"], show(filled)["command"]) == ("pending", "false")


@pytest.mark.parametrize("script", ["true", ': > "$1"', """sed -i 's/^#.*//' "$1" """])
def test_without_a_change_nothing_is_changed_and_it_says_so(filled: Program, script: str) -> None:
    before = show(filled)

    told = finish(edit(filled, script))

    assert "nothing was changed" in told
    changing = ("updated_at",)
    assert {k: v for k, v in show(filled).items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }


def test_an_editor_that_fails_changes_nothing(filled: Program) -> None:
    told = finish(edit(filled, """sed -i 's/"priority": 0/"priority": 7/' "$1"; exit 3"""), code=1)

    assert "the editor ended with code 3; nothing was changed" in told
    assert (show(filled)["priority"], show(filled)["state"]) == (0, "pending")


def test_what_is_wrong_is_told_and_can_be_edited_again(filled: Program) -> None:
    script = """n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n
case $n in
0) sed -i 's/"priority": 0/"priority": 0,,/' "$1" ;;
1) sed -i 's/0,,/"high"/' "$1" ;;
2) sed -i 's/"priority": "high"/"priority": 4, "env": {}/' "$1" ;;
3) sed -i 's/, "env": {}//' "$1" ;;
esac
"""
    terminal = edit(filled, script)

    for problem in ("not valid JSON: line 8", "'high' must be a valid integer", "'env' cannot be"):
        terminal.expect(problem)
        terminal.expect("edit it again")
        assert show(filled)["state"] == "held"
        terminal.sendline("y")
    finish(terminal)

    assert (show(filled)["priority"], show(filled)["state"]) == (4, "pending")


def test_whoever_gives_up_leaves_the_job_as_it_was(filled: Program) -> None:
    terminal = edit(filled, """sed -i 's/"priority": 0/"priority": "x"/; s/"x"/"y"/' "$1" """)
    terminal.expect("edit it again")
    terminal.sendline("n")

    assert "nothing was changed" in finish(terminal, code=1)
    job = show(filled)
    assert (job["priority"], job["tags"], job["state"]) == (0, ["x"], "pending")


def test_a_job_that_was_changed_meanwhile_keeps_that(filled: Program) -> None:
    script = """touch begun; until [ -e go ]; do sleep 0.02; done
sed -i 's/"priority": 0/"priority": 7/' "$1" """
    terminal = edit(filled, script)
    wait_until((filled.folder / "begun").exists)
    filled("cancel", "a")
    (filled.folder / "go").touch()

    told = finish(terminal, code=4)

    assert "job 'a' was changed while you edited it, and is cancelled now" in " ".join(told.split())
    assert (show(filled)["state"], show(filled)["priority"]) == ("cancelled", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_is_ended_gives_the_job_back(filled: Program, number: signal.Signals) -> None:
    terminal = edit(filled, 'dirname "$1" > folder; touch begun; exec sleep 300')
    wait_until((filled.folder / "begun").exists)

    os.kill(terminal.pid, number)

    wait_until(lambda: show(filled)["state"] == "pending")
    wait_until(lambda: not Path((filled.folder / "folder").read_text().strip()).exists())
    terminal.close()


def test_a_job_whose_editor_was_killed_with_everything_stays_held_until_it_is_released(
    filled: Program,
) -> None:
    terminal = edit(filled, "touch begun; exec sleep 300")
    wait_until((filled.folder / "begun").exists)

    os.kill(terminal.pid, signal.SIGKILL)
    terminal.close()

    assert show(filled)["state"] == "held"
    assert "while somebody edits it" in filled("explain", "a").out
    filled("release", "a")
    job = show(filled)
    assert (job["state"], job["edit_started_at"]) == ("pending", None)


def test_ctrl_c_is_the_editors(filled: Program) -> None:
    script = """trap 'sed -i "s/\\"priority\\": 0/\\"priority\\": 7/" "$1"; exit 0' INT
touch begun; while :; do sleep 0.02; done"""
    terminal = edit(filled, script)
    wait_until((filled.folder / "begun").exists)

    terminal.sendintr()
    finish(terminal)

    assert (show(filled)["priority"], show(filled)["state"]) == (7, "pending")


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (["--hold"], "held"),
        (["--in", "1h"], "scheduled"),
        (["--after", "a"], "blocked"),
    ],
)
def test_a_job_comes_back_to_where_it_waited(filled: Program, words: list[str], state: str) -> None:
    filled("enqueue", *words, "--id", "b", "--", "true")

    finish(edit(filled, """sed -i 's/"priority": 0/"priority": 7/' "$1" """, "b"))

    job = filled("show", "b", "--json").json
    assert (job["state"], job["priority"]) == (state, 7)


def test_a_failed_job_stays_in_its_backoff_and_a_time_in_words_is_read(filled: Program) -> None:
    filled("set", "a", "command=false", "backoff-base=10000")
    filled.drain()
    assert show(filled)["state"] == "failed"

    finish(edit(filled, """sed -i 's/"run_at": .*,/"run_at": "tomorrow 9:00",/' "$1" """))

    assert show(filled)["state"] == "failed"
    assert show(filled)["run_at"] > "2026"


@pytest.mark.parametrize(("variable", "other"), [("VISUAL", "EDITOR"), ("EDITOR", "VISUAL")])
def test_the_editor_is_found_and_may_have_options(
    filled: Program, variable: str, other: str
) -> None:
    named = editor(filled, 'echo "$1" > option; sed -i \'s/"priority": 0/"priority": 7/\' "$2"')
    wrong = "false" if variable == "VISUAL" else " "

    variables: Any = {variable: f"{named} -w", other: wrong}
    finish(filled.on_terminal("edit", "a", "--json", **variables))

    assert (filled.folder / "option").read_text() == "-w\n"
    assert show(filled)["priority"] == 7


def test_it_falls_back_to_an_editor_on_the_path(filled: Program) -> None:
    folder = filled.folder / "bin"
    folder.mkdir()
    vi = folder / "vi"
    vi.write_text("""#!/bin/sh\n/bin/sed -i 's/"priority": 0/"priority": 7/' "$1"\n""")
    vi.chmod(vi.stat().st_mode | stat.S_IXUSR)

    finish(filled.on_terminal("edit", "a", EDITOR="", VISUAL="", PATH=str(folder)))

    assert show(filled)["priority"] == 7


def test_without_an_editor_or_a_terminal_it_is_refused(filled: Program) -> None:
    none = {"EDITOR": "", "VISUAL": "", "PATH": str(filled.folder)}

    no_editor = filled("edit", "a", code=2, variables=none)
    no_terminal = filled("edit", "a", code=2, variables={"EDITOR": "true"})

    assert "there is no editor" in no_editor.err
    assert "export EDITOR" in no_editor.err
    assert "an editor needs a terminal" in no_terminal.err
    assert "queuectl set ID KEY=VALUE" in no_terminal.err
    assert show(filled)["state"] == "pending"


def test_what_runs_has_ended_or_is_not_there_is_refused(filled: Program) -> None:
    filled.drain()

    ended = finish(filled.on_terminal("edit", "a", EDITOR="true"), code=4)
    unknown = finish(filled.on_terminal("edit", "nobody", EDITOR="true"), code=3)

    assert "job 'a' is completed, and cannot be edited" in ended
    assert "queuectl retry a" in ended
    assert "there is no job 'nobody'" in unknown
