"""Durations, as people write them and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.durations import LONGEST_SECONDS, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90.0),
        (0.5, 0.5),
        ("90", 90.0),
        ("90.5", 90.5),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("2d", 172_800.0),
        ("250ms", 0.25),
        ("1m500ms", 60.5),
        ("1.5h", 5400.0),
        (" 3s ", 3.0),
        ("0", 0.0),
        ("3650d", LONGEST_SECONDS),
    ],
)
def test_a_number_or_a_text_with_units_is_a_duration(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "s",
        "1 h",
        "h1",
        "1x",
        "1h30",
        "-1s",
        "-1",
        "+1",
        "1e3",
        "inf",
        "nan",
        "1..5s",
        "3651d",
        "9" * 400,
        "9" * 400 + "d",
        -0.1,
        float("nan"),
        float("inf"),
        10**400,
        True,
        None,
        [],
    ],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"must|is not a duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.04, "0.0s"),
        (0.4, "0.4s"),
        (3, "3s"),
        (9.96, "10.0s"),
        (59.7, "1m"),
        (60, "1m"),
        (90, "1m30s"),
        (3600, "1h"),
        (3605, "1h"),
        (7500, "2h5m"),
        (86_400, "1d"),
        (86_400 * 3 + 4 * 3600 + 59, "3d4h"),
    ],
)
def test_the_two_largest_units_are_shown(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, int(LONGEST_SECONDS)))
def test_what_is_shown_can_be_read_back_and_is_never_too_much(seconds: int) -> None:
    shown = parse_duration(format_duration(seconds))

    assert shown <= seconds
    assert seconds - shown < max(1, seconds / 24)


@given(st.integers(0, 3599))
def test_below_an_hour_nothing_is_lost(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
