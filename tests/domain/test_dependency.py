"""What follows for a job when those that it needs have ended."""

from __future__ import annotations

import pytest

from queuectl.domain.dependency import Condition, Need, Standing, Verdict, judge

A, B = "a", "b"


def after(job_id: str, outcome: str | None = None) -> Need:
    return Need(job_id, Condition.SUCCESS, outcome)


def after_any(job_id: str, outcome: str | None = None) -> Need:
    return Need(job_id, Condition.ANY, outcome)


def after_failure(job_id: str, outcome: str | None = None) -> Need:
    return Need(job_id, Condition.FAILURE, outcome)


@pytest.mark.parametrize(
    ("needs", "standing"),
    [
        ([], Standing.READY),
        ([after(A)], Standing.WAITS),
        ([after(A, "completed")], Standing.READY),
        ([after(A, "completed"), after(B)], Standing.WAITS),
        ([after(A, "dead"), after(B)], Standing.DOOMED),
        ([after(A, "cancelled")], Standing.DOOMED),
        ([after(A, "deleted")], Standing.DOOMED),
        ([after_any(A)], Standing.WAITS),
        ([after_any(A, "completed")], Standing.READY),
        ([after_any(A, "dead")], Standing.READY),
        ([after_any(A, "deleted")], Standing.READY),
        ([after_failure(A)], Standing.WAITS),
        ([after_failure(A, "completed")], Standing.DOOMED),
        ([after_failure(A, "completed"), after_failure(B)], Standing.WAITS),
        ([after_failure(A, "completed"), after_failure(B, "dead")], Standing.READY),
        ([after_failure(A), after_failure(B, "cancelled")], Standing.READY),
        ([after_failure(A, "dead"), after(B)], Standing.WAITS),
        ([after_failure(A, "completed"), after(B)], Standing.DOOMED),
        ([after_failure(A, "deleted"), after_any(B, "dead")], Standing.READY),
    ],
)
def test_a_job_starts_when_all_its_needs_are_met(needs: list[Need], standing: Standing) -> None:
    assert judge(needs).standing is standing


@pytest.mark.parametrize(
    ("need", "reason"),
    [
        (after(A, "dead"), "job a died"),
        (after(A, "cancelled"), "job a was cancelled"),
        (after(A, "deleted"), "job a was deleted"),
        (after_failure(A, "completed"), "job a completed"),
    ],
)
def test_the_reason_names_the_job(need: Need, reason: str) -> None:
    assert judge([need]) == Verdict(Standing.DOOMED, [need], reason)


def test_all_that_completed_are_why_nothing_is_left_to_do() -> None:
    needs = [after_failure(A, "completed"), after_failure(B, "completed")]

    assert judge(needs) == Verdict(Standing.DOOMED, needs, "jobs a, b completed")
