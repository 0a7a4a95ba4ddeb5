"""Recall: what stands of a worker's last turn when the reply to its commit was lost.

After a failed sync, or a connection that broke, a worker does not know whether its transaction is
in the store. Repeating a settlement would be harmless, since its version decides. But a claim that
was committed and forgotten would stay in ``processing`` for as long as its worker lives, and one
that was given back, and started all the same, would run twice.

A worker also recalls when the store was away: a standby that lagged when it took over may hold
claims that had been settled. They are run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, literal_column, select

from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, JobRow
from queuectl.domain.job import Claim, Ending
from queuectl.domain.terms import read_terms
from queuectl.service import inputs
from queuectl.service.claims import Settlement

_FIELDS = [name for name in Claim.__dataclass_fields__ if name not in ("run", "stdin")]
_HELD = select(*(getattr(JobRow, name) for name in _FIELDS), JobRow.runs.label("run")).where(
    JobRow.state == literal_column("'processing'"), JobRow.worker_id == bindparam("worker_id")
)
_RECORDED = select(AttemptRow.outcome).where(
    AttemptRow.job_seq == bindparam("seq"),
    AttemptRow.run == bindparam("run"),
    AttemptRow.worker_id == bindparam("worker_id"),
)


@dataclass(frozen=True, slots=True)
class Recollection:
    """What the store says: every claim that this worker holds, and the settlements it has."""

    held: list[Claim]
    settled: list[Settlement]


def recall(store: Store, worker_id: str, ended: Sequence[Settlement]) -> Recollection:
    """Read what a worker holds, and which of its ended attempts are recorded.

    Raises StoreError while the store is away.
    """

    def work(connection: Connection) -> Recollection:
        return Recollection(
            inputs.attach(
                connection,
                [_to_claim(row) for row in connection.execute(_HELD, {"worker_id": worker_id})],
            ),
            [item for item in ended if _is_recorded(connection, worker_id, item)],
        )

    return store.read(work)


def _to_claim(row: Any) -> Claim:
    return Claim(**{**row._mapping, "terms": read_terms(row.terms)})


def _is_recorded(connection: Connection, worker_id: str, item: Settlement) -> bool:
    values = {"seq": item.claim.seq, "run": item.claim.run, "worker_id": worker_id}
    outcome = connection.execute(_RECORDED, values).scalar()
    # A rescuer that took the job back recorded this very run as lost.
    return outcome is not None and outcome != Ending.LOST
