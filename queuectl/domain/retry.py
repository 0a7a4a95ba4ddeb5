"""What follows the end of an attempt: completed, another try at some instant, or dead and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from queuectl.domain.job import CHARGED, Claim, Ending, Outcome, State

EXHAUSTED = "retries exhausted"
CRASHED = "crashed its worker"
#: It was not started by its deadline.
EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class BackoffRule:
    """The stored options that a decision needs. The base is a factor, the cap is in seconds."""

    base: float
    cap_seconds: float
    max_crashes: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The job's next state. ``run_at`` is None where it does not change."""

    state: State
    attempts: int
    crashes: int
    run_at: datetime | None = None
    last_error: str | None = None
    dead_reason: str | None = None


def backoff_seconds(failures: int, base: float, cap_seconds: float) -> float:
    """Return the pause after failure number ``failures``: ``base ** failures``, at most the cap."""
    try:
        return min(base**failures, cap_seconds)
    except OverflowError:
        return cap_seconds


@dataclass(frozen=True, slots=True)
class Pause:
    """The pause after each of the failures from ``first`` to ``last``, in seconds."""

    first: int
    last: int
    seconds: float


def timetable(max_retries: int, base: float, cap_seconds: float) -> Iterator[Pause]:
    """Yield the pauses after all failures but the one that is the last, equal ones together."""
    first = 1
    while first <= max_retries:
        seconds = backoff_seconds(first, base, cap_seconds)
        # It grows until the cap, and stays there; with the base 1 it never grows.
        stays = base == 1 or seconds == cap_seconds
        last = max_retries if stays else first
        yield Pause(first, last, seconds)
        first = last + 1


def decide(claim: Claim, outcome: Outcome, rule: BackoffRule, now: datetime) -> Decision:
    """Return what becomes of the claimed job, given how its attempt ended."""
    if outcome.ending is Ending.COMPLETED:
        return Decision(State.COMPLETED, claim.attempts, claim.crashes)
    if outcome.ending is Ending.CANCELLED:
        return Decision(State.CANCELLED, claim.attempts, claim.crashes, last_error=outcome.error)
    if outcome.ending is Ending.STOPPED:
        return Decision(State.PENDING, claim.attempts, claim.crashes, last_error=outcome.error)
    if outcome.ending in CHARGED:
        return _after_failure(claim, outcome, rule, now)
    return after_crash(claim.attempts, claim.crashes, outcome.error, rule)


def _after_failure(claim: Claim, outcome: Outcome, rule: BackoffRule, now: datetime) -> Decision:
    attempts = claim.attempts + 1
    if attempts > claim.max_retries:
        return Decision(
            State.DEAD,
            attempts,
            claim.crashes,
            last_error=outcome.error,
            dead_reason=EXHAUSTED,
        )
    base = rule.base if claim.backoff_base is None else claim.backoff_base
    pause = backoff_seconds(attempts, base, rule.cap_seconds)
    run_at = now + timedelta(seconds=pause)
    return Decision(State.FAILED, attempts, claim.crashes, run_at=run_at, last_error=outcome.error)


def after_crash(attempts: int, crashes: int, error: str | None, rule: BackoffRule) -> Decision:
    """Return what becomes of a job whose worker died: no retry is charged, a crash is counted."""
    crashes += 1
    if crashes > rule.max_crashes:
        return Decision(State.DEAD, attempts, crashes, last_error=error, dead_reason=CRASHED)
    return Decision(State.PENDING, attempts, crashes, last_error=error)
