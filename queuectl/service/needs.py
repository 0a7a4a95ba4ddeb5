"""Needs: the jobs that new jobs name as those that they wait for, found, locked and marked.

Part of the enqueueing transaction; ``service/dependencies.py`` has the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, bindparam, insert, literal, select, update

from queuectl.db.models import DependencyRow, JobRow
from queuectl.domain.dependency import FIELDS, Condition, Need, Standing, Verdict, judge
from queuectl.domain.job import FINISHED, State
from queuectl.errors import Conflict, InvalidInput, NotFound
from queuectl.service.spool import Draft

_CHUNK = 500
_LAST = "last"

_INSERT = insert(DependencyRow).from_select(
    ["job_seq", "needed_id", "condition", "outcome", "fatal"],
    select(
        JobRow.seq,
        bindparam("of_id", type_=DependencyRow.needed_id.type),
        bindparam("on", type_=DependencyRow.condition.type),
        bindparam("how", type_=DependencyRow.outcome.type),
        bindparam("kills", type_=DependencyRow.fatal.type),
    ).where(JobRow.id == bindparam("job_id")),
)


@dataclass(frozen=True, slots=True)
class Bonds:
    """What binds the new jobs of a chunk, by their ids."""

    needs: dict[str, list[Need]] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    #: Those of the new jobs that others of them need.
    needed: set[str] = field(default_factory=set)

    def state_of(self, job_id: str, otherwise: str) -> str:
        """Return the state in which a job is stored; ``otherwise``: if it waits for no other."""
        verdict = self.verdicts.get(job_id)
        if verdict is None or otherwise == State.HELD or verdict.standing is Standing.READY:
            return otherwise
        doomed = verdict.standing is Standing.DOOMED
        return State.CANCELLED.value if doomed else State.BLOCKED.value

    @property
    def doomed(self) -> dict[str, str]:
        """Why jobs can never start; those that are held among them."""
        verdicts = self.verdicts.items()
        return {job_id: verdict.reason for job_id, verdict in verdicts if verdict.reason}

    def reason_of(self, job_id: str, state: str) -> str | None:
        """Return why a job is stored as cancelled, if it is."""
        return self.verdicts[job_id].reason if state == State.CANCELLED else None


def bind(connection: Connection, drafts: Sequence[Draft], ids: Sequence[str]) -> Bonds:
    """Find, lock and mark what these new jobs need.

    A job may name one that stands before it among them. Raises NotFound, Conflict for a beginning
    of several ids, InvalidInput for a job that is named twice, or names itself.
    """
    if not _any_needs(drafts):
        return Bonds()
    search = _Search(connection, ids)
    return _bind(search, drafts, ids, lambda needed: _lock_and_mark(connection, needed))


def foresee(
    connection: Connection | None,
    drafts: Sequence[Draft],
    ids: Sequence[str],
    earlier: Mapping[str, str | None],
) -> Bonds:
    """Return what ``bind`` would, with nothing locked or marked; raises the same.

    ``earlier`` are jobs that would have been stored before these, and how they would have ended;
    without a connection there are no others.
    """
    if not _any_needs(drafts):
        return Bonds()
    search = _Search(connection, ids, earlier)

    def read_outcomes(needed: Sequence[str]) -> dict[str, str | None]:
        stored = [job_id for job_id in needed if job_id not in earlier]
        return {**earlier, **({} if connection is None else _read_outcomes(connection, stored))}

    return _bind(search, drafts, ids, read_outcomes)


def _any_needs(drafts: Sequence[Draft]) -> bool:
    return any(draft.after or draft.after_any or draft.after_failure for draft in drafts)


def _bind(
    search: _Search,
    drafts: Sequence[Draft],
    ids: Sequence[str],
    find_outcomes: Callable[[Sequence[str]], dict[str, str | None]],
) -> Bonds:
    search.look_up(ref for draft in drafts for ref, _ in _named_by(draft))
    named = {
        job_id: _resolve(search, position, job_id, draft)
        for position, (job_id, draft) in enumerate(zip(ids, drafts, strict=True))
    }
    here = set(ids)
    outside = sorted({needed for each in named.values() for needed in each if needed not in here})
    outcomes = find_outcomes(outside)
    bonds = Bonds()
    for job_id, draft in zip(ids, drafts, strict=True):
        if conditions := named[job_id]:
            needs = [Need(of, on, outcomes.get(of)) for of, on in sorted(conditions.items())]
            bonds.needs[job_id] = needs
            bonds.verdicts[job_id] = verdict = judge(needs)
            bonds.needed.update(here.intersection(conditions))
            if verdict.standing is Standing.DOOMED and not draft.hold:
                outcomes[job_id] = State.CANCELLED.value
    return bonds


def insert_bonds(connection: Connection, bonds: Bonds) -> None:
    """Store what binds jobs that have been inserted."""
    rows = []
    for job_id, needs in bonds.needs.items():
        fatal = {need.id for need in bonds.verdicts[job_id].fatal}
        rows += [
            {
                "job_id": job_id,
                "of_id": need.id,
                "on": need.condition.value,
                "how": need.outcome,
                "kills": need.id in fatal,
            }
            for need in needs
        ]
    if rows:
        connection.execute(_INSERT, rows)


def _named_by(draft: Draft) -> Iterator[tuple[str, Condition]]:
    for name, condition in FIELDS.items():
        for reference in getattr(draft, name) or ():
            yield reference, condition


def _resolve(search: _Search, position: int, job_id: str, draft: Draft) -> dict[str, Condition]:
    found: dict[str, Condition] = {}
    for reference, condition in _named_by(draft):
        needed = search.find(reference, position)
        if found.setdefault(needed, condition) is not condition:
            raise InvalidInput(
                f"job {needed!r} is needed in two ways by one job",
                hint="name it by one of --after, --after-any and --after-failure",
            )
    if job_id in found:
        raise InvalidInput(f"job {job_id!r} cannot need itself", hint="name another job")
    return found


class _Search:
    """Finds the ids that references mean: of the new jobs of a chunk, or of the store.

    ``earlier`` are ids that are taken for stored.
    """

    def __init__(
        self,
        connection: Connection | None,
        ids: Sequence[str],
        earlier: Mapping[str, str | None] | None = None,
    ) -> None:
        self._connection = connection
        self._ids = ids
        self._earlier = list(earlier or ())
        self._positions = {job_id: position for position, job_id in enumerate(ids)}
        self._exact: set[str] = set(self._earlier)

    def look_up(self, references: Iterable[str]) -> None:
        """Read which of these are ids of the store, all at once."""
        wanted = sorted(set(references) - {_LAST} - set(self._positions) - self._exact)
        for start in range(0, len(wanted), _CHUNK):
            query = select(JobRow.id).where(JobRow.id.in_(wanted[start : start + _CHUNK]))
            self._exact.update(self._ask(query))

    def find(self, reference: str, position: int) -> str:
        """Return the id that a job at this position means; raises NotFound and Conflict."""
        if reference in self._exact:
            return reference
        at = self._positions.get(reference)
        if at is not None:
            if at > position:
                raise NotFound(
                    f"job {reference!r} stands behind one that needs it",
                    hint="a job may only need jobs that are there, or stand before it",
                )
            return reference
        before = self._ids[:position]
        return self._last(before) if reference == _LAST else self._by_prefix(reference, before)

    def _last(self, before: Sequence[str]) -> str:
        if before or self._earlier:
            return before[-1] if before else self._earlier[-1]
        found = self._ask(select(JobRow.id).order_by(JobRow.seq.desc()).limit(1))
        if not found:
            raise NotFound("there is no job yet", hint="add one with: queuectl enqueue -- COMMAND")
        return found[0]

    def _by_prefix(self, prefix: str, before: Sequence[str]) -> str:
        # A range, not LIKE: it reads the index whatever characters the prefix has.
        query = select(JobRow.id).where(JobRow.id >= prefix, JobRow.id < prefix + "\U0010ffff")
        found = self._ask(query.order_by(JobRow.id).limit(3))
        found += [job_id for job_id in (*self._earlier, *before) if job_id.startswith(prefix)]
        if not found:
            raise NotFound(
                f"there is no job {prefix[:128]!r} to wait for",
                hint="list them with: queuectl list; name the jobs by --after ID",
            )
        if len(found) > 1:
            raise Conflict(
                f"{prefix!r} is the beginning of several ids: {', '.join(found[:2])}"
                + (", ..." if len(found) > 2 else ""),
                hint="give more of the id",
            )
        return found[0]

    def _ask(self, query: Select[Any]) -> list[str]:
        """Return the ids that a query finds; none where there is no store."""
        return [] if self._connection is None else list(self._connection.execute(query).scalars())


def _read_outcomes(connection: Connection, ids: Sequence[str]) -> dict[str, str | None]:
    """Return how these jobs ended, or None."""
    outcomes: dict[str, str | None] = {}
    for start in range(0, len(ids), _CHUNK):
        query = select(JobRow.id, JobRow.state).where(JobRow.id.in_(ids[start : start + _CHUNK]))
        rows = connection.execute(query)
        outcomes.update((r.id, r.state if r.state in FINISHED else None) for r in rows)
    return outcomes


def _lock_and_mark(connection: Connection, ids: Sequence[str]) -> dict[str, str | None]:
    """Return how these jobs ended, or None; from the commit on, their ends will be passed on."""
    outcomes: dict[str, str | None] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        query = select(JobRow.seq, JobRow.id, JobRow.state, JobRow.needed).where(
            JobRow.id.in_(chunk)
        )
        rows = connection.execute(query.order_by(JobRow.seq).with_for_update()).all()
        outcomes.update((r.id, r.state if r.state in FINISHED else None) for r in rows)
        if unmarked := [row.seq for row in rows if not row.needed]:
            mark = update(JobRow).where(JobRow.seq.in_(unmarked)).values(needed=literal(1))
            connection.execute(mark)
    for job_id in ids:
        if job_id not in outcomes:
            raise NotFound(f"job {job_id!r} has just been deleted", hint="name another job")
    return outcomes
