"""Mutants: known mistakes of other queues, brought into a process when it starts.

Each has been made somewhere; none stands in the package. The campaign must catch every one of them,
or its silence about queuectl would mean nothing.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from queuectl.db import postgresql
from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, WorkerRow
from queuectl.db.prepared import Prepared
from queuectl.domain.job import State
from queuectl.domain.retry import Decision
from queuectl.service import choice, claims, jobs, queues, rescues, statements, workers
from queuectl.service.choice import Room
from queuectl.service.rows import ATTEMPT_FIELDS
from queuectl.worker import lease, processes, rescue, slots, supervisor
from tests.campaign import plan, server
from tests.campaign.terms import Terms

VARIABLE = "CAMPAIGN_MUTANT"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: what it is, which invariant it breaks, and the plan that brings it out."""

    mistake: str
    breaks: str
    install: Callable[[], None]
    kinds: Mapping[str, int]
    mix: Mapping[str, int]
    transactions: Mapping[str, int] = field(default_factory=lambda: plan.TRANSACTIONS)
    stages: Sequence[str] = plan.STAGES
    faults: int = 12
    jobs: int = 60
    faults_per_second: float = 2.0
    workers: int = 2
    slots: int = 2
    backlog: int = 10
    largest_batch: int = 8
    #: Where it shows: what ``--store`` is given, if that is not a file.
    store: str | None = None
    leaving_seconds: float = 5.0

    def change(self, terms: Terms) -> Terms:
        """Return the terms of the short campaign that must catch it."""
        return replace(
            terms,
            faults=self.faults,
            jobs=self.jobs,
            lease_seconds=2.0,
            faults_per_second=self.faults_per_second,
            kinds=self.kinds,
            mix=self.mix,
            transactions=self.transactions,
            stages=self.stages,
            workers=self.workers,
            slots=self.slots,
            backlog=self.backlog,
            largest_batch=self.largest_batch,
            stuck_seconds=8.0,
            leaving_seconds=self.leaving_seconds,
            freeze_leases=2.5,
        )


def install_named(name: str | None) -> None:
    """Make the mistake of that name in this process and all that it forks."""
    if name:
        MUTANTS[name].install()


def _put(owner: object, name: str, value: object) -> None:
    setattr(owner, name, value)


def without(statement: Prepared, *columns: str) -> Prepared:
    """Return a statement whose WHERE no longer asks about these columns."""
    changed: Any = copy.copy(statement._statement)
    changed._where_criteria = tuple(
        criterion
        for criterion in changed._where_criteria
        if not any(f"jobs.{column} " in str(criterion) for column in columns)
    )
    return Prepared(changed)


# Who is dead


def _rescue_by_age() -> None:
    def rescue_dead(store: Store, suspects: object = None) -> list[str]:
        dead = store.read(lambda connection: _silent(connection))
        if not dead and not rescues.suspects(store).orphaned:
            return []
        return rescues.rescue(store, dead)

    _put(rescue, "rescue_dead", rescue_dead)


def _silent(connection: Connection) -> list[str]:
    query = select(WorkerRow.id).where(
        WorkerRow.state == "alive", WorkerRow.lease_expires_at < datetime.now(UTC)
    )
    return list(connection.execute(query).scalars())


def _never_rescue() -> None:
    _put(rescue, "rescue_dead", lambda store, suspects=None: [])


def _acknowledge_early() -> None:
    def after_crash(attempts: int, crashes: int, *rest: object) -> Decision:
        return Decision(State.COMPLETED, attempts, crashes + 1)

    _put(rescues, "after_crash", after_crash)


# Whose result counts


def _settle_without_version() -> None:
    _go_on_when_declared_dead()
    _put(claims, "SETTLE", without(statements.SETTLE, "version"))


def _apply_late_results() -> None:
    _go_on_when_declared_dead()
    _put(claims, "SETTLE", without(statements.SETTLE, "version", "state"))


def _go_on_when_declared_dead() -> None:
    _rescue_by_age()
    beat = workers.beat

    def deaf_beat(store: Store, worker_id: str, lease_seconds: float) -> bool:
        beat(store, worker_id, lease_seconds)
        return True

    _put(workers, "beat", deaf_beat)
    _put(
        claims,
        "_require_alive",
        lambda worker_id, own_row: claims._Own(own_row()[0][1], own_row()[0][2], None, None),
    )
    values: dict[str, Any] = {name: bindparam(name) for name in ATTEMPT_FIELDS}
    overwriting = insert(AttemptRow).prefix_with("OR REPLACE").values(values)
    _put(claims, "INSERT_ATTEMPT", Prepared(overwriting))


# Who runs it


def _claim_without_recheck() -> None:
    _put(claims, "CLAIM", without(statements.CLAIM, "version", "state"))
    take_turn, choose = claims.take_turn, choice.choose

    def hasty_turn(
        store: Store,
        claimant: claims.Claimant,
        ended: Sequence[claims.Settlement],
        *,
        free: int,
        idle: bool,
        unstarted: Sequence[Any] = (),
    ) -> claims.Turn:
        names = choice.rotation(store.read(queues.ask_open)(), claimant.queues, claimant.next_queue)
        seen = store.read(lambda connection: choose(connection, Room(free, idle, names)))
        time.sleep(0.002)  # what another queue takes to think about what it has read
        _put(claims, "choose", lambda connection, room: seen)
        return take_turn(store, claimant, ended, free=free, idle=idle, unstarted=unstarted)

    _put(claims, "take_turn", hasty_turn)


# What is left behind


def _rescue_without_killing() -> None:
    _put(processes, "end_marked", lambda worker_id: True)
    _put(supervisor.Supervisor, "_is_spared", lambda self, pid: True)


def _kill_group_only() -> None:
    _put(slots.Slots, "_spare", lambda self: lambda pid: True)


# What is one transaction


def _acknowledge_before_commit() -> None:
    transact: Any = Store._transact

    def hasty_transact(self: Store, work: Callable[[Connection], Any], *, writes: bool) -> Any:
        if not work.__qualname__.startswith("enqueue."):
            return transact(self, work, writes=writes)

        def telling(connection: Connection) -> Any:
            result = work(connection)
            os.write(1, "".join(f"{job_id}\n" for job_id in result.ids).encode())
            return result

        telling.__qualname__ = work.__qualname__
        return transact(self, telling, writes=writes)

    _put(Store, "_transact", hasty_transact)


def _commit_each_job() -> None:
    enqueue = jobs.enqueue

    def enqueue_each(store: Store, requests: Any, *, cwd: str | None) -> jobs.Receipt:
        ids: list[str] = []
        existing: list[str] = []
        unique: list[str] = []
        for request in requests:
            receipt = enqueue(store, [request], cwd=cwd)
            ids += receipt.ids
            existing += receipt.existing
            unique += receipt.unique
        return jobs.Receipt(ids, existing, unique)

    _put(jobs, "enqueue", enqueue_each)


def _record_apart() -> None:
    take_turn, record = claims.take_turn, claims._record
    waiting: list[Any] = []
    _put(claims, "_record", lambda connection, *rest: waiting.append(rest))

    def turn_in_two(store: Store, *arguments: Any, **named: Any) -> claims.Turn:
        waiting.clear()
        turn = take_turn(store, *arguments, **named)
        if waiting:
            store.write(lambda connection: record(connection, *waiting[-1]))
        return turn

    _put(claims, "take_turn", turn_in_two)


# Who is cut off


def _go_on_when_cut_off() -> None:
    _put(lease.Lease, "_spend_at", lambda self, instant: None)
    _put(supervisor.Supervisor, "_judge_silence", lambda self, now: None)


def _repeat_lost_turns() -> None:
    _put(postgresql, "is_outcome_unknown", lambda error: False)


_FREEZES = {plan.TREE_FROZEN: 1}
_OVERTAKEN = {"nap 28": 1}
_CLIENTS = {plan.CLIENT_KILLED: 1, plan.FAILPOINT: 2}
_AT_ENQUEUE = {"enqueue": 1}
_LONG = {"tick 30": 3, "setsid": 1, "fork": 1}

MUTANTS: Mapping[str, Mutant] = {
    "acknowledge-before-commit": Mutant(
        "enqueue prints the ids before the transaction is committed",
        "I1",
        _acknowledge_before_commit,
        _CLIENTS,
        {"quick": 1},
        _AT_ENQUEUE,
        faults=16,
        faults_per_second=4.0,
    ),
    "commit-each-job": Mutant(
        "a call of enqueue commits each of its jobs for itself",
        "I1",
        _commit_each_job,
        _CLIENTS,
        {"quick": 1},
        _AT_ENQUEUE,
        faults=16,
        faults_per_second=4.0,
        largest_batch=40,  # so that there is something between the first commit and the last
    ),
    "claim-without-recheck": Mutant(
        "a claim updates what an earlier read showed to be pending, whatever it is by now",
        "I2",
        _claim_without_recheck,
        {plan.WORKER_KILLED: 1},
        {"tick 6": 1, "quick": 1},
        faults=6,
        jobs=100,
        backlog=30,
    ),
    "rescue-by-age": Mutant(
        "a worker is dead when its heartbeat is old by the wall clock, and nothing is killed",
        "I2",
        _rescue_by_age,
        _FREEZES,
        _OVERTAKEN,
        faults=3,
        jobs=16,
        workers=6,  # so that some are idle, and take what is taken back
        slots=1,
        backlog=2,
        largest_batch=2,
    ),
    "rescue-without-killing": Mutant(
        "the jobs of a dead worker are taken back while what they started still runs",
        "I2",
        _rescue_without_killing,
        {plan.WORKER_KILLED: 1, plan.BOTH_KILLED: 1},
        _LONG,
    ),
    "settle-without-version": Mutant(
        "a result is applied to whatever claim is being processed; as a worker is dead by age",
        "I3",
        _settle_without_version,
        _FREEZES,
        _OVERTAKEN,
        faults=3,
        jobs=16,
        workers=4,  # so that some are idle, and take what is taken back
        slots=1,
        backlog=3,
        largest_batch=2,
    ),
    "late-result": Mutant(
        "a result is applied whenever it comes and whatever the job's state; dead by age",
        "I3",
        _apply_late_results,
        _FREEZES,
        _OVERTAKEN,
        faults=3,
        jobs=16,
        workers=4,  # so that some are idle, and take what is taken back
        slots=1,
        backlog=3,
        largest_batch=2,
    ),
    "acknowledge-early": Mutant(
        "a job counts as done once a worker has taken it, so it is gone with its worker",
        "I3",
        _acknowledge_early,
        {plan.WORKER_KILLED: 1},
        _LONG,
    ),
    "record-apart": Mutant(
        "an attempt is recorded in a transaction behind the one that settles its job",
        "I4",
        _record_apart,
        {plan.FAILPOINT: 1},
        {"quick": 1},
        {"take_turn": 1},
        ("after",),
        faults=16,
        jobs=300,
        faults_per_second=4.0,
        backlog=50,
    ),
    "kill-group-only": Mutant(
        "at a job's end its process group is killed, and who left the group goes on",
        "I5",
        _kill_group_only,
        {plan.WORKER_KILLED: 1},
        {"setsid": 1, "fork": 1, "quick": 1},
        faults=6,
    ),
    "never-rescue": Mutant(
        "nobody takes back the jobs of a worker that died",
        "I6",
        _never_rescue,
        {plan.WORKER_KILLED: 1},
        _LONG,
        faults=6,
    ),
    "cut-off-goes-on": Mutant(
        "on a server: a worker that is cut off lets its jobs go on, and so does its supervisor",
        "I2",
        _go_on_when_cut_off,
        {plan.PARTITIONED: 1},
        _OVERTAKEN,
        faults=2,
        jobs=6,
        workers=4,  # so that some are idle, and take what is taken back
        slots=1,
        backlog=2,
        largest_batch=1,
        store=server.OWN,
        leaving_seconds=30.0,
    ),
    "repeat-lost-turn": Mutant(
        "on a server: a turn whose commit was not confirmed is made again, as if it did not stand",
        "I6",
        _repeat_lost_turns,
        {plan.REPLY_LOST: 1},
        {"quick": 1},
        {"take_turn": 1},
        faults=8,
        jobs=300,
        faults_per_second=4.0,
        backlog=50,
        store=server.OWN,
        leaving_seconds=30.0,
    ),
}


def table() -> str:
    """Return the mutants as the table of docs/reliability.md."""
    lines = ["| mutant | the mistake | breaks |", "|---|---|---|"]
    lines += [
        f"| {name} | {mutant.mistake} | {mutant.breaks} |" for name, mutant in MUTANTS.items()
    ]
    return "\n".join(lines)
