"""What a workload found: rows, bars, who is missing; as a table and as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench import machine
from bench.contest import Role, Row

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure that must reach its target; the value is None where it could not be measured."""

    name: str
    value: float | None
    sense: Literal["at least", "at most"]
    target: float

    @property
    def is_met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.target if self.sense == "at least" else self.value <= self.target


@dataclass(frozen=True, slots=True)
class Report:
    """One workload's result. ``better`` says whether higher or lower figures win."""

    workload: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    rows: Sequence[Row]
    bars: Sequence[Bar]
    missing: dict[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def best(self, role: Role, kind: str | None = None) -> float | None:
        """Return the best median among the contenders of a role, of all kinds or of one."""
        medians = [
            row.median
            for row in self.rows
            if row.role is role and kind in (None, kind_of(row.name))
        ]
        if not medians:
            return None
        return max(medians) if self.better == "higher" else min(medians)

    def to_json(self, versions: dict[str, str], load: float) -> dict[str, Any]:
        """Return what is kept: nothing in it names this machine, its user or its folders."""
        return {
            "workload": self.workload,
            "title": self.title,
            "unit": self.unit,
            "better": self.better,
            "taken_at": machine.now(),
            "commit": machine.commit(),
            "machine": machine.describe(),
            "load_before": load,
            "versions": versions,
            "rows": [
                {
                    "name": row.name,
                    "role": row.role,
                    "median": _round(row.median),
                    "values": [_round(value) for value in row.values],
                }
                for row in self.rows
            ],
            "bars": [
                {
                    "name": bar.name,
                    "value": None if bar.value is None else _round(bar.value),
                    "sense": bar.sense,
                    "target": bar.target,
                    "met": bar.is_met,
                }
                for bar in self.bars
            ],
            "missing": self.missing,
            "notes": list(self.notes),
        }


def save(folder: Path, report: Report, versions: dict[str, str], load: float) -> None:
    """Write a result beside those of the other workloads."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report.to_json(versions, load), indent=1, ensure_ascii=False)
    (folder / f"{report.workload}.json").write_text(text + "\n")


def load_all(folder: Path) -> list[dict[str, Any]]:
    """Return all results that are there, by the workloads' numbers."""
    found = [json.loads(path.read_text()) for path in folder.glob("W*.json")]
    return sorted(
        found, key=lambda result: (len(result["workload"].rstrip("b")), result["workload"])
    )


def ratio(value: float | None, other: float | None) -> float | None:
    """Return how many times ``other`` a value is; None where one of them is not there."""
    return None if value is None or not other else value / other


def table(report: Report) -> str:
    """Return the report as text: each row with its ratio to the limit and best peer of its kind."""
    lines = [f"{report.workload}  {report.title}  ({report.unit}; {report.better} is better)"]
    width = max(len(row.name) for row in report.rows) if report.rows else 0
    lines.append(f"  {'':{width}}  {'median':>10}  {'min':>10}  {'max':>10}  x limit   x peer")
    lines += [
        f"  {row.name:{width}}  {figure(row.median):>10}  {figure(min(row.values)):>10}"
        f"  {figure(max(row.values)):>10}  {_ratios(report, row)}"
        for row in report.rows
    ]
    words = {True: "met", False: "MISSED", None: "not measured"}
    lines += [
        f"  {words[bar.is_met]}: {bar.name}: "
        f"{'-' if bar.value is None else figure(bar.value)}, {bar.sense} {bar.target:g}"
        for bar in report.bars
    ]
    lines += [f"  missing: {name} ({why})" for name, why in report.missing.items()]
    lines += [f"  note: {note}" for note in report.notes]
    return "\n".join(lines)


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return the bars of saved results as a table for the README, and whom none met."""
    lines = ["| | measured | reached | wanted | |", "|---|---|---|---|---|"]
    for result in results:
        for number, bar in enumerate(result["bars"]):
            what = f"{result['workload']}: {result['title']}" if number == 0 else ""
            reached = "-" if bar["value"] is None else figure(bar["value"])
            met = {True: "met", False: "missed", None: "not measured"}[bar["met"]]
            lines.append(
                f"| {what} | {bar['name']} | {reached} | {bar['sense']} {bar['target']:g} | {met} |"
            )
    return "\n".join(lines)


def kind_of(name: str) -> str:
    """Return which of several kinds a contender is of: ``bulk`` for ``bulk: huey``."""
    kind, colon, _ = name.partition(": ")
    return kind if colon else ""


def _ratios(report: Report, row: Row) -> str:
    kind = kind_of(row.name)
    limit, peer = report.best(Role.LIMIT, kind), report.best(Role.PEER, kind)
    return f"{_times(row.median, limit)}  {_times(row.median, peer)}"


def _times(value: float, other: float | None) -> str:
    times = ratio(value, other)
    return f"{'-' if times is None else f'{times:.2f}':>7}"


def figure(value: float) -> str:
    """Return a figure with the digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def _round(value: float) -> float:
    return float(f"{value:.5g}")
