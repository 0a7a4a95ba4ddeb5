"""Find the jobs that a selection means, and change many of them in small transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from queuectl.db.engine import Store
from queuectl.db.models import JobRow
from queuectl.domain.job import State
from queuectl.domain.selection import Chosen, Effect, Selection
from queuectl.errors import Conflict, InvalidInput
from queuectl.service.jobs import find_in
from queuectl.service.narrowing import narrow
from queuectl.service.rows import in_states

Result = TypeVar("Result")

#: Jobs that one transaction changes: below SQLite's limit of parameters, and workers hardly wait.
CHUNK = 500


def choose(
    store: Store,
    selection: Selection,
    *,
    among: Iterable[State],
    verb: str,
    ways_out: Mapping[State, str] = MappingProxyType({}),
) -> list[Chosen]:
    """Return the jobs of a selection in the order of their enqueueing, if they are in such a state.

    ``among`` are the states in which something can be done to a job, and ``verb`` says what:
    ``cancelled``; ``ways_out`` what to do with one in another state. Raises NotFound, Conflict for
    a job that was named and is in another state, and InvalidInput for a selection of nothing, or of
    states that none of ``among`` is.
    """
    return store.read(
        lambda connection: choose_in(connection, selection, set(among), verb, ways_out)
    )


def choose_in(
    connection: Connection,
    selection: Selection,
    among: set[State],
    verb: str,
    ways_out: Mapping[State, str] = MappingProxyType({}),
) -> list[Chosen]:
    """The same as ``choose``, inside a transaction that is already open."""
    if selection.references:
        jobs = _named(connection, selection.references)
        for job in jobs:
            if job.state not in among:
                way_out = ways_out.get(job.state, f"only jobs of these states can: {_list(among)}")
                raise Conflict(
                    f"job {job.id!r} is {job.state}, and cannot be {verb}",
                    hint=way_out.format(id=job.id),
                )
        return jobs
    if selection == Selection():
        raise InvalidInput(
            "no jobs were named", hint="name them by id, by --queue, --tag, ..., or write --all"
        )
    wanted = among.intersection(selection.states) if selection.states else among
    if not wanted:
        given = ", ".join(selection.states)
        raise InvalidInput(f"{given} jobs cannot be {verb}", hint=f"states: {_list(among)}")
    found: list[Chosen] = []
    for state in wanted:  # one by one: each is covered by an index of its own
        query = select(JobRow.seq, JobRow.id).where(in_states(state), *narrow(selection))
        found += [Chosen(row.seq, row.id, state) for row in connection.execute(query)]
    return sorted(found, key=lambda chosen: chosen.seq)


def _named(connection: Connection, references: Sequence[str]) -> list[Chosen]:
    jobs = {job.seq: job for job in (find_in(connection, name) for name in references)}
    return [Chosen(job.seq, job.id, job.state) for job in jobs.values()]


def _list(states: Iterable[State]) -> str:
    return ", ".join(state for state in State if state in set(states))


def in_chunks(
    store: Store,
    chosen: Sequence[Chosen],
    work: Callable[[Connection, list[int]], list[Result]],
) -> list[Result]:
    """Call ``work`` with the keys of some jobs at a time, each in a transaction of its own.

    A hundred thousand jobs at once would keep every worker waiting. What is named on a command line
    is one chunk, so it is all or nothing.
    """
    done: list[Result] = []
    for seqs in _chunks(chosen):
        done += store.write(lambda connection, seqs=seqs: work(connection, seqs))  # type: ignore[misc]
    return done


def rehearse_chunks(
    store: Store,
    chosen: Sequence[Chosen],
    work: Callable[[Connection, list[int]], list[Result]],
) -> list[Result]:
    """Return what ``in_chunks`` would, from transactions that are undone."""
    done: list[Result] = []
    for seqs in _chunks(chosen):

        def rehearse(connection: Connection, seqs: list[int] = seqs) -> None:
            raise _UndoneError(work(connection, seqs))

        try:
            store.write(rehearse)
        except _UndoneError as undone:
            done += undone.result
    return done


class _UndoneError(Exception):
    """Undoes a transaction, and brings out what it would have returned."""

    def __init__(self, result: list[Any]) -> None:
        super().__init__()
        self.result = result


def _chunks(chosen: Sequence[Chosen]) -> Iterator[list[int]]:
    for start in range(0, len(chosen), CHUNK):
        yield [job.seq for job in chosen[start : start + CHUNK]]


def merge(chosen: Sequence[Chosen], effects: Iterable[Effect]) -> Effect:
    """Return the effect of all; of those that were chosen, none is told as another's dependent."""
    changed: dict[str, None] = {}
    for effect in effects:
        changed.update(dict.fromkeys([*effect.ids, *effect.dependents]))
    meant = {job.id for job in chosen}
    ids = [job.id for job in chosen if job.id in changed]
    return Effect(ids, [job_id for job_id in changed if job_id not in meant])
