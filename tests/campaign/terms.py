"""What one store's campaign is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.campaign import plan


@dataclass(frozen=True, slots=True)
class Terms:
    """How many faults, from which seed, on which store, and how large everything is."""

    faults: int
    seed: int
    #: The store's path, or its URL.
    store: str
    jobs: int
    lease_seconds: float = 2.0
    faults_per_second: float = 3.0
    supervisors: int = 2
    workers: int = 2
    slots: int = 2
    kinds: Mapping[str, int] = field(default_factory=lambda: plan.KINDS)
    mix: Mapping[str, int] = field(default_factory=lambda: plan.JOBS)
    mutant: str | None = None
    #: After this much work the faults end, however many have struck.
    limit_seconds: float = 86_400.0
