"""What counts as failure, and what is retried: what may be given, and what is kept of it."""

from __future__ import annotations

import pytest

from queuectl.domain.request import validate_request
from queuectl.domain.terms import FIELDS, NO_TERMS, Backoff, Terms, read_terms
from queuectl.errors import InvalidJob


def kept(**fields: object) -> dict[str, object] | None:
    return validate_request({"command": "true", **fields}).terms


def refusal(**fields: object) -> str:
    with pytest.raises(InvalidJob) as caught:
        validate_request({"command": "true", **fields})
    return "; ".join(caught.value.problems)


def test_a_job_without_any_keeps_nothing() -> None:
    assert kept() is kept(backoff="exponential", jitter=0) is kept(expect=None, stall=None) is None
    assert read_terms(None) is NO_TERMS


def test_all_of_them_are_kept_and_read_back() -> None:
    terms = kept(
        backoff="linear",
        jitter="20%",
        retry_on="124, 75,75",
        expect="^done",
        fail_if="ERROR",
        expect_file="out/film.webm",
        stall="10m",
    )

    assert terms == {
        "backoff": "linear",
        "jitter": 0.2,
        "retry_on": [75, 124],
        "expect": "^done",
        "fail_if": "ERROR",
        "expect_file": "out/film.webm",
        "stall": 600.0,
    }
    assert read_terms(terms) == Terms(
        backoff=Backoff.LINEAR,
        jitter=0.2,
        retry_on=(75, 124),
        expect="^done",
        fail_if="ERROR",
        expect_file="out/film.webm",
        stall_seconds=600.0,
    )
    assert read_terms(kept(no_retry_on=[2])) == Terms(no_retry_on=(2,))
    assert set(FIELDS) <= set(type(validate_request({"command": "true"})).model_fields)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"backoff": "steep"}, "backoff: 'steep' must be 'exponential', 'linear' or 'fixed'"),
        ({"jitter": 1.1}, "jitter: 1.1 must be a share from 0 to 1, or a text like 20%"),
        ({"jitter": "120%"}, "jitter: '120%' must be a share"),
        ({"jitter": "some"}, "jitter: 'some' must be a share"),
        ({"jitter": float("nan")}, "jitter: nan must be a share"),
        ({"jitter": True}, "jitter: True must be a share"),
        ({"retry_on": "75;124"}, "retry_on: '75;124' is no list of exit codes"),
        ({"retry_on": ""}, "retry_on: '' is no list of exit codes"),
        ({"retry_on": []}, "retry_on: [] must name an exit code"),
        ({"retry_on": [75, "x"]}, "retry_on: [75, 'x'] must be a list of exit codes"),
        ({"retry_on": 75}, "retry_on: 75 must be a list of exit codes"),
        ({"retry_on": [True]}, "retry_on: [True] must be a list of exit codes"),
        ({"no_retry_on": [0]}, "no_retry_on: [0] has 0, and exit codes of failures are 1 to 255"),
        ({"no_retry_on": "256"}, "no_retry_on: '256' has 256"),
        ({"retry_on": "75", "no_retry_on": "2"}, "retry_on and no_retry_on exclude each other"),
        ({"expect": "a("}, "expect: 'a(' is no regular expression: missing ), unterminated"),
        ({"expect": "a("}, "at position 1"),
        ({"fail_if": ""}, "fail_if: '' is empty, and matches every line"),
        ({"fail_if": "x" * 1001}, "must be at most 1000 characters long"),
        ({"expect": "a\0"}, "must not hold a NUL character"),
        ({"expect": "\ud800"}, "must be valid Unicode"),
        ({"expect_file": ""}, "expect_file: '' must name a file"),
        ({"expect_file": "x" * 4096}, "must be at most 4095 bytes long"),
        ({"stall": 0}, "stall: 0 must be more than 0 seconds"),
        ({"stall": "soon"}, "stall: 'soon' is not a duration"),
        ({"backoff": "linear", "backoff_base": -1}, "backoff_base: -1 must be "),
        ({"backoff": "exponential", "backoff_base": 0.5}, "backoff_base: 0.5 must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_by_value_and_reason(
    fields: dict[str, object], problem: str
) -> None:
    assert problem in refusal(**fields)


@pytest.mark.parametrize("backoff", ["linear", "fixed"])
def test_a_pause_that_does_not_grow_by_powers_may_be_short(backoff: str) -> None:
    request = validate_request({"command": "true", "backoff": backoff, "backoff_base": 0})

    assert request.backoff_base == 0


def test_an_expression_of_which_a_later_python_may_think_otherwise_warns_nobody() -> None:
    assert kept(expect="[[a]") == {"expect": "[[a]"}  # a warning would be an error here


@pytest.mark.parametrize(
    ("terms", "code", "reason"),
    [
        (NO_TERMS, 3, None),
        (Terms(retry_on=(75, 124)), 75, None),
        (Terms(retry_on=(75, 124)), 3, "exit code 3 is not among those retried (75,124)"),
        (Terms(retry_on=(75,)), None, None),
        (Terms(retry_on=(75,)), 0, None),
        (Terms(no_retry_on=(2,)), 2, "exit code 2 is among those not retried (2)"),
        (Terms(no_retry_on=(2,)), 3, None),
        (Terms(no_retry_on=(2,)), None, None),
    ],
)
def test_exit_codes_decide_whether_it_is_tried_again(
    terms: Terms, code: int | None, reason: str | None
) -> None:
    assert terms.refusal(code) == reason
