"""What is shown of the store at one moment: header, rows of jobs, rows of queues, as plain text.

Everything that came from a job is escaped here, so whoever draws it need not know where it is from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from queuectl.cli import jobs
from queuectl.domain import durations
from queuectl.domain import job as domain
from queuectl.domain.text import escape_line
from queuectl.service import counts, overview
from queuectl.settings import StoreLocation

#: Jobs of each kind, running, waiting and ended, that are shown.
MOST_ROWS = 100
#: The longest command that is shown, in characters.
_LONGEST = 200

JOB_COLUMNS = ("STATE", "ID", "QUEUE", "TRIES", "TIME", "HOST", "COMMAND")
QUEUE_COLUMNS = ("QUEUE", "WAITING", "RUNNING", "LIMIT", "WORKERS", "PAUSED")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table; ``key`` tells it from the others, and ``state`` gives its colour."""

    key: str
    cells: tuple[str, ...]
    state: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The store at one moment, and how many jobs have ended in the seconds before."""

    overview: overview.Overview
    ended: int
    span_seconds: float

    def find_job(self, job_id: str) -> domain.Job | None:
        """Return a job that is shown."""
        return next((job for job in self._jobs() if job.id == job_id), None)

    def find_queue(self, name: str) -> counts.QueueState | None:
        """Return a queue."""
        return next((queue for queue in self.overview.tally.queues if queue.name == name), None)

    def _jobs(self) -> list[domain.Job]:
        seen = self.overview
        return [*seen.running, *seen.waiting, *seen.ended]


def job_rows(snapshot: Snapshot, now: datetime, needle: str = "") -> list[Row]:
    """Return a row for each job that has the needle somewhere: running, waiting, then ended."""
    seen = snapshot.overview
    rows: dict[str, Row] = {}
    for kind in (seen.running, seen.waiting, seen.ended):
        found = [job for job in kind if _has(job, needle)][:MOST_ROWS]
        rows.update((job.id, _job_row(job, seen.hosts.get(job.seq), now)) for job in found)
    return list(rows.values())


def _has(job: domain.Job, needle: str) -> bool:
    words = (_state(job), job.id, job.queue, job.name or "", job.command)
    return needle.casefold() in "\n".join(words).casefold()


def _job_row(job: domain.Job, host: str | None, now: datetime) -> Row:
    cells = (
        _state(job),
        job.id,
        job.queue,
        jobs.tries(job),
        _time(job, now),
        escape_line(host or "-"),
        _command(job),
    )
    return Row(job.id, cells, job.state)


def _state(job: domain.Job) -> str:
    if job.state is domain.State.PROCESSING:
        if job.cancel_requested_at is not None:
            return "cancelling"
        if job.frozen_at is not None:
            return "frozen"
    return job.state.value


def _time(job: domain.Job, now: datetime) -> str:
    """Return for how long it has run or waited, when it is due, or when it ended."""
    if job.state is domain.State.PROCESSING:
        return durations.format_duration(max(0, round(_seconds(job.claimed_at or now, now))))
    if job.state in (domain.State.HELD, domain.State.BLOCKED):
        return "-"
    if job.state in domain.FINISHED:
        return f"{_coarse(_seconds(job.finished_at or job.updated_at, now))} ago"
    waited = _seconds(job.run_at, now)
    return f"in {_coarse(-waited)}" if waited < 0 else f"due {_coarse(waited)}"


def _seconds(since: datetime, until: datetime) -> float:
    return (until - since).total_seconds()


def _coarse(seconds: float) -> str:
    """Return a duration in one unit: it changes seldom, and a screen at rest stays as it is."""
    rest = max(0, round(seconds))
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "m")):
        if rest >= unit:
            return f"{rest // unit}{name}"
    return f"{rest}s"


def _command(job: domain.Job) -> str:
    text = escape_line(f"{job.name}: {job.command}" if job.name else job.command)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def queue_rows(snapshot: Snapshot, only: Sequence[str] = ()) -> list[Row]:
    """Return a row for each queue, or each of those named."""
    found = [queue for queue in snapshot.overview.tally.queues if not only or queue.name in only]
    return [_queue_row(queue) for queue in found]


def _queue_row(queue: counts.QueueState) -> Row:
    running = queue.states[domain.State.PROCESSING]
    cells = (
        queue.name,
        str(sum(queue.states.values()) - running),
        str(running),
        "-" if queue.max_running is None else str(queue.max_running),
        str(len(queue.workers)),
        "paused" if queue.paused_at else "-",
    )
    return Row(queue.name, cells, "stopping" if queue.paused_at else "")


def header(
    location: StoreLocation, snapshot: Snapshot, only: Sequence[str] = ()
) -> list[list[tuple[str, str]]]:
    """Return lines of texts, each with the state that gives its colour, or "" for none."""
    named = f"   queues: {', '.join(only)}" if only else ""
    return [
        [(f"queuectl top   {_place(location)}{named}", "")],
        _states(snapshot, only) or [("no jobs yet", "")],
        [(f"{_throughput(snapshot, only)}   {_crew(snapshot)}", "")],
    ]


def _place(location: StoreLocation) -> str:
    text, home = str(location), f"{Path.home()}/"
    return escape_line(f"~/{text.removeprefix(home)}" if text.startswith(home) else text)


def _states(snapshot: Snapshot, only: Sequence[str]) -> list[tuple[str, str]]:
    tally = snapshot.overview.tally
    counted = tally.states
    if only:  # of what has ended nobody counts by queue: that would read a million rows
        chosen = [queue for queue in tally.queues if queue.name in only]
        counted = {state: sum(q.states[state] for q in chosen) for state in domain.LIVE}
    told = [(f"{counted[s]} {s.value}   ", s.value) for s in domain.State if counted.get(s)]
    shown = len(snapshot.overview.waiting)
    if MOST_ROWS <= shown < _count_waiting(counted):
        told.append((f"(shown: the first {shown} that wait)", ""))
    return told


def _count_waiting(counted: Mapping[domain.State, int]) -> int:
    return sum(counted[state] for state in domain.LIVE - {domain.State.PROCESSING})


def _throughput(snapshot: Snapshot, only: Sequence[str]) -> str:
    span = max(1, round(snapshot.span_seconds))
    where = " in all queues" if only else ""
    rate = snapshot.ended / max(1.0, snapshot.span_seconds)
    return f"{rate:.3g} jobs/s ({snapshot.ended} ended in {span}s{where})"


def _crew(snapshot: Snapshot) -> str:
    alive = [worker for worker in snapshot.overview.workers if worker.state == "alive"]
    busy = [worker for worker in alive if worker.running]
    taken = sum(len(worker.running) for worker in alive)
    slots = sum(worker.slots for worker in alive)
    if not alive:
        return "no worker is alive"
    return f"workers {len(alive)} alive, {len(busy)} busy, {taken} of {slots} slots"
