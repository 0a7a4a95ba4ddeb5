"""What a supervisor makes of its workers' last words."""

from __future__ import annotations

from math import inf

import pytest

from queuectl.worker.reports import Report


@pytest.mark.parametrize("spent_at", [125.5, inf])
def test_a_report_arrives_as_it_was_sent(spent_at: float) -> None:
    report = Report(sent_at=100.25, lease=30.0, spent_at=spent_at)

    assert Report.decode(report.encode()) == report


def test_the_last_of_several_reports_counts() -> None:
    first, second = Report(1.0, 30.0), Report(2.0, 30.0, 27.0)

    assert Report.decode(first.encode() + second.encode()) == second


def test_half_a_report_is_none() -> None:
    assert Report.decode(Report(1.0, 30.0).encode()[:-1]) is None


def test_a_worker_whose_jobs_nobody_else_starts_may_be_silent_for_two_thirds_of_its_lease() -> None:
    assert Report(sent_at=100.0, lease=30.0).silent_at(heard_at=100.5) == 120.5


def test_a_worker_is_ended_when_its_lease_is_spent_and_it_does_not_say_so() -> None:
    report = Report(sent_at=120.0, lease=24.0, spent_at=121.0)

    assert report.silent_at(heard_at=120.5) == 122.0


def test_a_worker_that_has_ended_its_jobs_may_wait_for_its_store() -> None:
    report = Report(sent_at=121.0, lease=24.0, spent_at=121.0)

    assert report.silent_at(heard_at=121.0) == 137.0
