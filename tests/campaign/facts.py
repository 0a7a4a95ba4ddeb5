"""What is known of a campaign when it is over: plain values that the checker judges.

All times are seconds of CLOCK_BOOTTIME, which every process of a machine reads alike and nobody
can set. The jobs' own signs come from /proc/uptime, which is the same clock in steps of 10 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sign:
    """One line that a job wrote outside the store while it ran.

    ``kind``: ``start``, ``tick`` and ``end`` come from the job's shell; ``child`` from a process
    that left its group, ``hidden`` from one that cleared its environment as well.
    """

    kind: str
    job: str
    run: int
    claim: str
    worker: str
    supervisor: str
    #: The worker's process id.
    parent: int
    at: float
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one client asked for in one call of ``enqueue``, and what it was told."""

    name: str
    #: The ids that it chose itself, in order; empty where the program chose them.
    own_ids: tuple[str, ...]
    #: The ids that were printed: acknowledged.
    acknowledged: tuple[str, ...]
    ended: float
    #: None: it was killed by a signal.
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A row of ``jobs`` after the drain."""

    seq: int
    id: str
    state: str
    runs: int
    attempts: int
    max_retries: int
    timeout_seconds: float | None
    in_dlq: bool
    requeues: int = 0


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """A row of ``attempts``; ``pid`` is the worker's."""

    job: str
    run: int
    worker: str
    pid: int
    started: float
    finished: float
    outcome: str
    exit_code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that really struck; ``pids`` are the processes that it hit."""

    number: int
    kind: str
    at: float
    pids: tuple[int, ...] = ()
    #: The supervisor whose processes they were, by the campaign's own name for it.
    supervisor: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A time in which nobody could have taken a job back at once: a full disk, a stop, a freeze."""

    begin: float
    end: float
    why: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """A time in which a supervisor was stopped, and could end nothing that came to it."""

    supervisor: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Stray:
    """A process that was alive although its attempt had been recorded as ended."""

    pid: int
    command: str
    at: float
    job: str = ""
    run: int = 0
    #: The supervisor under which it was started, where that is known.
    supervisor: str = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is known of one store's campaign."""

    store: str
    signs: tuple[Sign, ...] = ()
    batches: tuple[Batch, ...] = ()
    jobs: tuple[StoredJob, ...] = ()
    attempts: tuple[StoredAttempt, ...] = ()
    strikes: tuple[Strike, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    strays: tuple[Stray, ...] = ()
    #: What ``PRAGMA integrity_check`` and ``foreign_key_check`` complained of, or the server.
    damage: tuple[str, ...] = ()
    #: Tracebacks, and exit codes that are not documented, each with where it was seen.
    complaints: tuple[str, ...] = ()
    #: What else is worth a line in the verdict.
    notes: tuple[str, ...] = field(default=())


def parse_sign(line: str) -> Sign | None:
    """Return the sign of one line of the jobs' journal; None for a line that is not whole."""
    words = line.split(" ")
    if len(words) != 10 or words[9] != ".":
        return None
    kind, job, run, claim, worker, supervisor, parent, at, code, _ = words
    return Sign(
        kind,
        job,
        int(run),
        claim,
        worker,
        supervisor,
        int(parent),
        float(at),
        None if code == "-" else int(code),
    )
