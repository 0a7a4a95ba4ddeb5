"""``queuectl cancel``, ``kill``, ``freeze``, ``thaw``, ``retry``, ``hold`` and ``release``."""

from __future__ import annotations

import signal as signals
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer

from queuectl.cli import completion, render
from queuectl.cli.selection import Asked, change, changes_jobs
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain import request
from queuectl.domain import selection as domain_selection
from queuectl.domain.selection import Effect
from queuectl.errors import Conflict, InvalidInput
from queuectl.service import cancelling, headcount, holding, orders, requeueing

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_RUNNING = (domain.State.PROCESSING,)

#: What to do with a job that does not run, where only running ones can be meant.
_NOT_RUNNING = {
    **dict.fromkeys(domain.LIVE, "it does not run; see why with: queuectl explain {id}"),
    **dict.fromkeys(
        domain.FINISHED, "it does not run any more; see its end with: queuectl show {id}"
    ),
}
_NOT_ENDED = {
    **dict.fromkeys(
        domain.LIVE, "it has not ended; see what it waits for with: queuectl explain {id}"
    ),
    domain.State.PROCESSING: "wait for its end, or end it with: queuectl cancel {id}",
    domain.State.HELD: "let go of it with: queuectl release {id}",
}
_NOT_HELD = {
    **dict.fromkeys(
        domain.LIVE, "it is not held; see what it waits for with: queuectl explain {id}"
    ),
    **dict.fromkeys(domain.FINISHED, "run it again with: queuectl retry {id}"),
    domain.State.PROCESSING: "it runs already; follow it with: queuectl logs -f {id}",
}


@app.command("cancel")
@changes_jobs
def cancel(
    ctx: typer.Context,
    asked: Asked,
    reason: Annotated[
        str | None, typer.Option("--reason", "-r", metavar="TEXT", help="Why; kept with the job.")
    ] = None,
) -> None:
    """Cancel jobs: those that wait at once; those that run get TERM, and KILL 5 s later."""
    if reason is not None:
        _check_reason(reason)
    running = 0

    def act(store: engine.Store, chosen: Sequence[domain_selection.Chosen]) -> Effect:
        nonlocal running
        done = cancelling.cancel(store, chosen, reason=reason)
        running = sum(job.runs for job in done)
        return cancelling.effect_of(chosen, done)

    def rehearse(store: engine.Store, chosen: Sequence[domain_selection.Chosen]) -> Effect:
        return cancelling.effect_of(chosen, cancelling.rehearse(store, chosen, reason=reason))

    change(
        ctx,
        asked,
        act,
        among=domain.LIVE,
        verb="cancelled",
        ways_out=dict.fromkeys(
            domain.FINISHED, "nothing is left to cancel; see its end with: queuectl show {id}"
        ),
        rehearse=rehearse,
    )
    if running and not asked.quiet:
        render.note(_still_run(running))


def _still_run(running: int) -> str:
    if running == 1:
        return "1 of them still runs: its worker ends it now"
    return f"{running} of them still run: their workers end them now"


def _check_reason(text: str) -> None:
    try:
        request.check_text(text)
    except ValueError as error:
        raise InvalidInput(f"--reason {error}") from error


@app.command("kill")
@changes_jobs
def kill(
    ctx: typer.Context,
    asked: Asked,
    signal: Annotated[
        str,
        typer.Option(
            "--signal",
            "-s",
            metavar="NAME",
            help="INT, HUP, USR1, 9, ...",
            autocompletion=completion.complete_signal,
        ),
    ] = "TERM",
) -> None:
    """Send a signal to running jobs; what becomes of them is decided as for every end."""
    number = _parse_signal(signal)
    change(
        ctx,
        asked,
        lambda store, chosen: orders.send_signal(store, chosen, number),
        among=_RUNNING,
        verb=f"sent {signals.Signals(number).name}",
        ways_out=_NOT_RUNNING,
    )


def _parse_signal(text: str) -> int:
    name = text.upper().removeprefix("SIG")
    try:
        found = signals.Signals(int(name)) if name.isdigit() else signals.Signals[f"SIG{name}"]
    except (KeyError, ValueError) as error:
        raise InvalidInput(
            f"there is no signal {text[:40]!r}", hint="write INT, TERM, HUP, KILL, USR1 or a number"
        ) from error
    if found in (signals.SIGSTOP, signals.SIGCONT):
        verb = "freeze" if found is signals.SIGSTOP else "thaw"
        raise InvalidInput(
            f"{found.name} would leave the job's timeout as it is", hint=f"use: queuectl {verb}"
        )
    return found


@app.command("freeze")
@changes_jobs
def freeze(
    ctx: typer.Context,
    asked: Asked,
) -> None:
    """Stop the processes of running jobs, and their timeouts, until they are thawed."""
    change(
        ctx,
        asked,
        orders.freeze,
        among=_RUNNING,
        verb="frozen",
        ways_out=_NOT_RUNNING,
    )


@app.command("thaw")
@changes_jobs
def thaw(
    ctx: typer.Context,
    asked: Asked,
) -> None:
    """Let frozen jobs go on."""
    change(
        ctx,
        asked,
        orders.thaw,
        among=_RUNNING,
        verb="thawed",
        ways_out=_NOT_RUNNING,
        sift=_frozen,
    )


def _frozen(
    store: engine.Store, asked: Asked, chosen: list[domain_selection.Chosen]
) -> list[domain_selection.Chosen]:
    """Return those that are frozen; raises Conflict for one that was named and is not."""
    found = orders.find_frozen(store, chosen)
    other = next((job for job in chosen if job not in found), None)
    if asked.selection.references and other is not None:
        raise Conflict(
            f"job {other.id!r} runs and is not frozen, and cannot be thawed",
            hint=f"see what it does with: queuectl logs -f {other.id}",
        )
    return found


@app.command("retry")
@changes_jobs
def retry(
    ctx: typer.Context,
    asked: Asked,
) -> None:
    """Queue ended jobs again with all their retries, however they ended; the history is kept."""
    changed = change(
        ctx,
        asked,
        requeueing.retry,
        among=domain.FINISHED,
        verb="queued again",
        ways_out=_NOT_ENDED,
        rehearse=requeueing.rehearse_retry,
    )
    if changed and not asked.quiet:
        _tell_headcount(ctx)


def _tell_headcount(ctx: typer.Context) -> None:
    """Say that no worker runs, if none does."""
    if not headcount.count_alive(open_store(ctx)):
        render.note("no worker is running; start one with: queuectl worker start")


@app.command("hold")
@changes_jobs
def hold(
    ctx: typer.Context,
    asked: Asked,
) -> None:
    """Hold jobs that wait, so that no worker starts them until they are released.

    Also those that wait for their time, for other jobs, or in their backoff. What runs goes on.
    """
    strict = bool(asked.selection.references)
    change(
        ctx,
        asked,
        partial(holding.hold, strict=strict),
        among=holding.HOLDABLE,
        verb="held",
        ways_out=holding.WAYS_OUT,
        rehearse=partial(holding.rehearse, strict=strict),
        others_do=(" waits longer", " wait longer"),
    )


@app.command("release")
@changes_jobs
def release(
    ctx: typer.Context,
    asked: Asked,
) -> None:
    """Let go of jobs that are held: by hold, or from the start by enqueue --hold.

    One that can no longer start, as what it needs has ended otherwise, is cancelled.
    """
    done = requeueing.Released([])

    def keep(released: requeueing.Released) -> Effect:
        nonlocal done
        done = released
        return Effect(released.ids, released.dependents)

    change(
        ctx,
        asked,
        lambda store, chosen: keep(requeueing.release(store, chosen)),
        among=(domain.State.HELD,),
        verb="released",
        ways_out=_NOT_HELD,
        rehearse=lambda store, chosen: keep(requeueing.rehearse_release(store, chosen)),
        others_do=(" is cancelled", " are cancelled"),
    )
    if done.cancelled and not asked.quiet:
        render.note(_cannot_start(len(done.cancelled)))


def _cannot_start(count: int) -> str:
    is_cancelled = "is cancelled: what it needs" if count == 1 else "are cancelled: what they need"
    return f"{count} of them can no longer start, and {is_cancelled} has ended otherwise"
