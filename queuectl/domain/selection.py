"""Selections: which jobs a command is about, named one by one or by what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from queuectl.domain.job import State


@dataclass(frozen=True, slots=True)
class Selection:
    """Jobs by reference (id, unique prefix, ``last``), or all to which every condition applies.

    Of several values of one condition any is enough.
    """

    references: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    queues: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
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


@dataclass(frozen=True, slots=True)
class Effect:
    """The ids of the jobs that were changed, and of those that need them and changed with them."""

    ids: Sequence[str]
    dependents: Sequence[str] = ()
