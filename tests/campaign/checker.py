"""The history checker: holds what is known of a campaign against the invariants. Pure.

It believes three witnesses who know nothing of each other: what the clients were told, what the
jobs wrote down themselves outside the store, and the store's own table of attempts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from tests.campaign.facts import Facts, Sign, StoredAttempt
from tests.campaign.history import CLOCK_SLACK_SECONDS, History, Moment, Run, tell
from tests.campaign.recovery import (
    Recovery,
    Slowest,
    count_all,
    count_faults,
    find_recoveries,
    find_slowest,
)

INVARIANTS = {
    "I1": "what enqueue acknowledged is there, and each call's jobs are there all or not at all",
    "I2": "no two runs of a job overlap",
    "I3": "no result is applied but that of the claim that stands",
    "I4": "attempts are numbered without a gap, and those charged stay within the retries",
    "I5": "nothing that an ended attempt started is alive",
    "I6": "after a drain every job is settled",
    "I7": "the database's integrity check passes",
    "I8": "every call ends with a documented exit code and without a traceback",
}

#: The jobs read their clock in steps of 10 ms, rounded down.
_STEP_SECONDS = 0.011

_SETTLED_STATES = frozenset({"completed", "dead", "cancelled"})
_CHARGED = frozenset({"failed", "timed out", "stalled"})
_RESULTS = frozenset({"completed", "failed", "timed out", "stalled"})
#: Ended by their worker, for they took or were silent too long.
_ENDED = frozenset({"timed out", "stalled"})


@dataclass(frozen=True, slots=True)
class Breach:
    """A place where an invariant is broken, with the history that shows it."""

    invariant: str
    subject: str
    what: str
    history: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker found; breaches that show the same thing of a job are told once."""

    store: str
    breaches: tuple[Breach, ...]
    recoveries: tuple[Recovery, ...]
    counts: Mapping[str, int]
    faults: Mapping[str, int]
    notes: tuple[str, ...] = ()
    slowest: Slowest | None = None

    @property
    def broken(self) -> tuple[str, ...]:
        """The invariants that do not hold, in order."""
        return tuple(sorted({breach.invariant for breach in self.breaches}))


def judge(facts: Facts) -> Verdict:
    """Hold the facts against every invariant."""
    history = History(facts)
    found = [breach for check in _CHECKS for breach in check(history)]
    recoveries = tuple(find_recoveries(history))
    return Verdict(
        facts.store,
        tuple(_with_histories(history, found)),
        recoveries,
        count_all(history),
        count_faults(facts),
        facts.notes,
        find_slowest(history, recoveries),
    )


def shortest(breaches: Iterable[Breach], invariant: str) -> Breach | None:
    """Return the breach of an invariant that is told in the fewest lines."""
    found = [breach for breach in breaches if breach.invariant == invariant]
    return min(found, key=lambda breach: (not breach.history, len(breach.history)), default=None)


# I1


def _check_acknowledged(history: History) -> Iterator[Breach]:
    for batch in history.facts.batches:
        for job in batch.acknowledged:
            if job not in history.jobs:
                yield Breach("I1", job, f"client {batch.name} was told this id; it is not there")
    stored = [job.id for job in history.facts.jobs]
    for job in {job for job in stored if stored.count(job) > 1} if _has_twins(stored) else ():
        yield Breach("I1", job, "this id is there more than once")


def _has_twins(ids: list[str]) -> bool:
    return len(set(ids)) != len(ids)


def _check_whole_batches(history: History) -> Iterator[Breach]:
    for batch in history.facts.batches:
        there = [job for job in batch.own_ids if job in history.jobs]
        if there and len(there) != len(batch.own_ids):
            missing = next(job for job in batch.own_ids if job not in history.jobs)
            yield Breach(
                "I1",
                missing,
                f"of the {len(batch.own_ids)} jobs of one call of client {batch.name}"
                f" {len(there)} are there",
            )


# I2


def _check_overlaps(history: History) -> Iterator[Breach]:
    for job in history.runs:
        runs = history.ordered_runs(job)
        for run in runs:
            if len(run.starts) > 1:
                yield Breach("I2", job, f"run {run.run} was started {len(run.starts)} times")
        for earlier, later in _pairs_with_starts(runs):
            last = max((sign.at for sign in earlier.own), default=0.0)
            if later.start is not None and later.start < last:
                yield Breach(
                    "I2",
                    job,
                    f"run {later.run} began while run {earlier.run} was running,"
                    f" {last - later.start:.2f} s before its last sign",
                )


def _pairs_with_starts(runs: list[Run]) -> Iterator[tuple[Run, Run]]:
    return pairwise(run for run in runs if run.starts)


# I3


def _check_results(history: History) -> Iterator[Breach]:
    for job, attempts in history.attempts.items():
        for attempt in attempts.values():
            run = history.runs[job].get(attempt.run)
            if problem := _result_problem(history, attempt, run):
                yield Breach("I3", job, f"run {attempt.run} {problem}")


def _result_problem(history: History, attempt: StoredAttempt, run: Run | None) -> str | None:
    if run is not None and any(sign.worker != attempt.worker for sign in run.own):
        return "was recorded by another worker than the one that ran it"
    if attempt.outcome not in _RESULTS:
        return None
    if run is None or not run.starts:
        if attempt.outcome in _ENDED:
            return None  # on a busy machine its time may be over before its first line
        return f"is recorded as {attempt.outcome}, but the job never began it"
    if attempt.outcome not in _ENDED and (
        run.end is None or run.end.code != attempt.exit_code or attempt.signal is not None
    ):
        how = f"signal {attempt.signal}" if attempt.signal else f"exit code {attempt.exit_code}"
        return f"is recorded as {attempt.outcome} with {how}, but that is not how the job ended it"
    return _late_result(history, attempt)


def _late_result(history: History, attempt: StoredAttempt) -> str | None:
    later = [run for number, run in history.runs[attempt.job].items() if number > attempt.run]
    begun = min((run.start for run in later if run.start is not None), default=None)
    if begun is None:
        return None
    if attempt.outcome == "completed":
        return "is recorded as completed, but the job ran again after it"
    if attempt.finished - CLOCK_SLACK_SECONDS > begun:
        return f"is recorded as {attempt.outcome} after a later run had begun"
    return None


def _check_last_results(history: History) -> Iterator[Breach]:
    for job in history.facts.jobs:
        last = history.attempts[job.id].get(job.runs)
        if job.state == "completed" and (last is None or last.outcome != "completed"):
            how = "has no record" if last is None else f"is recorded as {last.outcome}"
            yield Breach("I3", job.id, f"completed, but its last run, {job.runs}, {how}")


# I4


def _check_numbers(history: History) -> Iterator[Breach]:
    for job in history.facts.jobs:
        attempts = history.attempts[job.id]
        known = set(attempts) | set(history.runs[job.id])
        if set(attempts) != set(range(1, job.runs + 1)) or max(known, default=0) > job.runs:
            yield Breach(
                "I4",
                job.id,
                f"it has {job.runs} runs, its records are of {_numbers(attempts)},"
                f" it says that it ran {_numbers(history.runs[job.id])}",
            )


def _numbers(runs: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(runs))) or "none"


def _check_charges(history: History) -> Iterator[Breach]:
    for job in history.facts.jobs:
        charged = [a.run for a in history.attempts[job.id].values() if a.outcome in _CHARGED]
        if len(charged) > (job.max_retries + 1) * (1 + job.requeues):
            yield Breach(
                "I4",
                job.id,
                f"{len(charged)} failures were charged with {job.max_retries} retries allowed"
                f" and {job.requeues} requeues",
            )
        if job.requeues == 0 and job.attempts != len(charged):
            yield Breach("I4", job.id, f"{job.attempts} failures counted, {len(charged)} recorded")
        if (job.state == "dead") != job.in_dlq:
            yield Breach("I4", job.id, f"it is {job.state}; in the dead letter queue: {job.in_dlq}")


# I5


def _check_survivors(history: History) -> Iterator[Breach]:
    for job in history.runs:
        for run in history.runs[job].values():
            late = _late_sign(history, run)
            if late is not None:
                yield Breach(
                    "I5",
                    job,
                    f"a process of run {run.run} ({late.kind}) still told that it lives"
                    f" at {late.at:.2f}, after that run was over",
                )
    for stray in history.facts.strays:
        attempt = history.attempts[stray.job].get(stray.run)
        if not (
            stray.hidden
            and attempt is not None
            and history.was_orphaned(attempt.pid, stray.supervisor, attempt.started, stray.at)
        ):
            yield Breach(
                "I5",
                stray.job or f"process {stray.pid}",
                f"process {stray.pid} ({stray.command}) of run {stray.run} was alive"
                f" at {stray.at:.2f}, after that run was recorded as ended",
            )


def _late_sign(history: History, run: Run) -> Sign | None:
    signs = [sign for sign in run.others if not history.is_excused(sign)]
    attempt = history.attempts[run.job].get(run.run)
    if not signs or attempt is None:
        return None
    last = max(signs, key=lambda sign: sign.at)
    if last.kind == "hidden":
        # It bears no mark, so it is known for this job's only when no other runs in its worker.
        return last if last.at > history.idle_again(attempt) + CLOCK_SLACK_SECONDS else None
    over = attempt.finished + CLOCK_SLACK_SECONDS
    following = history.runs[run.job].get(run.run + 1)
    if following is not None and following.start is not None:
        over = min(over, following.start + _STEP_SECONDS)
    return last if last.at > over else None


# I6, I7, I8


def _check_settled(history: History) -> Iterator[Breach]:
    for job in history.facts.jobs:
        if job.state not in _SETTLED_STATES:
            yield Breach("I6", job.id, f"it is still {job.state} after the drain")


def _check_integrity(history: History) -> Iterator[Breach]:
    for complaint in history.facts.damage:
        yield Breach("I7", history.facts.store, complaint)


def _check_manners(history: History) -> Iterator[Breach]:
    for complaint in history.facts.complaints:
        yield Breach("I8", history.facts.store, complaint)


_CHECKS: tuple[Callable[[History], Iterator[Breach]], ...] = (
    _check_acknowledged,
    _check_whole_batches,
    _check_overlaps,
    _check_results,
    _check_last_results,
    _check_numbers,
    _check_charges,
    _check_survivors,
    _check_settled,
    _check_integrity,
    _check_manners,
)


# Histories


#: Histories are written for so many breaches of an invariant; the shortest is shown.
_TOLD = 200


def _with_histories(history: History, breaches: list[Breach]) -> Iterator[Breach]:
    told: dict[str, int] = defaultdict(int)
    for breach in breaches:
        told[breach.invariant] += 1
        if told[breach.invariant] > _TOLD or breach.invariant in ("I7", "I8"):
            yield breach
            continue
        told_history = tell(history, breach.subject)
        yield Breach(breach.invariant, breach.subject, breach.what, told_history)
