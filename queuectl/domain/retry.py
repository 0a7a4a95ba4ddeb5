"""What follows the end of an attempt: completed, another try at some instant, or dead and why."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from queuectl.domain.job import CHARGED, Claim, Ending, Outcome, State
from queuectl.domain.terms import BY_SIGNAL, TIMED_OUT_CODE, Backoff

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


def backoff_seconds(
    failures: int, base: float, cap_seconds: float, backoff: Backoff = Backoff.EXPONENTIAL
) -> float:
    """Return the pause after failure number ``failures``, at most the cap.

    It is ``base ** failures``, ``base * failures`` or ``base``.
    """
    try:
        match backoff:
            case Backoff.LINEAR:
                seconds = base * failures
            case Backoff.FIXED:
                seconds = base
            case _:
                seconds = base**failures
    except OverflowError:
        return cap_seconds
    return min(seconds, cap_seconds)


@dataclass(frozen=True, slots=True)
class Pause:
    """The pause after each of the failures from ``first`` to ``last``, in seconds."""

    first: int
    last: int
    seconds: float


def timetable(
    max_retries: int, base: float, cap_seconds: float, backoff: Backoff = Backoff.EXPONENTIAL
) -> Iterator[Pause]:
    """Yield the pauses after all failures but the one that is the last, equal ones together."""
    first = 1
    while first <= max_retries:
        seconds = backoff_seconds(first, base, cap_seconds, backoff)
        # It grows until the cap, and stays there; the powers of 1 never grow.
        last = max_retries if seconds == cap_seconds or not _grows(base, backoff) else first
        yield Pause(first, last, seconds)
        first = last + 1


def _grows(base: float, backoff: Backoff) -> bool:
    if backoff is Backoff.FIXED:
        return False
    return base != (0 if backoff is Backoff.LINEAR else 1)


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
    reason = claim.terms.refusal(_code_of(outcome))
    if reason is None and attempts > claim.max_retries:
        reason = EXHAUSTED
    if reason is not None:
        return Decision(
            State.DEAD,
            attempts,
            claim.crashes,
            last_error=outcome.error,
            dead_reason=reason,
        )
    run_at = now + timedelta(seconds=_pause_seconds(claim, attempts, rule))
    return Decision(State.FAILED, attempts, claim.crashes, run_at=run_at, last_error=outcome.error)


def _code_of(outcome: Outcome) -> int | None:
    """Return what a shell tells of the end of a command; None where it is no code that failed."""
    if outcome.ending is Ending.STALLED:
        return None
    if outcome.ending is Ending.TIMED_OUT:
        return TIMED_OUT_CODE
    return outcome.exit_code if outcome.signal is None else BY_SIGNAL + outcome.signal


def _pause_seconds(claim: Claim, failures: int, rule: BackoffRule) -> float:
    """Return the pause before the next attempt, spread as the job asks for, at most the cap."""
    base = rule.base if claim.backoff_base is None else claim.backoff_base
    seconds = backoff_seconds(failures, base, rule.cap_seconds, claim.terms.backoff)
    if not claim.terms.jitter:
        return seconds
    # Drawn from the attempt itself, so that the same end is decided alike whenever it is.
    share = random.Random(f"{claim.id} {claim.run}").uniform(-1, 1)  # noqa: S311  # no secret
    return min(seconds * (1 + claim.terms.jitter * share), rule.cap_seconds)


def after_crash(attempts: int, crashes: int, error: str | None, rule: BackoffRule) -> Decision:
    """Return what becomes of a job whose worker died: no retry is charged, a crash is counted."""
    crashes += 1
    if crashes > rule.max_crashes:
        return Decision(State.DEAD, attempts, crashes, last_error=error, dead_reason=CRASHED)
    return Decision(State.PENDING, attempts, crashes, last_error=error)
