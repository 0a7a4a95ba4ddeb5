"""What is not well with the schedules of a store: who would make their jobs, and run them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from queuectl.db.engine import Store
from queuectl.domain.durations import format_duration
from queuectl.domain.request import JobRequest
from queuectl.domain.schedule import Schedule
from queuectl.service import schedules, workers
from queuectl.service.workers import Worker

#: A tick that is due for longer than this has been missed by workers that live, in seconds.
_LATE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Fault:
    """What keeps a schedule from making jobs, or them from running; and what to do."""

    text: str
    hint: str


def examine(store: Store) -> tuple[str, list[Fault]]:
    """Return what there is, in a line, and every fault."""
    found = [known.schedule for known in schedules.list_schedules(store)]
    alive = [worker for worker in workers.list_workers(store) if worker.state == "alive"]
    now = datetime.now(UTC)
    faults = [fault for schedule in found for fault in _faults_of(schedule, alive, now)]
    active = sum(schedule.paused_at is None for schedule in found)
    if active and not alive:
        what = "1 schedule" if active == 1 else f"{active} schedules"
        text = f"no worker runs, so nobody makes the jobs of {what}"
        faults.append(Fault(text, "start one: queuectl worker start"))
    return _describe(found, now), faults


def _describe(found: Sequence[Schedule], now: datetime) -> str:
    if not found:
        return "none"
    parts = [f"{len(found)}"]
    coming = [(one.next_at, one.name) for one in found if one.next_at is not None]
    if coming:
        at, name = min(coming)
        parts.append(f"the next is {name}, {_when(at, now)}")
    parts += [_paused(one, now) for one in found if one.paused_at is not None and not one.problem]
    return "; ".join(parts)


def _paused(schedule: Schedule, now: datetime) -> str:
    try:
        next_at = schedule.resumes_at(now)
    except ValueError:  # that is a fault of its own
        next_at = None
    due = "" if next_at is None else f" (resumed now, it would be due {_when(next_at, now)})"
    return f"{schedule.name} is paused{due}"


def _when(at: datetime, now: datetime) -> str:
    seconds = round((at - now).total_seconds())
    away = format_duration(abs(seconds))
    return f"in {away}" if seconds > 0 else f"{away} ago"


def _faults_of(schedule: Schedule, alive: Sequence[Worker], now: datetime) -> list[Fault]:
    name = schedule.name
    unreadable = _unreadable(schedule, now)
    if unreadable is not None:
        text = f"schedule {name} can no longer be read: {unreadable}"
        mend = f"mend that, then: queuectl schedule resume {name} (or schedule add --replace)"
        return [Fault(text, mend)]
    if schedule.paused_at is not None or not alive:
        return []
    found = []
    if schedule.next_at is not None and now - schedule.next_at > _LATE:
        text = f"schedule {name} was due {_when(schedule.next_at, now)}, and no worker made its job"
        found.append(Fault(text, "the workers' log tells why: their role may need more grants"))
    queue = str(schedule.request.get("queue", JobRequest.model_fields["queue"].default))
    if not any(worker.serves(queue) for worker in alive):
        text = f"schedule {name} makes jobs for queue {queue}, which no worker serves"
        found.append(Fault(text, f"start one: queuectl worker start --queue {queue}"))
    return found


def _unreadable(schedule: Schedule, now: datetime) -> str | None:
    if schedule.problem is not None:
        return schedule.problem
    try:
        schedule.resumes_at(now)
    except ValueError as error:
        return f"its time zone {schedule.timezone!r} {error}"
    return None
