"""Dependencies: jobs that wait for others, let go or cancelled by whoever ends those.

The protocol. A row of ``dependencies`` says how one needed job ended: ``outcome`` is null as long
as that job has not ended, and follows it from then on, so that whoever judges a job that waits
reads its own rows alone, and a needed job that has ended may be deleted. Whoever changes either
side holds the lock of its row in ``jobs``; on SQLite there is one writer at a time.

    enqueue    locks the needed rows, marks them (``needed`` = 1), and reads how they stand: an end
               that was committed before counts at once, one that comes later finds the mark
    settle     says ``AND needed = <what the claim saw>``. A claim brings its mark along, so where
               nobody depends on anything nothing more is asked. A mark that was set while the job
               ran lets the statement match no row: the turn is taken again, with the marks as they
               stand, locked
    every end  of a marked job - settled, given back, rescued, cancelled, purged - goes through
               ``pass_on`` in its own transaction: it locks the dependents, whatever their state,
               writes the outcome, and judges those that are blocked by statements that begin when
               it has the locks. Of two needed jobs that end at once, the second to lock sees the
               outcome of the first, so one of them lets the dependent go
    requeue    sets the outcomes back to null and brings back what was cancelled for them
               (``fatal``), all the way down

A held job is left alone until it is released, and judged then, unless it has been started and
failed. A needed job that is deleted before it has ended counts as one that failed. A dependent that
somebody retries by name runs although what it needs has failed; it waits only for what can still
end well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    false,
    literal_column,
    select,
    true,
    update,
)

from queuectl.db.models import DependencyRow, JobRow
from queuectl.domain.dependency import DELETED, Condition, Need, Standing, judge
from queuectl.domain.job import FINISHED, State
from queuectl.service.rows import in_states

#: Values that one statement names: below SQLite's limit of parameters.
_CHUNK = 500

_CANCEL = (
    update(JobRow)
    .where(JobRow.seq == bindparam("doomed_seq"))
    .values(
        state=State.CANCELLED,
        version=JobRow.version + 1,
        cancel_reason=bindparam("why"),
        finished_at=bindparam("now", type_=JobRow.finished_at.type),
        updated_at=bindparam("now", type_=JobRow.updated_at.type),
    )
)
_MAKE_FATAL = (
    update(DependencyRow)
    .where(
        DependencyRow.job_seq == bindparam("doomed_seq"),
        DependencyRow.needed_id == bindparam("why_id"),
    )
    .values(fatal=True)
)


@dataclass(frozen=True, slots=True)
class Passed:
    """The ids of blocked jobs that were let go or cancelled, as what they need has ended."""

    let_go: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    #: Those of the cancelled ones that others need in their turn.
    needed: list[str] = field(default_factory=list)


def pass_on_ends(connection: Connection, seqs: Sequence[int]) -> bool:
    """Pass on the ends of those of these jobs that have ended; return whether others changed."""
    found: dict[str, str] = {}
    for chunk in _chunks(seqs):
        query = select(JobRow.id, JobRow.state).where(JobRow.seq.in_(chunk), in_states(*FINISHED))
        found.update((row.id, row.state) for row in connection.execute(query))
    passed = pass_on(connection, found)
    return bool(passed.let_go or passed.cancelled)


def pass_on(connection: Connection, ended: Mapping[str, str]) -> Passed:
    """Let go or cancel what waits for these jobs, by id, given how each of them ended.

    Part of the transaction that ends them. Returns which other jobs changed, all the way down.
    """
    whole = Passed()
    while ended:
        dependents = _lock_dependents(connection, list(ended), DependencyRow.job_seq.is_not(None))
        _write_outcomes(connection, ended)
        blocked = [row for row in dependents if row.state == State.BLOCKED]
        passed = settle_blocked(connection, blocked)
        whole.let_go.extend(passed.let_go)
        whole.cancelled.extend(passed.cancelled)
        ended = dict.fromkeys(passed.needed, State.CANCELLED.value)
    return whole


def foresee(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return the ids of the blocked jobs that are cancelled if these are, all the way down."""
    ended: dict[str, str] = {}
    found: list[str] = []
    while ids:
        ended.update(dict.fromkeys(ids, State.CANCELLED.value))
        rows = _find_blocked(connection, ids)
        needs = needs_of(connection, [row.seq for row in rows])
        ids = []
        for row in rows:
            then = [
                replace(need, outcome=ended.get(need.id, need.outcome)) for need in needs[row.seq]
            ]
            if row.id not in ended and judge(then).standing is Standing.DOOMED:
                ids = [*ids, row.id]
        found += ids
    return found


def waiting_for(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return the ids of the blocked jobs that wait for these, all the way down."""
    found: dict[str, None] = {}
    while ids:
        ids = [row.id for row in _find_blocked(connection, ids) if row.id not in found]
        found.update(dict.fromkeys(ids))
    return list(found)


def _find_blocked(connection: Connection, ids: Sequence[str]) -> list[Any]:
    found: dict[int, Any] = {}
    for chunk in _chunks(ids):
        needing = select(DependencyRow.job_seq).where(DependencyRow.needed_id.in_(chunk))
        query = select(JobRow.seq, JobRow.id).where(
            JobRow.seq.in_(needing), JobRow.state == State.BLOCKED
        )
        rows = connection.execute(query.order_by(JobRow.seq))
        found.update((row.seq, row) for row in rows)
    return list(found.values())


def _lock_dependents(
    connection: Connection, ids: Sequence[str], condition: ColumnElement[bool]
) -> list[Any]:
    """Lock the jobs that need these, by such rows; nobody else lets them go meanwhile.

    Not only those that are blocked: somebody may be about to retry another one.
    """
    found: dict[int, Any] = {}
    for chunk in _chunks(ids):
        needing = select(DependencyRow.job_seq).where(DependencyRow.needed_id.in_(chunk), condition)
        query = select(JobRow.seq, JobRow.id, JobRow.state, JobRow.needed, JobRow.unique_key).where(
            JobRow.seq.in_(needing)
        )
        rows = connection.execute(query.order_by(JobRow.seq).with_for_update())
        found.update((row.seq, row) for row in rows)
    return list(found.values())


def _write_outcomes(connection: Connection, ended: Mapping[str, str]) -> None:
    by_outcome = defaultdict(list)
    for job_id, outcome in ended.items():
        by_outcome[outcome].append(job_id)
    for outcome, ids in by_outcome.items():
        set_outcome(connection, ids, outcome)


def set_outcome(connection: Connection, ids: Sequence[str], outcome: str | None) -> None:
    """Say of these needed jobs how they ended, or that they have not."""
    for chunk in _chunks(ids):
        connection.execute(
            update(DependencyRow).where(DependencyRow.needed_id.in_(chunk)).values(outcome=outcome)
        )


def settle_blocked(connection: Connection, rows: Sequence[Any]) -> Passed:
    """Let go of those locked jobs that are ready, cancel those that can no longer start."""
    needs = needs_of(connection, [row.seq for row in rows])
    passed = Passed()
    ready: list[int] = []
    doomed: list[dict[str, Any]] = []
    fatal: list[dict[str, Any]] = []
    now = datetime.now(UTC)
    for row in rows:
        verdict = judge(needs[row.seq])
        if verdict.standing is Standing.READY:
            ready.append(row.seq)
            passed.let_go.append(row.id)
        elif verdict.standing is Standing.DOOMED:
            doomed.append({"doomed_seq": row.seq, "why": verdict.reason, "now": now})
            fatal += [{"doomed_seq": row.seq, "why_id": need.id} for need in verdict.fatal]
            passed.cancelled.append(row.id)
            if row.needed:
                passed.needed.append(row.id)
    let_go(connection, ready, now)
    if doomed:
        connection.execute(_CANCEL, doomed)
        connection.execute(_MAKE_FATAL, fatal)
    return passed


def let_go(connection: Connection, seqs: Sequence[int], now: datetime) -> None:
    """Make locked jobs that waited for others, or for somebody, wait for their time or a worker.

    One that was held in its backoff waits for the rest of it.
    """
    for chunk in _chunks(seqs):
        connection.execute(
            update(JobRow)
            .where(JobRow.seq.in_(chunk))
            .values(
                state=case(
                    (
                        and_(JobRow.run_at > now, JobRow.attempts > 0),
                        literal_column(f"'{State.FAILED}'"),
                    ),
                    (JobRow.run_at > now, literal_column(f"'{State.SCHEDULED}'")),
                    else_=literal_column(f"'{State.PENDING}'"),
                ),
                version=JobRow.version + 1,
                updated_at=now,
            )
        )


def needs_of(connection: Connection, seqs: Sequence[int]) -> dict[int, list[Need]]:
    """Return what each of these jobs needs, in the order of the ids."""
    found: dict[int, list[Need]] = defaultdict(list)
    for chunk in _chunks(seqs):
        query = select(DependencyRow).where(DependencyRow.job_seq.in_(chunk))
        query = query.order_by(DependencyRow.job_seq, DependencyRow.needed_id)
        for row in connection.execute(query.with_only_columns(*DependencyRow.__table__.c)):
            need = Need(row.needed_id, Condition(row.condition), row.outcome, bool(row.fatal))
            found[row.job_seq].append(need)
    return found


def reopen(connection: Connection, seqs: Sequence[int]) -> tuple[list[str], list[int]]:
    """Say that these locked jobs, which are about to be requeued, have not ended.

    Returns the ids of those that others need, and which of the jobs wait for others themselves.
    """
    query = select(JobRow.id).where(JobRow.seq.in_(seqs), JobRow.needed == 1)
    ids = list(connection.execute(query).scalars())
    set_outcome(connection, ids, None)
    needs = needs_of(connection, seqs)
    if not needs:
        return ids, []
    connection.execute(
        update(DependencyRow).where(DependencyRow.job_seq.in_(seqs)).values(fatal=False)
    )
    return ids, [seq for seq in seqs if judge(needs[seq]).standing is Standing.WAITS]


def bring_back(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Let jobs wait again that were cancelled for the ends of these, which have been requeued.

    Returns the ids of all that came back.
    One whose unique key another job has meanwhile stays cancelled, as does one that something else
    keeps from starting.
    """
    found: list[str] = []
    while ids:
        rows = [
            row
            for row in _lock_dependents(connection, ids, DependencyRow.fatal == true())
            if row.state == State.CANCELLED
        ]
        needs = needs_of(connection, [row.seq for row in rows])
        taken = _taken_keys(connection, [row.unique_key for row in rows if row.unique_key])
        back = []
        for row in rows:
            verdict = judge(needs[row.seq])
            if verdict.standing is Standing.DOOMED:
                _blame(connection, row.seq, [need.id for need in verdict.fatal], verdict.reason)
            elif row.unique_key not in taken:
                back.append(row)
                taken.update({row.unique_key} - {None})
        block(connection, [row.seq for row in back])
        found += [row.id for row in back]
        ids = [row.id for row in back if row.needed]
        set_outcome(connection, ids, None)
    return found


def _blame(connection: Connection, seq: int, ids: Sequence[str], reason: str | None) -> None:
    """Let a cancelled job's reason be these needs instead."""
    rows = update(DependencyRow).where(DependencyRow.job_seq == seq)
    is_fatal = case((DependencyRow.needed_id.in_(ids), true()), else_=false())
    connection.execute(rows.values(fatal=is_fatal))
    connection.execute(update(JobRow).where(JobRow.seq == seq).values(cancel_reason=reason))


def _taken_keys(connection: Connection, keys: Sequence[str]) -> set[str | None]:
    live = in_states(*(set(State) - FINISHED))
    found: set[str | None] = set()
    for chunk in _chunks(keys):
        query = select(JobRow.unique_key).where(
            JobRow.unique_key.in_(chunk), JobRow.unique_key.is_not(None), live
        )
        found.update(connection.execute(query).scalars())
    return found


def block(connection: Connection, seqs: Sequence[int]) -> None:
    """Make locked jobs wait for what they need."""
    for chunk in _chunks(seqs):
        connection.execute(
            update(JobRow)
            .where(JobRow.seq.in_(chunk))
            .values(
                state=State.BLOCKED,
                version=JobRow.version + 1,
                updated_at=datetime.now(UTC),
                finished_at=None,
                cancel_reason=None,
            )
        )
        connection.execute(
            update(DependencyRow).where(DependencyRow.job_seq.in_(chunk)).values(fatal=False)
        )


def _chunks(values: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), _CHUNK):
        yield list(values[start : start + _CHUNK])


def join_imported(connection: Connection, after_seq: int) -> None:
    """Bind jobs of higher numbers, which were imported, to the jobs of this store."""
    imported = DependencyRow.job_seq > after_seq
    needed = select(DependencyRow.needed_id).where(imported)
    connection.execute(update(JobRow).where(JobRow.id.in_(needed)).values(needed=1))
    there = (
        select(DependencyRow.needed_id, JobRow.state)
        .join(JobRow, JobRow.id == DependencyRow.needed_id, isouter=True)
        .where(imported, DependencyRow.outcome.is_(None))
        .distinct()
    )
    ended = {
        row.needed_id: row.state or DELETED
        for row in connection.execute(there)
        if row.state is None or row.state in FINISHED
    }
    pass_on(connection, ended)


def require_rights(connection: Connection) -> None:
    """Let a server refuse a role that may not let jobs go, or cancel them."""
    nobodys = update(DependencyRow).where(DependencyRow.job_seq == 0)
    connection.execute(nobodys.values(outcome=None, fatal=False))
    connection.execute(update(JobRow).where(JobRow.seq == 0).values(cancel_reason=None))
