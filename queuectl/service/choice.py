"""Choice: which pending jobs a worker takes, fairly among its queues.

Queues are served in rotation, each with a fair share of the room; what one does not need is left to
the others. A job that crashed its worker before is taken only by a worker that runs nothing else,
and alone. From a queue with a limit comes no more than it has places.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import Connection

from queuectl.service.statements import SELECT, Candidate


class Room(NamedTuple):
    """What a worker has room for: ``free`` jobs, of these queues, which come in rotation."""

    free: int
    #: Whether nothing else runs in this worker.
    idle: bool
    #: The open queues that it serves; the first is next.
    names: Sequence[str]
    #: How many more jobs may come from each of those queues that have a limit; none is full.
    places: Mapping[str, int] = MappingProxyType({})


def choose(connection: Connection, room: Room) -> tuple[list[Candidate], str | None]:
    """Select the rows to claim, and the queue at which the next turn begins; None: as this one."""
    free, idle, names, places = room
    chosen: list[Candidate] = []
    next_queue: str | None = None
    for position, name in enumerate(names):
        # A fair share each, rounded up; what a queue does not need is left to those behind it.
        share = -(-(free - len(chosen)) // (len(names) - position))
        if share == 0:
            break
        rows = _select(connection, name, min(share, places.get(name, share)))
        if rows:
            chosen += rows
            next_queue = names[(position + 1) % len(names)]
    chosen, crashed_ahead = _apart(chosen, idle=idle)
    if len(chosen) < free and not crashed_ahead:
        chosen = _fill_up(connection, room, chosen)
    return chosen, next_queue


def _select(connection: Connection, queue: str, count: int) -> list[Candidate]:
    rows = SELECT.fetch(connection, {"queue_name": queue, "count": count})
    return [Candidate._make(row) for row in rows]


def _fill_up(connection: Connection, room: Room, chosen: list[Candidate]) -> list[Candidate]:
    """Give room that the fair shares left over to whoever has more to do."""
    free, idle, names, places = room
    seen = {row.seq for row in chosen}
    for name in names:
        if len(chosen) >= free:
            break
        # What was chosen from this queue before comes first again.
        rows = _select(connection, name, min(free, places.get(name, free)))
        more = [row for row in rows if row.seq not in seen][: free - len(chosen)]
        chosen = chosen + more
        seen.update(row.seq for row in more)
    chosen, _ = _apart(chosen, idle=idle)
    return chosen


def rotation(names: Iterable[str], queues: Sequence[str] | None, first: str) -> list[str]:
    """Return the names that are among ``queues``, if any are given, from ``first`` on and round."""
    served = [name for name in names if queues is None or name in queues]
    start = next((i for i, name in enumerate(served) if name >= first), 0)
    return served[start:] + served[:start]


def _apart(rows: list[Candidate], *, idle: bool) -> tuple[list[Candidate], bool]:
    """Keep a job that crashed a worker away from others; return the rows, and whether one is ahead.

    A worker that runs nothing takes it alone; one that is busy takes what stands before it and then
    nothing more, so that it will soon run nothing.
    """
    for position, row in enumerate(rows):
        if row.crashes:
            return (rows[:1] if position == 0 and idle else rows[:position]), True
    return rows, False
