"""Rates: what they say, and that no window ever holds more starts than one allows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.rate import (
    MOST_MOMENTS,
    Moment,
    Rate,
    Window,
    decode_starts,
    is_closed,
    parse_rate,
)

NOW = datetime(2026, 11, 27, 8, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def start(rate: Rate, starts: list[Moment], now: datetime, wanted: int) -> tuple[int, list[Moment]]:
    """Start what may start of so many; return how many did, and what is remembered."""
    window = Window(rate, starts, now)
    count = min(wanted, window.room)
    if count:
        window.note(count)
    return count, decode_starts(window.encode())


@pytest.mark.parametrize(
    ("text", "rate", "told"),
    [
        ("10/m", Rate(10, 60), "10/m"),
        ("2/s", Rate(2, 1), "2/s"),
        ("500/hour", Rate(500, 3600), "500/h"),
        ("1000 / DAY", Rate(1000, 86_400), "1000/d"),
        ("3/min", Rate(3, 60), "3/m"),
        ("1/5m", Rate(1, 300), "1/5m"),
        ("7/60s", Rate(7, 60), "7/m"),
        ("4/1h30m", Rate(4, 5400), "4/1h30m"),
    ],
)
def test_a_rate_is_read_and_told(text: str, rate: Rate, told: str) -> None:
    assert parse_rate(text) == rate
    assert str(rate) == told
    assert parse_rate(told) == rate


def test_none_is_no_rate() -> None:
    assert parse_rate("None") is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "10", "/m", "0/m", "-1/m", "1.5/m", "10/", "10/x", "1/0s", "1/0.5s", "1/31d", "²/m"),
        *("10000000000/m", "1000001/m", "10/m/m", "nan/s"),
    ],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no rate|must allow|must be of whole seconds"):
        parse_rate(text)


def test_a_full_window_opens_when_its_oldest_start_has_left_it() -> None:
    rate = Rate(2, 60)
    _, starts = start(rate, [], NOW, 1)
    _, starts = start(rate, starts, later(25), 1)

    closed = Window(rate, starts, later(59.999_999))

    assert (closed.room, closed.opens_at) == (0, later(60))
    assert Window(rate, starts, later(60)).room == 1
    assert Window(rate, starts, later(60)).opens_at is None
    assert Window(rate, starts, later(85)).room == 2


def test_a_rate_that_was_lowered_opens_when_enough_starts_have_left() -> None:
    _, starts = start(Rate(5, 60), [], NOW, 3)
    _, starts = start(Rate(5, 60), starts, later(10), 2)

    lowered = Window(Rate(2, 60), starts, later(11))

    assert (lowered.room, lowered.opens_at) == (0, later(70))
    assert Window(Rate(2, 60), starts, later(70)).room == 2


@given(
    rate=st.builds(Rate, st.integers(1, 250), st.integers(1, 100)),
    steps=st.lists(st.tuples(st.floats(0, 40), st.integers(1, 300)), max_size=40),
)
def test_no_window_holds_more_starts_than_the_rate_allows(
    rate: Rate, steps: list[tuple[float, int]]
) -> None:
    now = NOW
    starts: list[Moment] = []
    done: list[datetime] = []
    for pause, wanted in steps:
        now += timedelta(seconds=pause)
        count, starts = start(rate, starts, now, wanted)
        done += [now] * count
        window = Window(rate, starts, now)
        assert (window.room == 0) == (window.opens_at is not None)
        assert not window.opens_at or is_closed(window.opens_at, rate.seconds, now)
        assert len(starts) <= MOST_MOMENTS + 1

    length = timedelta(seconds=rate.seconds)
    for first, last in zip(done, done[rate.count :], strict=False):
        assert last - first >= length


@given(count=st.integers(1, 250), seconds=st.integers(1, 100))
def test_whoever_waits_until_it_opens_gets_nearly_the_whole_rate(count: int, seconds: int) -> None:
    rate = Rate(count, seconds)
    _, starts = start(rate, [], NOW, count)
    opens_at = Window(rate, starts, NOW).opens_at

    assert opens_at is not None
    assert start(rate, starts, opens_at, count)[0] == count
    assert opens_at - NOW <= timedelta(seconds=seconds * (1 + 1.01 / MOST_MOMENTS))


def test_a_clock_that_was_set_back_holds_a_queue_up_for_one_window_at_most() -> None:
    rate = Rate(1, 60)
    _, starts = start(rate, [], later(7200), 1)

    assert not is_closed(later(7260), rate.seconds, NOW)
    assert Window(rate, starts, NOW).opens_at == later(60)


def test_a_start_that_never_was_is_given_back() -> None:
    rate = Rate(2, 60)
    _, starts = start(rate, [], NOW, 1)
    window = Window(rate, starts, later(30))
    window.note(1)

    window.give_back(1)

    assert window.room == 1
    # The older one is forgotten, though it may be the other that never was.
    assert Window(rate, decode_starts(window.encode()), later(60)).room == 1
    window.give_back(9)
    assert (window.room, window.encode()) == (2, None)


@pytest.mark.parametrize(
    "text", ["{}", "[1]", "[[1,0]]", "[[-1,1]]", "[[1.5,1]]", "[[true,1]]", "x"]
)
def test_what_holds_no_starts_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of a list, or of JSON
        decode_starts(text)
