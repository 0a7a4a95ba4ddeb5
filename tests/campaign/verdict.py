"""The verdict in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from statistics import median

from tests.campaign.checker import INVARIANTS, Breach, Verdict, shortest
from tests.campaign.history import Moment
from tests.campaign.recovery import WAITING, Recovery


def render(verdicts: Sequence[Verdict], command: str, seconds: float) -> str:
    """Return the whole verdict on some stores as text."""
    breaches = [breach for verdict in verdicts for breach in verdict.breaches]
    lines = [f"command: {command}", f"took {seconds:.0f} s on {len(verdicts)} stores", ""]
    lines += _invariants(breaches)
    lines += ["", "faults that struck"]
    faults = _sum(verdict.faults for verdict in verdicts)
    lines += [*_table(faults), f"  {sum(faults.values()):9,} in all"]
    lines += ["", "what was seen"]
    lines += _table(_sum(verdict.counts for verdict in verdicts))
    lines += ["", *_recoveries([r for verdict in verdicts for r in verdict.recoveries])]
    lines += _slowest(verdicts)
    notes = [f"{verdict.store}: {note}" for verdict in verdicts for note in verdict.notes]
    lines += ["", *sorted(notes), ""]
    lines += _histories(breaches)
    lines.append(_conclusion(verdicts, sum(faults.values())))
    return "\n".join(lines)


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which this part of them lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(part * len(ordered)) - 1)]


def _invariants(breaches: list[Breach]) -> Iterator[str]:
    for name, text in INVARIANTS.items():
        broken = sum(breach.invariant == name for breach in breaches)
        state = f"BROKEN {broken} times" if broken else "holds"
        yield f"{name} {state:16} {text}"


def _sum(counts: Iterable[object]) -> dict[str, int]:
    total: dict[str, int] = defaultdict(int)
    for mapping in counts:
        for name, count in dict(mapping).items():  # type: ignore[call-overload]
            total[name] += count
    return dict(total)


def _table(counts: dict[str, int]) -> list[str]:
    return [f"  {count:9,} {name}" for name, count in counts.items()]


def _recoveries(recoveries: list[Recovery]) -> Iterator[str]:
    yield "from the fault to the next start of a job that it hit, in seconds"
    yield f"  {'':40} {'jobs':>7} {'median':>7} {'p99':>7} {'worst':>7}"
    clear = [recovery for recovery in recoveries if recovery.clear]
    kinds = sorted({recovery.kind for recovery in recoveries})
    for kind in kinds:
        of_kind = [recovery for recovery in clear if recovery.kind == kind]
        yield from _row(kind, of_kind)
    kills = [recovery for recovery in clear if recovery.kind not in WAITING]
    yield from _row("all kills", kills)
    others = [recovery for recovery in recoveries if not recovery.clear]
    yield from _row("with something else in the way", others)


def _slowest(verdicts: Sequence[Verdict]) -> Iterator[str]:
    found = [v.slowest for v in verdicts if v.slowest is not None]
    slowest = max(found, key=lambda one: one.recovery.seconds, default=None)
    if slowest is not None:
        yield ""
        recovery = slowest.recovery
        yield f"the slowest, {recovery.seconds:.2f} s after {recovery.kind!r}: {recovery.job}"
        yield from _moments(slowest.history)


def _row(name: str, recoveries: list[Recovery]) -> Iterator[str]:
    if recoveries:
        times = [recovery.seconds for recovery in recoveries]
        yield (
            f"  {name:40} {len(times):7,} {median(times):7.2f} {percentile(times, 0.99):7.2f}"
            f" {max(times):7.2f}"
        )


def _histories(breaches: list[Breach]) -> Iterator[str]:
    for name in INVARIANTS:
        breach = shortest(breaches, name)
        if breach is None:
            continue
        yield f"{name} is broken. The shortest history that shows it is of {breach.subject}:"
        yield f"  {breach.what}"
        yield from _moments(breach.history)
        yield ""


def _moments(history: Sequence[Moment]) -> Iterator[str]:
    for moment in history:
        yield f"  {moment.at:12.2f}  {moment.text}"


def _conclusion(verdicts: Sequence[Verdict], faults: int) -> str:
    jobs = sum(verdict.counts["jobs"] for verdict in verdicts)
    broken = sorted({name for verdict in verdicts for name in verdict.broken})
    if broken:
        return f"verdict: BROKEN {', '.join(broken)} ({faults:,} faults, {jobs:,} jobs)"
    return f"verdict: {faults:,} faults over {jobs:,} jobs, every invariant holds"
