"""W9: one SQLite file and ever more worker processes: where more of them help no more."""

from __future__ import annotations

from bench.contest import Contender, Role, compete, median_of
from bench.report import Bar, Report, ratio
from bench.stage import Stage
from bench.workloads.drain import drain

#: A job that mostly waits, so that the processors are not full from the first worker on.
_COMMAND = "sleep 0.05"
_COUNTS = (1, 2, 4, 8, 16, 32)
#: Long enough that starts and ends of workers do not count, in jobs a worker.
_JOBS_A_WORKER = 40


def run(stage: Stage) -> Report:
    """Count jobs a second with 1 to 32 workers of one slot."""

    def contender(count: int) -> Contender:
        jobs = stage.size(_JOBS_A_WORKER * count, 4)
        return Contender(
            _name(count),
            Role.OURS,
            lambda: drain(stage, _COMMAND, count=count, concurrency=1, jobs=jobs),
        )

    counts = _COUNTS[: stage.size(len(_COUNTS), 2)]
    outcome = compete([contender(count) for count in counts], rounds=stage.size(3, 1))
    one, most = (median_of(outcome.rows, _name(count)) for count in (counts[0], counts[-1]))
    return Report(
        "W9",
        f"{_COMMAND}, by the number of workers",
        "jobs/s",
        "higher",
        outcome.rows,
        [Bar(f"{counts[-1]} workers, times one", ratio(most, one), "at least", counts[-1] / 2)],
        outcome.missing,
        ["a worker of one slot can run 19 of these a second: sh and sleep take 3 ms of each"],
    )


def _name(count: int) -> str:
    return f"queuectl, {count} worker{'s' * (count > 1)}"
