"""Outputs on their way into the database: the cap, flat memory, and a store that is away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.domain.job import Claim, Ending
from queuectl.service import chunks, config, jobs, logs
from queuectl.service.chunks import OutputReader
from queuectl.settings import ServerLocation
from queuectl.worker.delivery import Courier, Delivery
from queuectl.worker.output import SpooledCapture
from tests.actors import Actor, Hire, ended
from tests.jobs import add, attempts_of, state_of, until
from tests.proxies import Proxy
from tests.supervision import Supervisors
from tests.waiting import wait_until
from tests.worker.test_attempts import peak_memory_bytes

_LIMIT = 100


@pytest.fixture
def keeper(store: Store) -> Store:
    """A store that keeps outputs itself."""
    config.set_option(store, "output-store", "database")
    return store


def shown(store: Store, reference: str, run: int = 1) -> bytes:
    job = jobs.find(store, reference)
    return b"".join(OutputReader(store, job.seq, run).read_all())


def files(store: Store) -> list[str]:
    return [path.name for path in store.location.logs.iterdir()]


@pytest.mark.parametrize("size", [0, 1, 65_536, 70_000, 200_000, 3_000_000])
def test_an_output_in_the_database_is_what_its_file_would_be(
    store: Store, supervisors: Supervisors, size: int
) -> None:
    config.set_option(store, "output-limit", "2MiB")
    add(store, f"seq 1000000 | head -c {size}", id="file")
    supervisors.run_drained()
    in_file = shown(store, "file")
    before = files(store)
    config.set_option(store, "output-store", "database")
    job = add(store, f"seq 1000000 | head -c {size}", id="kept")

    supervisors.run_drained()

    assert files(store) == before
    assert chunks.are_there(store, job.seq, 1) == bool(size)
    assert shown(store, "kept") == in_file
    assert attempts_of(store, "kept")[0].output_bytes == size
    assert state_of(store, "kept") == "completed"


def test_what_a_job_prints_is_in_the_database_while_it_runs(
    keeper: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    job = add(keeper, f"echo one; {until(tmp_path / 'on')}; echo two", id="a")
    supervisors.start()

    found = wait_until(lambda: chunks.read(keeper, job.seq, 1, 0))

    assert found == [(0, b"one\n")]
    assert state_of(keeper, "a") == "processing"
    (tmp_path / "on").touch()
    wait_until(lambda: state_of(keeper, "a") == "completed")
    assert shown(keeper, "a") == b"one\ntwo\n"


def test_each_attempt_has_an_output_of_its_own(keeper: Store, supervisors: Supervisors) -> None:
    config.set_option(keeper, "backoff-max", 0)
    add(keeper, 'echo "try $QUEUECTL_ATTEMPT"; exit 1', id="a", max_retries=1)

    supervisors.run_drained()

    assert [shown(keeper, "a", run) for run in (1, 2)] == [b"try 1\n", b"try 2\n"]
    assert files(keeper) == []


def test_an_endless_output_costs_neither_memory_nor_room(
    keeper: Store, supervisors: Supervisors
) -> None:
    config.set_option(keeper, "output-limit", "4MiB")
    supervisor = supervisors.start()
    [worker] = supervisor.worker_pids()
    before = peak_memory_bytes(worker)

    job = add(keeper, "yes | head -c 500000000", id="a")
    supervisor.wait_for("job-completed")

    # Two blocks of 1 MiB are read and bound at a time, beside the driver's own copies of them.
    assert peak_memory_bytes(worker) - before < 24 * 1024 * 1024
    kept = sum(len(content) for _, content in every_chunk(keeper, job.seq))
    assert kept == 4 * 1024 * 1024
    assert files(keeper) == []


def every_chunk(store: Store, seq: int) -> Iterator[chunks.Chunk]:
    position = 0
    while found := chunks.read(store, seq, 1, position):
        yield from found
        position = found[-1].position + 1


@pytest.mark.postgresql
def test_what_was_printed_while_the_store_was_away_arrives(keeper: Store, tmp_path: Path) -> None:
    assert isinstance(keeper.location, ServerLocation)
    (tmp_path / "net").mkdir()
    add(keeper, f"echo one; {until(tmp_path / 'on')}; seq 300000", id="a")
    with Proxy(keeper.location, tmp_path / "net") as between:
        supervisors = Supervisors(between.location, tmp_path)
        supervisor = supervisors.start()
        job = jobs.find(keeper, "a")
        wait_until(lambda: chunks.read(keeper, job.seq, 1, 0))

        between.cut()
        (tmp_path / "on").touch()
        supervisor.wait_for("store-away")
        between.heal()
        supervisor.wait_for("job-completed")
        supervisors.end()

    numbers = b"".join(b"%d\n" % number for number in range(1, 300_001))
    assert shown(keeper, "a") == b"one\n" + numbers


def test_the_file_of_a_worker_that_was_killed_stays(
    keeper: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    add(keeper, f"echo $QUEUECTL_ATTEMPT; {until(tmp_path / 'on')}", id="a")
    supervisor = supervisors.start()
    [worker] = supervisor.worker_pids()
    wait_until(lambda: shown(keeper, "a") == b"1\n")

    os.kill(worker, 9)
    (tmp_path / "on").touch()
    wait_until(lambda: state_of(keeper, "a") == "completed")

    assert [attempt.outcome for attempt in attempts_of(keeper, "a")] == ["lost", "completed"]
    assert [shown(keeper, "a", run) for run in (1, 2)] == [b"1\n", b"2\n"]
    assert files(keeper) == ["1-1.log"]


# One attempt, step by step


class Printer:
    """A claimed job's command that prints what it is told, and the courier of its output."""

    def __init__(self, worker: Actor, limit: int = _LIMIT) -> None:
        self.store = worker.store
        self.courier = Courier(worker.store.location)
        self.claim: Claim = worker.claim_one()
        self._worker = worker
        self.capture: SpooledCapture = self.courier.capture(self.claim, limit)
        self._out = os.dup(self.capture.write_end)
        self.capture.started()

    def print(self, output: bytes) -> None:
        for start in range(0, len(output), 60_000):
            os.write(self._out, output[start : start + 60_000])
            self.capture.pump()

    def ship(self, room: int) -> None:
        """Ship some of it, however short a time ago the last was shipped."""
        delivery: Delivery = self.courier._running[self.claim.mark]
        assert chunks.ship(self.store, [delivery.load(room)]) == set()
        delivery.shipped()

    def end(self) -> None:
        os.close(self._out)
        self.capture.finish()
        ready = self.courier.take(ended(self.claim, Ending.COMPLETED))
        while not ready:
            ready = self.courier.ship(self.store)
        turn = self._worker.turn(*ready)
        self.courier.settled(turn.decisions)


def test_until_it_is_delivered_an_ended_attempt_counts_as_started(
    keeper: Store, hire: Hire
) -> None:
    """Else a rescuer would take its claim for one that was never used."""
    add(keeper, id="a")
    worker = hire()
    printer = Printer(worker, limit=1 << 20)
    printer.print(b"a" * 70_000)
    printer.capture.finish()

    assert printer.courier.take(ended(printer.claim)) == []

    assert printer.courier.marks() == {printer.claim.mark}
    assert printer.courier.due_at() == 0
    assert len(printer.courier.ship(keeper)) == 1
    assert printer.courier.marks() == set()


def test_what_is_not_settled_is_noted_beside_what_runs(keeper: Store, hire: Hire) -> None:
    from queuectl.worker.slots import Slots

    lock = hire().lock
    assert isinstance(lock, presence.Presence)
    slots = Slots.__new__(Slots)
    slots._running = {}
    slots.take_place(lock)

    slots.settled({"7-2"})

    assert lock.noted() == frozenset({"7-2"})


def test_a_file_that_was_taken_away_costs_the_output_and_not_the_attempt(
    keeper: Store, hire: Hire
) -> None:
    add(keeper, id="a")
    printer = Printer(hire(), limit=1 << 20)
    printer.print(b"a" * 200_000)
    logs.output_path(keeper.location, printer.claim.seq, 1).unlink()

    printer.end()

    assert state_of(keeper, "a") == "completed"
    assert shown(keeper, "a") == b""


@pytest.mark.sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 180), st.sampled_from(["", "ship", "read", "both"])), max_size=10
    ),
    room=st.integers(1, 120),
    is_far=st.booleans(),
)
def test_a_reader_shows_each_byte_once_whenever_it_looks(
    keeper: Store, steps: list[tuple[int, str]], room: int, is_far: bool
) -> None:
    """Near, from the file until that is gone; far, from what has been shipped."""
    job = add(keeper)
    worker = Actor(keeper.location, f"w{job.seq}")
    printer = Printer(worker)
    output = b"".join(b"%06d\n" % number for number in range(400))
    reader = OutputReader(keeper, job.seq, 1)
    if is_far:
        reader._files._run = 99
        reader._files.path = logs.output_path(keeper.location, job.seq, 99)
    seen, printed = b"", 0

    for count, act in steps:
        printer.print(output[printed : printed + count])
        printed += count
        if act in ("ship", "both"):
            printer.ship(room)
        if act in ("read", "both"):
            seen += b"".join(iter(reader.read_new, b""))
    printer.end()
    seen += b"".join(reader.read_all())
    worker.die()

    assert account_for(seen) == printed
    dropped = printed - _LIMIT
    whole = output[:printed]
    kept = whole if dropped <= 0 else whole[:50] + logs.dropped_line(dropped) + whole[-50:]
    with closing(OutputReader(keeper, job.seq, 1)) as again:
        assert b"".join(again.read_all()) == kept


def account_for(seen: bytes) -> int:
    """Return how many bytes were shown or told as dropped."""
    told = logs._DROPPED.findall(seen)
    lines = sum(len(logs.dropped_line(int(count))) for count in told)
    return len(seen) - lines + sum(map(int, told))
