"""W13: what the tab key waits for: a live id, with a million finished jobs stored, and a version.

The call is the one that bash's script makes. The floor is ``queuectl --version``, which starts the
program and asks nothing.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from bench.contest import Contender, Role, compete, median_of
from bench.population import populate
from bench.report import Bar, Report, ratio
from bench.stage import QUEUECTL, Stage, plain_environment
from queuectl.cli.completion import VARIABLE
from queuectl.db.engine import open_store
from queuectl.domain.request import JobRequest
from queuectl.service import jobs
from queuectl.settings import PATH_VARIABLE, StoreLocation

_FLOOR = "queuectl --version"
#: What is typed, and what must be among the answers. Each is another way through the store: ids
#: that are few, all of them, and half of a million.
_LINES = {
    "a live id": ("queuectl show live-", "live-0"),
    "any id": ("queuectl show ", "live-0"),
    "one of many ids": ("queuectl show 7", None),
    "dead jobs": ("queuectl dlq retry ", None),
    "a queue": ("queuectl list --queue ", "default"),
}


def run(stage: Stage) -> Report:
    """Time whole calls in milliseconds."""
    location = stage.new_store()
    populate(location, finished=stage.size(1_000_000, 1000))
    with closing(open_store(location)) as store:
        wanted = [JobRequest(command="sleep 60", id=f"live-{number}") for number in range(3)]
        jobs.enqueue(store, wanted, cwd="/")
    contenders = [Contender(_FLOOR, Role.LIMIT, _call(location, [QUEUECTL, "--version"]))]
    for name, (line, answer) in _LINES.items():
        words = [QUEUECTL, line, "9", " \t\n\"'><=;|&(:"]
        contenders.append(Contender(name, Role.OURS, _call(location, words, answer)))
    outcome = compete(contenders, rounds=stage.size(15, 1))
    return Report(
        "W13",
        "complete an id with a million finished jobs stored",
        "ms",
        "lower",
        outcome.rows,
        [
            Bar(
                f"{name}, times queuectl --version",
                ratio(median_of(outcome.rows, name), median_of(outcome.rows, _FLOOR)),
                "at most",
                1.5,
            )
            for name in _LINES
        ],
        outcome.missing,
    )


def _call(
    location: StoreLocation, words: Sequence[str], answer: str | None = None
) -> Callable[[], float]:
    environment = plain_environment() | {PATH_VARIABLE: str(location.path)}
    if len(words) > 2:  # a line to complete
        environment[VARIABLE] = "bash"

    def call() -> float:
        began = time.perf_counter()
        done = subprocess.run(words, check=True, capture_output=True, env=environment)
        took = (time.perf_counter() - began) * 1000
        if answer is not None and answer.encode() not in done.stdout.split():
            raise ValueError(f"{words[1]!r} did not offer {answer}")
        return took

    return call
