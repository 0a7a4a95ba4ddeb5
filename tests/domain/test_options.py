"""The stored options: their names, what they accept, and their defaults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.job import State
from queuectl.domain.options import OPTION_NAMES, Options, option_field, parse_size, validate_option
from queuectl.errors import InvalidInput, NotFound


def test_the_options_and_their_defaults() -> None:
    assert {name: getattr(Options(), option_field(name)) for name in OPTION_NAMES} == {
        "max-retries": 3,
        "backoff-base": 2.0,
        "backoff-max": 3600.0,
        "timeout": None,
        "max-crashes": 5,
        "lease": 30.0,
        "output-limit": 10 * 1024 * 1024,
        "output-store": "files",
        "retention-completed": 30 * 86_400,
        "retention-cancelled": 30 * 86_400,
        "retention-dead": None,
    }


def test_a_name_may_have_underscores() -> None:
    assert option_field("max_retries") == option_field("max-retries") == "max_retries"


@pytest.mark.parametrize("name", ["", "retries", "MAX-RETRIES", "model_config", "backoff_rule"])
def test_an_unknown_option_is_named(name: str) -> None:
    with pytest.raises(NotFound, match="there is no option") as caught:
        validate_option(name, "1")

    assert repr(name) in caught.value.message
    assert "max-retries" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("max-retries", "0", 0),
        ("max-retries", 7, 7),
        ("max-retries", "1000000", 1_000_000),
        ("backoff-base", "1", 1.0),
        ("backoff-base", "2.5", 2.5),
        ("backoff-max", "0", 0.0),
        ("backoff-max", "1h30m", 5400.0),
        ("timeout", "none", None),
        ("timeout", None, None),
        ("timeout", "90s", 90.0),
        ("max-crashes", "0", 0),
        ("lease", "2", 2.0),
        ("lease", "1d", 86_400.0),
        ("output-limit", "1024", 1024),
        ("output-limit", "64KiB", 65_536),
        ("output-limit", "10 MB", 10_000_000),
        ("output-store", "database", "database"),
        ("retention-completed", "7d", 7 * 86_400.0),
        ("retention-completed", "never", None),
        ("retention-dead", "none", None),
        ("retention-dead", 90, 90.0),
    ],
)
def test_a_value_is_accepted_as_a_text_or_as_itself(
    name: str, value: object, stored: object
) -> None:
    assert validate_option(name, value) == stored


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max-retries", "-1"),
        ("max-retries", "1000001"),
        ("max-retries", "three"),
        ("max-retries", "1.5"),
        ("max-retries", ""),
        ("max-retries", str(2**64)),
        ("max-retries", "9" * 5000),
        ("backoff-base", "0.99"),
        ("backoff-base", "nan"),
        ("backoff-base", "inf"),
        ("backoff-base", "1000001"),
        ("backoff-max", "-1s"),
        ("backoff-max", "inf"),
        ("timeout", "0"),
        ("timeout", "soon"),
        ("max-crashes", "-1"),
        ("lease", "1.9"),
        ("lease", "86401"),
        ("output-limit", "1023"),
        ("output-store", "tape"),
        ("output-store", ""),
        ("retention-completed", "0"),
        ("retention-cancelled", "a while"),
        ("retention-dead", "-1d"),
        ("output-limit", "-1"),
        ("output-limit", "1TiB1"),
        ("output-limit", "٣"),
    ],
)
def test_a_wrong_value_is_refused_by_the_options_name(name: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_option(name, value)

    assert caught.value.message.startswith(f"{name}: {value[:40]!r}")
    assert len(caught.value.message) < 200
    assert "\n" not in caught.value.message


@given(st.text(max_size=20))
def test_no_text_breaks_an_option(text: str) -> None:
    for name in OPTION_NAMES:
        try:
            value = validate_option(name, text)
        except InvalidInput:
            continue
        assert validate_option(name, value) == value


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("1kb", 1000), ("1KiB", 1024), ("2 mib", 2 * 1024**2), ("1GB", 10**9)],
)
def test_a_size_may_carry_its_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_retention_names_the_states_that_are_not_kept_for_ever() -> None:
    options = Options(retention_completed=60.0, retention_cancelled=None)

    assert options.retention == {State.COMPLETED: 60.0}


def test_the_backoff_rule_is_part_of_the_options() -> None:
    rule = Options(backoff_base=3.0, backoff_max=60.0, max_crashes=1).backoff_rule

    assert (rule.base, rule.cap_seconds, rule.max_crashes) == (3.0, 60.0, 1)
