"""Which worker looks at the store when the bell rings: after a vain look, others first."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from queuectl.db import postgresql, sqlite
from queuectl.worker.lookout import BUSY_LOOK_SECONDS, Lookout


def rung(lookout: Lookout, now: float, *, free: bool = True) -> float:
    """Ring, and return how long the worker waits until it looks."""
    lookout.looked(now, due=True, next_due_at=None)  # the next one by itself is far off
    lookout.rang(now, free=free)
    return lookout.at - now


def look_in_vain(lookout: Lookout, now: float) -> None:
    lookout.rang(now, free=True)
    lookout.looked(now, due=False, next_due_at=None)


def test_the_first_ring_is_looked_at_at_once() -> None:
    assert rung(Lookout(5.0), 100.0) == 0


def test_each_vain_look_lets_others_go_first_for_longer_and_a_claim_ends_it() -> None:
    lookout = Lookout(5.0)
    waits = []
    for turn in range(8):
        look_in_vain(lookout, 100.0 + turn / 100)
        waits.append(rung(lookout, 100.0 + turn / 100))

    assert 0.001 <= waits[0] <= 0.002
    assert 0.016 <= waits[4] <= 0.032
    assert max(waits) <= 0.032

    lookout.claimed(1)

    assert rung(lookout, 100.1) == 0


def test_a_turn_that_others_had_emptied_counts_as_vain() -> None:
    lookout = Lookout(5.0)
    lookout.rang(100.0, free=True)
    lookout.looked(100.0, due=True, next_due_at=None)
    lookout.claimed(0)

    assert rung(lookout, 100.01) > 0


def test_after_a_silence_everybody_looks_at_once_again() -> None:
    lookout = Lookout(5.0)
    for _ in range(5):
        look_in_vain(lookout, 100.0)

    assert rung(lookout, 101.0) == 0


def test_a_look_that_nobody_rang_for_is_never_vain() -> None:
    lookout = Lookout(5.0)
    for _ in range(5):
        lookout.looked(100.0, due=False, next_due_at=None)

    assert rung(lookout, 100.01) == 0


def test_who_got_a_job_last_claims_at_the_next_ring_without_a_look() -> None:
    lookout = Lookout(5.0)
    assert not lookout.is_lucky

    lookout.claimed(1)
    assert lookout.is_lucky

    lookout.claimed(0)
    assert not lookout.is_lucky


def test_a_turn_that_settles_and_finds_nothing_more_is_not_in_vain() -> None:
    lookout = Lookout(5.0)
    lookout.rang(100.0, free=True)
    lookout.claimed(1)

    lookout.claimed(0, settled=True)
    lookout.looked(100.01, due=False, next_due_at=None)

    assert lookout.is_lucky
    assert rung(lookout, 100.02) == 0


def test_a_worker_without_room_looks_later_for_a_stop_alone() -> None:
    assert rung(Lookout(5.0), 100.0, free=False) == pytest.approx(BUSY_LOOK_SECONDS)


def test_the_next_look_by_itself_comes_with_the_next_due_job() -> None:
    lookout = Lookout(5.0)

    lookout.looked(100.0, due=False, next_due_at=datetime.now(UTC) + timedelta(seconds=2))
    assert 100.0 < lookout.at <= 102.0

    lookout.looked(100.0, due=False, next_due_at=None)
    assert 100.0 + 0.8 * lookout.poll_seconds <= lookout.at <= 100.0 + 1.2 * lookout.poll_seconds


@pytest.mark.parametrize("poll_seconds", [sqlite.POLL_SECONDS, postgresql.POLL_SECONDS])
def test_workers_that_began_together_do_not_poll_together(poll_seconds: float) -> None:
    """A thousand of them spread over two fifths of the time between two polls."""
    crowd = [Lookout(poll_seconds) for _ in range(1000)]
    for lookout in crowd:
        lookout.looked(100.0, due=False, next_due_at=None)

    waits = sorted((lookout.at - 100.0) / poll_seconds for lookout in crowd)

    assert 0.8 <= waits[0] < 0.85
    assert 1.15 < waits[-1] <= 1.2
    assert max(later - sooner for sooner, later in itertools.pairwise(waits)) < 0.02
