"""Retention: a clock that has leapt is not believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from queuectl.domain.job import State
from queuectl.domain.retention import believable_now, horizons

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_store_in_use_goes_by_its_clock() -> None:
    assert believable_now(NOW, NOW, NOW - DAY / 2, 0) == NOW


def test_a_clock_that_is_a_year_ahead_counts_for_a_day() -> None:
    year = timedelta(days=365)

    assert believable_now(NOW + year, NOW + year, NOW, 0) == NOW + DAY


def test_the_time_that_a_worker_has_run_counts() -> None:
    newest = NOW - 40 * DAY

    assert believable_now(NOW, NOW, newest, (38 * DAY).total_seconds()) == NOW - DAY
    assert believable_now(NOW, NOW, newest, (39 * DAY).total_seconds()) == NOW
    assert believable_now(NOW, NOW, newest, (50 * DAY).total_seconds()) == NOW


def test_clocks_that_differ_are_not_believed() -> None:
    assert believable_now(NOW, NOW + timedelta(hours=2), NOW, 0) is None
    assert believable_now(NOW, NOW - timedelta(hours=2), NOW, 0) is None
    assert believable_now(NOW, NOW + timedelta(minutes=5), NOW, 0) == NOW


def test_a_store_in_which_nothing_was_done_has_no_time() -> None:
    assert believable_now(NOW, NOW, None, 0) is None


def test_a_state_that_is_kept_for_ever_has_no_horizon() -> None:
    assert horizons(NOW, {State.COMPLETED: 86_400.0}) == {State.COMPLETED: NOW - DAY}
