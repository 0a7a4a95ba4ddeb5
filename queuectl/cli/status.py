"""``queuectl status``, and the short status of a bare ``queuectl``."""

from __future__ import annotations

from typing import Any

import typer

from queuectl.cli import objects, options, render
from queuectl.cli.store import open_store
from queuectl.domain import job as domain
from queuectl.domain.text import escape_line
from queuectl.service import counts

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_EXAMPLES = (
    ("queuectl enqueue -- echo hello", "add a job"),
    ("queuectl worker start --drain", "run what is due, then leave"),
    ("queuectl logs last", "see what it printed"),
)
#: The states in the order in which a job goes through them.
_ORDER = (
    "held",
    "blocked",
    "scheduled",
    "pending",
    "processing",
    "completed",
    "failed",
    "dead",
    "cancelled",
)


@app.command("status")
def status(ctx: typer.Context, json: options.Json = False) -> None:
    """Count the jobs by state and queue, and the workers."""
    seen = counts.read_status(open_store(ctx))
    if json:
        render.json_value(_status_object(seen))
        return
    width = max(len(str(count)) for count in seen.states.values())
    for name in _ORDER:
        count = seen.states[domain.State(name)]
        render.out(f"{render.state(name)}{' ' * (12 - len(name))}{count:>{width}}")
    if seen.queues:
        render.out()
        _show_queues(seen)
    render.out()
    _show_activity(seen)


def _show_queues(seen: counts.Status) -> None:
    columns = [
        render.Column("QUEUE"),
        render.Column("PENDING", right=True),
        render.Column("PROCESSING", right=True),
        render.Column("WAITING", right=True),
        render.Column("PAUSED"),
    ]
    rows = [
        [q.name, q.pending, q.processing, q.waiting, "yes" if q.paused else None]
        for q in seen.queues
    ]
    render.table(columns, rows)


def _show_activity(seen: counts.Status) -> None:
    stopping = " (a stop was asked for)" if seen.stop_requested else ""
    render.out(f"workers     {seen.workers_alive} alive{stopping}")
    if seen.oldest_due is not None:
        job = seen.oldest_due
        since = render.relative(job.run_at)
        render.out(f"oldest due  {job.id} ({since}): {escape_line(job.command)[:60]}")
    if seen.overdue:
        render.out(
            f"overdue     {seen.overdue} past their deadline, for a worker to move to the DLQ"
        )
    if seen.next_due_at is not None:
        render.out(f"next due    {render.relative(seen.next_due_at)}")


def show_short(ctx: typer.Context) -> None:
    """Print two lines, and in an empty store how to begin."""
    seen = counts.read_status(open_store(ctx))
    present = [name for name in _ORDER if seen.states[domain.State(name)]]
    if not present:
        render.out("no jobs yet; try:")
        for command, purpose in _EXAMPLES:
            render.out(f"  {command:<32}{purpose}")
        return
    parts = [f"{seen.states[domain.State(name)]} {render.state(name)}" for name in present]
    render.out(f"jobs        {', '.join(parts)}")
    _show_activity(seen)


def _status_object(seen: counts.Status) -> dict[str, Any]:
    due = seen.oldest_due
    return {
        "states": {name: seen.states[domain.State(name)] for name in _ORDER},
        "queues": [
            {
                "name": queue.name,
                "pending": queue.pending,
                "processing": queue.processing,
                "waiting": queue.waiting,
                "paused": queue.paused,
            }
            for queue in seen.queues
        ],
        "workers_alive": seen.workers_alive,
        "stop_requested": seen.stop_requested,
        "oldest_due": None if due is None else objects.job_object(due),
        "next_due_at": seen.next_due_at,
        "overdue": seen.overdue,
    }
