"""Schedules: the next ticks, across changes of the clocks, and what becomes of missed ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.schedule import (
    LATE_SECONDS,
    MOST_CAUGHT_UP,
    CatchUp,
    Overlap,
    Timing,
    check_cron,
    check_timezone,
    due_ticks,
    let_in,
    parse_interval,
)

BERLIN = "Europe/Berlin"
START = datetime(2026, 1, 1, tzinfo=UTC)
#: The nights on which Berlin's clocks go from 2:00 to 3:00, and from 3:00 to 2:00, at 1:00 UTC.
SPRING, AUTUMN = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)


def cron(text: str, zone: str = "UTC") -> Timing:
    return Timing(text, None, zone, START)


def every(seconds: float, start: datetime = START) -> Timing:
    return Timing(None, seconds, "UTC", start)


def shown(timing: Timing, after: datetime, count: int) -> list[str]:
    zone = ZoneInfo(timing.timezone)
    return [f"{tick.astimezone(zone):%d %H:%M %Z}" for tick in islice(timing.after(after), count)]


def test_a_cron_expression_is_read_in_its_time_zone() -> None:
    tick = cron("30 2 * * *", BERLIN).next_after(datetime(2026, 11, 25, tzinfo=UTC))

    assert tick == datetime(2026, 11, 25, 1, 30, tzinfo=UTC)


def test_a_time_that_the_spring_leaves_out_comes_right_after_the_gap() -> None:
    ticks = shown(cron("30 2 * * *", BERLIN), SPRING, 2)

    assert ticks == ["29 03:00 CEST", "30 02:30 CEST"]


def test_a_time_that_comes_twice_in_autumn_is_taken_once() -> None:
    ticks = shown(cron("30 2 * * *", BERLIN), AUTUMN, 2)

    assert ticks == ["25 02:30 CEST", "26 02:30 CET"]


def test_after_the_first_of_two_equal_times_comes_no_second() -> None:
    between = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 2:15 for the second time

    assert shown(cron("30 2 * * *", BERLIN), between, 1) == ["26 02:30 CET"]


def test_every_quarter_of_an_hour_goes_on_through_both_nights() -> None:
    quarters = cron("*/15 * * * *", BERLIN)

    for night in (SPRING, AUTUMN):
        ticks = list(islice(quarters.after(night), 100))
        steps = {later - tick for tick, later in pairwise(ticks)}
        assert steps == {timedelta(minutes=15)}


@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "0 */2 * * *", "*/20 2 * * *", "5,35 1-4 * * *"]
)
@pytest.mark.parametrize("night", [SPRING, AUTUMN])
def test_the_ticks_are_the_same_wherever_one_begins_to_look(
    expression: str, night: datetime
) -> None:
    timing = cron(expression, BERLIN)
    end = night + timedelta(days=2)
    expected = [tick for tick in islice(timing.after(night), 150) if tick <= end]

    for minutes in range(0, 24 * 60, 37):
        begin = night + timedelta(minutes=minutes)
        found = [tick for tick in islice(timing.after(begin), 150) if tick <= end]
        assert found == [tick for tick in expected if tick > begin]


def test_words_of_cron_are_understood() -> None:
    assert cron("@daily").next_after(START) == START + timedelta(days=1)
    assert check_cron("@Hourly") == "@Hourly"


@given(
    seconds=st.integers(1_000_000, 10**12).map(lambda micros: micros / 1_000_000),
    late=st.integers(0, 10**15),
)
def test_an_interval_does_not_drift_however_late_it_is_noticed(seconds: float, late: int) -> None:
    timing = every(seconds)
    noticed = START + timedelta(microseconds=late)

    tick = timing.next_after(noticed)

    assert tick is not None
    step = timedelta(microseconds=round(seconds * 1_000_000))
    assert timedelta() < tick - noticed <= step or tick == START + step
    assert (tick - START) % step == timedelta()


def test_the_first_tick_of_an_interval_is_one_interval_after_its_start() -> None:
    assert every(90).next_after(START) == START + timedelta(seconds=90)
    # A clock that was set back finds none before it.
    assert every(90).next_after(START - timedelta(days=1)) == START + timedelta(seconds=90)


def test_the_newest_ticks_are_found_without_counting_a_year_of_them() -> None:
    now = START + timedelta(days=365, seconds=30)

    for timing in (cron("* * * * *"), every(60)):
        ticks = timing.newest(START, now, 3)
        minutes = [START + timedelta(days=365, minutes=-back) for back in (2, 1, 0)]
        assert ticks == minutes


def test_the_newest_of_seldom_ticks_are_found_too() -> None:
    first = datetime(2000, 2, 29, tzinfo=UTC)

    ticks = cron("0 0 29 2 *").newest(first, START, 100)

    assert [tick.year for tick in ticks] == [2000, 2004, 2008, 2012, 2016, 2020, 2024]


@pytest.mark.parametrize(
    ("catch_up", "late", "minutes"),
    [
        (CatchUp.NONE, LATE_SECONDS - 1, [10]),
        (CatchUp.NONE, LATE_SECONDS + 1, []),
        (CatchUp.LAST, 3000, [60]),
        (CatchUp.ALL, 3000, [10, 20, 30, 40, 50, 60]),
    ],
)
def test_missed_ticks_are_made_up_for_as_was_asked(
    catch_up: CatchUp, late: float, minutes: list[int]
) -> None:
    first = START + timedelta(minutes=10)

    ticks = due_ticks(every(600), catch_up, first, first + timedelta(seconds=late))

    assert ticks == [START + timedelta(minutes=minute) for minute in minutes]


def test_no_more_than_the_newest_hundred_are_made_up_for() -> None:
    first = START + timedelta(seconds=1)
    now = START + timedelta(days=2)

    ticks = due_ticks(every(1), CatchUp.ALL, first, now)

    assert (len(ticks), ticks[-1]) == (MOST_CAUGHT_UP, now)


@pytest.mark.parametrize(
    ("overlap", "busy", "which"),
    [
        (Overlap.QUEUE, True, [0, 1]),
        (Overlap.SKIP, True, []),
        (Overlap.SKIP, False, [1]),
        (Overlap.CANCEL_OLD, True, [1]),
    ],
)
def test_ticks_that_overlap_are_let_in_as_was_asked(
    overlap: Overlap, busy: bool, which: list[int]
) -> None:
    ticks = [START, START + timedelta(hours=1)]

    assert let_in(ticks, overlap, busy=busy) == [ticks[index] for index in which]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("* * *", "has 3 fields"),
        ("0 * * * * *", "has 6 fields"),
        ("61 * * * *", "wrong minute"),
        ("* * * * FOO", "wrong day-of-week"),
        ("0 0 30 2 *", "wrong day-of-month"),
        ("0 0 31 2,4,6 *", "wrong day-of-month"),
        ("* * */20 * 1#5", "never comes"),  # a fifth Monday on the 1st or 21st
        ("@reboot", "is no time"),
        ("*\x1b * * * *", "must be one line"),
        (f"{'9' * 5000} * * * *", "must be one line"),
        ("", "has 0 fields"),
    ],
)
def test_an_expression_that_is_wrong_or_never_comes_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_cron(text)


@pytest.mark.parametrize(
    "name", ["Europe/Bärlin", "Europe", "../../etc/passwd", "", "\0", "x" * 999]
)
def test_a_time_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no time zone"):
        check_timezone(name)


@pytest.mark.parametrize("text", ["0", "0.9s", "soon", "-1", "99999d"])
def test_an_interval_that_cannot_be_kept_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|is not a duration"):
        parse_interval(text)
