"""Rehearsal: what would be stored, told without storing it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from queuectl.db.engine import Store
from queuectl.domain.request import JobRequest, validate_request
from queuectl.errors import Conflict, InvalidJob
from queuectl.service import config, jobs
from queuectl.service.rehearsal import PlannedJob, rehearse
from tests.jobs import add


def plan(store: Store | None, *fields: dict[str, Any], cwd: str = "/here") -> list[PlannedJob]:
    requests = [validate_request({"command": "true", **one}) for one in fields]
    with rehearse(store, requests, cwd=cwd) as planned:
        return list(planned)


def test_defaults_are_those_that_are_stored(store: Store) -> None:
    config.set_option(store, "max-retries", 1)
    config.set_option(store, "timeout", "5m")
    config.set_option(store, "backoff-base", 3)

    [plain, own] = plan(
        store, {}, {"max_retries": 0, "timeout": 9, "backoff_base": 5, "cwd": "/there"}
    )

    assert (plain.max_retries, plain.timeout_seconds, plain.backoff_base) == (1, 300.0, 3.0)
    assert (own.max_retries, own.timeout_seconds, own.backoff_base) == (0, 9.0, 5.0)
    assert (plain.cwd, own.cwd) == ("/here", "/there")
    assert [pause.seconds for pause in plain.pauses()] == [3.0]
    assert list(own.pauses()) == []


def test_what_is_told_is_what_is_stored(store: Store) -> None:
    [planned] = plan(store, {"priority": 3, "queue": "q"}, cwd=str(store.location.folder))

    job = add(store, priority=3, queue="q")

    for name in ("queue", "command", "cwd", "env", "priority", "max_retries", "timeout_seconds"):
        assert getattr(planned, name) == getattr(job, name), name


def test_nothing_is_stored(store: Store) -> None:
    before = store.data_version()

    plan(store, *({"id": f"job-{number}", "queue": "new"} for number in range(1500)))

    assert store.data_version() == before
    assert jobs.list_jobs(store) == []


def test_without_a_store_the_defaults_are_the_programs() -> None:
    [planned] = plan(None, {})

    assert (planned.id, planned.max_retries, planned.backoff_base) == (None, 3, 2.0)


def test_a_start_that_lies_ahead_is_told() -> None:
    before = datetime.now(UTC)

    [at_once, later, fixed] = plan(None, {}, {"delay": "1h"}, {"run_at": "2030-01-01T00:00:00Z"})

    assert at_once.run_at is None
    assert later.run_at is not None
    assert timedelta(hours=1) <= later.run_at - before < timedelta(hours=2)
    assert fixed.run_at == datetime(2030, 1, 1, tzinfo=UTC)


def test_what_is_there_is_told_and_what_differs_is_refused(store: Store) -> None:
    jobs.enqueue(store, [validate_request({"command": "true", "id": "a"})], cwd=None)

    there, new, again = plan(store, {"id": "a"}, {"id": "b"}, {"id": "b"})

    assert [job.is_there for job in (there, new, again)] == [True, False, True]
    with pytest.raises(Conflict, match="'a'"):
        plan(store, {"id": "b"}, {"id": "a", "priority": 1})


def test_two_requests_of_one_id_must_agree() -> None:
    with pytest.raises(Conflict, match="'a'"):
        plan(None, {"id": "a"}, {"id": "a", "priority": 1})


def test_nothing_is_told_before_all_is_read() -> None:
    def requests() -> Any:
        yield JobRequest(command="true")
        raise InvalidJob(["no"], where="line 2")

    with pytest.raises(InvalidJob), rehearse(None, requests(), cwd=None):
        pytest.fail("it told something")
