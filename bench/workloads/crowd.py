"""W8: eight workers and eight enqueuing clients on one SQLite file, beside one of each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bench.contest import Role, Row, percentile, tell
from bench.report import Bar, Report, ratio
from bench.stage import Stage, plain_environment, running_workers
from queuectl.db.engine import Store
from queuectl.domain.job import State
from queuectl.service import counts


@dataclass(frozen=True, slots=True)
class _Crowd:
    """What a crowd did: rows a second in all, and what each enqueue took in milliseconds."""

    enqueued: float
    finished: float
    waits: Sequence[float]
    errors: int

    @property
    def total(self) -> float:
        return self.enqueued + self.finished


def run(stage: Stage) -> Report:
    """Count jobs enqueued and jobs finished, a second."""
    one = _crowd(stage, 1, stage.size(20, 1))
    eight = _crowd(stage, 8, stage.size(60, 1))
    rows = [
        Row("one of each", Role.LIMIT, (one.total,)),
        Row("eight of each", Role.OURS, (eight.total,)),
    ]
    worst = percentile(eight.waits, 0.99)
    return Report(
        "W8",
        "8 workers and 8 enqueuing clients on one file for a minute",
        "jobs enqueued and jobs finished a second",
        "higher",
        rows,
        [
            Bar("errors", float(eight.errors), "at most", 0),
            Bar("eight of each, times one of each", ratio(eight.total, one.total), "at least", 0.8),
            Bar("99th percentile of an enqueue, ms", worst, "at most", 250),
        ],
        notes=[
            f"one of each: {one.enqueued:.0f} enqueued and {one.finished:.0f} finished a second",
            f"eight of each: {eight.enqueued:.0f} enqueued and {eight.finished:.0f} finished",
        ],
    )


def _crowd(stage: Stage, size: int, seconds: int) -> _Crowd:
    location = stage.new_store()
    command = [sys.executable, "-m", "bench.client", str(location.path), str(seconds)]
    tell(f"{size} of each")
    with running_workers(location, count=size) as _:
        clients = [
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=plain_environment(),
            )
            for _ in range(size)
        ]
        answers = [client.communicate() for client in clients]
        finished = counts.read_status(Store(location)).states[State.COMPLETED]
    waits = [wait for said, _ in answers if said for wait in json.loads(said)]
    events = (location.folder / "events").read_text()
    errors = sum(client.returncode != 0 for client in clients)
    errors += events.count("died") + events.count("away") + events.count("dropped")
    return _Crowd(len(waits) / seconds, finished / seconds, waits, errors)
