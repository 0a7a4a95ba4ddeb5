"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from queuectl.cli import completion

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
