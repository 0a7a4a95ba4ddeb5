"""``queuectl enqueue``: a command, a JSON job, a file of them, or a command for each line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from queuectl.cli import dates, following, job_options, lazy, objects, options, preview, render
from queuectl.cli import each as per_line
from queuectl.cli import stdin as stdin_option
from queuectl.cli import wait as waits
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import batch, request
from queuectl.errors import InvalidInput, InvalidJob, StoreError
from queuectl.service import headcount, jobs

app = typer.Typer(rich_markup_mode=None, add_completion=False)

#: Jobs that are named one by one in notes, at most.
_TOLD_JOBS = 5


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
    id: job_options.Id = None,
    queue: job_options.Queue = None,
    priority: job_options.Priority = None,
    max_retries: job_options.MaxRetries = None,
    timeout: job_options.Timeout = None,
    run_at: Annotated[
        str | None,
        typer.Option(
            "--run-at",
            "--at",
            metavar="WHEN",
            help="Not before: 18:00, 'tomorrow 9:00', 2026-11-24T18:00:00Z.",
        ),
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option("--delay", "--in", metavar="TIME", help="Not before this much later: 3h."),
    ] = None,
    backoff: job_options.Backoff = None,
    backoff_base: job_options.BackoffBase = None,
    jitter: job_options.Jitter = None,
    retry_on: job_options.RetryOn = None,
    no_retry_on: job_options.NoRetryOn = None,
    expect: job_options.Expect = None,
    fail_if: job_options.FailIf = None,
    expect_file: job_options.ExpectFile = None,
    stall: job_options.Stall = None,
    cwd: job_options.Cwd = None,
    env: job_options.Env = None,
    name: job_options.Name = None,
    tag: job_options.Tag = None,
    unique: Annotated[
        str | None,
        typer.Option(
            "--unique",
            metavar="KEY",
            help="While a job with this key waits or runs, answer with its id and change nothing.",
        ),
    ] = None,
    deadline: job_options.Deadline = None,
    after: job_options.After = None,
    after_any: job_options.AfterAny = None,
    after_failure: job_options.AfterFailure = None,
    hold: Annotated[bool, typer.Option("--hold", help="It waits until: queuectl release.")] = False,
    stdin: stdin_option.Stdin = False,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait until it has ended; leave as it did.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="The same, and print what it prints.")
    ] = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Add a job, or many, and print the ids.

    \b
    queuectl enqueue -- ffmpeg -i in.mp4 out.webm
    queuectl enqueue --queue builds 'make && make test'
    queuectl enqueue '{"id": "job1", "command": "sleep 2"}'
    queuectl enqueue --file jobs.jsonl
    queuectl enqueue --after job1 -- ./report.sh
    find . -name '*.jpg' | queuectl enqueue --each - 'convert {} {.}.png'
    """
    fields: dict[str, Any] = {
        "id": id,
        "queue": queue,
        "priority": priority,
        "max_retries": max_retries,
        "timeout": timeout,
        "run_at": run_at,
        "delay": delay,
        "backoff_base": backoff_base,
        **job_options.terms_given(ctx),
        "cwd": cwd,
        "env": env,
        "name": name,
        "tags": tag,
        "unique": unique,
        "hold": hold or None,
        "stdin": None,
        "deadline": deadline,
        "after": after,
        "after_any": after_any,
        "after_failure": after_failure,
    }
    if run_at is not None:
        fields["run_at"] = dates.parse_when(run_at, job_options.option_of("run_at"))
    if deadline is not None:
        fields["deadline"] = dates.parse_deadline(deadline)
    if stdin:
        fields["stdin"] = _read_stdin(words or [], many=file is not None or each is not None)
    is_one = file is None and each is None
    how = _How(as_json=json, dry_run=dry_run, wait=wait, follow=follow, is_one=is_one)
    per_line.refuse_mixtures(file=file, each=each, null=null)
    if follow and json:
        raise InvalidInput("--follow and --json exclude each other", hint="use --wait --json")
    if follow and (file is not None or each is not None):
        raise InvalidInput(
            "--follow is for one job", hint="use --wait, or: queuectl logs --follow ID"
        )
    if file is not None:
        if words:
            raise InvalidInput(
                "give either a command or --file, not both",
                hint="options stand before the command; a file's jobs bring their own",
            )
        _refuse_options(ctx, fields)
        _enqueue_file(ctx, file, batch.read_requests, how)
    elif each is not None:
        base = job_options.plain_request([per_line.SAMPLE], {**fields, "id": None, "unique": None})
        read = per_line.reader_of(words or [], base, id, unique, null=null)
        _enqueue_file(ctx, each, read, how, base)
    else:
        _enqueue_one(ctx, _request(ctx, words or [], fields), how)


def _read_stdin(words: list[str], *, many: bool) -> bytes | None:
    """Return what there is to keep; None where another refusal comes. Raises InvalidInput."""
    if many:
        raise InvalidInput(
            "--stdin is for one job", hint='a job of a file brings its own: {"stdin": "..."}'
        )
    if not words or words[0].startswith("{"):
        return None
    return stdin_option.read("enqueue")


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
    return job_options.plain_request(words, fields)


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
        source = ctx.get_parameter_source("tag" if name == "tags" else name)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidInput(
                f"{job_options.option_of(name)} is for a plain command, not for a job in JSON",
                hint=f'put "{name}" into the JSON',
            )


@dataclass(frozen=True, slots=True)
class _How:
    """How the jobs are enqueued, and what is to be done when they are stored."""

    as_json: bool
    dry_run: bool
    wait: bool
    follow: bool
    #: Whether it is a job of its own, and not a file of them.
    is_one: bool

    def go_on(
        self, store: engine.Store, receipt: jobs.Receipt, *, said: request.JobRequest | None = None
    ) -> None:
        """Tell what was done, wait or follow if that is asked for, and print jobs that are JSON.

        ``said`` has the times that were given in words, which are told as instants.
        Who waits leaves with the exit code of the job, or with 1 if any of many failed.
        """
        ids = receipt.ids
        if not self.as_json and not self.follow:
            render.out_lines(ids)
        if said is not None:
            _tell_times(store, said, receipt)
        _tell(store, receipt, will_wait=self.wait and not self.follow)
        if not self.wait and not self.follow:
            self._print_objects(store, ids)
            return
        render.flush()
        lazy.finish_start()
        with waits.told_to_go_on(ids):
            if self.follow:
                following.follow(store, jobs.find(store, ids[0]))
            found = [job.seq for job in jobs.find_by_ids(store, ids)]
            awaited = waits.await_jobs(store, found)
        self._print_objects(store, ids)
        if len(ids) == 1:
            raise typer.Exit(waits.exit_code_of(store, ids[0]))
        raise typer.Exit(1 if awaited.failed else 0)

    def _print_objects(self, store: engine.Store, ids: list[str]) -> None:
        if self.as_json and self.is_one:
            render.json_value(objects.job_object(jobs.find(store, ids[0])))
        elif self.as_json:
            render.json_array(objects.job_objects(store, ids))


def _enqueue_one(ctx: typer.Context, job: request.JobRequest, how: _How) -> None:
    cwd = job_options.current_folder() if job.cwd is None else None
    if how.dry_run:
        preview.show_one(ctx, job, cwd, as_json=how.as_json)
        return
    store = _open_for(ctx, as_json=how.as_json)
    receipt = jobs.enqueue(store, [job], cwd=cwd)
    how.go_on(store, receipt, said=job)


def _enqueue_file(
    ctx: typer.Context,
    name: str,
    read: batch.Reader,
    how: _How,
    base: request.JobRequest | None = None,
) -> None:
    """Enqueue the jobs of a file; ``base`` has what all of them have, if that was said."""
    cwd = job_options.current_folder()
    with _opened(name) as file:
        requests = _named("stdin" if name == "-" else name, read(file))
        if how.dry_run:
            preview.show_many(ctx, requests, cwd, as_json=how.as_json)
            return
        store = _open_for(ctx, as_json=how.as_json)
        receipt = jobs.enqueue(store, requests, cwd=cwd)
    how.go_on(store, receipt, said=base)


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


def _tell_times(store: engine.Store, job: request.JobRequest, receipt: jobs.Receipt) -> None:
    """Say when a new job is due, and its deadline, as instants, if anything was said of them."""
    run_at, deadline = job.run_at, job.deadline
    if not receipt.new or (run_at is None and not job.delay and deadline is None):
        return
    if job.delay or isinstance(deadline, float):  # so long after it was stored
        old = {*receipt.existing, *receipt.unique}
        with suppress(StoreError):  # it is stored, whether or not this can be told
            [stored] = jobs.find_by_ids(store, [next(new for new in receipt.ids if new not in old)])
            run_at, deadline = stored.run_at if job.delay else run_at, stored.deadline
    for word, instant in (("due", run_at), ("deadline", deadline)):
        if isinstance(instant, datetime):
            render.note(f"{word} {dates.tell(instant)}")


def _tell(store: engine.Store, receipt: jobs.Receipt, *, will_wait: bool) -> None:
    if not receipt.ids:
        render.note("there is no line with something in it; nothing was stored")
        return
    if receipt.existing:
        count = len(receipt.existing)
        which = f"job {receipt.existing[0]} was" if count == 1 else f"{count} of the jobs were"
        render.note(f"{which} there already, with the same request; nothing changed")
    if receipt.unique:
        count = len(receipt.unique)
        have = "has" if count == 1 else "have"
        which = f"job {receipt.unique[0]}" if count == 1 else f"{count} of the jobs"
        render.note(f"{which} {have} that unique key and {have} not ended; nothing was added")
    for job_id, reason in list(receipt.doomed.items())[:_TOLD_JOBS]:
        render.note(f"job {job_id} cannot start: {reason}")
    if len(receipt.doomed) > _TOLD_JOBS:
        render.note(f"{len(receipt.doomed) - _TOLD_JOBS} more cannot start, for such reasons")
    if will_wait:  # and tell then whether anybody is there
        return
    with suppress(StoreError):  # it is stored, whether or not this can be told
        if not headcount.count_alive(store):
            render.note("no worker is running; start one with: queuectl worker start")
