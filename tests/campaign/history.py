"""The facts of one store, arranged by job, and the history of a job as it is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.campaign import plan
from tests.campaign.facts import Batch, Facts, Sign, StoredAttempt, StoredJob

#: The store's instants are of the wall clock, which may be slewed a little against the jobs' own.
CLOCK_SLACK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of a history."""

    at: float
    text: str


@dataclass(slots=True)
class Run:
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


class History:
    """The facts of one store, arranged by job."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.jobs: dict[str, StoredJob] = {job.id: job for job in facts.jobs}
        self.runs: dict[str, dict[int, Run]] = defaultdict(dict)
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
        #: When processes were killed, by their number, which may be used again.
        self.deaths: dict[int, list[float]] = defaultdict(list)
        for strike in facts.strikes:
            if strike.kind in (plan.WORKER_KILLED, plan.BOTH_KILLED, plan.FAILPOINT):
                for pid in strike.pids:
                    self.deaths[pid].append(strike.at)
        #: When each worker ran something, in the order of the beginnings.
        self.busy: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for attempt in facts.attempts:
            self.busy[attempt.worker].append((attempt.started, attempt.finished))
        for times in self.busy.values():
            times.sort()

    def _add(self, sign: Sign) -> None:
        run = self.runs[sign.job].get(sign.run)
        if run is None:
            run = self.runs[sign.job][sign.run] = Run(sign.job, sign.run)
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

    def ordered_runs(self, job: str) -> list[Run]:
        return [run for _, run in sorted(self.runs[job].items())]

    def is_excused(self, sign: Sign) -> bool:
        """Whether this is the one process that cannot be found again.

        It cleared its environment and left its group, so that only those can end it who adopt it:
        its worker, which was killed, and then its supervisor, which could not either.
        """
        run = self.runs[sign.job][sign.run]
        began = run.starts[0].at if run.starts else sign.at
        return sign.kind == "hidden" and self.was_orphaned(
            sign.parent, sign.supervisor, began, sign.at
        )

    def was_orphaned(self, worker_pid: int, supervisor: str, began: float, at: float) -> bool:
        """Whether a worker had been killed since then, and its supervisor could end nothing."""
        killed = any(began <= death <= at for death in self.deaths[worker_pid])
        return killed and self.was_helpless(supervisor, at)

    def was_helpless(self, supervisor: str, at: float) -> bool:
        """Whether a supervisor had been killed by then, or was stopped at that moment."""
        return self.supervisor_deaths.get(supervisor, at + 1) <= at or any(
            freeze.supervisor == supervisor and freeze.begin <= at <= freeze.end
            for freeze in self.facts.freezes
        )


def tell(history: History, job: str) -> tuple[Moment, ...]:
    """Return all that is known of a job, in order."""
    return tuple(sorted(_moments(history, job), key=lambda moment: moment.at))


def _moments(history: History, job: str) -> Iterator[Moment]:
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


def _own_moments(run: Run) -> Iterator[Moment]:
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


def _strike_moments(history: History, job: str) -> Iterator[Moment]:
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
