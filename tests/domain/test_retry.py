"""What follows the end of an attempt."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.job import Claim, Ending, Outcome, State
from queuectl.domain.retry import (
    CRASHED,
    EXHAUSTED,
    BackoffRule,
    Decision,
    after_crash,
    backoff_seconds,
    decide,
    timetable,
)
from queuectl.domain.terms import Backoff, Terms

NOW = datetime(2026, 11, 24, 18, tzinfo=UTC)
RULE = BackoffRule(base=2.0, cap_seconds=3600.0, max_crashes=5)
CLAIM = Claim(
    seq=1,
    version=2,
    run=1,
    id="a",
    queue="default",
    command="true",
    cwd=None,
    env=None,
    attempts=0,
    max_retries=3,
    timeout_seconds=None,
    backoff_base=None,
    crashes=0,
)


def ended(ending: Ending, error: str | None = None) -> Outcome:
    return Outcome(ending, started_at=NOW - timedelta(seconds=1), finished_at=NOW, error=error)


def test_success_completes_and_charges_nothing() -> None:
    decision = decide(replace(CLAIM, attempts=2), ended(Ending.COMPLETED), RULE, NOW)

    assert decision == Decision(State.COMPLETED, attempts=2, crashes=0)


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.TIMED_OUT, Ending.STALLED])
@pytest.mark.parametrize(("charged", "pause"), [(0, 2), (1, 4), (2, 8)])
def test_failure_k_waits_the_base_to_the_power_of_k(
    ending: Ending, charged: int, pause: int
) -> None:
    decision = decide(replace(CLAIM, attempts=charged), ended(ending, "exit code 1"), RULE, NOW)

    assert decision == Decision(
        State.FAILED,
        attempts=charged + 1,
        crashes=0,
        run_at=NOW + timedelta(seconds=pause),
        last_error="exit code 1",
    )


def test_three_retries_are_four_attempts() -> None:
    decision = decide(replace(CLAIM, attempts=3), ended(Ending.FAILED, "exit code 1"), RULE, NOW)

    assert decision == Decision(
        State.DEAD, attempts=4, crashes=0, last_error="exit code 1", dead_reason=EXHAUSTED
    )


def test_without_retries_the_first_failure_is_the_last() -> None:
    decision = decide(replace(CLAIM, max_retries=0), ended(Ending.FAILED), RULE, NOW)

    assert decision.state is State.DEAD


@given(retries=st.integers(0, 50))
def test_a_job_that_always_fails_is_tried_once_more_than_it_has_retries(retries: int) -> None:
    claim, tries = replace(CLAIM, max_retries=retries), 0

    while True:
        tries += 1
        decision = decide(claim, ended(Ending.FAILED), RULE, NOW)
        if decision.state is State.DEAD:
            break
        claim = replace(claim, attempts=decision.attempts)

    assert tries == retries + 1


def test_a_base_of_the_jobs_own_comes_before_the_stored_one() -> None:
    decision = decide(replace(CLAIM, backoff_base=10.0), ended(Ending.FAILED), RULE, NOW)

    assert decision.run_at == NOW + timedelta(seconds=10)


def test_a_stop_puts_back_at_once_and_charges_nothing() -> None:
    decision = decide(replace(CLAIM, attempts=2), ended(Ending.STOPPED, "stopped"), RULE, NOW)

    assert decision == Decision(State.PENDING, attempts=2, crashes=0, last_error="stopped")


def test_a_crash_puts_back_and_counts_as_a_crash_not_as_a_retry() -> None:
    decision = decide(replace(CLAIM, attempts=2, crashes=1), ended(Ending.LOST, "died"), RULE, NOW)

    assert decision == Decision(State.PENDING, attempts=2, crashes=2, last_error="died")


def test_more_crashes_than_allowed_are_the_end() -> None:
    assert after_crash(0, 4, "died", RULE).state is State.PENDING
    assert after_crash(0, 5, "died", RULE) == Decision(
        State.DEAD, attempts=0, crashes=6, last_error="died", dead_reason=CRASHED
    )


def test_with_no_crash_allowed_the_first_is_the_end() -> None:
    assert after_crash(0, 0, None, replace(RULE, max_crashes=0)).state is State.DEAD


@pytest.mark.parametrize(
    ("failures", "base", "cap", "seconds"),
    [
        (1, 2.0, 3600.0, 2.0),
        (11, 2.0, 3600.0, 2048.0),
        (12, 2.0, 3600.0, 3600.0),
        (5, 1.0, 3600.0, 1.0),
        (3, 1.5, 3600.0, 3.375),
        (1, 60.0, 30.0, 30.0),
        (1, 2.0, 0.0, 0.0),
        (1_000_001, 1_000_000.0, 3600.0, 3600.0),
    ],
)
def test_the_backoff_grows_up_to_the_cap(
    failures: int, base: float, cap: float, seconds: float
) -> None:
    assert backoff_seconds(failures, base, cap) == pytest.approx(seconds)


@given(
    st.integers(1, 1_000_001),
    st.floats(1, 1_000_000, allow_nan=False),
    st.floats(0, 3650 * 86_400, allow_nan=False),
)
def test_a_backoff_never_exceeds_the_cap_nor_fails(failures: int, base: float, cap: float) -> None:
    assert 0 <= backoff_seconds(failures, base, cap) <= cap


@given(st.integers(1, 60), st.floats(1, 100, allow_nan=False))
def test_a_backoff_never_shrinks(failures: int, base: float) -> None:
    assert backoff_seconds(failures, base, 3600) <= backoff_seconds(failures + 1, base, 3600)


@pytest.mark.parametrize(
    ("max_retries", "base", "cap", "expected"),
    [
        (0, 2, 3600, []),
        (3, 2, 3600, [(1, 1, 2), (2, 2, 4), (3, 3, 8)]),
        (5, 2, 8, [(1, 1, 2), (2, 2, 4), (3, 5, 8)]),
        (1_000_000, 1, 3600, [(1, 1_000_000, 1)]),
        (1_000_000, 10, 100, [(1, 1, 10), (2, 1_000_000, 100)]),
        (3, 2, 0, [(1, 3, 0)]),
    ],
)
def test_the_timetable_folds_what_stays_the_same(
    max_retries: int, base: float, cap: float, expected: list[tuple[int, int, float]]
) -> None:
    pauses = timetable(max_retries, base, cap)

    assert [(pause.first, pause.last, pause.seconds) for pause in pauses] == expected


@given(st.integers(0, 60), st.floats(1, 5), st.floats(0, 10_000))
def test_the_timetable_is_that_of_the_decisions(max_retries: int, base: float, cap: float) -> None:
    told = [
        pause.seconds
        for pause in timetable(max_retries, base, cap)
        for _ in range(pause.first, pause.last + 1)
    ]

    assert told == [backoff_seconds(k, base, cap) for k in range(1, max_retries + 1)]


@pytest.mark.parametrize(
    ("backoff", "base", "cap", "expected"),
    [
        (Backoff.LINEAR, 5, 3600, [(1, 1, 5), (2, 2, 10), (3, 3, 15), (4, 4, 20)]),
        (Backoff.LINEAR, 5, 12, [(1, 1, 5), (2, 2, 10), (3, 4, 12)]),
        (Backoff.LINEAR, 0, 12, [(1, 4, 0)]),
        (Backoff.FIXED, 5, 3600, [(1, 4, 5)]),
        (Backoff.FIXED, 90, 60, [(1, 4, 60)]),
    ],
)
def test_other_backoffs_have_their_timetables_and_decide_by_them(
    backoff: Backoff, base: float, cap: float, expected: list[tuple[int, int, float]]
) -> None:
    rule = replace(RULE, cap_seconds=cap)
    claim = replace(CLAIM, backoff_base=base, max_retries=4, terms=Terms(backoff=backoff))

    told = [(p.first, p.last, p.seconds) for p in timetable(4, base, cap, backoff)]
    decided = [
        decide(replace(claim, attempts=k - 1), ended(Ending.FAILED), rule, NOW).run_at
        for k in range(1, 5)
    ]

    assert told == expected
    pauses = [seconds for first, last, seconds in expected for _ in range(first, last + 1)]
    assert decided == [NOW + timedelta(seconds=seconds) for seconds in pauses]


def test_jitter_spreads_a_pause_by_its_share_both_ways() -> None:
    claim = replace(CLAIM, backoff_base=100.0, terms=Terms(jitter=0.2))

    pauses = [
        (run_at - NOW).total_seconds()
        for run in range(1, 201)
        if (run_at := decide(replace(claim, run=run), ended(Ending.FAILED), RULE, NOW).run_at)
    ]

    assert len(pauses) == 200
    assert 80 <= min(pauses) < 90
    assert 110 < max(pauses) <= 120
    assert len(set(pauses)) > 190


def test_the_cap_holds_after_the_jitter() -> None:
    claim = replace(CLAIM, backoff_base=100.0, terms=Terms(jitter=1.0))
    rule = replace(RULE, cap_seconds=100.0)

    pauses = {
        decide(replace(claim, run=run), ended(Ending.FAILED), rule, NOW).run_at
        for run in range(1, 101)
    }

    assert max(filter(None, pauses)) == NOW + timedelta(seconds=100)
    assert min(filter(None, pauses)) < NOW + timedelta(seconds=50)


@pytest.mark.parametrize(
    ("terms", "outcome", "reason"),
    [
        (Terms(retry_on=(75,)), {"exit_code": 75}, None),
        (
            Terms(retry_on=(75,)),
            {"exit_code": 3},
            "exit code 3 is not among those retried (75)",
        ),
        (Terms(retry_on=(75,)), {"exit_code": 0}, None),  # it did not do what was expected
        (Terms(retry_on=(75,)), {}, None),  # it could not be started
        (Terms(retry_on=(137,)), {"signal": 9}, None),
        (
            Terms(no_retry_on=(137,)),
            {"signal": 9},
            "exit code 137 is among those not retried (137)",
        ),
        (Terms(retry_on=(124,)), {"ending": Ending.TIMED_OUT, "signal": 15}, None),
        (
            Terms(retry_on=(143,)),
            {"ending": Ending.TIMED_OUT, "signal": 15},
            "exit code 124 is not among those retried (143)",
        ),
        (Terms(retry_on=(75,)), {"ending": Ending.STALLED, "signal": 15}, None),
        (Terms(no_retry_on=(124, 143)), {"ending": Ending.STALLED, "signal": 15}, None),
    ],
)
def test_the_way_it_ended_decides_whether_it_is_tried_again(
    terms: Terms, outcome: dict[str, Any], reason: str | None
) -> None:
    end = replace(ended(Ending.FAILED, "why"), **outcome)

    decision = decide(replace(CLAIM, terms=terms), end, RULE, NOW)

    assert decision.state is (State.FAILED if reason is None else State.DEAD)
    assert (decision.dead_reason, decision.attempts, decision.last_error) == (reason, 1, "why")
