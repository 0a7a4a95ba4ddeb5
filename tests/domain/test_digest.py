"""The fingerprint of a request: what makes two of one id the same, or a conflict."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.request import validate_request


def digest(**fields: Any) -> str:
    return validate_request({"command": "true", **fields}).digest()


def test_the_order_of_the_fields_does_not_matter() -> None:
    one = validate_request({"command": "true", "queue": "q", "priority": 1})
    other = validate_request({"priority": 1, "queue": "q", "command": "true"})

    assert one.digest() == other.digest()


def test_the_id_is_no_part_of_it() -> None:
    assert digest(id="a") == digest(id="b") == digest()


def test_a_field_that_was_given_counts_even_with_its_default() -> None:
    assert digest(queue="default") != digest()


@pytest.mark.parametrize(
    "change",
    [
        {"command": "false"},
        {"queue": "q"},
        {"priority": 1},
        {"max_retries": 1},
        {"timeout": 1},
        {"run_at": "2026-11-24T18:00:00Z"},
        {"delay": 1},
        {"backoff_base": 3},
        {"cwd": "/"},
        {"env": {"A": "b"}},
        {"backoff": "linear"},
        {"jitter": 0.1},
        {"retry_on": [75]},
        {"no_retry_on": [2]},
        {"expect": "a"},
        {"fail_if": "a"},
        {"expect_file": "a"},
        {"stall": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_field_changes_it(change: dict[str, Any]) -> None:
    assert digest(**change) != digest()


def test_the_same_value_in_another_spelling_is_the_same_request() -> None:
    assert digest(timeout="1m30s") == digest(timeout=90) == digest(timeout=90.0)
    assert digest(retry_on="124,75", jitter="5%") == digest(retry_on=[75, 124], jitter=0.05)
    assert digest(run_at="2026-11-24T18:00:00Z") == digest(run_at="2026-11-24T19:00:00+01:00")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_every_acceptable_command_has_one(text: str) -> None:
    assert len(digest(command=f"echo {text}")) == 64
