"""Selections: which jobs a command is about, named one by one or by what they have in common."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from queuectl.domain.job import State


@dataclass(frozen=True, slots=True)
class Selection:
    """Jobs by reference (id, unique prefix, ``last``), or all to which every condition applies."""

    references: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    queue: str | None = None
    tag: str | None = None
    name: str | None = None
    #: Only jobs that were enqueued at this instant or later.
    since: datetime | None = None
    #: Whether all jobs are meant where no condition is given.
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """A job that was selected, as it stood then."""

    seq: int
    id: str
    state: State
