"""Statistics: ranks of percentiles, and spans that fit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.statistics import (
    MOST_SPANS,
    SPANS_SECONDS,
    choose_span,
    per_hour,
    rank,
    spread,
)

NOW = datetime(2026, 11, 25, tzinfo=UTC)


@given(st.integers(1, 10**7), st.sampled_from([50, 95, 99, 100]))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    count: int, percent: int
) -> None:
    found = rank(percent, count)

    assert 1 <= found <= count
    assert found * 100 >= percent * count
    assert (found - 1) * 100 < percent * count


@pytest.mark.parametrize(
    ("seconds", "span"),
    [(0, 60), (2880, 60), (2881, 300), (86_400, 3600), (172_800, 3600), (10**9, 31_536_000)],
)
def test_the_shortest_span_that_fits_is_chosen(seconds: int, span: int) -> None:
    assert choose_span(NOW - timedelta(seconds=seconds), NOW) == span
    assert span in SPANS_SECONDS
    assert span == SPANS_SECONDS[-1] or seconds <= span * MOST_SPANS


def test_counts_are_spread_over_all_spans() -> None:
    assert spread({3: 7, 5: 1}, 2, 6) == [0, 7, 0, 1, 0]


def test_throughput_is_told_by_the_hour() -> None:
    assert per_hour(10, 1800) == 20
    assert per_hour(10, 0) == 0
