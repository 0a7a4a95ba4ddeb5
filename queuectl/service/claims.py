"""The turn: one transaction in which a worker settles what ended and claims what fits.

The protocol. A job's row says who may write it:

    pending      anybody may claim it: state, version + 1, runs + 1, worker_id
    held         only a release, which makes it blocked, scheduled, failed or pending
    blocked      whoever ends the last job that it needs (service/dependencies.py)
    processing   only the holder of the claim, which is the pair (seq, version) that the claim
                 wrote, may settle it; whoever rescues from a dead worker adds one to the version,
                 so that the late result of a worker that was only paused matches no row
    the others   nobody holds a claim; enqueueing and the dead letter commands write them

A claim is SELECT, then ``UPDATE ... WHERE seq = ? AND version = ? AND state = 'pending'``; a
settlement is ``UPDATE ... WHERE seq = ? AND version = ? AND state = 'processing'``. The row count
decides: no row means that the claim is somebody else's, and the result is dropped, never applied.

What each crash leaves behind:

    before the commit             nothing: the jobs stay as they were
    after it, before the start    jobs in ``processing`` of a dead worker: rescued
    while a command runs          the same, and processes, which the rescuer kills first
    after its end, unsettled      the same: the attempt is recorded as lost and runs again

Which jobs are chosen is in ``service/choice.py``, how many of a queue with a limit in
``service/limits.py``, of one with a rate in ``service/rates.py``. On a server the statements of a
turn go in four round trips: who am I, and the options; settle and choose; claim; commit. Limits and
rates that may matter cost one more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from queuectl.db.engine import Store
from queuectl.db.prepared import Prepared, StaleRows, to_instant
from queuectl.domain.job import Claim, Outcome, State
from queuectl.domain.options import Options
from queuectl.domain.retry import Decision, decide
from queuectl.domain.terms import read_terms
from queuectl.errors import WorkerDeclaredDead
from queuectl.service import (
    chunks,
    config,
    dependencies,
    expiry,
    inputs,
    limits,
    queues,
    rates,
    workers,
)
from queuectl.service.choice import Room, choose, rotation
from queuectl.service.chunks import Shipment
from queuectl.service.limits import Terms
from queuectl.service.single import ask_standing, choose_single
from queuectl.service.statements import (
    CLAIM,
    GIVE_BACK,
    INSERT_ATTEMPT,
    INSERT_DEAD,
    NEEDED,
    NEXT_DUE,
    OWN_ROW,
    OWN_ROW_KEPT,
    PROMOTE,
    SETTLE,
    WAITING_QUEUES,
    Candidate,
)

_AT_REST = (State.COMPLETED, State.DEAD, State.CANCELLED)


@dataclass(slots=True)
class Claimant:
    """The worker that takes turns. ``next_queue`` is the rotation: where the next claim begins."""

    worker_id: str
    host: str
    pid: int
    queues: tuple[str, ...] | None
    #: The key of the one job that it claims; None: whatever its queues hold.
    only: int | None = None
    next_queue: str = ""
    #: To what its lease is cut with a claim, in seconds; None: it is not longer.
    cut_lease_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """An attempt that has ended, waiting to be recorded."""

    claim: Claim
    outcome: Outcome
    #: The rest of what it printed, if that is kept in the database.
    output: Shipment | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn did. ``decisions`` is by claim's mark; ``lost`` were claims of somebody else."""

    claims: list[Claim]
    decisions: dict[str, Decision]
    lost: list[Settlement]
    #: ``drain`` or ``now`` once somebody asked this worker to stop.
    stop_mode: str | None
    #: How often this worker was given orders.
    orders: int
    options: Options
    #: When the next tick of a schedule is, as this turn found it.
    next_tick_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an idle worker sees with a read: whether a turn would find something to do, or when."""

    due: bool
    next_due_at: datetime | None
    stop_mode: str | None
    orders: int
    #: When the next tick of a schedule is; never for a worker of one job.
    next_tick_at: datetime | None = None


class _Own(NamedTuple):
    """What this worker's row says, and the next tick of a schedule and deadline of a job."""

    stop_mode: str | None
    orders: int
    next_tick_at: datetime | None
    next_deadline: datetime | None


def take_turn(
    store: Store,
    claimant: Claimant,
    ended: Sequence[Settlement],
    *,
    free: int,
    idle: bool,
    unstarted: Sequence[Claim] = (),
) -> Turn:
    """Settle the attempts that have ended and claim up to ``free`` jobs, in one transaction.

    ``idle`` says that nothing else runs in this worker, so that a job which crashed a worker before
    may be claimed. ``unstarted`` claims are given back as if they had never been made. Raises
    WorkerDeclaredDead when this worker's row is no longer alive, and StoreError when the store is
    away; then nothing was written.
    """
    plan = _Plan(store, claimant, ended, unstarted, free, idle)
    try:
        turn, next_queue = store.write(lambda connection: _turn(connection, plan, _apply_at_once))
    except StaleRows:
        turn, next_queue = store.write(
            lambda connection: _turn(connection, _look_again(connection, plan), _apply_each)
        )
    claimant.next_queue = next_queue
    return turn


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one turn is asked to do."""

    store: Store
    claimant: Claimant
    ended: Sequence[Settlement]
    unstarted: Sequence[Claim]
    free: int
    idle: bool


def _look_again(connection: Connection, plan: _Plan) -> _Plan:
    """Return the plan with claims that know which jobs others have begun to wait for."""
    seqs = [claim.seq for claim in (*(item.claim for item in plan.ended), *plan.unstarted)]
    marks = {row.seq: row.needed for row in connection.execute(NEEDED, {"seqs": seqs})}

    def seen(claim: Claim) -> Claim:
        return replace(claim, needed=marks.get(claim.seq, claim.needed))

    return replace(
        plan,
        ended=[replace(item, claim=seen(item.claim)) for item in plan.ended],
        unstarted=[seen(claim) for claim in plan.unstarted],
    )


#: Executes a versioned UPDATE for each row of values and tells which of them found their job.
_Apply = Callable[[Connection, Prepared, list[dict[str, Any]]], list[bool]]


def _apply_at_once(
    connection: Connection, statement: Prepared, rows: list[dict[str, Any]]
) -> list[bool]:
    """Expect that all do; StaleRows says that they do not, now or later in the transaction."""
    statement.expect(connection, rows)
    return [True] * len(rows)


def _apply_each(
    connection: Connection, statement: Prepared, rows: list[dict[str, Any]]
) -> list[bool]:
    return [statement.execute(connection, [row]) == 1 for row in rows]


def _turn(connection: Connection, plan: _Plan, apply: _Apply) -> tuple[Turn, str]:
    store, claimant = plan.store, plan.claimant
    # All is asked before the first answer is read: a server gives them in one round trip.
    own_row = _ask_own_row(store, connection, claimant.worker_id, OWN_ROW_KEPT)
    options_stored = store.remember(connection, "options", config.ask)
    queues_open = store.remember(connection, "queues", queues.ask_open)
    own = _require_alive(claimant.worker_id, own_row)
    options, open_queues = options_stored(), queues_open()
    now = datetime.now(UTC)
    decisions = _settle(connection, claimant, plan.ended, options, now, apply)
    if plan.unstarted:
        _give_back(connection, plan, open_queues, now, apply)
    let_go = _let_go(plan, decisions)
    needed = [claim.seq for claim in let_go if claim.needed]
    passed_on = bool(needed) and dependencies.pass_on_ends(connection, needed)
    expired = _expire(connection, plan, own.next_deadline, now)
    claims: list[Claim] = []
    next_queue: str | None = None
    if plan.free > 0 and own.stop_mode is None and expired < expiry.EXPIRED_A_TURN:
        rows, next_queue, ledger = _choose(connection, plan, open_queues, now)
        # Not the time of before: what was waited for may have ended an attempt of these jobs.
        claims = _take(connection, claimant, rows, datetime.now(UTC), apply)
        ledger.spend(connection, (claim.queue for claim in claims))
    at_rest = not plan.unstarted and all(d.state in _AT_REST for d in decisions.values())
    quiet = at_rest and not passed_on and not expired
    if quiet and not limits.frees_place(open_queues, let_go, claims):
        store.hush(connection)  # nothing that an idle worker could claim, now or later
    lost = [item for item in plan.ended if item.claim.mark not in decisions]
    next_queue = claimant.next_queue if next_queue is None else next_queue
    turn = Turn(claims, decisions, lost, own.stop_mode, own.orders, options, own.next_tick_at)
    return turn, next_queue


def _expire(
    connection: Connection, plan: _Plan, next_deadline: datetime | None, now: datetime
) -> int:
    """Move jobs that were not started by their deadline, if there are any; return how many."""
    passed = next_deadline is not None and next_deadline <= now
    if passed or plan.unstarted:
        # It is not told of what it changes itself, and one of these may have the next deadline.
        plan.store.forget()
    return expiry.expire(connection, now) if passed else 0


def _give_back(
    connection: Connection,
    plan: _Plan,
    open_queues: Mapping[str, Terms],
    now: datetime,
    apply: _Apply,
) -> None:
    """Let claims be as if they had never been made, those of them that still stand."""
    found = apply(connection, GIVE_BACK, [_fence(claim, now) for claim in plan.unstarted])
    names = [claim.queue for claim, stood in zip(plan.unstarted, found, strict=True) if stood]
    _ledger(connection, plan, open_queues, names).give_back(connection, names)


def _choose(
    connection: Connection, plan: _Plan, open_queues: Mapping[str, Terms], now: datetime
) -> tuple[list[Candidate], str | None, rates.Ledger]:
    """Select what to claim; return the rows, where the next turn begins, and who counts starts."""
    if plan.claimant.only is not None:
        rows = choose_single(connection, plan.claimant.only, now)
        return rows, None, _ledger(connection, plan, open_queues, [row.queue for row in rows])
    PROMOTE.tell(connection, [{"now": now}])
    names = rotation(open_queues, plan.claimant.queues, plan.claimant.next_queue)
    places = limits.read_places(plan.store, connection, {name: open_queues[name] for name in names})
    # A queue that is full, or closed by its rate, costs nothing from here on.
    names = [name for name in names if places.most.get(name) != 0]
    rows, next_queue = choose(connection, Room(plan.free, plan.idle, names, places.most))
    return rows, next_queue, places.ledger


def _ledger(
    connection: Connection, plan: _Plan, open_queues: Mapping[str, Terms], names: Sequence[str]
) -> rates.Ledger:
    """Return the windows of those of these queues that have a rate; asks nothing if none has."""
    rated = [name for name in names if open_queues.get(name, Terms()).rate_count is not None]
    return rates.lock(plan.store, connection, rated) if rated else rates.Ledger()


def _let_go(plan: _Plan, decisions: Mapping[str, Decision]) -> list[Claim]:
    """Return the claims that this turn gives up."""
    settled = [item.claim for item in plan.ended if item.claim.mark in decisions]
    return [*settled, *plan.unstarted]


def _fence(claim: Claim, now: datetime) -> dict[str, Any]:
    return {
        "settled_seq": claim.seq,
        "claimed_version": claim.version,
        "seen_needed": claim.needed,
        "now": now,
    }


def _ask_own_row(
    store: Store, connection: Connection, worker_id: str, query: Prepared
) -> Callable[[], list[Any]]:
    return store.remember(
        connection,
        ("worker", worker_id),
        lambda connection: query.ask(connection, {"worker_id": worker_id}),
    )


def _require_alive(worker_id: str, own_row: Callable[[], list[Any]]) -> _Own:
    """Return how this worker is asked to stop, if it is, and the like.

    Raises WorkerDeclaredDead.
    """
    rows = own_row()
    state, stop_mode, orders, *times = rows[0] if rows else (None, None, 0, None, None)
    if state != "alive":
        raise WorkerDeclaredDead(f"worker {worker_id} was declared dead")
    return _Own(stop_mode, orders, *map(to_instant, times))


def _settle(
    connection: Connection,
    claimant: Claimant,
    ended: Sequence[Settlement],
    options: Options,
    now: datetime,
    apply: _Apply,
) -> dict[str, Decision]:
    """Record how attempts ended; return the decisions of those whose claim still stood."""
    if not ended:
        return {}
    rule = options.backoff_rule
    decided = [(item, decide(item.claim, item.outcome, rule, now)) for item in ended]
    applied = apply(connection, SETTLE, [_settled_row(*pair, now) for pair in decided])
    held = [pair for pair, found in zip(decided, applied, strict=True) if found]
    if held:
        _record(connection, claimant, held, now)
    return {item.claim.mark: decision for item, decision in held}


def _settled_row(item: Settlement, decision: Decision, now: datetime) -> dict[str, Any]:
    finished = decision.state in _AT_REST
    return {
        **_fence(item.claim, now),
        "next_state": decision.state,
        "next_attempts": decision.attempts,
        "next_crashes": decision.crashes,
        "next_run_at": decision.run_at,
        "next_error": decision.last_error,
        "next_finished_at": item.outcome.finished_at if finished else None,
    }


def _record(
    connection: Connection,
    claimant: Claimant,
    held: Sequence[tuple[Settlement, Decision]],
    now: datetime,
) -> None:
    rows = [_attempt_row(claimant, item.claim, item.outcome) for item, _ in held]
    INSERT_ATTEMPT.tell(connection, rows)
    dead = [
        dead_letter_row(item.claim.seq, decision, now)
        for item, decision in held
        if decision.state is State.DEAD
    ]
    if dead:
        connection.execute(INSERT_DEAD, dead)
    chunks.put(connection, [item.output for item, _ in held if item.output is not None])


def _attempt_row(claimant: Claimant, claim: Claim, outcome: Outcome) -> dict[str, Any]:
    return {
        "job_seq": claim.seq,
        "run": claim.run,
        "worker_id": claimant.worker_id,
        "host": claimant.host,
        "pid": claimant.pid,
        "started_at": outcome.started_at,
        "finished_at": outcome.finished_at,
        "outcome": outcome.ending,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "cpu_user_seconds": outcome.cpu_user_seconds,
        "cpu_system_seconds": outcome.cpu_system_seconds,
        "max_rss_bytes": outcome.max_rss_bytes,
        "output_bytes": outcome.output_bytes,
        "output_tail": outcome.output_tail,
        "error": outcome.error,
    }


def dead_letter_row(seq: int, decision: Decision, now: datetime) -> dict[str, Any]:
    """Return the row of a job that has just died."""
    return {
        "job_seq": seq,
        "died_at": now,
        "reason": decision.dead_reason,
        "last_error": decision.last_error,
    }


def _take(
    connection: Connection, claimant: Claimant, rows: list[Candidate], now: datetime, apply: _Apply
) -> list[Claim]:
    if not rows:
        return []
    updates = [
        {
            "claimed_seq": row.seq,
            "seen_version": row.version,
            "claimant": claimant.worker_id,
            "now": now,
        }
        for row in rows
    ]
    taken = apply(connection, CLAIM, updates)
    claims = [_to_claim(row) for row, found in zip(rows, taken, strict=True) if found]
    if claims and claimant.cut_lease_seconds is not None:
        workers.grant(connection, claimant.worker_id, claimant.cut_lease_seconds)
    return inputs.attach(connection, claims)


def _to_claim(row: Candidate) -> Claim:
    return Claim(
        seq=row.seq,
        version=row.version + 1,
        run=row.runs + 1,
        id=row.id,
        queue=row.queue,
        command=row.command,
        cwd=row.cwd,
        env=_to_object(row.env),
        attempts=row.attempts,
        max_retries=row.max_retries,
        timeout_seconds=row.timeout_seconds,
        backoff_base=row.backoff_base,
        crashes=row.crashes,
        scheduled_for=to_instant(row.scheduled_for),
        needed=row.needed,
        stdin_bytes=row.stdin_bytes,
        terms=read_terms(_to_object(row.terms)),
    )


def _to_object(value: Any) -> Any:
    """Return a JSON value that a driver gave, which may give text."""
    return json.loads(value) if isinstance(value, str) else value


def look(store: Store, claimant: Claimant) -> Outlook:
    """Tell, with reads alone, whether a turn would find something to do.

    Raises WorkerDeclaredDead and StoreError as a turn does.
    """
    # Nothing is read inside the transaction: on a server all of it is one round trip.
    return store.read(lambda connection: _ask_outlook(store, connection, claimant))()


def _ask_outlook(store: Store, connection: Connection, claimant: Claimant) -> Callable[[], Outlook]:
    own_row = _ask_own_row(store, connection, claimant.worker_id, OWN_ROW)
    if claimant.only is not None:
        standing = ask_standing(connection, claimant.only)
        return lambda: Outlook(*standing(), *_require_alive(claimant.worker_id, own_row)[:2])
    next_due = NEXT_DUE.ask(connection)
    waiting = WAITING_QUEUES.ask(connection)

    def read() -> Outlook:
        own = _require_alive(claimant.worker_id, own_row)
        names, closed = rates.sort_out(waiting())
        times = [to_instant(next_due()[0][0]), own.next_deadline]
        times += [closed[name] for name in rotation(closed, claimant.queues, "")]
        next_due_at = min((time for time in times if time is not None), default=None)
        due = next_due_at is not None and next_due_at <= datetime.now(UTC)
        due = due or bool(rotation(names, claimant.queues, ""))
        return Outlook(due, next_due_at, own.stop_mode, own.orders, own.next_tick_at)

    return read
