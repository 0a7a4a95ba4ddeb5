"""Narrowing: what a selection asks of the rows of jobs, but for their states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, select

from queuectl.db.models import JobRow, TagRow
from queuectl.domain.selection import Selection


def narrow(selection: Selection) -> list[ColumnElement[bool]]:
    """Return the conditions on queue, name, tag and age; none where nothing is asked for."""
    found: list[ColumnElement[bool]] = []
    if selection.queues:
        found.append(_one_of(JobRow.queue, selection.queues))
    if selection.names:
        found.append(_one_of(JobRow.name, selection.names))
    if selection.tags:
        tagged = select(TagRow.job_seq).where(_one_of(TagRow.tag, selection.tags))
        found.append(JobRow.seq.in_(tagged))
    if selection.since is not None:
        found.append(JobRow.created_at >= selection.since)
    return found


def _one_of(column: Any, values: Sequence[str]) -> ColumnElement[bool]:
    # One value is a probe of an index in its order; SQLite sorts what comes of several.
    found: ColumnElement[bool] = column == values[0] if len(values) == 1 else column.in_(values)
    return found
