"""W7: looking at a store with a million finished jobs, beside a store with one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from bench.contest import Contender, Role, compete, median_of
from bench.population import populate
from bench.report import Bar, Report, ratio
from bench.stage import Stage, plain_environment, queuectl
from queuectl.settings import StoreLocation

_COMMANDS = {
    "status": ("status",),
    "list": ("list",),
    "show": ("show", "last"),
    "logs": ("logs", "last"),
}


def run(stage: Stage) -> Report:
    """Time whole calls in milliseconds."""
    small, large = stage.new_store(), stage.new_store()
    populate(small, finished=1)
    populate(large, finished=stage.size(1_000_000, 1000))
    contenders = []
    for name, words in _COMMANDS.items():
        contenders.append(Contender(f"{name}: one finished", Role.LIMIT, _call(small, words)))
        contenders.append(Contender(f"{name}: a million", Role.OURS, _call(large, words)))
    outcome = compete(contenders, rounds=stage.size(7, 1))
    return Report(
        "W7",
        "look at a store with a million finished jobs",
        "ms",
        "lower",
        outcome.rows,
        [
            Bar(
                f"{name}, times a store with one",
                ratio(
                    median_of(outcome.rows, f"{name}: a million"),
                    median_of(outcome.rows, f"{name}: one finished"),
                ),
                "at most",
                1.5,
            )
            for name in _COMMANDS
        ],
        outcome.missing,
    )


def _call(location: StoreLocation, words: tuple[str, ...]) -> Callable[[], float]:
    command = queuectl(location, *words)

    def call() -> float:
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=plain_environment())
        return (time.perf_counter() - began) * 1000

    return call
