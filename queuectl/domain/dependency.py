"""Dependencies: what a job waits for, and what follows when those jobs have ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from queuectl.domain.job import FINISHED, Job, State

#: What is kept of a needed job that was deleted before it had ended.
DELETED = "deleted"


class Condition(StrEnum):
    """How a needed job must end."""

    SUCCESS = "success"  #: completed
    ANY = "any"  #: however
    FAILURE = "failure"  #: died, or was cancelled; one of those that are named is enough


#: The field of a job in JSON that lists the jobs of each condition; the option is called alike.
FIELDS = {
    "after": Condition.SUCCESS,
    "after_any": Condition.ANY,
    "after_failure": Condition.FAILURE,
}


@dataclass(frozen=True, slots=True)
class Need:
    """A job that another one needs."""

    id: str
    condition: Condition
    #: The state in which it ended, or ``deleted``; None: it has not ended.
    outcome: str | None = None
    #: Whether the way it ended is why the other one was cancelled.
    fatal: bool = False

    @property
    def ended_well(self) -> bool:
        """Whether it completed."""
        return self.outcome == State.COMPLETED


class Standing(StrEnum):
    """How a job stands to all that it needs."""

    WAITS = "waits"
    READY = "ready"
    DOOMED = "doomed"  #: it can no longer start


@dataclass(frozen=True, slots=True)
class Verdict:
    """The standing, and of a doomed job the needs that decided it, and why in words."""

    standing: Standing
    fatal: Sequence[Need] = ()
    reason: str | None = None


def judge(needs: Sequence[Need]) -> Verdict:
    """Return how a job stands that has these needs."""
    ill = [
        need
        for need in needs
        if need.condition is Condition.SUCCESS and need.outcome and not need.ended_well
    ]
    if ill:
        return Verdict(Standing.DOOMED, ill[:1], describe_end(ill[0]))
    wanted = [need for need in needs if need.condition is Condition.FAILURE]
    if wanted and all(need.ended_well for need in wanted):
        names = ", ".join(need.id for need in wanted[:5]) + (", ..." if len(wanted) > 5 else "")
        noun = "job" if len(wanted) == 1 else "jobs"
        return Verdict(Standing.DOOMED, wanted, f"{noun} {names} completed")
    others = [need for need in needs if need.condition is not Condition.FAILURE]
    failed = not wanted or any(need.outcome and not need.ended_well for need in wanted)
    if failed and all(need.outcome for need in others):
        return Verdict(Standing.READY)
    return Verdict(Standing.WAITS)


def describe_end(need: Need) -> str:
    """Return ``job X died``, as a reason."""
    verbs = {"dead": "died", "cancelled": "was cancelled", "completed": "completed"}
    return f"job {need.id} {verbs.get(need.outcome or '', f'was {DELETED}')}"


@dataclass(frozen=True, slots=True)
class NeededJob:
    """A need, and the needed job as it stands; None: it is gone."""

    need: Need
    job: Job | None


def can_end_well(job: Job) -> bool:
    """Whether a job that has not ended may still complete."""
    return job.state not in FINISHED and job.cancel_requested_at is None
