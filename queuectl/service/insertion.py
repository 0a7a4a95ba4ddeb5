"""New rows of ``jobs``, a thousand at a time; a column that no job of a chunk uses is left out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import shake_128
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from queuectl.db.bulk import insert_columns
from queuectl.db.models import JobRow, TagRow
from queuectl.domain.options import Options
from queuectl.service.inputs import insert_inputs
from queuectl.service.needs import Bonds, insert_bonds
from queuectl.service.spool import Draft

#: Ten base-32 characters: 50 random bits. A million at once meet with a chance of 1 in 2,000.
_ID_LENGTH = 10
#: One of 32 characters for each byte; each of them for eight bytes, so that none is likelier.
_ID_LETTERS = b"abcdefghijklmnopqrstuvwxyz234567" * 8
#: What is the same for all new jobs.
_CONSTANTS = {"runs": 0, "attempts": 0, "crashes": 0, "version": 1}


_INSERT_TAG = insert(TagRow).from_select(
    ["job_seq", "tag"],
    select(JobRow.seq, bindparam("new_tag", type_=TagRow.tag.type)).where(
        JobRow.id == bindparam("job_id")
    ),
)


def generate_ids(count: int, seed: bytes) -> list[str]:
    """Return new ids, as random as the seed is: the same seed gives the same ones."""
    drawn = shake_128(seed).digest(count * _ID_LENGTH)
    letters = drawn.translate(_ID_LETTERS).decode()
    return [letters[at : at + _ID_LENGTH] for at in range(0, count * _ID_LENGTH, _ID_LENGTH)]


def insert_jobs(
    connection: Connection,
    drafts: Sequence[Draft],
    ids: Sequence[str],
    *,
    options: Options,
    cwd: str | None,
    now: datetime,
    bonds: Bonds,
    ticks: Sequence[tuple[str, datetime]] = (),
) -> None:
    """Insert these jobs under these ids; part of the enqueueing transaction.

    ``ticks`` are those of schedules that make them: the schedule and the instant of each.
    """
    columns = {
        name: values
        for name, values in _columns(drafts, ids, options, cwd, now, bonds).items()
        if any(value is not None for value in values)
    }
    if ticks:
        columns["schedule"], columns["scheduled_for"] = zip(*ticks, strict=True)
    insert_columns(connection, JobRow.__table__, columns, _CONSTANTS)
    tags = [
        {"job_id": job_id, "new_tag": tag}
        for job_id, draft in zip(ids, drafts, strict=True)
        for tag in draft.tags or ()
    ]
    if tags:
        connection.execute(_INSERT_TAG, tags)
    insert_bonds(connection, bonds)
    insert_inputs(connection, drafts, ids)


def _columns(
    drafts: Sequence[Draft],
    ids: Sequence[str],
    options: Options,
    cwd: str | None,
    now: datetime,
    bonds: Bonds,
) -> dict[str, Sequence[Any]]:
    said: Any = Draft._make(zip(*drafts, strict=True))  # each field a column now
    run_at = [
        start or now if delay is None else now + timedelta(seconds=delay)
        for start, delay in zip(said.run_at, said.delay, strict=True)
    ]
    states: list[str] = [
        "held" if held else "scheduled" if start > now else "pending"
        for held, start in zip(said.hold, run_at, strict=True)
    ]
    return {
        "id": ids,
        "queue": said.queue,
        "command": said.command,
        "cwd": _fill_in(said.cwd, cwd),
        "env": said.env,
        "state": states,
        "priority": said.priority,
        "run_at": run_at,
        "max_retries": _fill_in(said.max_retries, options.max_retries),
        "timeout_seconds": _fill_in(said.timeout, options.timeout),
        "backoff_base": said.backoff_base,
        "name": said.name,
        "unique_key": said.unique,
        "request_digest": said.digest,
        "deadline": [
            now + timedelta(seconds=end) if isinstance(end, float) else end for end in said.deadline
        ],
        "stdin_bytes": [None if content is None else len(content) for content in said.stdin],
        "terms": said.terms,
        "created_at": [now] * len(drafts),
        "updated_at": [now] * len(drafts),
        **(_bound(ids, states, now, bonds) if bonds.needs else {}),
    }


def _bound(
    ids: Sequence[str], states: Sequence[str], now: datetime, bonds: Bonds
) -> dict[str, Sequence[Any]]:
    """Return the columns that differ for jobs that wait for others, or can never start."""
    bound = [bonds.state_of(job_id, state) for job_id, state in zip(ids, states, strict=True)]
    reasons = [bonds.reason_of(job_id, state) for job_id, state in zip(ids, bound, strict=True)]
    return {
        "state": bound,
        "cancel_reason": reasons,
        "finished_at": [None if reason is None else now for reason in reasons],
        "needed": [int(job_id in bonds.needed) for job_id in ids],
    }


def _fill_in(values: Any, default: Any) -> list[Any]:
    return [default if value is None else value for value in values]
