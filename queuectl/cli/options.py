"""Options and arguments that several commands share."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from queuectl.cli import completion, render
from queuectl.domain import durations, request
from queuectl.errors import InvalidInput, QueuectlError

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print ids only.")]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The job's id, any unique beginning of it, or: last.",
        autocompletion=completion.complete_job,
        show_default=False,
    ),
]
Queue = Annotated[
    str | None,
    typer.Option(
        "--queue",
        "-Q",
        metavar="NAME",
        help="Only of this queue.",
        autocompletion=completion.complete_queue,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only tell what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def check_queue(name: str, *, option: str | None = None) -> None:
    """Refuse a name that no queue can have; raises InvalidInput."""
    try:
        request.check_name(name)
    except ValueError as error:
        where = f"{option}: " if option else "queue "
        raise InvalidInput(f"{where}{name[:60]!r} {error}") from error


def require_consent(question: str, *, otherwise: str = "nothing was deleted") -> None:
    """Ask on a terminal before many things are changed; raises QueuectlError unless it is a yes."""
    if render.is_terminal(sys.stdin) and not render.confirm(question):
        raise QueuectlError(otherwise, hint="--yes skips the question")


def parse_timeout(text: str) -> float:
    """Return the seconds that ``--timeout`` names; raises InvalidInput."""
    try:
        return durations.parse_duration(text)
    except ValueError as error:
        raise InvalidInput(f"--timeout: {text[:40]!r} {error}") from error


def parse_since(text: str) -> datetime:
    """Return the instant that ``2h`` (ago) or an RFC 3339 date names; raises InvalidInput."""
    try:
        return datetime.now(UTC) - timedelta(seconds=durations.parse_duration(text))
    except ValueError:
        pass
    try:
        instant = request.parse_instant(text)
    except ValueError as error:
        raise InvalidInput(
            f"--since: {text[:40]!r} is neither a duration nor a date",
            hint="write 90s, 2h, 7d, or a date like 2026-11-24T18:00:00Z",
        ) from error
    return instant or datetime.now(UTC)
