"""Results as an SVG: a panel a workload, a bar a contender; readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.report import figure, kind_of

_WIDTH, _LABEL, _BAR_END, _ROW, _TITLE = 860, 330, 760, 20, 44

#: Text follows the reader's scheme; the bars' colours stand out on both.
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 13px; }
.ours { fill: #2f81f7; } .limit { fill: #8b949e; } .peer { fill: #d29922; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }
"""


def write(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw all results that have rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(draw(results))


def draw(results: Sequence[dict[str, Any]]) -> str:
    """Return the whole picture."""
    parts: list[str] = []
    y = 8
    for result in results:
        for title, rows in _panels(result):
            parts += _panel(title, rows, y)
            y += _TITLE + _ROW * len(rows)
    y += 26
    parts += _legend(y - 18)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}"'
        f' height="{y}" role="img" aria-label="queuectl beside the limit and other queues">\n'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _panels(result: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield what may be compared: rows whose names begin with the same ``kind: `` are a panel."""
    unit = f"{result['unit']}, {result['better']} is better"
    for kind, group in groupby(sorted(result["rows"], key=_kind), key=_kind):
        rows = [{**row, "name": row["name"].removeprefix(f"{kind}: ")} for row in group]
        rows.sort(key=lambda row: row["median"], reverse=result["better"] == "higher")
        what = f"{result['title']}: {kind}" if kind else result["title"]
        yield f"{result['workload']}  {what} ({unit})", rows


def _kind(row: dict[str, Any]) -> str:
    return kind_of(str(row["name"]))


def _panel(title: str, rows: Sequence[dict[str, Any]], y: int) -> list[str]:
    parts = [f'<text class="title" x="10" y="{y + 22}">{escape(title)}</text>']
    longest = max(row["median"] for row in rows)
    for number, row in enumerate(rows):
        top = y + 32 + number * _ROW
        width = max(1.0, (_BAR_END - _LABEL) * row["median"] / longest)
        parts.append(
            f'<text x="{_LABEL - 8}" y="{top + 12}" text-anchor="end">{escape(row["name"])}</text>'
            f'<rect class="{row["role"]}" x="{_LABEL}" y="{top + 1}" width="{width:.1f}"'
            f' height="{_ROW - 6}" rx="2"/>'
            f'<text x="{_LABEL + width + 6:.1f}" y="{top + 12}">{figure(row["median"])}</text>'
        )
    return parts


def _legend(y: int) -> list[str]:
    parts = []
    words = (("ours", "queuectl"), ("limit", "the limit"), ("peer", "other queues"))
    for number, (role, word) in enumerate(words):
        x = _LABEL + number * 120
        parts.append(f'<rect class="{role}" x="{x}" y="{y}" width="12" height="12" rx="2"/>')
        parts.append(f'<text x="{x + 18}" y="{y + 10}">{word}</text>')
    return parts
