"""Edit a job: it is held while somebody does, so that no worker starts it, and let go afterwards.

    begin      held, with ``edit_started_at``; what it was before is known to the editor alone
    finish     what was changed is set, and the job is what it would be now: blocked, scheduled or
               pending, or again held, or in its backoff
    killed     between the two: it stays held, ``show`` and ``explain`` say why, and a release lets
               it go

Both are fenced by the row's version: whoever cancels, releases or expires the job meanwhile is
first, and then nothing of the edit is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select, update

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.domain import changes
from queuectl.domain.changes import CHANGEABLE
from queuectl.domain.job import Job, State
from queuectl.errors import Conflict
from queuectl.service import changing, dependencies, requeueing
from queuectl.service.jobs import find_in
from queuectl.service.rows import select_jobs, to_job


@dataclass(frozen=True, slots=True)
class Edit:
    """A job that is held to be edited: as it was before, with its tags, and its version now."""

    job: Job
    tags: list[str]
    version: int


def begin(store: Store, reference: str) -> Edit:
    """Hold a job; raises NotFound, and Conflict for one that runs, has ended or is edited."""

    def work(connection: Connection) -> Edit:
        seq = find_in(connection, reference).seq
        query = select_jobs().where(JobRow.seq == seq).with_for_update()
        job = to_job(connection.execute(query).one())
        _require_editable(job)
        now = datetime.now(UTC)
        version = job.version + 1
        held = {"state": State.HELD, "version": version, "edit_started_at": now, "updated_at": now}
        connection.execute(update(JobRow).where(JobRow.seq == seq).values(**held))
        return Edit(job, changing.tags_of(connection, [seq]).get(seq, []), version)

    return store.write(work)


def _require_editable(job: Job) -> None:
    if job.state not in CHANGEABLE:
        raise Conflict(
            f"job {job.id!r} is {job.state}, and cannot be edited",
            hint=changing.WAYS_OUT[job.state].format(id=job.id),
        )
    if job.is_edited:
        raise Conflict(
            f"somebody is editing job {job.id!r} already",
            hint=f"if nobody is at it any more: queuectl release {job.id}",
        )


def finish(store: Store, edit: Edit, given: Mapping[str, Any]) -> bool:
    """Set fields of the job and let it go; return whether it is otherwise than before.

    ``given`` has the fields as a JSON job has them. Raises InvalidJob, and then it is held still;
    Conflict when somebody else has changed the job since.
    """
    fields = changes.resolve(given, datetime.now(UTC)) if given else {}

    def work(connection: Connection) -> bool:
        seq = edit.job.seq
        query = select_jobs().where(JobRow.seq == seq, JobRow.version == edit.version)
        row = connection.execute(query.with_for_update()).first()
        if row is None:
            raise _overtaken(connection, edit)
        changed = bool(fields) and bool(changing.apply(connection, [to_job(row)], fields))
        _put_back(connection, edit)
        return changed

    return store.write(work)


def _put_back(connection: Connection, edit: Edit) -> None:
    """Let the job be in the state that it would have come to by itself."""
    seq, before = edit.job.seq, edit.job.state
    this = update(JobRow).where(JobRow.seq == seq)
    now = datetime.now(UTC)
    connection.execute(this.values(edit_started_at=None, updated_at=now))
    if before in (State.HELD, State.FAILED):
        connection.execute(this.values(state=before, version=JobRow.version + 1))
    elif before is State.BLOCKED:
        requeueing.release_rows(connection, [seq])
    else:  # it waited for no other job, and does not now
        dependencies.let_go(connection, [seq], now)


def _overtaken(connection: Connection, edit: Edit) -> Conflict:
    state = connection.execute(select(JobRow.state).where(JobRow.seq == edit.job.seq)).scalar()
    return Conflict(
        f"job {edit.job.id!r} was changed while you edited it, and is {state or 'gone'} now;"
        " nothing of the edit was kept",
        hint=f"see it with: queuectl show {edit.job.id}",
    )
