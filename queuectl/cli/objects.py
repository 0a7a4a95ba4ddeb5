"""The JSON objects that ``--json`` prints: each thing has one form, wherever it appears."""

from __future__ import annotations

from typing import Any

from queuectl.domain import job as domain


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
    }


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
