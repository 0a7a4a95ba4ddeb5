"""``--stdin``: what a job is given to read at every attempt is read here, once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from queuectl.cli import render
from queuectl.domain import request
from queuectl.errors import InvalidInput

Stdin = Annotated[
    bool,
    typer.Option("--stdin", help="Keep this standard input, up to 1 MiB, for each attempt."),
]


def read(command: str, most_bytes: int = request.LARGEST_STDIN_BYTES) -> bytes:
    """Return all that stands on stdin; ``command`` is the one that asks. Raises InvalidInput."""
    if sys.stdin is None or sys.stdin.closed:
        raise InvalidInput("stdin is closed", hint="hand the input over through a pipe or a file")
    if render.is_terminal(sys.stdin):
        raise InvalidInput(
            "--stdin is not for what is typed",
            hint=f"write: queuectl {command} --stdin ... < FILE",
        )
    content = sys.stdin.buffer.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise InvalidInput(
            f"stdin is longer than {most_bytes} bytes, and was not kept",
            hint="put it into a file, and let the command read that",
        )
    return content
