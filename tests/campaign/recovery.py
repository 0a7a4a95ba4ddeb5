"""What a verdict counts, and how long it took until struck jobs ran again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.campaign import plan
from tests.campaign.facts import Facts, StoredAttempt
from tests.campaign.history import CLOCK_SLACK_SECONDS, History, Moment, tell

#: Kinds after which the affected job must start again soon.
RECOVERED = (
    plan.WORKER_KILLED,
    plan.BOTH_KILLED,
    plan.FAILPOINT,
    plan.WORKER_FROZEN,
    plan.PARTITIONED,
)
#: Those after which somebody has to wait for a lease first.
WAITING = (plan.WORKER_FROZEN, plan.PARTITIONED)


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long a job waited for its next start after a fault had ended its attempt."""

    kind: str
    job: str
    seconds: float
    #: Whether nothing else was in the way: no full disk, no stop, nobody frozen, no absent server.
    clear: bool


@dataclass(frozen=True, slots=True)
class Slowest:
    """The recovery that took longest, with the history of its job."""

    recovery: Recovery
    history: tuple[Moment, ...]


def find_recoveries(history: History) -> Iterator[Recovery]:
    """Yield the next start of each job whose attempt was lost to a fault."""
    lost: dict[int, list[StoredAttempt]] = defaultdict(list)
    for attempt in history.facts.attempts:
        if attempt.outcome == "lost":
            lost[attempt.pid].append(attempt)
    for strike in history.facts.strikes:
        if strike.kind not in RECOVERED:
            continue
        for pid in strike.pids:
            for attempt in lost[pid]:
                slack = CLOCK_SLACK_SECONDS
                if attempt.started - slack <= strike.at <= attempt.finished + slack:
                    yield from _recovery(history, strike.kind, strike.at, attempt)


def _recovery(history: History, kind: str, at: float, attempt: StoredAttempt) -> Iterator[Recovery]:
    following = history.runs[attempt.job].get(attempt.run + 1)
    if following is None or following.start is None:
        return
    begun = following.start
    clear = not any(
        trouble.begin <= begun and at <= trouble.end and trouble.why != kind
        for trouble in history.facts.troubles
    )
    yield Recovery(kind, attempt.job, max(0.0, begun - at), clear)


def find_slowest(history: History, recoveries: Iterable[Recovery]) -> Slowest | None:
    """Return the clear recovery from a kill that took longest, with its job's history."""
    clear = [r for r in recoveries if r.clear and r.kind not in WAITING]
    slowest = max(clear, key=lambda recovery: recovery.seconds, default=None)
    if slowest is None:
        return None
    return Slowest(slowest, tell(history, slowest.job))


def count_all(history: History) -> dict[str, int]:
    """Count jobs, calls, runs and attempts."""
    facts = history.facts
    counts = {
        "jobs": len(facts.jobs),
        "acknowledged": len({job for batch in facts.batches for job in batch.acknowledged}),
        "calls of enqueue": len(facts.batches),
        "calls of enqueue that were killed": sum(b.exit_code is None for b in facts.batches),
        "runs that a job wrote down": sum(len(runs) for runs in history.runs.values()),
        "attempts": len(facts.attempts),
        "unmarked orphans whose supervisor was dead or stopped too": _count_excused(history),
    }
    for outcome in sorted({attempt.outcome for attempt in facts.attempts}):
        counts[f"attempts {outcome}"] = sum(a.outcome == outcome for a in facts.attempts)
    for state in sorted({job.state for job in facts.jobs}):
        counts[f"jobs {state}"] = sum(job.state == state for job in facts.jobs)
    return counts


def _count_excused(history: History) -> int:
    """Count the runs of which a hidden process lived on and was excused."""
    return sum(
        any(
            history.is_excused(sign) and sign.at > history.idle_again(attempt) + CLOCK_SLACK_SECONDS
            for sign in run.others
        )
        for job, runs in history.runs.items()
        for number, run in runs.items()
        if (attempt := history.attempts[job].get(number)) is not None
    )


def count_faults(facts: Facts) -> dict[str, int]:
    """Count the faults that struck, by kind."""
    counts: dict[str, int] = defaultdict(int)
    for strike in facts.strikes:
        counts[strike.kind if not strike.detail else f"{strike.kind}: {strike.detail}"] += 1
    return dict(sorted(counts.items()))
