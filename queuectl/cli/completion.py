"""Shell completion: what the shells' scripts ask, and how they are shown and installed.

A script in ``shells/`` calls the program with ``_QUEUECTL_COMPLETE`` naming the shell and with the
words of the line as arguments; the answer is a candidate a line, in the form that script expects.
Nothing here may import SQLAlchemy, Pydantic or rich: it runs at each press of the tab key.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument, TyperOption

from queuectl.cli import render
from queuectl.domain.text import escape_line
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.settings import StoreLocation, locate_store

VARIABLE = "_QUEUECTL_COMPLETE"
SHELLS = ("bash", "zsh", "fish")

_BARE = ("--install-completion", "--show-completion")
_DETECT = "auto"
#: The longest description, in characters.
_DESCRIPTION = 60
_STATES = (
    "held",
    "blocked",
    "scheduled",
    "pending",
    "processing",
    "completed",
    "failed",
    "dead",
    "cancelled",
)
_ENDED = ("completed", "cancelled", "dead")
#: What domain/options.py defines; a test holds the two together, for that module imports Pydantic.
_OPTIONS = (
    "max-retries",
    "backoff-base",
    "backoff-max",
    "timeout",
    "max-crashes",
    "lease",
    "output-limit",
    "output-store",
    "retention-completed",
    "retention-cancelled",
    "retention-dead",
)
#: What domain/terms.py defines.
_BACKOFFS = ("exponential", "linear", "fixed")

#: What ``set`` changes, by domain/changes.py; a test holds the two together.
_KEYS = (
    "command",
    "queue",
    "priority",
    "max-retries",
    "timeout",
    "run-at",
    "delay",
    "backoff-base",
    "backoff",
    "jitter",
    "retry-on",
    "no-retry-on",
    "expect",
    "fail-if",
    "expect-file",
    "stall",
    "cwd",
    "name",
    "tags",
    "deadline",
    "at",
    "in",
    "tag",
)

#: A word that means itself in every shell.
_PLAIN = re.compile(r"[\w@%+=:,./-]+")
#: Signals that have a command of their own.
_OWN_COMMANDS = ("STOP", "CONT")

Candidates = list[tuple[str, str]]


def answer(group: Any, shell: str, arguments: list[str]) -> None:
    """Print what may follow the words of a line, in the form that this shell's script reads."""
    if shell == "bash":
        _answer_bash(group, *arguments)
    elif shell in ("zsh", "fish"):
        candidates = _find(group, arguments[:-1], arguments[-1] if arguments else "")
        form = _form_zsh if shell == "zsh" else _form_fish
        render.out_lines(form(value, text) for value, text in candidates)


def _find(group: Any, words: list[str], incomplete: str) -> Candidates:
    # Typer has no public name for its own Click's completion; pyproject.toml pins the release.
    from typer._click.shell_completion import ShellComplete

    # Typer would import Pydantic to convert values, and call --version's function. A completion
    # looks at words, not at values.
    for kind in (TyperArgument, TyperOption):
        kind.process_value = _leave_value  # type: ignore[method-assign]

    class Words(ShellComplete):
        """The words are known; only Click's search through them is wanted."""

        def source_vars(self) -> dict[str, Any]:
            return {}

        def get_completion_args(self) -> tuple[list[str], str]:
            return words, incomplete

        def format_completion(self, item: Any) -> str:
            return str(item.value)

    items = Words(group, {}, "queuectl", VARIABLE).get_completions(list(words), incomplete)
    return [(str(item.value), _describe(item.help or "")) for item in items]


def _leave_value(self: Any, ctx: Any, value: Any) -> Any:
    return value


def _describe(text: str) -> str:
    line = escape_line(text.strip())
    return line if len(line) <= _DESCRIPTION else line[: _DESCRIPTION - 1] + "…"


def _answer_bash(group: Any, line: str = "", kind: str = "", breaks: str = "") -> None:
    """Answer bash, which shows no descriptions: they are part of what it only lists.

    ``kind`` is COMP_TYPE: 63 lists and inserts nothing. Bash replaces only what follows the last of
    ``breaks`` (a colon, an equals sign), so that much is taken off each candidate.
    """
    words = _split(line)
    candidates = _find(group, words[1:-1], words[-1])
    start = max((words[-1].rfind(mark) for mark in ":=" if mark in breaks), default=-1) + 1
    if words[-1].startswith("-") and "=" in words[-1]:
        start = 0 if "=" in breaks else 0 - len(words[-1].partition("=")[0]) - 1
    listed = kind == "63" and len(candidates) > 1
    for value, text in candidates:
        rest = value[start:] if start >= 0 else words[-1][:-start] + value
        render.out(f"{rest}  ({text})" if listed and text else rest)


def _split(line: str) -> list[str]:
    """Split a line as the shell would; its last word may be empty or lack its closing quote."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:
        words.append(lexer.token)
        return words
    return words if words and not line[-1:].isspace() else [*words, ""]


def _form_zsh(value: str, text: str) -> str:
    escaped = value.replace("\\", "\\\\").replace(":", "\\:")
    return f"{escaped}:{text}" if text else escaped


def _form_fish(value: str, text: str) -> str:
    return f"{value}\t{text}" if text else value


def complete_job(ctx: typer.Context, incomplete: str) -> Candidates:
    """Jobs, the newest first, each with its command."""
    return [("last", "the newest job"), *_ask(ctx, lambda ask, at: ask.jobs(at, incomplete))]


def complete_dead(ctx: typer.Context, incomplete: str) -> Candidates:
    """Dead jobs, the newest first, each with its command."""
    return _ask(ctx, lambda ask, at: ask.dead(at, incomplete))


def complete_kind(ctx: typer.Context, incomplete: str) -> Candidates:
    """Kinds of dead jobs, the most frequent first, each with its number and an error."""
    return _ask(ctx, lambda ask, at: ask.kinds(at, incomplete))


def complete_queue(ctx: typer.Context, incomplete: str) -> Candidates:
    """Queues that have had a job."""
    return _ask(ctx, lambda ask, at: [(name, "") for name in ask.queues(at)])


def complete_setting(ctx: typer.Context, incomplete: str) -> Candidates:
    """Jobs, and the keys that ``set`` changes; behind a key its values, where they are known."""
    key, equals, value = incomplete.partition("=")
    if equals:
        asked = {"queue": complete_queue, "tag": complete_tag, "tags": complete_tag}.get(key)
        found = [(word, "") for word in _BACKOFFS] if key == "backoff" else []
        if asked is not None:
            found = asked(ctx, value)
        return [(f"{key}={name}", text) for name, text in found if name.startswith(value)]
    keys = [(f"{name}=", "") for name in _KEYS if name.startswith(key)]
    return [*complete_job(ctx, incomplete), *keys]


def complete_rate(incomplete: str) -> list[str]:
    """What a rate ends with, behind its number; or none."""
    if incomplete.isdigit():
        incomplete += "/"
    count, slash, _ = incomplete.partition("/")
    found = [f"{count}/{unit}" for unit in "smhd"] if slash and count.isdigit() else ["none"]
    return [rate for rate in found if rate.startswith(incomplete)]


def complete_tag(ctx: typer.Context, incomplete: str) -> Candidates:
    """Tags of any job."""
    return _ask(ctx, lambda ask, at: [(tag, "") for tag in ask.tags(at, incomplete)])


def complete_name(ctx: typer.Context, incomplete: str) -> Candidates:
    """Names of any job, but for those that a shell would take apart."""
    found = _ask(ctx, lambda ask, at: [(name, "") for name in ask.names(at, incomplete)])
    return [(name, text) for name, text in found if _PLAIN.fullmatch(name)]


def complete_limit(incomplete: str) -> list[str]:
    """What a limit may be besides a number."""
    return ["none"] if "none".startswith(incomplete) else []


def complete_signal(incomplete: str) -> list[str]:
    """The signals by name, but for the two that are freeze and thaw."""
    import signal

    names = [found.name.removeprefix("SIG") for found in signal.Signals]
    return [name for name in names if name.startswith(incomplete) and name not in _OWN_COMMANDS]


def complete_schedule(ctx: typer.Context, incomplete: str) -> Candidates:
    """Schedules, each with when it is due."""
    return _ask(ctx, lambda ask, at: ask.schedules(at, incomplete))


def complete_worker(ctx: typer.Context, incomplete: str) -> Candidates:
    """Workers that have not left, each with where it runs."""
    return _ask(ctx, lambda ask, at: ask.workers(at, incomplete))


def complete_host(ctx: typer.Context, incomplete: str) -> Candidates:
    """Hosts on which a worker has not left."""
    return _ask(ctx, lambda ask, at: [(name, "") for name in ask.hosts(at, incomplete)])


def complete_timezone(incomplete: str) -> list[str]:
    """The time zones of the world."""
    from zoneinfo import available_timezones

    return sorted(name for name in available_timezones() if name.startswith(incomplete))


def _ask(ctx: typer.Context, question: Callable[[Any, StoreLocation], Candidates]) -> Candidates:
    from queuectl.db import completion

    try:
        location = locate_store(ctx.find_root().params.get("db"))
    except QueuectlError:
        return []
    return question(completion, location)


def complete_state(incomplete: str) -> list[str]:
    """The states of a job."""
    return [state for state in _STATES if state.startswith(incomplete)]


def complete_ended(incomplete: str) -> list[str]:
    """The states that nothing leaves by itself."""
    return [state for state in _ENDED if state.startswith(incomplete)]


def complete_option(incomplete: str) -> list[str]:
    """The stored options."""
    return [name for name in _OPTIONS if name.startswith(incomplete)]


def allow_bare(arguments: list[str]) -> list[str]:
    """Let ``--show-completion`` stand alone, for the shell that it is typed in."""
    return [*arguments, _DETECT] if arguments[-1:] and arguments[-1] in _BARE else arguments


def _show(shell: str | None) -> None:
    if shell is not None:
        render.out(_script(_named(shell)).rstrip("\n"))
        raise typer.Exit


def _install(shell: str | None) -> None:
    if shell is None:
        return
    name = _named(shell)
    try:
        path, changed = _write(name)
    except OSError as error:
        raise QueuectlError(f"{error.filename} cannot be written: {error.strerror}") from error
    render.out(
        f"{name} completion installed in {path}" + (f", read by {changed}" if changed else "")
    )
    render.hint("open a new shell to use it")
    raise typer.Exit


def _named(shell: str) -> str:
    name = _detect() if shell == _DETECT else shell
    if name not in SHELLS:
        raise InvalidInput(
            f"there is no completion for {name[:40]!r}", hint=f"shells: {', '.join(SHELLS)}"
        )
    return name


def _detect() -> str:
    import shellingham  # type: ignore[import-untyped]  # it ships no types

    try:
        name, _ = shellingham.detect_shell()
    except shellingham.ShellDetectionFailure:
        name = Path(os.environ.get("SHELL", "")).name
    if not name:
        raise InvalidInput(
            "the shell that you use was not recognised", hint=f"name it: {', '.join(SHELLS)}"
        )
    return str(name)


def _script(shell: str) -> str:
    return (Path(__file__).parent / "shells" / f"queuectl.{shell}").read_text()


def _write(shell: str) -> tuple[Path, Path | None]:
    """Write the script, and the line that reads it where one is needed; return both files."""
    home = Path.home()
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        path = config / "fish" / "completions" / "queuectl.fish"
        startup = None
    else:
        share = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
        path = share / "queuectl" / f"completion.{shell}"
        zsh_home = Path(os.environ.get("ZDOTDIR") or home)
        startup = home / ".bashrc" if shell == "bash" else zsh_home / ".zshrc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_script(shell))
    if startup is not None:
        _add_line(startup, f"source {shlex.quote(str(path))}")
    return path, startup


def _add_line(startup: Path, line: str) -> None:
    written = startup.read_text(errors="surrogateescape") if startup.exists() else ""
    if line not in written.splitlines():
        with startup.open("a", errors="surrogateescape") as file:
            file.write(("" if not written or written.endswith("\n") else "\n") + line + "\n")


SHOW_OPTION = typer.Option(
    "--show-completion",
    metavar="[SHELL]",
    is_eager=True,
    callback=_show,
    expose_value=False,
    help="Print the completion script of bash, zsh or fish (yours, if none is named).",
)
INSTALL_OPTION = typer.Option(
    "--install-completion",
    metavar="[SHELL]",
    is_eager=True,
    callback=_install,
    expose_value=False,
    help="Install it.",
)
