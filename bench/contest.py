"""Contenders run in turn: A B C A B C, after a warm-up, so that a machine that drifts is fair."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil


class Role(StrEnum):
    """What a contender is to the others."""

    OURS = "ours"
    LIMIT = "limit"  #: what the machine, or our own stack, can do at best
    PEER = "peer"


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that is measured; ``run`` does it once and returns its figure."""

    name: str
    role: Role
    run: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one contender, one for each counted run."""

    name: str
    role: Role
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rows of all that ran, and why the others did not."""

    rows: list[Row]
    missing: dict[str, str]


def compete(contenders: Sequence[Contender], *, rounds: int, warm_ups: int = 1) -> Outcome:
    """Run each contender in turn; one that fails is left out from then on, and named."""
    values: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    missing: dict[str, str] = {}
    for number in range(-warm_ups, rounds):
        for contender in contenders:
            if contender.name in missing:
                continue
            try:
                figure = contender.run()
            except Exception as error:  # whatever a peer does, the others are measured
                missing[contender.name] = describe(error)
                continue
            if number >= 0:
                values[contender.name].append(figure)
        tell(f"round {number + 1} of {rounds}" if number >= 0 else "warm-up")
    rows = [Row(c.name, c.role, tuple(values[c.name])) for c in contenders]
    return Outcome([row for row in rows if len(row.values) == rounds], missing)


def describe(error: Exception) -> str:
    """Return one line about what went wrong."""
    if isinstance(error, subprocess.CalledProcessError):
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        return f"exit code {error.returncode}: {said[-1] if said else ''}"
    return f"{type(error).__name__}: {error}"


def tell(text: str) -> None:
    """Say on stderr how far it is."""
    print(f"  {text}", file=sys.stderr, flush=True)


def median_of(rows: Sequence[Row], name: str) -> float | None:
    """Return the median of the contender of that name, None if it did not run."""
    return next((row.median for row in rows if row.name == name), None)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of the others lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
