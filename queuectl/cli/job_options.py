"""What can be said of a plain command: the options that ``enqueue`` and ``run`` share."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from queuectl.cli import completion
from queuectl.domain import request
from queuectl.errors import InvalidInput, InvalidJob, QueuectlError

Id = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="An id of your own; repeating it is safe.")
]
Queue = Annotated[
    str | None,
    typer.Option(
        "--queue",
        "-Q",
        metavar="NAME",
        help="Its queue.  [default: default]",
        autocompletion=completion.complete_queue,
    ),
]
Priority = Annotated[
    int | None, typer.Option("--priority", metavar="N", help="The higher, the sooner.")
]
MaxRetries = Annotated[
    int | None,
    typer.Option("--max-retries", metavar="N", help="Retries after the first failure."),
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="Kill an attempt after 90s, 5m, 1h30m."),
]
BackoffBase = Annotated[
    float | None,
    typer.Option("--backoff-base", metavar="B", help="Wait B^k seconds after failure k."),
]
Cwd = Annotated[str | None, typer.Option("--cwd", metavar="DIR", help="Run it there, not here.")]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="K=V", help="Set a variable for it; repeatable."),
]
Name = Annotated[str | None, typer.Option("--name", metavar="TEXT", help="What people call it.")]
Tag = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        "-t",
        metavar="TAG",
        help="A word by which many are named at once; repeatable.",
        autocompletion=completion.complete_tag,
    ),
]
After = Annotated[
    list[str] | None,
    typer.Option(
        "--after",
        metavar="ID",
        help="Not before that job has completed; repeatable. Cancelled if it does not.",
        autocompletion=completion.complete_job,
    ),
]
AfterAny = Annotated[
    list[str] | None,
    typer.Option(
        "--after-any",
        metavar="ID",
        help="Not before that job has ended, however; repeatable.",
        autocompletion=completion.complete_job,
    ),
]
AfterFailure = Annotated[
    list[str] | None,
    typer.Option(
        "--after-failure",
        metavar="ID",
        help="Only if that job, or one of several, dies or is cancelled; repeatable.",
        autocompletion=completion.complete_job,
    ),
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="COMMAND",
        help="One word is a shell line as it stands; several are a command and its arguments.",
        show_default=False,
    ),
]

#: The option of a job's field, where it is not called as the field is.
_OPTIONS = {"tags": "tag"}


def plain_request(words: list[str], fields: dict[str, Any]) -> request.JobRequest:
    """Return the job of a command's words and of what options gave; raises InvalidJob."""
    given = {name: value for name, value in fields.items() if value is not None}
    if "cwd" in given:
        given["cwd"] = os.path.abspath(given["cwd"])  # noqa: PTH100  # links stay as named
    if "env" in given:
        given["env"] = dict(_variable(text) for text in given["env"])
    command = words[0] if len(words) == 1 else shlex.join(words)
    try:
        return request.validate_request({"command": command, **given})
    except InvalidJob as error:
        # Named as they were given: options.
        problems = []
        for problem in error.problems:
            field, colon, reason = problem.partition(":")
            field = field.partition(".")[0]
            problems.append(f"{option_of(field)}:{reason}" if colon and field in given else problem)
        raise InvalidJob(problems, hint=error.hint) from error


def option_of(field: str) -> str:
    """Return the option that gives a field of a job."""
    return "--" + _OPTIONS.get(field, field).replace("_", "-")


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"--env {text[:40]!r} has no value", hint="write --env NAME=VALUE")
    return name, value


def current_folder() -> str:
    """Return the folder that a job runs in if it names none; raises QueuectlError."""
    try:
        folder = str(Path.cwd())
    except OSError as error:
        raise QueuectlError(
            "the current folder is gone, and the job would run in it",
            hint="go to one that exists, or name one with --cwd DIR",
        ) from error
    try:
        folder.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"the name of the current folder is not UTF-8: {folder!r}",
            hint="rename it, or name another with --cwd DIR",
        ) from error
    return folder
