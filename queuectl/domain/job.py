"""The states of a job, the ways between them, and the frozen values that cross the layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from queuectl.domain.terms import NO_TERMS, Terms


class State(StrEnum):
    """Where a job stands."""

    HELD = "held"  #: waits until somebody releases it
    BLOCKED = "blocked"  #: waits for other jobs to end
    SCHEDULED = "scheduled"  #: its run_at lies ahead
    PENDING = "pending"  #: ready to be claimed
    PROCESSING = "processing"  #: claimed by a worker
    COMPLETED = "completed"  #: ended well
    FAILED = "failed"  #: an attempt failed; waits for its backoff
    DEAD = "dead"  #: retries exhausted; in the dead letter queue
    CANCELLED = "cancelled"  #: taken out by somebody


#: States that nothing leaves by itself.
FINISHED = frozenset({State.COMPLETED, State.DEAD, State.CANCELLED})

#: The others: a job that waits for something or runs.
LIVE = frozenset(State) - FINISHED

#: Every change of state there is; a test holds the services to it.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.HELD: frozenset(
        {
            State.BLOCKED,
            State.PENDING,
            State.SCHEDULED,
            State.FAILED,
            State.CANCELLED,
            State.DEAD,
        }
    ),
    State.BLOCKED: frozenset(
        {State.PENDING, State.SCHEDULED, State.HELD, State.CANCELLED, State.DEAD}
    ),
    State.SCHEDULED: frozenset({State.PENDING, State.HELD, State.CANCELLED, State.DEAD}),
    State.PENDING: frozenset(
        {State.PROCESSING, State.SCHEDULED, State.HELD, State.CANCELLED, State.DEAD}
    ),
    State.PROCESSING: frozenset(
        {State.COMPLETED, State.FAILED, State.DEAD, State.PENDING, State.CANCELLED}
    ),
    State.FAILED: frozenset({State.PENDING, State.HELD, State.CANCELLED}),
    State.COMPLETED: frozenset({State.PENDING, State.BLOCKED}),
    State.DEAD: frozenset({State.PENDING, State.BLOCKED}),
    State.CANCELLED: frozenset({State.PENDING, State.BLOCKED}),
}


class Ending(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"  #: exit code 0
    FAILED = "failed"  #: another exit code, a signal, not what it was to do, or never started
    TIMED_OUT = "timed out"  #: ran longer than its timeout and was killed
    STALLED = "stalled"  #: printed nothing for too long and was killed
    CANCELLED = "cancelled"  #: ended because somebody cancelled the job
    STOPPED = "stopped"  #: put back because its worker was told to stop now
    LOST = "lost"  #: its worker died


#: Endings that count against max_retries.
CHARGED = frozenset({Ending.FAILED, Ending.TIMED_OUT, Ending.STALLED})


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it stands in the store. Instants are UTC."""

    seq: int
    id: str
    queue: str
    command: str
    cwd: str | None
    env: dict[str, str] | None
    state: State
    priority: int
    run_at: datetime
    runs: int
    attempts: int
    max_retries: int
    timeout_seconds: float | None
    backoff_base: float | None
    crashes: int
    worker_id: str | None
    claimed_at: datetime | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    version: int
    name: str | None
    unique_key: str | None
    frozen_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    #: The schedule that made it, and the tick for which it did.
    schedule: str | None
    scheduled_for: datetime | None
    deadline: datetime | None
    stdin_bytes: int | None
    edit_started_at: datetime | None
    terms: Terms = NO_TERMS

    @property
    def is_edited(self) -> bool:
        """Whether it is held because somebody edits it, or began to."""
        return self.state is State.HELD and self.edit_started_at is not None

    @property
    def is_frozen(self) -> bool:
        """Whether it runs, and its processes stand still."""
        return self.state is State.PROCESSING and self.frozen_at is not None

    def is_overdue(self, now: datetime) -> bool:
        """Whether it was not started by its deadline, and no worker has looked since."""
        never = self.runs == 0 and self.state in (
            State.HELD,
            State.BLOCKED,
            State.SCHEDULED,
            State.PENDING,
        )
        return never and self.deadline is not None and self.deadline <= now


@dataclass(frozen=True, slots=True)
class Attempt:
    """One ended execution of a job."""

    job_seq: int
    run: int
    worker_id: str
    host: str
    pid: int
    started_at: datetime
    finished_at: datetime
    outcome: Ending
    exit_code: int | None
    signal: int | None
    cpu_user_seconds: float | None
    cpu_system_seconds: float | None
    max_rss_bytes: int | None
    output_bytes: int | None
    output_tail: bytes | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt: the job, and the version that fences everybody else out."""

    seq: int
    version: int
    run: int
    id: str
    queue: str
    command: str
    cwd: str | None
    env: dict[str, str] | None
    attempts: int
    max_retries: int
    timeout_seconds: float | None
    backoff_base: float | None
    crashes: int
    #: The tick of its schedule, if one made it.
    scheduled_for: datetime | None = None
    #: 1 if another job waits for its end, as far as the claim saw.
    needed: int = 0
    #: The size of its standard input, and that itself; None: it has none.
    stdin_bytes: int | None = None
    stdin: bytes | None = field(default=None, repr=False)
    terms: Terms = NO_TERMS

    @property
    def mark(self) -> str:
        """What the command's environment carries as ``QUEUECTL_CLAIM``."""
        return f"{self.seq}-{self.version}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt, as its runner saw it. Sizes in bytes, times in seconds."""

    ending: Ending
    started_at: datetime
    finished_at: datetime
    exit_code: int | None = None
    signal: int | None = None
    cpu_user_seconds: float | None = None
    cpu_system_seconds: float | None = None
    max_rss_bytes: int | None = None
    output_bytes: int | None = None
    output_tail: bytes | None = None
    error: str | None = None
