"""``queuectl enqueue``: a command, a JSON job, a file of them, or a command for each line."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from queuectl.cli import completion, objects, options, preview, render
from queuectl.cli import each as per_line
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import batch, request
from queuectl.errors import InvalidInput, InvalidJob, QueuectlError, StoreError
from queuectl.service import headcount, jobs

app = typer.Typer(rich_markup_mode=None, add_completion=False)

#: Jobs that are read back at a time to print them.
_PRINTED_AT_ONCE = 500


@app.command(
    "enqueue",
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
)
def enqueue(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="One word is a shell line as it stands, or a job in JSON if it begins with {."
            " Several words are a command and its arguments.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="JSON jobs: one object, an array, or one object a line; - is stdin. All or none.",
        ),
    ] = None,
    each: per_line.EachOf = None,
    null: per_line.Null = False,
    id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="An id of your own; repeating it is safe."),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue",
            "-Q",
            metavar="NAME",
            help="Its queue.  [default: default]",
            autocompletion=completion.complete_queue,
        ),
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", metavar="N", help="The higher, the sooner.")
    ] = None,
    max_retries: Annotated[
        int | None,
        typer.Option("--max-retries", metavar="N", help="Retries after the first failure."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Kill an attempt after 90s, 5m, 1h30m."),
    ] = None,
    run_at: Annotated[
        str | None,
        typer.Option("--run-at", metavar="WHEN", help="Not before, like 2026-11-24T18:00:00Z."),
    ] = None,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="TIME", help="Not before this much later.")
    ] = None,
    backoff_base: Annotated[
        float | None,
        typer.Option("--backoff-base", metavar="B", help="Wait B^k seconds after failure k."),
    ] = None,
    cwd: Annotated[
        str | None, typer.Option("--cwd", metavar="DIR", help="Run it there, not here.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="K=V", help="Set a variable for it; repeatable."),
    ] = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Add a job, or many, and print the ids.

    \b
    queuectl enqueue -- ffmpeg -i in.mp4 out.webm
    queuectl enqueue --queue builds 'make && make test'
    queuectl enqueue '{"id": "job1", "command": "sleep 2"}'
    queuectl enqueue --file jobs.jsonl
    find . -name '*.jpg' | queuectl enqueue --each - 'convert {} {.}.png'
    """
    fields = {
        "id": id,
        "queue": queue,
        "priority": priority,
        "max_retries": max_retries,
        "timeout": timeout,
        "run_at": run_at,
        "delay": delay,
        "backoff_base": backoff_base,
        "cwd": cwd,
        "env": env,
    }
    per_line.refuse_mixtures(file=file, each=each, null=null)
    if file is not None:
        if words:
            raise InvalidInput(
                "give either a command or --file, not both",
                hint="options stand before the command; a file's jobs bring their own",
            )
        _refuse_options(ctx, fields)
        _enqueue_file(ctx, file, batch.read_requests, as_json=json, dry_run=dry_run)
    elif each is not None:
        base = _plain_request(per_line.SAMPLE, {**fields, "id": None})
        read = per_line.reader_of(words or [], base, id, null=null)
        _enqueue_file(ctx, each, read, as_json=json, dry_run=dry_run)
    else:
        job = _request(ctx, words or [], fields)
        _enqueue_one(ctx, job, as_json=json, dry_run=dry_run)


def _request(ctx: typer.Context, words: list[str], fields: dict[str, Any]) -> request.JobRequest:
    if not words:
        raise InvalidInput(
            "there is no command to enqueue", hint="write: queuectl enqueue -- COMMAND ARGUMENT..."
        )
    if words[0].startswith("{"):
        if len(words) > 1:
            raise InvalidInput(
                f"a job in JSON stands alone, and {words[1][:40]!r} came behind it",
                hint="options stand before the job; a shell group begins with a space",
            )
        _refuse_options(ctx, fields)
        return request.decode_request(words[0])
    if len(words) == 1 and _is_json_array(words[0]):
        raise InvalidInput(
            "a list of jobs is not a command",
            hint="hand it over as a file: queuectl enqueue --file - (or --file jobs.json)",
        )
    command = words[0] if len(words) == 1 else shlex.join(words)
    return _plain_request(command, fields)


def _is_json_array(text: str) -> bool:
    """Whether this is JSON: ``[ -f x ] && y`` begins with a bracket too, and is a command."""
    if not text.lstrip().startswith("["):
        return False
    try:
        return isinstance(request.decode_json(text), list)
    except InvalidJob:
        return False


def _refuse_options(ctx: typer.Context, fields: dict[str, Any]) -> None:
    for name in fields:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidInput(
                f"{_option(name)} is for a plain command, not for a job in JSON",
                hint=f'put "{name}" into the JSON',
            )


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _plain_request(command: str, fields: dict[str, Any]) -> request.JobRequest:
    given = {name: value for name, value in fields.items() if value is not None}
    if "cwd" in given:
        given["cwd"] = os.path.abspath(given["cwd"])  # noqa: PTH100  # links stay as named
    if "env" in given:
        given["env"] = dict(_variable(text) for text in given["env"])
    try:
        return request.validate_request({"command": command, **given})
    except InvalidJob as error:
        # Named as they were given: options.
        problems = []
        for problem in error.problems:
            field, colon, reason = problem.partition(":")
            problems.append(f"{_option(field)}:{reason}" if colon and field in given else problem)
        raise InvalidJob(problems, hint=error.hint) from error


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"--env {text[:40]!r} has no value", hint="write --env NAME=VALUE")
    return name, value


def _enqueue_one(
    ctx: typer.Context, job: request.JobRequest, *, as_json: bool, dry_run: bool
) -> None:
    cwd = _current_folder() if job.cwd is None else None
    if dry_run:
        preview.show_one(ctx, job, cwd, as_json=as_json)
        return
    store = _open_for(ctx, as_json=as_json)
    receipt = jobs.enqueue(store, [job], cwd=cwd)
    if as_json:
        render.json_value(objects.job_object(jobs.find_by_ids(store, receipt.ids)[0]))
    else:
        render.out(receipt.ids[0])
    _tell(store, receipt)


def _enqueue_file(
    ctx: typer.Context, name: str, read: batch.Reader, *, as_json: bool, dry_run: bool
) -> None:
    cwd = _current_folder()
    with _opened(name) as file:
        requests = _named("stdin" if name == "-" else name, read(file))
        if dry_run:
            preview.show_many(ctx, requests, cwd, as_json=as_json)
            return
        store = _open_for(ctx, as_json=as_json)
        receipt = jobs.enqueue(store, requests, cwd=cwd)
    if as_json:
        render.json_array(objects.job_object(job) for job in _read_back(store, receipt.ids))
    else:
        render.out_lines(receipt.ids)
    _tell(store, receipt)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        if sys.stdin is None:
            raise InvalidInput("stdin is closed", hint="hand the jobs over through a pipe")
        yield sys.stdin.buffer
        return
    if not name:
        raise InvalidInput("--file names no file", hint="write --file jobs.jsonl, or --file -")
    try:
        file = Path(name).open("rb")  # noqa: SIM115  # closed below
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(
            f"{name} cannot be read: {reason}", hint="check the name and its permissions"
        ) from error
    with file:
        yield file


def _named(shown: str, requests: Iterable[request.JobRequest]) -> Iterator[request.JobRequest]:
    """Put the file's name before whatever is wrong in it."""
    try:
        yield from requests
    except InvalidJob as error:
        where = shown if error.where is None else f"{shown}: {error.where}"
        raise InvalidJob(
            error.problems, where=where, hint=error.hint or "nothing was stored"
        ) from error
    except OSError as error:
        raise InvalidInput(f"{shown} cannot be read: {error.strerror}") from error


def _open_for(ctx: typer.Context, *, as_json: bool) -> engine.Store:
    """Return the store; whoever could not be shown the jobs is refused before any is stored."""
    store = open_store(ctx)
    if as_json:
        jobs.require_reading(store)
    return store


def _read_back(store: engine.Store, ids: list[str]) -> Iterator[Any]:
    for start in range(0, len(ids), _PRINTED_AT_ONCE):
        yield from jobs.find_by_ids(store, ids[start : start + _PRINTED_AT_ONCE])


def _current_folder() -> str:
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


def _tell(store: engine.Store, receipt: jobs.Receipt) -> None:
    if not receipt.ids:
        render.note("there is no line with something in it; nothing was stored")
        return
    if receipt.existing:
        count = len(receipt.existing)
        which = f"job {receipt.existing[0]} was" if count == 1 else f"{count} of the jobs were"
        render.note(f"{which} there already, with the same request; nothing changed")
    with suppress(StoreError):  # it is stored, whether or not this can be told
        if not headcount.count_alive(store):
            render.note("no worker is running; start one with: queuectl worker start")
