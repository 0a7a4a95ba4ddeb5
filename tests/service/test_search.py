"""Search: which outputs there are, and from where each is read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, JobRow
from queuectl.domain.job import Claim, Ending, State
from queuectl.domain.selection import Selection
from queuectl.service import chunks, dead_letters, logs, search
from queuectl.service.chunks import Chunk, Shipment
from queuectl.service.search import Output, Scope
from tests.actors import Actor, Hire, ended
from tests.jobs import add


@pytest.fixture
def actor(hire: Hire) -> Actor:
    return hire()


def write(store: Store, claim: Claim, output: bytes) -> None:
    logs.output_path(store.location, claim.seq, claim.run).write_bytes(output)


def finish(actor: Actor, claim: Claim, output: bytes, ending: Ending = Ending.COMPLETED) -> None:
    settlement = ended(claim, ending)
    outcome = replace(settlement.outcome, output_bytes=len(output), output_tail=output[-4096:])
    actor.turn(replace(settlement, outcome=outcome))


def ran(store: Store, actor: Actor, job_id: str, output: bytes, queue: str = "default") -> Claim:
    """Let a job run and print this, into a file that is here."""
    add(store, id=job_id, queue=queue)
    claim = actor.claim_one()
    write(store, claim, output)
    finish(actor, claim, output)
    return claim


def found(store: Store, scope: Scope = Scope()) -> list[Output]:  # noqa: B008  # it is frozen
    return list(search.list_outputs(store, scope))


def read(store: Store, scope: Scope = Scope()) -> list[tuple[str, int, bytes]]:  # noqa: B008  # as above
    return [
        (output.job_id, output.run, b"".join(output.read(store))) for output in found(store, scope)
    ]


def test_the_newest_comes_first_and_of_each_job_the_last_attempt(
    store: Store, actor: Actor
) -> None:
    ran(store, actor, "a", b"of a")
    add(store, id="b", max_retries=0)
    claim = actor.claim_one()
    write(store, claim, b"of b, 1")
    finish(actor, claim, b"of b, 1", Ending.FAILED)
    dead_letters.requeue(store, ["b"])
    claim = actor.claim_one()
    write(store, claim, b"of b, 2")
    finish(actor, claim, b"of b, 2")

    assert read(store) == [("b", 2, b"of b, 2"), ("b", 1, b"of b, 1"), ("a", 1, b"of a")]


def test_what_runs_is_there_too_and_what_printed_nothing_is_not(store: Store, actor: Actor) -> None:
    ran(store, actor, "quiet", b"")
    logs.output_path(store.location, 1, 1).unlink()
    add(store, id="waits")
    add(store, id="runs", priority=1)
    write(store, actor.claim_one(), b"so far")

    [output] = found(store)

    assert (output.job_id, output.run, output.is_whole) == ("runs", 1, True)
    assert b"".join(output.read(store)) == b"so far"


def test_what_the_database_has_is_read_from_there(store: Store, actor: Actor) -> None:
    add(store, id="a")
    claim = actor.claim_one()
    chunks.ship(store, [Shipment(claim, 0, [Chunk(0, b"shipped")], 100, 100)])
    finish(actor, claim, b"shipped")

    [output] = found(store)

    assert (output.tail, output.is_whole) == (None, True)
    assert b"".join(output.read(store)) == b"shipped"


def test_of_what_is_elsewhere_only_the_tail_is_known(store: Store, actor: Actor) -> None:
    for job_id, output in (("long", b"x" * 5000 + b"end"), ("short", b"all")):
        add(store, id=job_id)
        finish(actor, actor.claim_one(), output)

    short, long = found(store)

    assert (short.is_whole, b"".join(short.read(store))) == (True, b"all")
    assert (long.is_whole, long.host) == (False, "here")
    assert b"".join(long.read(store)) == b"x" * 4093 + b"end"


def test_only_what_is_meant_is_told(store: Store, actor: Actor) -> None:
    ran(store, actor, "a", b"a", queue="q")
    ran(store, actor, "b", b"b")
    add(store, id="dead", max_retries=0, tags=["x", "y"], name="nightly")
    claim = actor.claim_one()
    finish(actor, claim, b"dead", Ending.FAILED)

    def ids(**how: object) -> list[str]:
        only = Selection(**how)  # type: ignore[arg-type]  # passed on
        return [output.job_id for output in found(store, Scope(only))]

    assert ids(queues=("q",)) == ["a"]
    assert ids(queues=("q", "default"), states=(State.COMPLETED,)) == ["b", "a"]
    assert ids(queues=("nowhere",)) == []
    assert ids(states=(State.DEAD,)) == ["dead"]
    assert ids(states=(State.DEAD, State.COMPLETED)) == ["dead", "b", "a"]
    assert ids(states=(State.PROCESSING,)) == []
    assert ids(tags=("x",)) == ["dead"]
    assert ids(names=("nightly", "other")) == ["dead"]


def test_only_attempts_that_ended_since_then_or_that_run_are_told(
    store: Store, actor: Actor
) -> None:
    now = datetime.now(UTC)
    old = now - timedelta(days=3)
    for job_id in ("old", "new"):
        ran(store, actor, job_id, b"x")
    add(store, id="runs")
    write(store, actor.claim_one(), b"x")

    def age(connection: object) -> None:
        for table, key in ((JobRow, JobRow.seq), (AttemptRow, AttemptRow.job_seq)):
            column = "updated_at" if table is JobRow else "finished_at"
            connection.execute(update(table).where(key != 2).values({column: old}))  # type: ignore[attr-defined]  # a connection

    store.write(age)

    told = found(store, Scope(since=now - timedelta(days=2)))

    assert [output.job_id for output in told] == ["runs", "new"]


def test_more_jobs_than_a_page_are_told(
    store: Store, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_PAGE_JOBS", 2)
    for number in range(4):
        ran(store, actor, f"j{number}", b"x")

    assert [output.job_id for output in found(store)] == ["j3", "j2", "j1", "j0"]


def test_a_job_that_is_purged_meanwhile_is_read_as_empty(store: Store, actor: Actor) -> None:
    claim = ran(store, actor, "a", b"x")
    [output] = found(store)

    logs.remove(store.location, claim.seq, 1)

    assert b"".join(output.read(store)) == b""
