"""The JSON objects that ``--json`` prints: each thing has one form, wherever it appears."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain.terms import Terms
from queuectl.service import jobs, workers

#: Jobs that are read back at a time to print them.
_READ_AT_ONCE = 500


def job_object(job: domain.Job) -> dict[str, Any]:
    """Return a job. Of its environment only the names: the values may be secrets."""
    return {
        "id": job.id,
        "command": job.command,
        "state": job.state,
        "attempts": job.attempts,
        "max_retries": job.max_retries,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "queue": job.queue,
        "priority": job.priority,
        "run_at": job.run_at,
        "runs": job.runs,
        "crashes": job.crashes,
        "timeout_seconds": job.timeout_seconds,
        "backoff_base": job.backoff_base,
        "cwd": job.cwd,
        "env": sorted(job.env or ()),
        "last_error": job.last_error,
        "worker_id": job.worker_id,
        "claimed_at": job.claimed_at,
        "finished_at": job.finished_at,
        "name": job.name,
        "unique": job.unique_key,
        "frozen_at": job.frozen_at,
        "cancel_requested_at": job.cancel_requested_at,
        "cancel_reason": job.cancel_reason,
        "schedule": job.schedule,
        "scheduled_for": job.scheduled_for,
        "deadline": job.deadline,
        "stdin_bytes": job.stdin_bytes,
        "edit_started_at": job.edit_started_at,
        **terms_object(job.terms),
    }


def terms_object(terms: Terms) -> dict[str, Any]:
    """Return what counts as a failure of a job, and what is retried when."""
    return {
        "backoff": terms.backoff,
        "jitter": terms.jitter,
        "retry_on": terms.retry_on,
        "no_retry_on": terms.no_retry_on,
        "expect": terms.expect,
        "fail_if": terms.fail_if,
        "expect_file": terms.expect_file,
        "stall_seconds": terms.stall_seconds,
    }


def job_objects(store: engine.Store, ids: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the jobs of these ids; few are held at a time, however many there are."""
    for start in range(0, len(ids), _READ_AT_ONCE):
        yield from map(job_object, jobs.find_by_ids(store, ids[start : start + _READ_AT_ONCE]))


def attempt_object(attempt: domain.Attempt) -> dict[str, Any]:
    """Return an ended attempt; the tail of its output is for ``logs``."""
    return {
        "attempt": attempt.run,
        "outcome": attempt.outcome,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
        "duration_seconds": round((attempt.finished_at - attempt.started_at).total_seconds(), 3),
        "host": attempt.host,
        "pid": attempt.pid,
        "worker_id": attempt.worker_id,
        "cpu_user_seconds": attempt.cpu_user_seconds,
        "cpu_system_seconds": attempt.cpu_system_seconds,
        "max_rss_bytes": attempt.max_rss_bytes,
        "output_bytes": attempt.output_bytes,
        "error": attempt.error,
    }


def worker_object(worker: workers.Worker) -> dict[str, Any]:
    """Return a worker and what it runs."""
    return {
        "id": worker.id,
        "state": worker.state,
        "host": worker.host,
        "pid": worker.pid,
        "slots": worker.slots,
        "queues": worker.queues,
        "running": [
            {
                "id": job.id,
                "attempt": job.run,
                "claimed_at": job.claimed_at,
                "frozen_at": job.frozen_at,
            }
            for job in worker.running
        ],
        "started_at": worker.started_at,
        "heartbeat_at": worker.heartbeat_at,
        "lease_expires_at": worker.lease_expires_at,
        "stop_requested_at": worker.stop_requested_at,
        "stop_mode": worker.stop_mode,
        "supervisor_id": worker.supervisor_id,
    }
