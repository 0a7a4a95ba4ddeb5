"""Options and arguments that several commands share."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from queuectl.cli import completion, render
from queuectl.domain import request
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


def require_consent(question: str) -> None:
    """Ask on a terminal whether to delete something; raises QueuectlError unless it is a yes."""
    if render.is_terminal(sys.stdin) and not render.confirm(question):
        raise QueuectlError("nothing was deleted", hint="--yes skips the question")
