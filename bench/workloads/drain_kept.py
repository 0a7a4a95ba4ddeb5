"""W2b: the same as W2 with jobs that print a line each, which is kept."""

from __future__ import annotations

from bench.contest import Contender, Role
from bench.report import Report
from bench.stage import Stage
from bench.workloads import drain

_COMMAND = "echo a line"


def run(stage: Stage) -> Report:
    """Count jobs a second."""
    limit = Contender(
        "xargs -P2 sh -c, a file a job", Role.LIMIT, lambda: drain.xargs_keeping(stage, _COMMAND)
    )
    note = "the limit keeps the output and nothing else: no record, no queue, no durability"
    title = "2,000 times echo, two at a time, output kept"
    return drain.contest(stage, "W2b", title, _COMMAND, limit, note)
