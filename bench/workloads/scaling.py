"""W9: one store and ever more worker processes: where more of them help no more."""

from __future__ import annotations

from bench.contest import Contender, Role, compete, median_of
from bench.report import Bar, Report, ratio
from bench.stage import Stage
from bench.workloads.drain import drain, emptied

#: A job that mostly waits, so that the processors are not full from the first worker on.
_COMMAND = "sleep 0.05"
_COUNTS = (1, 2, 4, 8, 16, 32)
#: Long enough that starts and ends of workers do not count, in jobs a worker.
_JOBS_A_WORKER = 80


def run(stage: Stage) -> Report:
    """Count jobs a second with 1 to 32 workers of one slot."""

    def on_sqlite(count: int) -> Contender:
        jobs = stage.size(_JOBS_A_WORKER * count, 4)
        return Contender(
            _name("SQLite", count),
            Role.OURS,
            lambda: drain(stage, _COMMAND, count=count, concurrency=1, jobs=jobs),
        )

    def on_postgresql(count: int) -> Contender:
        jobs = stage.size(_JOBS_A_WORKER * count, 4)
        return Contender(
            _name("PostgreSQL", count),
            Role.OURS,
            lambda: emptied(stage.new_server_store(), jobs, _COMMAND, count, 1),
        )

    counts = _COUNTS[: stage.size(len(_COUNTS), 2)]
    contenders = [make(count) for make in (on_sqlite, on_postgresql) for count in counts]
    outcome = compete(contenders, rounds=stage.size(3, 1))
    one, most = (
        median_of(outcome.rows, _name("SQLite", count)) for count in (counts[0], counts[-1])
    )
    return Report(
        "W9",
        f"{_COMMAND}, by the number of workers",
        "jobs/s",
        "higher",
        outcome.rows,
        [
            Bar(
                f"SQLite, {counts[-1]} workers, times one",
                ratio(most, one),
                "at least",
                counts[-1] / 2,
            )
        ],
        outcome.missing,
        ["a worker of one slot can run 19 of these a second: sh and sleep take 3 ms of each"],
    )


def _name(store: str, count: int) -> str:
    return f"{store}: queuectl, {count} worker{'s' * (count > 1)}"
