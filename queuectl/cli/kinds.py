"""``queuectl dlq list --group``: what went wrong, and how often, instead of every single job."""

from __future__ import annotations

from typing import Any

from queuectl.cli import objects, render
from queuectl.db import engine
from queuectl.domain.selection import Selection
from queuectl.service import dead_letters


def show(store: engine.Store, only: Selection, limit: int, *, quiet: bool, as_json: bool) -> None:
    """Print the kinds of dead jobs, at most ``limit`` of them; 0: all."""
    found = dead_letters.list_kinds(store, only)
    shown = found[: limit or None]
    if as_json:
        render.json_array(map(_kind_object, shown))
    elif quiet:
        render.out_lines(kind.id for kind in shown)
    elif shown:
        _show(shown)
    dead = sum(kind.count for kind in found)
    if not dead:
        render.note("no dead jobs")
    elif not quiet:
        render.note(f"{dead} dead, {len(found)} {'kind' if len(found) == 1 else 'kinds'}")


def _show(kinds: list[dead_letters.Kind]) -> None:
    columns = [
        render.Column("KIND"),
        render.Column("JOBS", right=True),
        render.Column("PROGRAM"),
        render.Column("FIRST"),
        render.Column("LAST"),
        render.Column("EXAMPLE"),
        render.Column("ERROR", fills=True),
    ]
    rows: list[list[render.Cell]] = [
        [
            kind.id,
            kind.count,
            kind.program,
            kind.first_died_at,
            kind.last_died_at,
            kind.example.job.id,
            kind.example.last_error,
        ]
        for kind in kinds
    ]
    render.table(columns, rows)


def _kind_object(kind: dead_letters.Kind) -> dict[str, Any]:
    return {
        "kind": kind.id,
        "count": kind.count,
        "program": kind.program,
        "error": kind.error,
        "first_died_at": kind.first_died_at,
        "last_died_at": kind.last_died_at,
        "example": {
            **objects.job_object(kind.example.job),
            "dead_reason": kind.example.reason,
            "died_at": kind.example.died_at,
        },
    }
