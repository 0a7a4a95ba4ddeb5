"""Times in words: what they mean, and what is refused instead of being taken for another time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from queuectl.cli import dates
from queuectl.errors import InvalidInput

WEEKDAYS = ("monday", "tue", "wednesday", "thurs", "Friday", "sat", "sunday")


def read(text: str) -> datetime:
    return datetime.fromisoformat(dates.parse_when(text, "--at"))


def today() -> datetime:
    return datetime.now(UTC).astimezone()


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        ("tomorrow 15", "15:00"),
        ("tomorrow 9", "09:00"),
        ("tomorrow at 9", "09:00"),
        ("at 9 tomorrow", "09:00"),
        ("Tomorrow,  9 PM", "21:00"),
        ("tomorrow 9:00", "09:00"),
        ("12:30 am tomorrow", "00:30"),
        ("tomorrow noon", "12:00"),
        ("in 1 day at 7", "07:00"),
        ("in 1 day at 7:05", "07:05"),
    ],
)
def test_a_time_tomorrow_is_that_time(text: str, clock: str) -> None:
    before = today()

    found = read(text)

    assert f"{found:%H:%M}" == clock
    assert found.date() - before.date() in (timedelta(1), timedelta(2))
    assert found.date() <= today().date() + timedelta(1)


@pytest.mark.parametrize("number", range(7))
def test_a_day_of_the_week_is_the_next_with_that_time_also_today(number: int) -> None:
    latest, before = read(f"{WEEKDAYS[number]} at 23:59"), today()

    assert (latest.weekday(), latest.hour, latest.minute) == (number, 23, 59)
    assert latest - before <= timedelta(days=7)
    assert read(f"next {WEEKDAYS[number]} 8").hour == 8


@pytest.mark.parametrize(
    "text",
    [
        "2030-12-24 18:00",
        "2030-12-24T18:00",
        "2030-12-24 at 18",
        "24 december 2030 18:00",
        "dec 24, 2030 at 6pm",
        "6 pm on the 24th of december 2030",
        "Tuesday, 24 december 2030 18:00",
    ],
)
def test_a_date_is_that_date(text: str) -> None:
    assert f"{read(text):%Y-%m-%d %H:%M:%S}" == "2030-12-24 18:00:00"


def test_a_zone_and_a_span_are_exact() -> None:
    assert read("2030-12-24 18:00 utc") == datetime(2030, 12, 24, 18, tzinfo=UTC)
    assert read("2030-12-24 18:00+02:00") == datetime(2030, 12, 24, 16, tzinfo=UTC)
    for text in ("in 3h", "3 hours", "in 2 hours and 60 minutes", "180m"):
        away = read(text) - datetime.now(UTC)
        assert timedelta(hours=2, minutes=59) < away <= timedelta(hours=3)
    assert read("18:00") - datetime.now(UTC) <= timedelta(days=1)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "5",
            "15",
            "1530",
            "20301224",
            "1893456000",
            "-5",
            "5.5",
            "",
            " ",
            "in",
            "at 5",
            "noon 5",
        ),
        *("tomorrow 24", "tomorrow 25:00", "tomorrow 13pm", "tomorrow 15h", "9 tomorrow"),
        *("tomorrow banana", "tomorrow 9:00 banana", "tomorrow 9:00 10:00", "tomorrow friday"),
        *("tomorrow morning", "friday 9 10", "in 3h at 9", "in 2 days 9", "18:00 cst", "12/11"),
        *(
            "monday, 24 december 2030",
            "31 february 2031",
            "2030-02-30 9:00",
            "2030-13-01 9:00",
            "24 december 30",
        ),
        *("in 9999 years", "in 99999999d", "2 hours ago", "9:00 on", "٣:00", "tomorrow\0"),
    ],
)
def test_what_is_not_understood_as_a_whole_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(text)

    assert caught.value.message.startswith(f"--at: {text[:40]!r} ")
    assert "tomorrow 15:00" in (caught.value.hint or "")
