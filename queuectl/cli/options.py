"""Options and arguments that several commands share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from queuectl.cli import completion
from queuectl.domain import durations
from queuectl.errors import InvalidInput

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


def parse_since(text: str) -> datetime:
    """Return the instant that lies so long ago; raises InvalidInput."""
    try:
        return datetime.now(UTC) - timedelta(seconds=durations.parse_duration(text))
    except ValueError as error:
        raise InvalidInput(f"--since: {text[:40]!r} {error}", hint="write --since 2d") from error
