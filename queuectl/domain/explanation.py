"""Explanation: why a job does not run, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from queuectl.domain.dependency import Condition, NeededJob, can_end_well
from queuectl.domain.durations import format_duration
from queuectl.domain.job import FINISHED, Attempt, Job, State
from queuectl.domain.rate import Rate
from queuectl.domain.schedule import Schedule

#: Ids that a sentence names at most.
_NAMED = 5
#: Characters of a worker's id that are shown.
_SHORT = 8


@dataclass(frozen=True, slots=True)
class Crew:
    """A worker as far as it matters here; ``serves``: it lives, takes the queue, and stays."""

    id: str
    host: str
    pid: int
    alive: bool
    stopping: bool
    serves: bool
    slots: int
    running: Sequence[str]
    lease_expires_at: datetime


@dataclass(frozen=True, slots=True)
class Situation:
    """A job and all that may keep it from running, at one moment."""

    job: Job
    now: datetime
    paused_at: datetime | None
    max_running: int | None
    #: The ids of the jobs of its queue that run.
    running: Sequence[str]
    workers: Sequence[Crew]
    #: Pending jobs of its queue that are claimed before it: of higher priority, and of its own.
    higher: int
    sooner: int
    #: Its last attempt that has ended.
    last: Attempt | None
    died_at: datetime | None
    dead_reason: str | None
    #: What it needs.
    needs: Sequence[NeededJob] = ()
    #: The schedule that made it, if that is still there.
    schedule: Schedule | None = None
    #: What its queue starts at most, and when the next may start; None: now.
    rate: Rate | None = None
    opens_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """One sentence. ``hint``: a command, or what else there is to do; None: nothing."""

    name: str
    text: str
    hint: str | None = None


def explain(seen: Situation) -> list[Reason]:
    """Return every reason that holds, the first to be overcome first; there is always one.

    The schedule that made the job comes behind them, and when that makes another one.
    """
    return [*_reasons(seen), *_made_by(seen)]


def _reasons(seen: Situation) -> list[Reason]:
    if seen.job.state in FINISHED:
        return [_ended(seen)]
    if seen.job.state is State.PROCESSING:
        return [_runs(seen)]
    if seen.job.is_overdue(seen.now):
        return [*_overdue(seen), *_unserved(seen)]
    found = [*_held(seen), *_blocked(seen), *_too_soon(seen), *_paused(seen), *_unserved(seen)]
    waits = (State.HELD, State.BLOCKED)
    if seen.job.run_at <= seen.now and seen.job.state not in waits:
        found += [*_full(seen), *_used_up(seen), *_busy(seen), *_crashed(seen), *_behind(seen)]
    return found or [_about_to_run(seen)]


def _ended(seen: Situation) -> Reason:
    job = seen.job
    if job.state is State.DEAD:
        error = f": {job.last_error}" if job.last_error else ""
        return Reason(
            "dead",
            f"it is dead since {_at(seen, seen.died_at)}, {seen.dead_reason or 'reason unknown'}"
            f"{error}",
            f"queuectl logs {job.id}, then: queuectl dlq retry {job.id}",
        )
    where = f" on {seen.last.host}" if seen.last is not None and seen.last.host else ""
    if job.state is State.COMPLETED:
        return Reason("completed", f"it has completed{where}: {_at(seen, job.finished_at)}")
    when = job.finished_at or job.updated_at
    reason = f": {job.cancel_reason}" if job.cancel_reason else ""
    text = f"it was cancelled{reason}: {_at(seen, when)}"
    fatal = next((needed.need for needed in seen.needs if needed.need.fatal), None)
    hint = None
    if fatal is not None:
        hint = f"queuectl tree {job.id} shows what to retry; it comes back with that"
    return Reason("cancelled", text, hint)


def _runs(seen: Situation) -> Reason:
    job = seen.job
    attempt = f"attempt {job.attempts + 1} of {job.max_retries + 1}"
    since = f"since {_at(seen, job.claimed_at)}"
    crew = next((worker for worker in seen.workers if worker.id == job.worker_id), None)
    if crew is not None and crew.alive and job.is_frozen:
        return Reason(
            "frozen",
            f"it is frozen since {_at(seen, job.frozen_at)}: its processes on {crew.host} stand"
            f" still, and its timeout with them; {attempt}, claimed {_at(seen, job.claimed_at)}",
            f"queuectl thaw {job.id}",
        )
    if crew is not None and crew.alive:
        return Reason(
            "running",
            f"it runs, {attempt}, {since}, on {crew.host} in worker {crew.id[:_SHORT]} (process"
            f" {crew.pid}), whose lease runs until {_at(seen, crew.lease_expires_at)}",
            f"queuectl logs -f {job.id}",
        )
    gone = f"worker {(job.worker_id or '')[:_SHORT]}"
    lease = ""
    if crew is not None:
        gone += f" on {crew.host}"
        lease = f", whose lease runs until {_at(seen, crew.lease_expires_at)}"
    return Reason(
        "worker-gone",
        f"it ran, {attempt}, {since}, in {gone}, which is gone{lease}; a worker takes it back",
        "queuectl worker start, on that machine, or anywhere when the lease is over",
    )


def _overdue(seen: Situation) -> list[Reason]:
    text = (
        f"it was to be started by {_at(seen, seen.job.deadline)}, and is not any more: a worker's"
        " next turn moves it to the dead letter queue"
    )
    return [Reason("deadline-passed", text, f"queuectl dlq retry {seen.job.id}, after that")]


def _held(seen: Situation) -> list[Reason]:
    job = seen.job
    if job.state is not State.HELD:
        return []
    hint = f"queuectl release {job.id}"
    if job.is_edited:
        text = f"it is held while somebody edits it, since {_at(seen, job.edit_started_at)}"
        return [Reason("edited", text, f"end that edit; if nobody is at it any more: {hint}")]
    return [Reason("held", "it is held until somebody releases it", hint)]


def _blocked(seen: Situation) -> list[Reason]:
    if seen.job.state is not State.BLOCKED:
        return []
    needs = [needed.need for needed in seen.needs]
    failed = any(
        need.condition is Condition.FAILURE and need.outcome and not need.ended_well
        for need in needs
    )
    return [
        _awaits(needed)
        for needed in seen.needs
        if needed.need.outcome is None
        and not (failed and needed.need.condition is Condition.FAILURE)
    ]


def _awaits(needed: NeededJob) -> Reason:
    """Return for which job it waits, to which end, and whether that can still come."""
    need, job = needed.need, needed.job
    ends = {
        Condition.SUCCESS: "complete",
        Condition.ANY: "end",
        Condition.FAILURE: "fail",
    }
    text = f"it waits for job {need.id} to {ends[need.condition]}"
    if job is None:  # it was deleted by hand
        return Reason("blocked", f"{text}, which is gone", "cancel this one, or retry it then")
    text += f"; that one is {job.state}"
    hint = f"queuectl explain {job.id}"
    if not can_end_well(job):
        text += ", was asked to be cancelled and cannot complete any more"
    elif job.state is State.HELD:
        hint = f"queuectl release {job.id}"
        text += " and can still complete when it is released"
    else:
        text += " and can still complete"
    return Reason("blocked", text, hint)


def _too_soon(seen: Situation) -> list[Reason]:
    job = seen.job
    if job.run_at <= seen.now:
        return []
    at = _at(seen, job.run_at)
    if job.state is State.FAILED:
        error = f" ({job.last_error})" if job.last_error else ""
        total = job.max_retries + 1
        text = f"attempt {job.attempts} of {total} failed{error}; its backoff lasts until {at}"
        return [Reason("backoff", text)]
    return [Reason("scheduled", f"it is scheduled for {at}")]


def _paused(seen: Situation) -> list[Reason]:
    if seen.paused_at is None:
        return []
    name = seen.job.queue
    text = f"its queue {name} is paused since {_at(seen, seen.paused_at)}"
    return [Reason("queue-paused", text, f"queuectl queue resume {name}")]


def _unserved(seen: Situation) -> list[Reason]:
    alive = [worker for worker in seen.workers if worker.alive]
    name = seen.job.queue
    if any(worker.serves for worker in alive):
        return []
    if not alive:
        return [Reason("no-worker", "no worker runs", "queuectl worker start")]
    stopping = sum(worker.stopping for worker in alive)
    were = "was" if stopping == 1 else "were"
    rest = f" ({stopping} of them {were} asked to stop)" if stopping else ""
    text = f"of {_count(len(alive), 'worker')}, none serves its queue {name}{rest}"
    return [Reason("queue-unserved", text, f"queuectl worker start --queue {name}")]


def _full(seen: Situation) -> list[Reason]:
    if seen.max_running is None or len(seen.running) < seen.max_running:
        return []
    name = seen.job.queue
    text = f"its queue {name} runs at most {seen.max_running} at once: {_names(seen.running)}"
    hint = f"wait for one, or raise the limit: queuectl queue limit {name} N"
    return [Reason("limit-reached", text, hint)]


def _used_up(seen: Situation) -> list[Reason]:
    if seen.rate is None or seen.opens_at is None:
        return []
    name = seen.job.queue
    text = f"its queue {name} starts at most {seen.rate}; next start at {_at(seen, seen.opens_at)}"
    hint = f"wait, or change the rate: queuectl queue rate {name} N/m (none takes it away)"
    return [Reason("rate-reached", text, hint)]


def _busy(seen: Situation) -> list[Reason]:
    serving = [worker for worker in seen.workers if worker.serves]
    if not serving or any(len(worker.running) < worker.slots for worker in serving):
        return []
    slots = sum(worker.slots for worker in serving)
    ids = [job_id for worker in serving for job_id in worker.running]
    who = "the worker" if len(serving) == 1 else f"the {len(serving)} workers"
    what, verb = ("the slot", "is") if slots == 1 else (f"all {slots} slots", "are")
    text = f"{what} of {who} that may take it {verb} busy, with: {_names(ids)}"
    return [Reason("all-busy", text, "wait for one, or start more: queuectl worker start")]


def _crashed(seen: Situation) -> list[Reason]:
    serving = [worker for worker in seen.workers if worker.serves]
    if not seen.job.crashes or not serving or any(not worker.running for worker in serving):
        return []
    times = _count(seen.job.crashes, "time")
    text = f"it crashed its worker {times}, so it waits for one that runs nothing else"
    return [Reason("crashed-before", text, "wait, or start one: queuectl worker start")]


def _behind(seen: Situation) -> list[Reason]:
    parts = []
    if seen.higher:
        parts.append(f"{seen.higher} of higher priority")
    if seen.sooner:
        parts.append(f"{seen.sooner} that {'was' if seen.sooner == 1 else 'were'} due before")
    if not parts:
        return []
    name = seen.job.queue
    total = _count(seen.higher + seen.sooner, "job")
    text = f"{total} of its queue {name} will be taken first: {' and '.join(parts)}"
    return [Reason("jobs-ahead", text, f"queuectl list --order next --queue {name}")]


def _made_by(seen: Situation) -> list[Reason]:
    name, schedule = seen.job.schedule, seen.schedule
    if name is None:
        return []
    text = f"schedule {name} made it, for {_at(seen, seen.job.scheduled_for)}"
    if schedule is None:
        return [Reason("made-by-schedule", f"{text}; that schedule was removed")]
    text += f"; {_goes_on(seen, schedule)}"
    return [Reason("made-by-schedule", text, f"queuectl schedule show {name}")]


def _goes_on(seen: Situation, schedule: Schedule) -> str:
    """Return when the schedule makes another job, or why it does not."""
    if schedule.problem is not None:
        return f"it is paused, for it can no longer be read: {schedule.problem}"
    try:
        next_at = schedule.resumes_at(seen.now)
    except ValueError as error:
        return f"its time zone {schedule.timezone} {error}"
    if schedule.paused_at is not None:
        return f"it is paused; resumed now, it would be due at {_at(seen, next_at)}"
    if next_at is None:
        return "it has no next time"
    return f"its next one is due at {_at(seen, next_at)}"


def _about_to_run(seen: Situation) -> Reason:
    return Reason("ready", "nothing keeps it: a worker is about to take it")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _names(ids: Sequence[str]) -> str:
    named = ", ".join(ids[:_NAMED])
    return named if len(ids) <= _NAMED else f"{named} and {len(ids) - _NAMED} more"


def _at(seen: Situation, instant: datetime | None) -> str:
    """Return an instant with how far away it is: ``2026-11-25T09:00:00Z (5m ago)``."""
    if instant is None:
        return "an unknown time"
    text = instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    seconds = round((instant - seen.now).total_seconds())
    away = format_duration(abs(seconds))
    return f"{text} (in {away})" if seconds > 0 else f"{text} ({away} ago)"
