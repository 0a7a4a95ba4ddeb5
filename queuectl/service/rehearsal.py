"""Rehearsal: what enqueueing would store, with the defaults filled in, and nothing stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

from queuectl.db.engine import Store
from queuectl.domain.dependency import FIELDS, Condition, Need, Standing, Verdict
from queuectl.domain.job import State
from queuectl.domain.options import Options
from queuectl.domain.request import JobRequest
from queuectl.domain.retry import Pause, timetable
from queuectl.domain.terms import Terms, read_terms
from queuectl.service import config, jobs, needs
from queuectl.service.spool import Draft, Spool


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job as it would be stored. Durations in seconds."""

    #: None: one is drawn when it is stored.
    id: str | None
    #: Whether it is there already, with the same request or unique key.
    is_there: bool
    queue: str
    command: str
    name: str | None
    tags: list[str]
    unique: str | None
    #: Whether it waits until somebody releases it.
    hold: bool
    cwd: str | None
    env: dict[str, str] | None
    priority: int
    #: None: at once.
    run_at: datetime | None
    max_retries: int
    timeout_seconds: float | None
    #: The size of its standard input; None: it has none.
    stdin_bytes: int | None
    #: When it must have been started; None: whenever its turn comes.
    deadline: datetime | None
    terms: Terms
    backoff_base: float
    backoff_max_seconds: float
    #: The ids of the jobs that it needs, by field; "job 3" is the third of those that are planned.
    needs: dict[str, list[str]]
    #: Those of them that have not ended.
    awaited: list[Need]
    #: Why it would be cancelled at once; None: it would not.
    doomed: str | None

    def pauses(self) -> Iterator[Pause]:
        """Yield the pauses between its attempts, as the options stand now."""
        return timetable(
            self.max_retries, self.backoff_base, self.backoff_max_seconds, self.terms.backoff
        )


@contextmanager
def rehearse(
    store: Store | None, requests: Iterable[JobRequest], *, cwd: str | None
) -> Iterator[Iterator[PlannedJob]]:
    """Yield what ``jobs.enqueue`` would store; None is a store that is not there yet.

    All requests are read, validated and compared with what is there before the first is told.
    Raises Conflict where the id of one has another request, and NotFound, Conflict or InvalidInput
    where one needs a job that cannot be told.
    """
    with Spool() as spool:
        spool.fill(requests)
        options = Options() if store is None else config.read_options(store)
        there, keys = _find_there(store, spool), _find_keys(store, spool)
        for _ in _foresee(store, spool, there, keys):
            pass  # all of it is found before the first is told
        chunks = _foresee(store, spool, there, keys)
        yield (
            _plan(draft, options, cwd, is_there=name is None, bonds=chunk.bonds, name=name or "")
            for chunk in chunks
            for draft, name in zip(chunk.drafts, chunk.names, strict=True)
        )


def _find_there(store: Store | None, spool: Spool) -> set[str]:
    """Return the ids that are in the store already; raises Conflict."""
    there: set[str] = set()
    digests: dict[str, str | None] = {}
    for chunk in spool.chunks():
        named = [(draft.id, draft.digest) for draft in chunk if draft.id is not None]
        new = [job_id for job_id, _ in named if job_id not in digests]
        if store is not None and new:
            known = store.read(partial(jobs.known_digests, ids=new))
            there.update(known)
            digests.update(known)
        for job_id, digest in named:
            if job_id in digests:
                jobs.require_same(job_id, digests[job_id], digest)
            digests[job_id] = digest
    return there


def _find_keys(store: Store | None, spool: Spool) -> set[str]:
    """Return the unique keys with which a job waits or runs already."""
    there: set[str] = set()
    for chunk in spool.chunks():
        keys = [draft.unique for draft in chunk if draft.unique is not None]
        if store is not None and keys:
            there.update(filter(None, store.read(partial(jobs.known_keys, keys=keys))))
    return there


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some of the requests, and what would bind them."""

    drafts: list[Draft]
    #: By which each is known to the bonds: its id, or "job 3"; None: it is there already.
    names: list[str | None]
    bonds: needs.Bonds


def _foresee(
    store: Store | None, spool: Spool, there: set[str], keys: set[str]
) -> Iterator[_Chunk]:
    """Yield the requests with what would bind them; raises what storing them would raise."""
    seen, taken = set(there), set(keys)
    #: Jobs of the chunks before that can be named, and how they would end at once.
    earlier: dict[str, str | None] = {}
    numbers = count(1)
    for drafts in spool.chunks():
        names: list[str | None] = []
        for draft, number in zip(drafts, numbers, strict=False):
            is_there = draft.id in seen or draft.unique in taken
            names.append(None if is_there else draft.id or f"job {number}")
            seen.update(filter(None, [draft.id]))
            taken.update(filter(None, [draft.unique]))
        new = [draft for draft, name in zip(drafts, names, strict=True) if name is not None]
        ids = [name for name in names if name is not None]
        bonds = _find_bonds(store, new, ids, earlier)
        yield _Chunk(drafts, names, bonds)
        for name, draft in zip(ids, new, strict=True):
            if draft.id is not None or name == ids[-1]:
                ended = name in bonds.doomed and not draft.hold
                earlier[name] = State.CANCELLED.value if ended else None


def _find_bonds(
    store: Store | None, drafts: list[Draft], ids: list[str], earlier: dict[str, str | None]
) -> needs.Bonds:
    if store is None:
        return needs.foresee(None, drafts, ids, earlier)
    return store.read(lambda connection: needs.foresee(connection, drafts, ids, earlier))


def _plan(
    draft: Draft,
    options: Options,
    cwd: str | None,
    *,
    is_there: bool,
    bonds: needs.Bonds,
    name: str,
) -> PlannedJob:
    found = bonds.needs.get(name, [])
    verdict = bonds.verdicts.get(name, Verdict(Standing.READY))
    run_at = draft.run_at
    if draft.delay:
        run_at = datetime.now(UTC) + timedelta(seconds=draft.delay)
    return PlannedJob(
        id=draft.id,
        is_there=is_there,
        queue=draft.queue,
        command=draft.command,
        name=draft.name,
        tags=draft.tags or [],
        unique=draft.unique,
        hold=draft.hold,
        cwd=draft.cwd or cwd,
        env=draft.env,
        priority=draft.priority,
        run_at=run_at,
        max_retries=options.max_retries if draft.max_retries is None else draft.max_retries,
        timeout_seconds=options.timeout if draft.timeout is None else draft.timeout,
        stdin_bytes=None if draft.stdin is None else len(draft.stdin),
        deadline=datetime.now(UTC) + timedelta(seconds=draft.deadline)
        if isinstance(draft.deadline, float)
        else draft.deadline,
        terms=read_terms(draft.terms),
        backoff_base=options.backoff_base if draft.backoff_base is None else draft.backoff_base,
        backoff_max_seconds=options.backoff_max,
        needs=_needs_by_field(draft, found),
        awaited=_awaited(found) if verdict.standing is Standing.WAITS else [],
        doomed=verdict.reason,
    )


def _needs_by_field(draft: Draft, found: list[Need]) -> dict[str, list[str]]:
    """Return the ids that were found; of a job that is there already what its request says."""
    if not found:
        return {name: said for name in FIELDS if (said := getattr(draft, name))}
    by_field = {
        name: [need.id for need in found if need.condition is condition]
        for name, condition in FIELDS.items()
    }
    return {name: ids for name, ids in by_field.items() if ids}


def _awaited(found: list[Need]) -> list[Need]:
    """Return the needs that keep a job waiting; of several failures one is enough."""
    failures = [need for need in found if need.condition is Condition.FAILURE]
    failed = any(need.outcome and not need.ended_well for need in failures)
    return [
        need
        for need in found
        if need.outcome is None and not (failed and need.condition is Condition.FAILURE)
    ]
