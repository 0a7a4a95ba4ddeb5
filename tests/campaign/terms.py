"""What one store's campaign is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.campaign import plan


@dataclass(frozen=True, slots=True)
class Terms:
    """How many faults, from which seed, on which store, and how large everything is."""

    faults: int
    seed: int
    #: The store's path, or its URL; or ``postgresql``: a server of the campaign's own.
    store: str
    jobs: int
    #: The folder of the campaign's own files; None: beside the store.
    files: str | None = None
    lease_seconds: float = 2.0
    faults_per_second: float = 3.0
    supervisors: int = 2
    #: How many machines there seem to be, where the store is on a server.
    hosts: int = 2
    workers: int = 2
    slots: int = 2
    kinds: Mapping[str, int] = field(default_factory=lambda: plan.KINDS)
    mix: Mapping[str, int] = field(default_factory=lambda: plan.JOBS)
    #: At which transactions failpoints are set, and where in them.
    transactions: Mapping[str, int] = field(default_factory=lambda: plan.TRANSACTIONS)
    stages: Sequence[str] = plan.STAGES
    #: Fewer unsettled jobs than this, and another client comes; with so many jobs at most.
    backlog: int = 50
    largest_batch: int = 60
    #: A freeze lasts this many leases, at least.
    freeze_leases: float = 1.2
    mutant: str | None = None
    #: A drain in which nothing at all happens for so long has failed.
    stuck_seconds: float = 60.0
    #: How long workers may take to leave when they are stopped.
    leaving_seconds: float = 60.0
    #: After this much work the faults end, however many have struck.
    limit_seconds: float = 86_400.0
