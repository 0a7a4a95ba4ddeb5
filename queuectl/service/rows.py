"""From the tables' rows to the frozen values that leave this room."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, Select, select

from queuectl.db.models import AttemptRow, JobRow
from queuectl.domain.job import Attempt, Ending, Job, State

_JOB_FIELDS = tuple(Job.__dataclass_fields__)
ATTEMPT_FIELDS = tuple(Attempt.__dataclass_fields__)

JOB_COLUMNS = tuple(getattr(JobRow, name) for name in _JOB_FIELDS)
ATTEMPT_COLUMNS = tuple(getattr(AttemptRow, name) for name in ATTEMPT_FIELDS)


def select_jobs() -> Select[Any]:
    """Return a select of jobs, in the form that ``to_job`` reads."""
    return select(*JOB_COLUMNS)


def to_job(row: Row[Any]) -> Job:
    """Return the job of a row that ``select_jobs`` made."""
    fields = dict(zip(_JOB_FIELDS, row, strict=True))
    fields["state"] = State(fields["state"])
    return Job(**fields)


def to_attempt(row: Row[Any]) -> Attempt:
    """Return the attempt of a row of ATTEMPT_COLUMNS."""
    fields = dict(zip(ATTEMPT_FIELDS, row, strict=True))
    fields["outcome"] = Ending(fields["outcome"])
    return Attempt(**fields)
