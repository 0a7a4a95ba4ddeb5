"""A clock that leaps ahead is seen against one that nobody sets; one that is slewed is believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from queuectl.domain.leaps import LeapWatch

_LEASE = 30.0
_NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Rescuer:
    """Reads a clock that is ahead of its own by as many seconds as each reading says."""

    def __init__(self) -> None:
        self._watch = LeapWatch()

    def read(self, at: float, *, ahead: float, took: float = 0.01) -> float:
        clock = _NOON + timedelta(seconds=at + took / 2 + ahead)
        return self._watch.read(clock, asked_at=at, answered_at=at + took, lease_seconds=_LEASE)

    def trusts(self, at: float) -> bool:
        return self._watch.trusts(at)


@pytest.mark.parametrize("leap", [2.0, 31.0, 7200.0])
def test_after_a_leap_no_lease_is_judged_for_as_long_as_one_lasts(leap: float) -> None:
    rescuer = Rescuer()
    assert rescuer.read(100, ahead=0) == 0

    assert rescuer.read(110, ahead=leap) == pytest.approx(leap, abs=0.1)

    assert not rescuer.trusts(139.9)
    assert rescuer.read(130, ahead=leap) == 0
    assert rescuer.trusts(140.1)


def test_who_has_not_looked_before_believes_the_clock() -> None:
    rescuer = Rescuer()

    assert rescuer.read(100, ahead=7200) == 0
    assert rescuer.trusts(100)


def test_a_clock_that_is_slewed_or_set_back_is_believed() -> None:
    rescuer = Rescuer()
    for second in range(0, 600, 10):
        assert rescuer.read(second, ahead=second * 0.08) == 0
    assert rescuer.read(600, ahead=-3600) == 0
    assert rescuer.trusts(600)


def test_many_small_leaps_are_one() -> None:
    rescuer = Rescuer()

    leaps = [rescuer.read(second, ahead=second * 0.9) for second in range(6)]

    assert max(leaps) > 1
    assert not rescuer.trusts(6)


def test_how_long_nobody_looked_excuses_no_leap() -> None:
    """Or a rescuer that was cut off for an hour would not see one of five minutes."""
    rescuer = Rescuer()
    rescuer.read(0, ahead=0)

    assert rescuer.read(3600, ahead=300) == pytest.approx(300, abs=0.1)


def test_a_slow_answer_tells_nothing_unless_there_are_no_others() -> None:
    rescuer = Rescuer()
    rescuer.read(0, ahead=0)

    assert rescuer.read(10, ahead=0, took=3) == 0
    assert not rescuer.trusts(13)
    assert rescuer.read(20, ahead=0) == 0
    assert rescuer.trusts(20.1)

    for second in range(30, 60, 10):
        assert rescuer.read(second, ahead=0, took=3) == 0
    assert rescuer.trusts(60)
    assert rescuer.read(90, ahead=7200, took=3) > 0
    assert not rescuer.trusts(95)
