"""Rehearsal: what enqueueing would store, with the defaults filled in, and nothing stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from queuectl.db.engine import Store
from queuectl.domain.dependency import FIELDS
from queuectl.domain.options import Options
from queuectl.domain.request import JobRequest
from queuectl.domain.retry import Pause, timetable
from queuectl.domain.terms import Terms, read_terms
from queuectl.service import config, jobs
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
    #: The jobs that it needs, as they were named, by field.
    needs: dict[str, list[str]]

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
    Raises Conflict where the id of one has another request.
    """
    with Spool() as spool:
        spool.fill(requests)
        options = Options() if store is None else config.read_options(store)
        there, keys = _find_there(store, spool), _find_keys(store, spool)
        yield _plan_all(spool, options, cwd, there, keys)


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


def _plan_all(
    spool: Spool, options: Options, cwd: str | None, there: set[str], keys: set[str]
) -> Iterator[PlannedJob]:
    seen, taken = set(there), set(keys)
    for chunk in spool.chunks():
        for draft in chunk:
            yield _plan(draft, options, cwd, is_there=draft.id in seen or draft.unique in taken)
            if draft.id is not None:
                seen.add(draft.id)
            if draft.unique is not None:
                taken.add(draft.unique)


def _plan(draft: Draft, options: Options, cwd: str | None, *, is_there: bool) -> PlannedJob:
    run_at = draft.run_at
    if draft.delay:
        run_at = datetime.now(UTC) + timedelta(seconds=draft.delay)
    return PlannedJob(
        id=draft.id,
        is_there=is_there,
        queue=draft.queue,
        command=draft.command,
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
        needs={name: said for name in FIELDS if (said := getattr(draft, name))},
    )
