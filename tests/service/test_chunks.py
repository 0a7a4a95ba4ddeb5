"""Outputs in the database: by one claim, within the cap, each byte once (issue of the fleet, 7)."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import Claim, Ending
from queuectl.service import chunks, dead_letters, logs, rescues
from queuectl.service.chunks import Chunk, OutputReader, Shipment
from queuectl.service.claims import Settlement
from tests.actors import Hire, ended
from tests.jobs import add

_HEAD = 10


def more(claim: Claim, *parts: Chunk, start: int, tail_start: int = _HEAD) -> Shipment:
    return Shipment(claim, start, list(parts), _HEAD, tail_start)


def failing(claim: Claim, output: Shipment) -> Settlement:
    return replace(ended(claim, Ending.FAILED), output=output)


def shown(store: Store, claim: Claim) -> bytes:
    return b"".join(OutputReader(store, claim.seq, claim.run).read_all())


def test_what_was_shipped_can_be_read(store: Store, hire: Hire) -> None:
    add(store, id="a")
    claim = hire().claim_one()

    lost = chunks.ship(store, [more(claim, Chunk(0, b"one\n"), Chunk(4, b"\0\xff\n"), start=0)])

    assert lost == set()
    assert shown(store, claim) == b"one\n\0\xff\n"
    assert chunks.are_there(store, claim.seq, claim.run)
    assert not chunks.are_there(store, claim.seq, claim.run + 1)


def test_a_lost_claim_adds_nothing_to_its_own_output_nor_to_its_successors(
    store: Store, hire: Hire
) -> None:
    add(store, id="a")
    slow = hire("slow")
    lost_claim = slow.claim_one()
    chunks.ship(store, [more(lost_claim, Chunk(0, b"in time"), start=0)])
    slow.die()
    rescues.rescue(store, ["slow"])
    claim = hire("quick").claim_one()
    chunks.ship(store, [more(claim, Chunk(0, b"of two"), start=0)])

    lost = chunks.ship(
        store,
        [more(lost_claim, Chunk(7, b" late"), start=7), more(claim, Chunk(6, b" more"), start=6)],
    )

    assert lost == {lost_claim.mark}
    assert (lost_claim.run, claim.run) == (1, 2)
    assert shown(store, lost_claim) == b"in time"
    assert shown(store, claim) == b"of two more"


def test_a_shipment_whose_reply_was_lost_stands_once(store: Store, hire: Hire) -> None:
    add(store, id="a")
    claim = hire().claim_one()
    chunks.ship(store, [more(claim, Chunk(0, b"a" * 10), start=0)])
    # The reply was lost; meanwhile more was printed, and the middle dropped.
    chunks.ship(store, [more(claim, Chunk(10, b"b" * 5), start=10)])

    chunks.ship(store, [more(claim, Chunk(12, b"b" * 3 + b"c" * 7), start=10, tail_start=12)])

    assert shown(store, claim) == b"a" * 10 + logs.dropped_line(2) + b"bbbccccccc"


@pytest.mark.parametrize("tail_start", [11, 15, 20, 21, 29, 30])
def test_past_the_cap_exactly_the_last_bytes_are_kept(
    store: Store, hire: Hire, tail_start: int
) -> None:
    add(store, id="a")
    claim = hire().claim_one()
    printed = bytes(range(40))
    parts = [Chunk(at, printed[at : at + 10]) for at in (0, 10, 20)]
    chunks.ship(store, [more(claim, *parts, start=0)])

    chunks.ship(store, [more(claim, Chunk(30, printed[30:]), start=30, tail_start=tail_start)])

    middle = logs.dropped_line(tail_start - 10)
    assert shown(store, claim) == printed[:10] + middle + printed[tail_start:]


def test_a_reader_goes_on_where_it_was_when_the_middle_is_dropped(store: Store, hire: Hire) -> None:
    add(store, id="a")
    claim = hire().claim_one()
    chunks.ship(store, [more(claim, Chunk(0, b"a" * 10), Chunk(10, b"b" * 10), start=0)])
    with closing(OutputReader(store, claim.seq, claim.run)) as reader:
        assert reader.read_new() + reader.read_new() == b"a" * 10 + b"b" * 10
        assert reader.read_new() == b""

        chunks.ship(store, [more(claim, Chunk(20, b"c" * 10), start=20, tail_start=15)])
        chunks.ship(store, [more(claim, Chunk(50, b"d" * 10), start=30, tail_start=50)])

        assert b"".join(reader.read_all()) == logs.dropped_line(30) + b"d" * 10


def test_what_is_left_at_the_end_is_settled_with_and_purged_with_its_job(
    store: Store, hire: Hire
) -> None:
    add(store, id="a", max_retries=0)
    worker = hire()
    claim = worker.claim_one()
    failed = failing(claim, more(claim, Chunk(0, b"the end"), start=0))

    worker.turn(failed)
    kept = shown(store, claim)
    dead_letters.purge(store, ["a"])

    assert kept == b"the end"
    assert not chunks.are_there(store, claim.seq, claim.run)


def test_a_settlement_of_a_lost_claim_adds_no_output(store: Store, hire: Hire) -> None:
    add(store, id="a")
    slow = hire("slow")
    claim = slow.claim_one()
    store.write(
        lambda connection: connection.exec_driver_sql("UPDATE jobs SET version = version + 1")
    )

    turn = slow.turn(failing(claim, more(claim, Chunk(0, b"late"), start=0)))

    assert [item.claim for item in turn.lost] == [claim]
    assert not chunks.are_there(store, claim.seq, claim.run)
