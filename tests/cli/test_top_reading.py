"""What ``top`` reads, and what it makes of it, without a terminal."""

from __future__ import annotations

from contextlib import closing

import pytest

from queuectl.cli.top.output import Output
from queuectl.cli.top.watch import Throughput, Watch
from queuectl.db.engine import Store, open_store
from queuectl.domain.job import State
from queuectl.service.counts import Tally
from tests.cli.conftest import Program
from tests.jobs import add
from tests.waiting import wait_until


def tally(**ended: int) -> Tally:
    return Tally({State(name): number for name, number in _all(ended).items()}, [])


def _all(ended: dict[str, int]) -> dict[str, int]:
    return {**dict.fromkeys(State, 0), **ended}


def test_the_throughput_is_that_of_the_last_minute() -> None:
    throughput = Throughput()

    assert throughput.take(100.0, tally(completed=1000)) == (0, 0.0)
    assert throughput.take(102.0, tally(completed=1004, dead=1)) == (5, 2.0)
    assert throughput.take(150.0, tally(completed=900)) == (5, 50.0)  # pruned
    assert throughput.take(170.0, tally(completed=903)) == (3, 60.0)
    assert throughput.take(240.0, tally(completed=903)) == (0, 60.0)


def test_a_store_at_rest_is_not_read_again_and_a_change_is_seen(store: Store) -> None:
    add(store, id="old")
    with closing(open_store(store.location)) as own:
        watch = Watch(own)
        first = watch.look(10).overview
        again = watch.look(10).overview
        add(store, id="new")
        changed = watch.look(10).overview
        add(own, id="here")
        watch.look_anew()
        here = watch.look(10).overview

    assert again is first
    assert [job.id for job in changed.waiting] == ["old", "new"]
    assert [job.id for job in here.waiting] == ["old", "new", "here"]
    assert here.tally.states[State.PENDING] == 3


def test_the_first_job_is_seen_at_once(store: Store) -> None:
    with closing(open_store(store.location)) as own:
        watch = Watch(own)
        watch.look(10)
        add(store, id="new")
        seen = watch.look(10).overview

    assert [job.id for job in seen.waiting] == ["new"]


def test_a_job_of_a_new_queue_is_seen_when_it_is_time_to_count(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queuectl.cli.top.watch._TRUSTED_SECONDS", 3600.0)
    with closing(open_store(store.location)) as own:
        watch = Watch(own)
        watch.look(10)
        add(store, id="old")
        watch.look(10)
        add(store, id="new", queue="new")

        seen = wait_until(lambda: (jobs := watch.look(10).overview.waiting)[1:] and jobs)

    assert {job.id for job in seen} == {"old", "new"}


def test_a_look_that_takes_long_is_taken_seldom(store: Store) -> None:
    watch = Watch(store)
    watch.look(10)

    assert watch.pause_seconds(1.0) == max(1.0, 10 * watch.took_seconds)
    watch.took_seconds = 0.2
    assert watch.pause_seconds(1.0) == 2.0
    watch.took_seconds = 30.0
    assert watch.pause_seconds(1.0) == 3.0


def test_an_output_is_harmless_and_its_lines_are_no_longer_than_a_screen_bears(
    queuectl: Program,
) -> None:
    command = "printf 'a\\033[2Jb\\r\\n'; head -c 10000 /dev/zero | tr '\\0' x; exit 3"
    queuectl("enqueue", "--id", "wide", "--max-retries", "0", command)
    queuectl.drain()
    with closing(open_store(queuectl.location)) as store, closing(Output(store, "wide")) as output:
        piece = output.read()
        last = output.read()

    first, *wide, end = piece.text.splitlines()
    assert first == "a\\x1b[2Jb"
    assert [len(line) for line in wide] == [4096, 4096, 1808]
    assert end.startswith("-- attempt 1 failed: exit code 3")
    assert (piece.state, piece.is_over) == ("dead", True)
    assert last.text == ""


def test_the_output_of_a_job_that_waits_or_is_gone_is_nothing(store: Store) -> None:
    add(store, id="waits")

    assert Output(store, "waits").read().text == ""
    assert not Output(store, "waits").read().is_over
    assert Output(store, "gone").read().is_over
