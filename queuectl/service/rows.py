"""From the tables' rows to the frozen values that leave this room."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, literal_column, select

from queuectl.db.models import AttemptRow, JobRow, ScheduleRow
from queuectl.domain.job import Attempt, Ending, Job, State
from queuectl.domain.rate import Rate
from queuectl.domain.schedule import CatchUp, Overlap, Schedule
from queuectl.domain.terms import read_terms

_JOB_FIELDS = tuple(Job.__dataclass_fields__)
ATTEMPT_FIELDS = tuple(Attempt.__dataclass_fields__)

JOB_COLUMNS = tuple(getattr(JobRow, name) for name in _JOB_FIELDS)
ATTEMPT_COLUMNS = tuple(getattr(AttemptRow, name) for name in ATTEMPT_FIELDS)

_SCHEDULE_FIELDS = tuple(Schedule.__dataclass_fields__)
SCHEDULE_COLUMNS = tuple(getattr(ScheduleRow, name) for name in _SCHEDULE_FIELDS)


#: The states of each partial index that covers several, in the order in which it names them.
_FAMILIES = (
    (State.SCHEDULED, State.FAILED),
    (State.COMPLETED, State.DEAD, State.CANCELLED),
)


def in_states(*states: State) -> ColumnElement[bool]:
    """Return the condition, in the form by which SQLite finds the partial index of the states.

    A parameter matches no such index, so states are literals; and SQLite does not see that one
    state implies the list of them in an index's own condition, so that stands beside it.
    """
    wanted = [state for state in State if state in states]
    families = [family for family in _FAMILIES if set(wanted) <= set(family)]
    conditions = [_among(family) for family in families]
    if not families or len(wanted) < len(families[0]):
        conditions.append(_among(tuple(wanted)))
    return and_(*conditions)


def _among(states: tuple[State, ...]) -> ColumnElement[bool]:
    literals: list[ColumnElement[str]] = [literal_column(f"'{state.value}'") for state in states]
    return JobRow.state == literals[0] if len(literals) == 1 else JobRow.state.in_(literals)


def select_jobs() -> Select[Any]:
    """Return a select of jobs, in the form that ``to_job`` reads."""
    return select(*JOB_COLUMNS)


def to_job(row: Row[Any]) -> Job:
    """Return the job of a row that ``select_jobs`` made."""
    fields = dict(zip(_JOB_FIELDS, row, strict=True))
    fields["state"] = State(fields["state"])
    fields["terms"] = read_terms(fields["terms"])
    return Job(**fields)


def to_attempt(row: Row[Any]) -> Attempt:
    """Return the attempt of a row of ATTEMPT_COLUMNS."""
    fields = dict(zip(ATTEMPT_FIELDS, row, strict=True))
    fields["outcome"] = Ending(fields["outcome"])
    return Attempt(**fields)


def to_schedule(row: Row[Any]) -> Schedule:
    """Return the schedule of a row of SCHEDULE_COLUMNS."""
    fields = dict(zip(_SCHEDULE_FIELDS, row, strict=True))
    fields["catch_up"], fields["overlap"] = CatchUp(row.catch_up), Overlap(row.overlap)
    return Schedule(**fields)


def rate_of(count: int | None, seconds: int | None) -> Rate | None:
    """Return the rate of a queue's columns."""
    return None if count is None or seconds is None else Rate(count, seconds)
