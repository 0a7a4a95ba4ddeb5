"""Stats: throughput, waiting and running times, and what fails, from the recorded attempts.

The database counts, sorts and picks; nothing but numbers comes here, all of one moment. Where
SQLite sorts in memory, that takes some 90 bytes an attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, and_, case, func, literal_column, select
from sqlalchemy.orm import aliased

from queuectl.db.engine import Store
from queuectl.db.instants import microseconds
from queuectl.db.models import AttemptRow, JobRow
from queuectl.domain import statistics
from queuectl.domain.fingerprint import program_of
from queuectl.domain.job import CHARGED, Ending, State
from queuectl.domain.statistics import BOUNDS_SECONDS, NO_TIMES, PERCENTS, Times
from queuectl.service.rows import in_states

#: Failed jobs whose commands are read at a time.
_PAGE_JOBS = 5000
#: Programs that are told apart; further ones are counted together.
_MOST_PROGRAMS = 10_000
OTHERS = "(others)"
#: Attempts that ended by themselves: only their running times are times of the command.
_OWN_ENDS = (Ending.COMPLETED, *sorted(CHARGED))


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The attempts of one queue, by how they ended."""

    name: str
    outcomes: dict[Ending, int]

    @property
    def attempts(self) -> int:
        """How many there were in all."""
        return sum(self.outcomes.values())

    @property
    def failures(self) -> int:
        """How many failed or ran into their timeout."""
        return sum(self.outcomes[ending] for ending in CHARGED)


@dataclass(frozen=True, slots=True)
class Stats:
    """What ended from ``begins`` to ``ends``."""

    begins: datetime
    ends: datetime
    outcomes: dict[Ending, int]
    #: Those with most failures first.
    queues: list[QueueStats]
    #: Failures by what the command calls, the most frequent first.
    programs: list[tuple[str, int]]
    #: From the moment a job was due to the start of its last attempt, of completed and dead jobs.
    waiting: Times
    #: Of attempts that ended by themselves.
    running: Times
    #: When the first of the spans below begins, and how long each is.
    first_span_at: datetime
    span_seconds: int
    #: Attempts that completed, and that ended, in each span.
    completed: Sequence[int]
    ended: Sequence[int]


def read_stats(
    store: Store, *, since: datetime, now: datetime | None = None, queue: str | None = None
) -> Stats:
    """Return the statistics of all attempts that ended since then, or of those of one queue."""
    until = now or datetime.now(UTC)
    return store.read(lambda connection: _read(connection, since, until, queue))


def _read(connection: Connection, since: datetime, now: datetime, queue: str | None) -> Stats:
    first = connection.execute(
        select(func.min(AttemptRow.finished_at)).where(AttemptRow.finished_at >= since)
    ).scalar()
    begins = since if first is None or now - since <= timedelta(days=2) else first
    span = statistics.choose_span(begins, now)
    ended: dict[int, int] = {}
    completed: dict[int, int] = {}
    by_queue: dict[str, dict[Ending, int]] = {}
    for name, outcome, number, count in _count(connection, since, queue, span):
        ending = Ending(outcome)
        by_queue.setdefault(name, dict.fromkeys(Ending, 0))[ending] += count
        ended[number] = ended.get(number, 0) + count
        if ending is Ending.COMPLETED:
            completed[number] = completed.get(number, 0) + count
    queues = [QueueStats(name, outcomes) for name, outcomes in sorted(by_queue.items())]
    outcomes = {ending: sum(one.outcomes[ending] for one in queues) for ending in Ending}
    first_number = int(begins.timestamp()) // span
    last_number = max(int(now.timestamp()) // span, first_number)
    failures = sum(outcomes[ending] for ending in CHARGED)
    return Stats(
        begins=begins,
        ends=now,
        outcomes=outcomes,
        queues=sorted(queues, key=lambda one: (-one.failures, -one.attempts, one.name)),
        programs=_count_programs(connection, since, queue) if failures else [],
        waiting=_measure(connection, _waits(since, queue)),
        running=_measure(connection, _runs(since, queue)),
        first_span_at=datetime.fromtimestamp(first_number * span, UTC),
        span_seconds=span,
        completed=statistics.spread(completed, first_number, last_number),
        ended=statistics.spread(ended, first_number, last_number),
    )


def _count(connection: Connection, since: datetime, queue: str | None, span: int) -> Any:
    # A literal, for PostgreSQL takes two parameters for two different spans.
    number = microseconds(AttemptRow.finished_at) // literal_column(
        str(span * 1_000_000), BigInteger
    )
    columns: list[Any] = [JobRow.queue, AttemptRow.outcome, number]
    query = select(*columns, func.count()).join(JobRow, JobRow.seq == AttemptRow.job_seq)
    query = _since(query, since, queue)
    return connection.execute(query.group_by(*columns))


def _since(query: Select[Any], since: datetime, queue: str | None) -> Select[Any]:
    query = query.where(AttemptRow.finished_at >= since)
    return query if queue is None else query.where(JobRow.queue == queue)


def _runs(since: datetime, queue: str | None) -> Select[Any]:
    """Select how long attempts ran, in microseconds."""
    took = microseconds(AttemptRow.finished_at) - microseconds(AttemptRow.started_at)
    query = select(took.label("took")).where(AttemptRow.outcome.in_(_OWN_ENDS))
    if queue is not None:
        query = query.join(JobRow, JobRow.seq == AttemptRow.job_seq)
    return _since(query, since, queue)


def _waits(since: datetime, queue: str | None) -> Select[Any]:
    """Select how long jobs waited for their last attempt, in microseconds.

    Of earlier attempts it is not known when they were due: a failure sets ``run_at`` anew. A job
    that was put back was free only when the attempt before had ended.
    """
    before = aliased(AttemptRow)
    due = case(
        (before.finished_at > JobRow.run_at, microseconds(before.finished_at)),
        else_=microseconds(JobRow.run_at),
    )
    query = (
        select((microseconds(AttemptRow.started_at) - due).label("took"))
        .join(JobRow, JobRow.seq == AttemptRow.job_seq)
        .outerjoin(
            before,
            and_(before.job_seq == AttemptRow.job_seq, before.run == AttemptRow.run - 1),
        )
        .where(AttemptRow.run == JobRow.runs, in_states(State.COMPLETED, State.DEAD))
    )
    return _since(query, since, queue)


def _measure(connection: Connection, durations: Select[Any]) -> Times:
    count = connection.execute(
        durations.with_only_columns(func.count(), maintain_column_froms=True)
    ).scalar_one()
    if not count:
        return NO_TIMES
    took = durations.selected_columns.took
    position = func.row_number().over(order_by=took).label("position")
    # Numbered in a subquery, each is computed once: SQLite repeats what an outer select names.
    ranked = durations.add_columns(position).subquery().c
    bounds = [round(bound * 1_000_000) for bound in BOUNDS_SECONDS]
    ranks = [statistics.rank(percent, count) for percent in PERCENTS]
    below = [func.sum(case((ranked.took < bound, 1), else_=0)) for bound in bounds]
    picked = [func.max(case((ranked.position == rank, ranked.took))) for rank in ranks]
    row = connection.execute(
        select(func.sum(ranked.took), func.max(ranked.took), *picked, *below)
    ).one()
    total, longest, median, percentile_95, percentile_99, *until = row
    return Times(
        count=count,
        mean=_seconds(total / count),
        median=_seconds(median),
        percentile_95=_seconds(percentile_95),
        percentile_99=_seconds(percentile_99),
        longest=_seconds(longest),
        histogram=tuple(int(b - a) for a, b in pairwise([0, *until, count])),
    )


def _seconds(value: Any) -> float:
    # Two machines' clocks, or one that was set back, may say that it began before it was due.
    return max(0.0, float(value) / 1_000_000)


def _count_programs(
    connection: Connection, since: datetime, queue: str | None
) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    after = 0
    while rows := connection.execute(_select_failed(since, queue, after)).all():
        for row in rows:
            program = program_of(row.command)
            known = program in counts or len(counts) < _MOST_PROGRAMS
            counts[program if known else OTHERS] += row.failures
        after = rows[-1].job_seq
    return counts.most_common()


def _select_failed(since: datetime, queue: str | None, after: int) -> Select[Any]:
    # One command a job, and grouped by the key alone it is read in the order of the index.
    command = func.min(func.substr(JobRow.command, 1, 200)).label("command")
    columns: list[Any] = [AttemptRow.job_seq, command, func.count().label("failures")]
    query = (
        select(*columns)
        .join(JobRow, JobRow.seq == AttemptRow.job_seq)
        .where(AttemptRow.job_seq > after, AttemptRow.outcome.in_(sorted(CHARGED)))
    )
    query = _since(query, since, queue).group_by(AttemptRow.job_seq)
    return query.order_by(AttemptRow.job_seq).limit(_PAGE_JOBS)
