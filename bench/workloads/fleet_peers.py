"""Other queues on PostgreSQL without jobs' commands: bulk, single, claim and settle.

A workload takes ``contenders(stage)`` beside its own, whose names begin with the same words.
"""

from __future__ import annotations

from bench.contest import Contender, Role
from bench.stage import Stage

BULK, SINGLE, CLAIM = "bulk: ", "single: ", "claim and settle: "
#: The packages, and how they take jobs.
_PEERS = {"pgqueuer": "PgQueuer, batches of 10", "procrastinate": "procrastinate, one by one"}


def contenders(stage: Stage) -> list[Contender]:
    """Return all that is there; each counts jobs a second in a database of its own."""
    return [
        Contender(name, Role.PEER, _Run(stage, f"{package}_app", mode, count))
        for package, claiming in _PEERS.items()
        if stage.peers.has(package)
        for name, mode, count in (
            (f"{BULK}{claiming.split(',')[0]}", "bulk", stage.size(100_000, 100)),
            (f"{SINGLE}{claiming.split(',')[0]}", "single", stage.size(2000, 20)),
            (f"{CLAIM}{claiming}", "claim", stage.size(_claims(package), 20)),
        )
    ]


def _claims(package: str) -> int:
    """Return how many jobs take about a second or two."""
    return 20_000 if package == "pgqueuer" else 2000


class _Run:
    """One mode of one program in ``apps``."""

    def __init__(self, stage: Stage, app: str, mode: str, count: int) -> None:
        self._stage, self._app, self._mode, self._count = stage, app, mode, count

    def __call__(self) -> float:
        url = self._stage.new_database(self._app)
        return float(self._stage.peers.run(self._app, self._mode, url, self._count))
