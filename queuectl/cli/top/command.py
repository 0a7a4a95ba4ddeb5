"""The command: refuses what is no terminal, and says what to install where Textual is not."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from queuectl import extras
from queuectl.cli import completion, lazy, options, render
from queuectl.cli.store import open_store
from queuectl.domain import durations
from queuectl.errors import InvalidInput

app = typer.Typer(rich_markup_mode=None, add_completion=False)

#: In seconds. A screen that is drawn more often than that cannot be read.
_SHORTEST, _LONGEST = 0.1, 3600.0


@app.command("top")
def top(
    ctx: typer.Context,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            "-Q",
            metavar="NAME",
            help="Only of this queue; repeatable.",
            autocompletion=completion.complete_queue,
        ),
    ] = None,
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="How often to look: 1s, 500ms, 5s.")
    ] = "1s",
) -> None:
    """Watch jobs and queues live, with keys to pause, cancel, retry and follow.

    Needs a terminal, and the extra `top`. Press ? there for its keys.
    """
    for name in queue or ():
        options.check_queue(name, option="--queue")
    seconds = _parse_interval(interval)
    _require_terminal()
    _require_textual()
    store = open_store(ctx)
    # From here on there are threads, and an import that was put off may be run by one alone.
    lazy.finish_start()
    from queuectl.cli.top import app as live

    raise typer.Exit(live.show(store, tuple(queue or ()), seconds))


def _parse_interval(text: str) -> float:
    try:
        seconds = durations.parse_duration(text)
    except ValueError as error:
        raise InvalidInput(f"--interval: {text[:40]!r} {error}") from error
    if not _SHORTEST <= seconds <= _LONGEST:
        raise InvalidInput(f"--interval: {text[:40]!r} must lie between 100ms and 1h")
    return seconds


def _require_terminal() -> None:
    # Keys come from stdin, and Textual draws on stderr.
    streams = (sys.stdin, sys.stdout, sys.stderr)
    if os.environ.get("TERM", "dumb") == "dumb" or not all(
        stream is not None and render.is_terminal(stream) for stream in streams
    ):
        raise InvalidInput(
            "top draws on a terminal, and this is none",
            hint="see the same with: queuectl status, queuectl list, queuectl queue list"
            " (each has --json)",
        )


def _require_textual() -> None:
    try:
        import textual  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise InvalidInput(
            "top needs the package textual, which is not installed",
            hint=extras.how_to_install("top"),
        ) from error
