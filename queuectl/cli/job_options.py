"""What can be said of a plain command: the options that ``enqueue`` and ``run`` share."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from queuectl.cli import completion
from queuectl.domain import durations, request, terms
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
Backoff = Annotated[
    terms.Backoff | None,
    typer.Option(
        "--backoff",
        help="Wait B^k, B*k or B seconds after failure k; B is --backoff-base."
        "  [default: exponential]",
    ),
]


def parse_base(text: str) -> float:
    """Return a number, or the seconds of a duration; raises ValueError."""
    with suppress(ValueError):
        return float(text)
    try:
        return durations.parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no number, and {error}") from error


BackoffBase = Annotated[
    float | None,
    typer.Option(
        "--backoff-base",
        metavar="B",
        help="What the pauses are made of: 2, 30s, 5m.",
        parser=parse_base,
    ),
]
Jitter = Annotated[
    str | None,
    typer.Option("--jitter", metavar="SHARE", help="Spread each pause by up to 20%, or 0.2."),
]
RetryOn = Annotated[
    str | None,
    typer.Option(
        "--retry-on",
        metavar="CODES",
        help="Retry after these exit codes only: 75,124 (124: timed out); others are dead at once.",
    ),
]
NoRetryOn = Annotated[
    str | None,
    typer.Option("--no-retry-on", metavar="CODES", help="Dead at once after these exit codes."),
]
Expect = Annotated[
    str | None,
    typer.Option("--expect", metavar="REGEX", help="Failed unless a line of its output matches."),
]
FailIf = Annotated[
    str | None,
    typer.Option("--fail-if", metavar="REGEX", help="Failed if a line of its output matches."),
]
ExpectFile = Annotated[
    str | None,
    typer.Option("--expect-file", metavar="PATH", help="Failed unless it is there afterwards."),
]
Stall = Annotated[
    str | None,
    typer.Option(
        "--stall", metavar="TIME", help="Kill an attempt that prints nothing for so long; retry it."
    ),
]
Cwd = Annotated[str | None, typer.Option("--cwd", metavar="DIR", help="Run it there, not here.")]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="K=V", help="Set a variable for it; repeatable."),
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="TEXT",
        help="What people call it.",
        autocompletion=completion.complete_name,
    ),
]
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
Deadline = Annotated[
    str | None,
    typer.Option(
        "--deadline",
        metavar="WHEN|TIME",
        help="Not started by then (18:00) or so much later (3h): dead letter, expired.",
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

#: The options of a job's field, where there are several or it is not called as the field is.
_OPTIONS = {"tags": ("tag",), "run_at": ("run-at", "at"), "delay": ("delay", "in")}


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


def terms_given(ctx: typer.Context) -> dict[str, Any]:
    """Return the fields that the options from ``--backoff`` to ``--stall`` of a command give."""
    values = {name: ctx.params[name] for name in terms.FIELDS}
    return {name: None if value is None else str(value) for name, value in values.items()}


def option_of(field: str) -> str:
    """Return the option that gives a field of a job; of two names the one that was typed."""
    names = [f"--{name.replace('_', '-')}" for name in _OPTIONS.get(field, (field,))]
    typed = (word.partition("=")[0] for word in sys.argv[1:])  # the parser does not keep it
    return next((word for word in typed if word in names), names[0])


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
