"""``queuectl list`` and ``queuectl show``."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from queuectl.cli import completion, objects, options, render, terms
from queuectl.cli.selection import narrows, parse_states, selects
from queuectl.cli.store import open_store
from queuectl.domain import durations
from queuectl.domain import job as domain
from queuectl.domain.dependency import Condition, Need, NeededJob
from queuectl.domain.selection import Selection
from queuectl.domain.text import escape_line
from queuectl.service import jobs, logs
from queuectl.service import selection as service
from queuectl.settings import StoreLocation

app = typer.Typer(rich_markup_mode=None, add_completion=False)


class Order(StrEnum):
    """Which jobs come first."""

    newest = "newest"
    next = "next"


@app.command("list")
@narrows
def list_(
    ctx: typer.Context,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            help="Only jobs in this state; repeatable.",
            autocompletion=completion.complete_state,
        ),
    ] = None,
    *,
    only: Selection,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, max=10**9, help="At most so many; 0: all.")
    ] = 20,
    order: Annotated[
        Order, typer.Option("--order", help="next: those that wait, in the order they will run.")
    ] = Order.newest,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """List jobs, the newest first."""
    only = replace(only, states=parse_states(state))
    found = jobs.list_jobs(
        open_store(ctx),
        only,
        limit=limit or None,
        next_first=order is Order.next,
    )
    if json:
        render.json_array(objects.job_object(job) for job in found)
    elif quiet:
        render.out_lines(job.id for job in found)
    elif found:
        _show_list(found)
    else:
        render.note("no such jobs" if only != Selection() else "no jobs")


def _show_list(found: list[domain.Job]) -> None:
    columns = [
        render.Column("ID"),
        render.Column("STATE"),
        render.Column("QUEUE"),
        render.Column("TRIES"),
        render.Column("CREATED"),
        render.Column("DUE"),
        render.Column("COMMAND", fills=True),
    ]
    render.table(columns, [_list_row(job) for job in found])


def _list_row(job: domain.Job) -> list[render.Cell]:
    due = job.run_at if job.state in ("scheduled", "failed") else None
    return [
        job.id,
        f"{job.state} (frozen)" if job.is_frozen else job.state,
        job.queue,
        tries(job),
        job.created_at,
        due,
        job.command,
    ]


def tries(job: domain.Job) -> str:
    """Return how many attempts it took of those it may take; ``attempts`` counts failures alone."""
    unfailed = job.state in ("processing", "completed")
    return f"{job.attempts + unfailed}/{job.max_retries + 1}"


@app.command("show")
@selects
def show(ctx: typer.Context, selection: Selection, json: options.Json = False) -> None:
    """Show jobs and each of their attempts.

    With --json an object if one job was named by its id, and else an array.
    """
    store = open_store(ctx)
    chosen = service.choose(store, selection, among=domain.State, verb="shown")
    if len(selection.references) == 1:
        show_history(store.location, jobs.history(store, chosen[0].id), as_json=json)
        return
    histories = (jobs.history(store, job.id) for job in chosen)
    if json:
        render.json_array(history_object(store.location, history) for history in histories)
        return
    for number, history in enumerate(histories):
        if number:
            render.out()
        show_history(store.location, history, as_json=False)
    if not chosen:
        render.note("no such jobs")


def show_history(location: StoreLocation, history: jobs.JobHistory, *, as_json: bool) -> None:
    """Print all that is known of a job."""
    if as_json:
        render.json_value(history_object(location, history))
        return
    for name, text in facts(location, history):
        if name == "state":
            state = history.job.state
            text = render.state(state) + text.removeprefix(state)
        render.out(f"{name:<11} {text}")
    if history.attempts:
        render.out()
        render.table(ATTEMPT_COLUMNS, attempt_rows(history))


def facts(location: StoreLocation, history: jobs.JobHistory) -> list[tuple[str, str]]:
    """Return what there is to tell of a job, each with its name; harmless for a terminal."""
    job = history.job
    told = [
        ("job", job.id),
        ("state", f"{job.state}{_progress(job)}"),
        ("name", escape_line(job.name or "")),
        ("command", escape_line(job.command)),
        ("tags", ", ".join(history.tags)),
        ("unique", escape_line(job.unique_key or "")),
        ("schedule", _origin(job)),
        ("queue", job.queue + (f", priority {job.priority}" if job.priority else "")),
        ("folder", escape_line(job.cwd or "-")),
        ("variables", ", ".join(escape_line(name) for name in sorted(job.env or ()))),
        ("stdin", "" if job.stdin_bytes is None else f"{job.stdin_bytes} bytes"),
        ("timeout", _duration(job.timeout_seconds)),
        *terms.facts(job.terms, job.backoff_base),
        ("created", _at(job.created_at)),
        ("due", _at(job.run_at) if _is_due(job) else ""),
        ("deadline", _at(job.deadline) + _overdue(job)),
        ("claimed", f"{_at(job.claimed_at)} by {job.worker_id}" if job.claimed_at else ""),
        ("frozen", _at(job.frozen_at)),
        ("edited", _edited(job)),
        ("cancelled", _cancelled(job)),
        ("needs", ", ".join(_need(needed) for needed in history.needs)),
        ("needed by", ", ".join(_dependent(*each) for each in history.dependents)),
        ("finished", _at(job.finished_at)),
        ("died", f"{_at(history.died_at)}: {history.dead_reason}" if history.died_at else ""),
        ("crashes", str(job.crashes or "")),
        ("last error", escape_line(job.last_error or "")),
        ("output", escape_line(str(_log_path(location, job) or ""))),
    ]
    return [(name, text) for name, text in told if text]


def _is_due(job: domain.Job) -> bool:
    """Whether there is a time to tell of: one that waits for something else may have none."""
    if job.state in ("held", "blocked"):
        return job.run_at > job.created_at
    return job.state in ("scheduled", "failed", "pending")


def _origin(job: domain.Job) -> str:
    if job.schedule is None:
        return ""
    return f"{job.schedule}, its tick of {_at(job.scheduled_for)}"


def _edited(job: domain.Job) -> str:
    if not job.is_edited:
        return ""
    release = f"queuectl release {job.id}"
    return f"since {_at(job.edit_started_at)}; if nobody is at it any more: {release}"


def _cancelled(job: domain.Job) -> str:
    reason = f": {escape_line(job.cancel_reason)}" if job.cancel_reason else ""
    # One that was cancelled for the end of another job was asked for by nobody.
    return _at(job.cancel_requested_at) + reason if job.cancel_requested_at else reason[2:]


def _overdue(job: domain.Job) -> str:
    """Return what becomes of a job that should have been started by now."""
    if not job.is_overdue(datetime.now(UTC)):
        return ""
    return ", too late: a worker moves it to the dead letter queue"


def _need(needed: NeededJob) -> str:
    """Return a needed job with how it stands: ``a (completed)``, ``b (any end; running)``."""
    stands = needed.need.outcome or (needed.job.state if needed.job is not None else "gone")
    return f"{needed.need.id} ({wanted(needed.need.condition)}{stands})"


def _dependent(job: domain.Job, condition: Condition) -> str:
    return f"{job.id} ({wanted(condition)}{job.state})"


def wanted(condition: Condition) -> str:
    """Return which end is wanted where it is not the usual one: ``any end; ``."""
    words = {Condition.ANY: "any end; ", Condition.FAILURE: "its failure; "}
    return words.get(condition, "")


def _progress(job: domain.Job) -> str:
    """Return which attempt it is at, and when the next one is due."""
    total = job.max_retries + 1
    if job.state == "processing":
        return f", attempt {job.attempts + 1} of {total}"
    if job.state == "failed":
        seconds = max((job.run_at - datetime.now(UTC)).total_seconds(), 0)
        next_one = (
            "due now" if seconds < 1 else f"next in {durations.format_duration(round(seconds))}"
        )
        return f", attempt {job.attempts} of {total}, {next_one}"
    if job.state == "scheduled":
        return f", first attempt {render.relative(job.run_at)}"
    return f", after {job.attempts} of {total} attempts" if job.state == "dead" else ""


ATTEMPT_COLUMNS = (
    render.Column("ATTEMPT", right=True),
    render.Column("OUTCOME"),
    render.Column("EXIT"),
    render.Column("STARTED"),
    render.Column("TOOK", right=True),
    render.Column("CPU", right=True),
    render.Column("MEMORY", right=True),
    render.Column("OUTPUT", right=True),
    render.Column("HOST"),
    render.Column("PID", right=True),
    render.Column("ERROR", fills=True),
)


def attempt_rows(history: jobs.JobHistory) -> list[list[render.Cell]]:
    """Return the rows of the table of a job's attempts."""
    return [_attempt_row(attempt) for attempt in history.attempts]


def _attempt_row(attempt: domain.Attempt) -> list[render.Cell]:
    cpu = (attempt.cpu_user_seconds or 0) + (attempt.cpu_system_seconds or 0)
    return [
        attempt.run,
        attempt.outcome,
        _exit(attempt),
        attempt.started_at,
        _duration((attempt.finished_at - attempt.started_at).total_seconds()),
        None if attempt.cpu_user_seconds is None else _duration(cpu),
        size(attempt.max_rss_bytes),
        size(attempt.output_bytes),
        attempt.host,
        attempt.pid or None,
        attempt.error,
    ]


def _exit(attempt: domain.Attempt) -> str | None:
    if attempt.signal is not None:
        try:
            return signal.Signals(attempt.signal).name
        except ValueError:
            return f"signal {attempt.signal}"
    return None if attempt.exit_code is None else str(attempt.exit_code)


def size(count: int | None) -> str | None:
    """Return bytes as people read them: ``812``, ``3.4K``, ``12M``."""
    if count is None:
        return None
    amount, unit = float(count), ""
    for unit in ("", "K", "M", "G", "T"):
        if amount < 1000 or unit == "T":
            break
        amount /= 1024
    return f"{amount:.1f}{unit}" if unit and amount < 10 else f"{amount:.0f}{unit}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f}s" if seconds < 10 else durations.format_duration(seconds)


def _at(instant: datetime | None) -> str:
    return "" if instant is None else f"{render.instant(instant)} ({render.relative(instant)})"


def _log_path(location: StoreLocation, job: domain.Job) -> Any:
    if not job.runs:
        return None
    path = logs.output_path(location, job.seq, job.runs)
    return path if path.exists() else None


def need_object(need: Need, job: domain.Job | None) -> dict[str, Any]:
    """Return a needed job: how it is to end, how it did (null: not yet), and how it stands now."""
    state = None if job is None else job.state
    return {"id": need.id, "condition": need.condition, "outcome": need.outcome, "state": state}


def history_object(location: StoreLocation, history: jobs.JobHistory) -> dict[str, Any]:
    """Return a job with its attempts, why it is dead, and where its last output is."""
    path = _log_path(location, history.job)
    return {
        **objects.job_object(history.job),
        "tags": history.tags,
        "needs": [need_object(needed.need, needed.job) for needed in history.needs],
        "needed_by": [
            {"id": job.id, "condition": condition, "state": job.state}
            for job, condition in history.dependents
        ],
        "dead_reason": history.dead_reason,
        "died_at": history.died_at,
        "output_path": None if path is None else str(path),
        "history": [objects.attempt_object(attempt) for attempt in history.attempts],
    }
