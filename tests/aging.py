"""Jobs that ended long ago, without waiting for it."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Update, update

from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, JobRow
from queuectl.service import jobs


def age(store: Store, days: float, *references: str) -> None:
    """Let these jobs have been enqueued, changed and ended so much earlier."""
    back = timedelta(days=days)
    for reference in references:
        job = jobs.find(store, reference)
        columns = ("created_at", "updated_at", "finished_at", "run_at")
        values = {
            name: getattr(job, name) - back for name in columns if getattr(job, name) is not None
        }
        _execute(store, update(JobRow).where(JobRow.seq == job.seq).values(values))
        for attempt in jobs.history(store, reference).attempts:
            row = update(AttemptRow).where(AttemptRow.job_seq == job.seq)
            begun, ended = attempt.started_at - back, attempt.finished_at - back
            moved = row.where(AttemptRow.run == attempt.run)
            _execute(store, moved.values(started_at=begun, finished_at=ended))


def _execute(store: Store, statement: Update) -> None:
    store.write(lambda connection: connection.execute(statement))
