"""``queuectl run``: a job here and now, with the whole engine around it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from queuectl.cli import dates, following, job_options, lazy, objects, render
from queuectl.cli import stdin as stdin_option
from queuectl.cli import wait as waits
from queuectl.cli.store import location, open_store
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain import selection as domain_selection
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.service import cancelling, headcount, jobs, requeueing
from queuectl.worker import attending

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    "run",
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
)
def run(
    ctx: typer.Context,
    words: job_options.Words = None,
    id: job_options.Id = None,
    queue: job_options.Queue = None,
    priority: job_options.Priority = None,
    max_retries: job_options.MaxRetries = None,
    timeout: job_options.Timeout = None,
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
            help="While a job with this key waits or runs, start none, and follow that one.",
        ),
    ] = None,
    deadline: job_options.Deadline = None,
    stdin: stdin_option.Stdin = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="The bytes as they are; control sequences act.")
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the ended job as JSON; what it prints goes to standard error."
        ),
    ] = False,
) -> None:
    """Run a job here and now, print what it prints, and leave with its exit code.

    It is retried, timed out and recorded like any other; Ctrl-C cancels it.
    Another's job that --unique finds is followed where it runs, to its end; Ctrl-C leaves it be.

    \b
    queuectl run -- make test
    queuectl run --timeout 5m --max-retries 0 './check.sh && ./deploy.sh'
    echo abc | queuectl run --stdin -- cat
    """
    if not words:
        raise InvalidInput(
            "there is no command to run", hint="write: queuectl run -- COMMAND ARGUMENT..."
        )
    fields: dict[str, Any] = {
        "id": id,
        "queue": queue,
        "priority": priority,
        "max_retries": max_retries,
        "timeout": timeout,
        "backoff_base": backoff_base,
        **job_options.terms_given(ctx),
        "cwd": cwd,
        "env": env,
        "name": name,
        "tags": tag,
        "unique": unique,
        "deadline": None if deadline is None else dates.parse_deadline(deadline),
        "hold": True,
        "stdin": stdin_option.read("run") if stdin else None,
    }
    request = job_options.plain_request(words, fields)
    folder = job_options.current_folder() if request.cwd is None else None
    lazy.finish_start()
    store = open_store(ctx)
    receipt = jobs.enqueue(store, [request], cwd=folder)
    job = jobs.find_by_ids(store, receipt.ids)[0]
    if receipt.existing:
        raise InvalidInput(
            f"job {job.id} was there already, with the same request",
            hint=f"follow it with: queuectl logs --follow {job.id}",
        )
    write = _writer(raw=raw, as_json=json)
    if receipt.unique:
        _follow_other(store, job, write)
    else:
        if job.deadline is not None:
            render.note(f"deadline {dates.tell(job.deadline)}")
        store.close()  # nothing is open at the fork
        _attend(ctx, store, job, write)
    if json:
        render.json_value(objects.job_object(jobs.find(store, job.id)))
    raise typer.Exit(waits.exit_code_of(store, job.id))


def _writer(*, raw: bool, as_json: bool) -> following.Write:
    """Return what prints the job's output: on stderr where stdout is for JSON."""
    if as_json:
        return render.aside_bytes if raw else following.Escaped(render.aside_text).write
    return render.out_bytes if raw else following.Escaped().write


def _follow_other(store: engine.Store, job: domain.Job, write: following.Write) -> None:
    """Print what a job prints that somebody else runs, or will, until it has ended."""
    render.note(f"job {job.id} has that unique key and has not ended; follows that one")
    if job.state is not domain.State.PROCESSING and not headcount.count_alive(store):
        render.note("no worker is running; start one with: queuectl worker start")
    with waits.told_to_go_on([job.id]):
        following.follow(store, job, write=write)


def _attend(
    ctx: typer.Context, store: engine.Store, job: domain.Job, write: following.Write
) -> None:
    """Have the job run, print what it prints, and return when it has ended."""
    attendant = attending.Attendant(location(ctx), job.seq)

    def watch() -> None:
        if attendant.has_ended:
            raise _WorkerGone

    try:
        following.follow(store, job, write=write, watch=watch)
    except KeyboardInterrupt:
        _cancel(store, job)
    except _WorkerGone:
        _leave_to_others(store, job)
    finally:
        attendant.let_go()
    _tell_end(jobs.history(store, job.id))


class _WorkerGone(Exception):  # noqa: N818  # what happened
    """The worker that was to run the job is gone."""


def _cancel(store: engine.Store, job: domain.Job) -> None:
    """Cancel the job and wait for its end; a second Ctrl-C waits no longer."""
    render.note(f"cancels job {job.id}")
    cancelling.cancel(store, [_chosen(job)], reason="Ctrl-C")
    waits.await_jobs(store, [job.seq])


def _leave_to_others(store: engine.Store, job: domain.Job) -> None:
    requeueing.release(store, [_chosen(job)])
    raise QueuectlError(
        f"the worker that was to run job {job.id} is gone",
        hint="the job is kept, and runs with: queuectl worker start",
    )


def _chosen(job: domain.Job) -> domain_selection.Chosen:
    return domain_selection.Chosen(job.seq, job.id, job.state)


def _tell_end(history: jobs.JobHistory) -> None:
    job = history.job
    if job.state is domain.State.DEAD:
        tries = f"after {job.attempts} of {job.max_retries + 1} attempts"
        render.note(f"job {job.id} is dead {tries}: {job.last_error or history.dead_reason}")
        render.hint(f"queue it again with: queuectl retry {job.id}")
    elif job.state is domain.State.CANCELLED:
        render.note(f"job {job.id} was cancelled")
