"""Audit: what a store's own history says about the promises. It reads, and changes nothing.

The attempts are gone through once, in the order of their key, by the database: a million of them
take seconds. Each check is a transaction of its own, so that writers never wait for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, String, bindparam, text

from queuectl.db import inspection
from queuectl.db.engine import Store
from queuectl.domain.job import CHARGED
from queuectl.domain.retry import CRASHED, EXHAUSTED
from queuectl.service import workers

#: Ids that a check names at most; it counts all of them.
MOST_IDS = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: how much was looked at, and how much of it breaks the promise."""

    name: str
    checked: int
    #: What was looked at: ``attempts``.
    things: str
    broken: int
    #: What is wrong with a broken one, behind its number: ``overlaps``.
    fault: str
    #: The first of the jobs concerned, by id; for the file itself, what the database says of it.
    examples: list[str]
    hint: str

    @property
    def ok(self) -> bool:
        """Whether the promise is kept."""
        return self.broken == 0


_CHARGED = ", ".join(f"'{ending}'" for ending in sorted(CHARGED))
#: One row a job: its attempts, and by how much it breaks each promise. An attempt that is
#: recorded while its job is claimed anew overlaps it; the last number is not recorded yet then.
_JUDGED = f"""
WITH each AS (
    SELECT job_seq, run, outcome, started_at, a.finished_at,
        max(a.finished_at) OVER (
            PARTITION BY job_seq ORDER BY run ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS earlier,
        CASE WHEN run > coalesce(requeued_after_run, 0) THEN 1 ELSE 0 END AS since
    FROM attempts a JOIN jobs ON jobs.seq = a.job_seq
), history AS (
    SELECT job_seq, count(*) AS recorded, min(run) AS first, max(run) AS last,
        max(finished_at) AS ended,
        sum(CASE WHEN started_at < earlier THEN 1 ELSE 0 END) AS "overlaps",
        sum(CASE WHEN outcome IN ({_CHARGED}) THEN since ELSE 0 END) AS charged,
        sum(CASE WHEN outcome = 'lost' THEN since ELSE 0 END) AS lost,
        sum(CASE WHEN outcome = 'completed' THEN since ELSE 0 END) AS completed,
        max(CASE WHEN outcome = 'completed' THEN run END) AS completed_run
    FROM each GROUP BY job_seq
), judged AS (
    SELECT j.seq, j.id, j.state, coalesce(h.recorded, 0) AS recorded,
        coalesce(h.overlaps, 0)
            + CASE WHEN j.state = 'processing' AND h.ended > j.claimed_at THEN 1 ELSE 0 END
            AS "overlaps",
        CASE WHEN coalesce(h.recorded, 0)
                <> j.runs - CASE WHEN j.state = 'processing' THEN 1 ELSE 0 END
            OR h.first <> 1 OR h.last <> h.recorded THEN 1 ELSE 0 END AS gaps,
        CASE WHEN j.attempts > j.max_retries + 1
            OR (j.attempts > j.max_retries AND j.state <> 'dead')
            OR (j.attempts <= j.max_retries AND d.reason = '{EXHAUSTED}')
            OR (j.crashes = 0 AND d.reason = '{CRASHED}')
            OR j.attempts <> coalesce(h.charged, 0)
            OR j.crashes > coalesce(h.lost, 0) THEN 1 ELSE 0 END AS beyond,
        CASE WHEN j.state = 'completed'
            THEN CASE WHEN h.completed = 1 AND h.completed_run = j.runs THEN 0 ELSE 1 END
            WHEN h.completed > 0 THEN 1 ELSE 0 END AS wrong,
        CASE WHEN j.state <> 'processing' AND (j.worker_id IS NOT NULL OR j.claimed_at IS NOT NULL)
            THEN 1 ELSE 0 END AS held
    FROM jobs j LEFT JOIN history h ON h.job_seq = j.seq LEFT JOIN dlq d ON d.job_seq = j.seq
)
"""  # noqa: S608  # a constant of ours, no value
_TOTALS = text(
    _JUDGED  # noqa: S608  # constants
    + """
    SELECT count(*) AS jobs, coalesce(sum(recorded), 0) AS attempts,
        coalesce(sum("overlaps"), 0) AS "overlaps", coalesce(sum(gaps), 0) AS gaps,
        coalesce(sum(beyond), 0) AS beyond, coalesce(sum(wrong), 0) AS wrong,
        coalesce(sum(held), 0) AS held,
        coalesce(sum(CASE WHEN state = 'completed' THEN 1 ELSE 0 END), 0) AS completed,
        coalesce(sum(CASE WHEN state <> 'processing' THEN 1 ELSE 0 END), 0) AS resting
    FROM judged
    """
)
#: The name of a check and of its column, what it counts and in which column, its fault, a hint.
_HISTORY_CHECKS = (
    (
        "overlaps",
        "attempts",
        "attempts",
        "overlaps",
        "two attempts of a job ran at once, or the machine's clock was set back between them",
    ),
    (
        "gaps",
        "jobs",
        "jobs",
        "with gaps in their attempts",
        "attempts are numbered from 1; something deleted, added or changed rows of the history",
    ),
    (
        "beyond",
        "jobs",
        "jobs",
        "beyond their retries",
        "more attempts were charged than a job has retries, or than its history holds",
    ),
    (
        "wrong",
        "completed jobs",
        "completed",
        "with a wrong result",
        "a completed job has one completed attempt, its last; every other job has none since"
        " it was last retried",
    ),
    (
        "held",
        "jobs at rest",
        "resting",
        "held by a worker",
        "only a job in processing belongs to a worker",
    ),
)
_OPEN = text(
    """
    SELECT id, worker_id IN (SELECT id FROM workers WHERE state = 'alive')
        AND worker_id NOT IN :gone AS closed
    FROM jobs WHERE state = 'processing' ORDER BY seq
    """
).bindparams(bindparam("gone", expanding=True, type_=String))
_LETTERS = text(
    """
    SELECT j.id FROM jobs j LEFT JOIN dlq d ON d.job_seq = j.seq
    WHERE j.state = 'dead' AND d.job_seq IS NULL
    UNION ALL
    SELECT j.id FROM dlq d JOIN jobs j ON j.seq = d.job_seq WHERE j.state <> 'dead'
    """
)
#: By the unique index of ticks: it is there, or somebody took it away.
_TICKS = text("SELECT count(*) FROM jobs WHERE schedule IS NOT NULL")
_TWICE = text(
    """
    SELECT id FROM jobs j JOIN (
        SELECT schedule, scheduled_for FROM jobs WHERE schedule IS NOT NULL
        GROUP BY schedule, scheduled_for HAVING count(*) > 1
    ) twice ON twice.schedule = j.schedule AND twice.scheduled_for = j.scheduled_for
    WHERE j.schedule IS NOT NULL ORDER BY j.seq
    """
)
_COUNT_DEAD = text("SELECT count(*) FROM jobs WHERE state = 'dead'")


def audit(store: Store) -> list[Check]:
    """Return every check, whether kept or broken. Raises StoreError if it cannot be read."""
    return [
        *store.read(_check_history),
        _check_claims(store),
        store.read(_check_letters),
        store.read(_check_ticks),
        _check_file(store, "integrity", inspection.integrity_problems),
        _check_file(store, "foreign keys", inspection.foreign_key_problems),
    ]


def _check_history(connection: Connection) -> list[Check]:
    found = connection.execute(_TOTALS).one()._mapping
    totals = {name: int(total) for name, total in found.items()}  # a server's sums are decimals
    return [
        Check(
            name,
            totals[counted],
            things,
            totals[name],
            fault,
            _breakers(connection, name) if totals[name] else [],
            hint,
        )
        for name, things, counted, fault, hint in _HISTORY_CHECKS
    ]


def _breakers(connection: Connection, column: str) -> list[str]:
    query = f'{_JUDGED} SELECT id FROM judged WHERE "{column}" > 0 ORDER BY seq LIMIT :most'  # noqa: S608  # a column
    return list(connection.execute(text(query), {"most": MOST_IDS}).scalars())


def _check_claims(store: Store) -> Check:
    """A claim is closed when its worker lives: its row says so, and it holds its lock."""
    gone = [worker.id for worker in workers.list_workers(store) if worker.state != "alive"]
    rows = store.read(lambda connection: connection.execute(_OPEN, {"gone": gone}).all())
    left = [row.id for row in rows if not row.closed]
    return Check(
        "claims",
        len(rows),
        "claims",
        len(left),
        "left open by a worker that is gone",
        left[:MOST_IDS],
        "a worker takes such jobs back as soon as it runs: queuectl worker start",
    )


def _check_letters(connection: Connection) -> Check:
    wrong = list(connection.execute(_LETTERS).scalars())
    return Check(
        "letters",
        connection.execute(_COUNT_DEAD).scalar_one(),
        "dead jobs",
        len(wrong),
        "at odds with the dead letter queue",
        wrong[:MOST_IDS],
        "every dead job stands in the dead letter queue, and nothing else does",
    )


def _check_ticks(connection: Connection) -> Check:
    twice = list(connection.execute(_TWICE).scalars())
    return Check(
        "ticks",
        connection.execute(_TICKS).scalar_one(),
        "jobs of schedules",
        len(twice),
        "that share a tick",
        twice[:MOST_IDS],
        "each tick of a schedule makes one job; something took the index of ticks away",
    )


def _check_file(store: Store, name: str, find: Any) -> Check:
    problems = store.read(find)
    return Check(
        name,
        1,
        f"{name} check",
        len(problems),
        "problems",
        problems[:MOST_IDS],
        "copy the store away first; sqlite3 has .recover for a damaged file",
    )
