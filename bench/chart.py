"""Results as an SVG: a panel a workload, a bar a contender; readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.report import figure, kind_of

_BARS, _FIGURES, _ROW, _TITLE = 430, 100, 20, 44
#: The width of a letter of the text below, in units of the picture, on the wide side.
_LETTER = 6.4

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
    panels = [panel for result in results for panel in _panels(result)]
    names = [len(row["name"]) for _, rows in panels for row in rows]
    label = round(20 + _LETTER * max(names, default=0))
    titles = [round(10 + _LETTER * 1.2 * len(title)) for title, _ in panels]
    parts: list[str] = []
    y = 8
    for title, rows in panels:
        parts += _panel(title, rows, label, y)
        y += _TITLE + _ROW * len(rows)
    y += 26
    parts += _legend(label, y - 18)
    width = max(label + _BARS + _FIGURES, *titles)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}"'
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


def _panel(title: str, rows: Sequence[dict[str, Any]], label: int, y: int) -> list[str]:
    parts = [f'<text class="title" x="10" y="{y + 22}">{escape(title)}</text>']
    longest = max(row["median"] for row in rows)
    for number, row in enumerate(rows):
        top = y + 32 + number * _ROW
        width = max(1.0, _BARS * row["median"] / longest)
        parts.append(
            f'<text x="{label - 8}" y="{top + 12}" text-anchor="end">{escape(row["name"])}</text>'
            f'<rect class="{row["role"]}" x="{label}" y="{top + 1}" width="{width:.1f}"'
            f' height="{_ROW - 6}" rx="2"/>'
            f'<text x="{label + width + 6:.1f}" y="{top + 12}">{figure(row["median"])}</text>'
        )
    return parts


def _legend(label: int, y: int) -> list[str]:
    parts = []
    words = (("ours", "queuectl"), ("limit", "the limit"), ("peer", "other queues"))
    for number, (role, word) in enumerate(words):
        x = label + number * 120
        parts.append(f'<rect class="{role}" x="{x}" y="{y}" width="12" height="12" rx="2"/>')
        parts.append(f'<text x="{x + 18}" y="{y + 10}">{word}</text>')
    return parts
