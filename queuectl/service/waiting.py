"""Wait for jobs: which of them have ended, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.domain.job import FINISHED, State

#: Jobs that are asked for at a time: below SQLite's limit of parameters.
_CHUNK = 500


@dataclass(slots=True)
class Awaited:
    """Jobs that somebody waits for; those that have ended are not looked at again."""

    left: list[int]
    completed: int = 0
    #: Dead, cancelled, or deleted since.
    failed: int = 0

    @property
    def ended(self) -> int:
        """How many have ended, well or not."""
        return self.completed + self.failed


def look(store: Store, awaited: Awaited) -> None:
    """Take into account which of the jobs have ended since the last look."""

    def work(connection: Connection) -> dict[int, str]:
        found: dict[int, str] = {}
        for start in range(0, len(awaited.left), _CHUNK):
            found.update(_states(connection, awaited.left[start : start + _CHUNK]))
        return found

    states = store.read(work)
    ended = [states.get(seq) for seq in awaited.left if states.get(seq) in (None, *FINISHED)]
    awaited.left = [seq for seq in awaited.left if states.get(seq) not in (None, *FINISHED)]
    well = ended.count(State.COMPLETED)
    awaited.completed += well
    awaited.failed += len(ended) - well


def _states(connection: Connection, seqs: Sequence[int]) -> dict[int, str]:
    query = select(JobRow.seq, JobRow.state).where(JobRow.seq.in_(seqs))
    return {row.seq: row.state for row in connection.execute(query)}
