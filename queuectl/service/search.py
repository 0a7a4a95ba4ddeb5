"""Search: which outputs there are, the newest jobs first, and where each can be read.

An output is searched where the whole of it is: in its file on this machine, else in the database.
Of one that is on another machine the database holds the last 4 KiB, and only those are searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, or_, select

from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, JobRow, OutputChunkRow
from queuectl.domain.job import State
from queuectl.domain.selection import Selection
from queuectl.service import chunks, logs
from queuectl.service.narrowing import narrow
from queuectl.service.rows import in_states

#: Jobs that are looked at in one transaction.
_PAGE_JOBS = 200


@dataclass(frozen=True, slots=True)
class Output:
    """What one attempt printed."""

    job_id: str
    queue: str
    state: State
    run: int
    host: str | None
    #: None: the whole output is to be read from here. Else its last bytes, all that is known here.
    tail: bytes | None
    #: How many bytes it printed in all; None: it still runs, or its worker died.
    output_bytes: int | None
    seq: int

    @property
    def is_whole(self) -> bool:
        """Whether everything that was kept can be read here."""
        return self.tail is None or len(self.tail) == self.output_bytes

    def read(self, store: Store) -> Iterable[bytes]:
        """Yield what there is of it, in blocks."""
        if self.tail is not None:
            return [self.tail]
        return chunks.OutputReader(store, self.seq, self.run).read_all()


@dataclass(frozen=True, slots=True)
class Scope:
    """Which outputs are meant: of which jobs, and of attempts that ended since."""

    #: What the jobs have in common; none is named by its id.
    only: Selection = field(default_factory=Selection)
    since: datetime | None = None


def list_outputs(store: Store, scope: Scope) -> Iterator[Output]:
    """Yield the outputs, the newest job first and of each the last attempt first.

    Each page of jobs is a transaction of its own; what is purged meanwhile is left out.
    """
    before: int | None = None
    while True:
        page = _read_page(store, scope, before)
        for seq in sorted(page, reverse=True):
            yield from page[seq]
            before = seq
        if len(page) < _PAGE_JOBS:
            return


def _read_page(store: Store, scope: Scope, before: int | None) -> dict[int, list[Output]]:
    """Return the outputs of the next jobs, by sequence number."""

    def work(connection: Connection) -> dict[int, list[Output]]:
        jobs = connection.execute(_select_jobs(scope, before)).all()
        seqs = [job.seq for job in jobs]
        ended = _read_attempts(connection, seqs)
        in_store = _find_chunks(connection, seqs)
        return {job.seq: list(_outputs_of(store, scope, job, ended, in_store)) for job in jobs}

    return store.read(work)


def _select_jobs(scope: Scope, before: int | None) -> Any:
    query = select(JobRow.seq, JobRow.id, JobRow.queue, JobRow.state, JobRow.runs)
    query = (
        query.where(JobRow.runs > 0, *narrow(scope.only))
        .order_by(JobRow.seq.desc())
        .limit(_PAGE_JOBS)
    )
    if scope.only.states:
        query = query.where(or_(*(in_states(state) for state in sorted(scope.only.states))))
    if scope.since is not None:
        # A job changes when an attempt of it ends; one that runs may have printed just now.
        query = query.where(or_(JobRow.updated_at >= scope.since, in_states(State.PROCESSING)))
    return query if before is None else query.where(JobRow.seq < before)


def _read_attempts(connection: Connection, seqs: list[int]) -> dict[tuple[int, int], Any]:
    columns = (
        AttemptRow.job_seq,
        AttemptRow.run,
        AttemptRow.host,
        AttemptRow.finished_at,
        AttemptRow.output_bytes,
        AttemptRow.output_tail,
    )
    rows = connection.execute(select(*columns).where(AttemptRow.job_seq.in_(seqs)))
    return {(row.job_seq, row.run): row for row in rows}


def _find_chunks(connection: Connection, seqs: list[int]) -> set[tuple[int, int]]:
    query = select(OutputChunkRow.job_seq, OutputChunkRow.run).distinct()
    rows = connection.execute(query.where(OutputChunkRow.job_seq.in_(seqs)))
    return {(row.job_seq, row.run) for row in rows}


def _outputs_of(
    store: Store,
    scope: Scope,
    job: Any,
    ended: dict[tuple[int, int], Any],
    in_store: set[tuple[int, int]],
) -> Iterator[Output]:
    for run in range(job.runs, 0, -1):
        attempt = ended.get((job.seq, run))
        if attempt is None and (run < job.runs or job.state != State.PROCESSING):
            continue  # it was claimed, and never began
        if attempt is not None and scope.since is not None and attempt.finished_at < scope.since:
            return  # those before it ended earlier
        tail = None
        if (job.seq, run) not in in_store and not _has_file(store, job.seq, run):
            if attempt is None or not attempt.output_bytes:
                continue
            tail = bytes(attempt.output_tail or b"")
        yield Output(
            job_id=job.id,
            queue=job.queue,
            state=State(job.state),
            run=run,
            host=None if attempt is None else attempt.host,
            tail=tail,
            output_bytes=None if attempt is None else attempt.output_bytes,
            seq=job.seq,
        )


def _has_file(store: Store, seq: int, run: int) -> bool:
    return logs.output_path(store.location, seq, run).exists()
