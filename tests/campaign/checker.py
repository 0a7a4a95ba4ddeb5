"""The history checker: holds what is known of a campaign against the invariants. Pure.

It believes three witnesses who know nothing of each other: what the clients were told, what the
jobs wrote down themselves outside the store, and the store's own table of attempts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from tests.campaign import plan
from tests.campaign.facts import Batch, Facts, Sign, StoredAttempt, StoredJob

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

#: The store's instants are of the wall clock, which may be slewed a little against the jobs' own.
CLOCK_SLACK_SECONDS = 0.5
#: The jobs read their clock in steps of 10 ms, rounded down.
_STEP_SECONDS = 0.011

_SETTLED_STATES = frozenset({"completed", "dead", "cancelled"})
_CHARGED = frozenset({"failed", "timed out"})
_RESULTS = frozenset({"completed", "failed", "timed out"})
#: Kinds after which the affected job must start again soon.
RECOVERED = (plan.WORKER_KILLED, plan.BOTH_KILLED, plan.FAILPOINT, plan.WORKER_FROZEN)


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of a history."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Breach:
    """A place where an invariant is broken, with the history that shows it."""

    invariant: str
    subject: str
    what: str
    history: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long a job waited for its next start after a fault had ended its attempt."""

    kind: str
    job: str
    seconds: float
    #: Whether nothing else was in the way: no full disk, no stop, nobody frozen.
    clear: bool


@dataclass(frozen=True, slots=True)
class Slowest:
    """The recovery that took longest, with the history of its job."""

    recovery: Recovery
    history: tuple[Moment, ...]


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


@dataclass(slots=True)
class _Run:
    """What a job itself tells of one of its runs."""

    job: str
    run: int
    starts: list[Sign] = field(default_factory=list)
    #: Signs of the job's shell, and of the processes it left.
    own: list[Sign] = field(default_factory=list)
    others: list[Sign] = field(default_factory=list)
    end: Sign | None = None

    @property
    def start(self) -> float | None:
        return self.starts[0].at if self.starts else None


class _History:
    """The facts of one store, arranged by job."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.jobs: dict[str, StoredJob] = {job.id: job for job in facts.jobs}
        self.runs: dict[str, dict[int, _Run]] = defaultdict(dict)
        self.attempts: dict[str, dict[int, StoredAttempt]] = defaultdict(dict)
        self.batches: dict[str, Batch] = {}
        for sign in facts.signs:
            self._add(sign)
        for attempt in facts.attempts:
            self.attempts[attempt.job][attempt.run] = attempt
        for batch in facts.batches:
            self.batches.update(dict.fromkeys((*batch.own_ids, *batch.acknowledged), batch))
        #: When each supervisor was killed, by its name in the campaign.
        self.supervisor_deaths: dict[str, float] = {
            strike.supervisor: strike.at
            for strike in facts.strikes
            if strike.kind in (plan.SUPERVISOR_KILLED, plan.BOTH_KILLED)
        }
        #: When each worker ran something, in the order of the beginnings.
        self.busy: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for attempt in facts.attempts:
            self.busy[attempt.worker].append((attempt.started, attempt.finished))
        for times in self.busy.values():
            times.sort()

    def _add(self, sign: Sign) -> None:
        run = self.runs[sign.job].get(sign.run)
        if run is None:
            run = self.runs[sign.job][sign.run] = _Run(sign.job, sign.run)
        if sign.kind in ("child", "hidden"):
            run.others.append(sign)
            return
        run.own.append(sign)
        if sign.kind == "start":
            run.starts.append(sign)
        elif sign.kind == "end":
            run.end = sign

    def idle_again(self, attempt: StoredAttempt) -> float:
        """Return when the worker of an attempt next ran nothing at all."""
        end = attempt.finished
        for started, finished in self.busy[attempt.worker]:
            if started <= end + CLOCK_SLACK_SECONDS:
                end = max(end, finished)
        return end

    def ordered_runs(self, job: str) -> list[_Run]:
        return [run for _, run in sorted(self.runs[job].items())]

    def is_excused(self, sign: Sign) -> bool:
        """Whether this is the one process that cannot be found again.

        It cleared its environment and left its group, and both who could have adopted it were
        killed: its supervisor too.
        """
        return sign.kind == "hidden" and self.was_killed(sign.supervisor, sign.at)

    def was_killed(self, supervisor: str, at: float) -> bool:
        """Whether a supervisor had been killed by then."""
        return self.supervisor_deaths.get(supervisor, at + 1) <= at


def judge(facts: Facts) -> Verdict:
    """Hold the facts against every invariant."""
    history = _History(facts)
    found = [breach for check in _CHECKS for breach in check(history)]
    recoveries = tuple(_recoveries(history))
    return Verdict(
        facts.store,
        tuple(_with_histories(history, found)),
        recoveries,
        _count(history),
        _count_faults(facts),
        facts.notes,
        _slowest(history, recoveries),
    )


def shortest(breaches: Iterable[Breach], invariant: str) -> Breach | None:
    """Return the breach of an invariant that is told in the fewest lines."""
    found = [breach for breach in breaches if breach.invariant == invariant]
    return min(found, key=lambda breach: (not breach.history, len(breach.history)), default=None)


# I1


def _check_acknowledged(history: _History) -> Iterator[Breach]:
    for batch in history.facts.batches:
        for job in batch.acknowledged:
            if job not in history.jobs:
                yield Breach("I1", job, f"client {batch.name} was told this id; it is not there")
    stored = [job.id for job in history.facts.jobs]
    for job in {job for job in stored if stored.count(job) > 1} if _has_twins(stored) else ():
        yield Breach("I1", job, "this id is there more than once")


def _has_twins(ids: list[str]) -> bool:
    return len(set(ids)) != len(ids)


def _check_whole_batches(history: _History) -> Iterator[Breach]:
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


def _check_overlaps(history: _History) -> Iterator[Breach]:
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


def _pairs_with_starts(runs: list[_Run]) -> Iterator[tuple[_Run, _Run]]:
    return pairwise(run for run in runs if run.starts)


# I3


def _check_results(history: _History) -> Iterator[Breach]:
    for job, attempts in history.attempts.items():
        for attempt in attempts.values():
            run = history.runs[job].get(attempt.run)
            if problem := _result_problem(history, attempt, run):
                yield Breach("I3", job, f"run {attempt.run} {problem}")


def _result_problem(history: _History, attempt: StoredAttempt, run: _Run | None) -> str | None:
    if run is not None and any(sign.worker != attempt.worker for sign in run.own):
        return "was recorded by another worker than the one that ran it"
    if attempt.outcome not in _RESULTS:
        return None
    if run is None or not run.starts:
        return f"is recorded as {attempt.outcome}, but the job never began it"
    if attempt.outcome != "timed out" and (
        run.end is None or run.end.code != attempt.exit_code or attempt.signal is not None
    ):
        how = f"signal {attempt.signal}" if attempt.signal else f"exit code {attempt.exit_code}"
        return f"is recorded as {attempt.outcome} with {how}, but that is not how the job ended it"
    return _late_result(history, attempt)


def _late_result(history: _History, attempt: StoredAttempt) -> str | None:
    later = [run for number, run in history.runs[attempt.job].items() if number > attempt.run]
    begun = min((run.start for run in later if run.start is not None), default=None)
    if begun is None:
        return None
    if attempt.outcome == "completed":
        return "is recorded as completed, but the job ran again after it"
    if attempt.finished - CLOCK_SLACK_SECONDS > begun:
        return f"is recorded as {attempt.outcome} after a later run had begun"
    return None


def _check_last_results(history: _History) -> Iterator[Breach]:
    for job in history.facts.jobs:
        last = history.attempts[job.id].get(job.runs)
        if job.state == "completed" and (last is None or last.outcome != "completed"):
            how = "has no record" if last is None else f"is recorded as {last.outcome}"
            yield Breach("I3", job.id, f"completed, but its last run, {job.runs}, {how}")


# I4


def _check_numbers(history: _History) -> Iterator[Breach]:
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


def _check_charges(history: _History) -> Iterator[Breach]:
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


def _check_survivors(history: _History) -> Iterator[Breach]:
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
        if not (stray.hidden and history.was_killed(stray.supervisor, stray.at)):
            yield Breach(
                "I5",
                stray.job or f"process {stray.pid}",
                f"process {stray.pid} ({stray.command}) of run {stray.run} was alive"
                f" at {stray.at:.2f}, after that run was recorded as ended",
            )


def _late_sign(history: _History, run: _Run) -> Sign | None:
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


def _check_settled(history: _History) -> Iterator[Breach]:
    for job in history.facts.jobs:
        if job.state not in _SETTLED_STATES:
            yield Breach("I6", job.id, f"it is still {job.state} after the drain")


def _check_integrity(history: _History) -> Iterator[Breach]:
    for complaint in history.facts.damage:
        yield Breach("I7", history.facts.store, complaint)


def _check_manners(history: _History) -> Iterator[Breach]:
    for complaint in history.facts.complaints:
        yield Breach("I8", history.facts.store, complaint)


_CHECKS: tuple[Callable[[_History], Iterator[Breach]], ...] = (
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


def _with_histories(history: _History, breaches: list[Breach]) -> Iterator[Breach]:
    told: dict[str, int] = defaultdict(int)
    for breach in breaches:
        told[breach.invariant] += 1
        if told[breach.invariant] > _TOLD or breach.invariant in ("I7", "I8"):
            yield breach
            continue
        told_history = _history_of(history, breach.subject)
        yield Breach(breach.invariant, breach.subject, breach.what, told_history)


def _history_of(history: _History, job: str) -> tuple[Moment, ...]:
    return tuple(sorted(_moments(history, job), key=lambda moment: moment.at))


def _moments(history: _History, job: str) -> Iterator[Moment]:
    if batch := history.batches.get(job):
        told = "acknowledged" if job in batch.acknowledged else "asked for, not acknowledged"
        how = "was killed" if batch.exit_code is None else f"ended with {batch.exit_code}"
        yield Moment(batch.ended, f"enqueue: {told} by client {batch.name}, which {how}")
    for run in history.ordered_runs(job):
        yield from _own_moments(run)
    for attempt in history.attempts[job].values():
        yield Moment(
            attempt.finished,
            f"store: run {attempt.run} {attempt.outcome}"
            + (f", exit code {attempt.exit_code}" if attempt.exit_code is not None else "")
            + f" (worker {attempt.worker[:6]}, process {attempt.pid})",
        )
    yield from _strike_moments(history, job)


def _own_moments(run: _Run) -> Iterator[Moment]:
    for sign in run.starts:
        yield Moment(
            sign.at,
            f"job: run {run.run} starts (claim {sign.claim}, worker {sign.worker[:6]},"
            f" process {sign.parent})",
        )
    ticks = [sign for sign in run.own if sign.kind == "tick"]
    if ticks:
        yield Moment(ticks[-1].at, f"job: run {run.run} is alive (last of {len(ticks)} signs)")
    if run.end is not None:
        yield Moment(run.end.at, f"job: run {run.run} ends with {run.end.code}")
    if run.others:
        last = max(run.others, key=lambda sign: sign.at)
        yield Moment(last.at, f"{last.kind} of run {run.run} is alive ({len(run.others)} signs)")


def _strike_moments(history: _History, job: str) -> Iterator[Moment]:
    """Tell of the faults that hit those who ran the job, while they ran it."""
    runs = [run for run in history.runs[job].values() if run.start is not None]
    times = [(run.starts[0].parent, run.start or 0.0) for run in runs]
    times += [(a.pid, a.started) for a in history.attempts[job].values()]
    supervisors = {sign.supervisor for run in runs for sign in run.starts}
    last = max((attempt.finished for attempt in history.attempts[job].values()), default=0.0)
    for strike in history.facts.strikes:
        hit = any(pid in strike.pids and strike.at >= at - 1.0 for pid, at in times)
        if (hit or strike.supervisor in supervisors) and strike.at <= last + 1.0:
            pids = ", ".join(map(str, strike.pids))
            yield Moment(
                strike.at, f"FAULT {strike.number}: {strike.kind} {strike.detail} ({pids})"
            )


# Counts and times


def _recoveries(history: _History) -> Iterator[Recovery]:
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


def _recovery(
    history: _History, kind: str, at: float, attempt: StoredAttempt
) -> Iterator[Recovery]:
    following = history.runs[attempt.job].get(attempt.run + 1)
    if following is None or following.start is None:
        return
    begun = following.start
    clear = not any(
        trouble.begin <= begun and at <= trouble.end for trouble in history.facts.troubles
    )
    yield Recovery(kind, attempt.job, max(0.0, begun - at), clear)


def _slowest(history: _History, recoveries: Iterable[Recovery]) -> Slowest | None:
    clear = [r for r in recoveries if r.clear and r.kind != plan.WORKER_FROZEN]
    slowest = max(clear, key=lambda recovery: recovery.seconds, default=None)
    if slowest is None:
        return None
    return Slowest(slowest, _history_of(history, slowest.job))


def _count(history: _History) -> dict[str, int]:
    facts = history.facts
    counts = {
        "jobs": len(facts.jobs),
        "acknowledged": len({job for batch in facts.batches for job in batch.acknowledged}),
        "calls of enqueue": len(facts.batches),
        "calls of enqueue that were killed": sum(b.exit_code is None for b in facts.batches),
        "runs that a job wrote down": sum(len(runs) for runs in history.runs.values()),
        "attempts": len(facts.attempts),
        "unmarked orphans whose worker and supervisor were both killed": _count_excused(history),
    }
    for outcome in sorted({attempt.outcome for attempt in facts.attempts}):
        counts[f"attempts {outcome}"] = sum(a.outcome == outcome for a in facts.attempts)
    for state in sorted({job.state for job in facts.jobs}):
        counts[f"jobs {state}"] = sum(job.state == state for job in facts.jobs)
    return counts


def _count_excused(history: _History) -> int:
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


def _count_faults(facts: Facts) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for strike in facts.strikes:
        counts[strike.kind if not strike.detail else f"{strike.kind}: {strike.detail}"] += 1
    return dict(sorted(counts.items()))
