"""``queuectl wait``: until jobs have ended; and the exit code that tells how."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from queuectl.cli import lazy, options, render
from queuectl.cli.selection import selects
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain import selection as domain_selection
from queuectl.domain.terms import BY_SIGNAL, TIMED_OUT_CODE
from queuectl.errors import WaitedTooLong
from queuectl.service import headcount, jobs, waiting
from queuectl.service import selection as service

app = typer.Typer(rich_markup_mode=None, add_completion=False)

#: What a shell gives for a command that a signal ended is above this by the signal's number.
INTERRUPTED = BY_SIGNAL + signal.SIGINT
#: How often the store is looked at even if the bell was not heard, in seconds.
_LOOK_SECONDS = 1.0
#: A look may take one part in so many of the time: with a million jobs it takes a second.
_SHARE = 10


@app.command("wait")
@selects
def wait(
    ctx: typer.Context,
    selection: domain_selection.Selection,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Wait at most 90s, 5m; then exit with 124."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Wait until jobs have ended: those that are named, or all that wait or run now.

    The exit code is that of the job, if one was named; else 1 if any failed or was cancelled.
    """
    seconds = None if timeout is None else options.parse_timeout(timeout)
    lazy.finish_start()
    store = open_store(ctx)
    # Whoever names a job may name one that has ended.
    among = domain.State if selection.references else domain.LIVE
    chosen = service.choose(store, selection, among=among, verb="waited for")
    with told_to_go_on([job.id for job in chosen]):
        awaited = await_jobs(store, [job.seq for job in chosen], seconds)
    if json:
        ended = {"completed": awaited.completed, "failed": awaited.failed}
        render.json_value({"jobs": len(chosen), **ended})
    else:
        render.note(_describe(awaited) if chosen else "nothing to wait for")
    if len(selection.references) == 1:
        raise typer.Exit(exit_code_of(store, chosen[0].id))
    raise typer.Exit(1 if awaited.failed else 0)


def _describe(awaited: waiting.Awaited) -> str:
    failed = f", {awaited.failed} failed or cancelled" if awaited.failed else ""
    return f"{render.count(awaited.completed)} completed{failed}"


@contextmanager
def told_to_go_on(ids: Sequence[str]) -> Iterator[None]:
    """Say at Ctrl-C that it ends the waiting, and not these jobs."""
    try:
        yield
    except KeyboardInterrupt:
        if len(ids) == 1:
            render.note(f"job {ids[0]} goes on; end it with: queuectl cancel {ids[0]}")
        else:
            what = f"the {len(ids)} jobs go on, as far as they have not ended"
            render.note(f"{what}; end them with: queuectl cancel")
        raise


def await_jobs(
    store: engine.Store, seqs: list[int], timeout: float | None = None
) -> waiting.Awaited:
    """Wait until these jobs have ended, with a bar on a terminal; raises WaitedTooLong."""
    awaited = waiting.Awaited(list(seqs))
    deadline = None if timeout is None else time.monotonic() + timeout
    with store.doorbell() as bell, render.counting(len(seqs)) as show:
        waiting.look(store, awaited)
        if awaited.left and not headcount.count_alive(store):
            render.note("no worker is running; start one with: queuectl worker start")
        while True:
            show(awaited.ended, awaited.failed)
            if not awaited.left:
                return awaited
            rest = _LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            if rest <= 0:
                raise WaitedTooLong(
                    f"{render.count(len(awaited.left))} of {len(seqs)} had not ended in time",
                    hint="they go on; wait longer, or end them with: queuectl cancel",
                )
            bell.wait(min(_LOOK_SECONDS, rest))
            began = time.monotonic()
            waiting.look(store, awaited)
            if (took := time.monotonic() - began) > _LOOK_SECONDS / _SHARE:
                time.sleep(min(took * _SHARE, max(rest - took, 0)))


def exit_code_of(store: engine.Store, reference: str) -> int:
    """Return what a shell would have given for the job's command, had it been run there.

    124 for one that timed out or stalled, 128 and the signal's number for one that a signal ended,
    130 for one that was cancelled.
    """
    history = jobs.history(store, reference)
    if history.job.state is domain.State.COMPLETED:
        return 0
    if history.job.state is domain.State.CANCELLED:
        return INTERRUPTED
    last = history.attempts[-1] if history.attempts else None
    if last is None:
        return 1
    if last.outcome in (domain.Ending.TIMED_OUT, domain.Ending.STALLED):
        return TIMED_OUT_CODE
    if last.signal is not None:
        return BY_SIGNAL + last.signal
    return last.exit_code or 1
