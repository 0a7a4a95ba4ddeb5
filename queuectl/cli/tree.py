"""``queuectl tree``: what jobs need and what needs them, each drawn in the middle of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import typer

from queuectl.cli import options, render
from queuectl.cli.jobs import wanted
from queuectl.cli.selection import selects
from queuectl.cli.store import open_store
from queuectl.domain.job import Job, State
from queuectl.domain.selection import Selection
from queuectl.domain.text import escape_line
from queuectl.service import tree as service
from queuectl.service.selection import choose

app = typer.Typer(rich_markup_mode=None, add_completion=False)

#: Characters of a command that are shown.
_SHOWN_CHARACTERS = 60
#: Lines at most; a job that is reached by several ways is drawn out once, and so is this many.
_MOST_LINES = 2000


@app.command("tree")
@selects
def tree(ctx: typer.Context, selection: Selection, json: options.Json = False) -> None:
    """Draw what jobs need above each of them, and what needs it below.

    With --json an object if one job was named by its id, and else an array.
    """
    store = open_store(ctx)
    chosen = choose(store, selection, among=State, verb="drawn")
    trees = (service.tree(store, job.id) for job in chosen)
    if json and len(selection.references) == 1:
        render.json_value(_tree_object(next(trees)))
    elif json:
        render.json_array(map(_tree_object, trees))
    elif chosen:
        _print(trees if selection.references else _without_repeats(trees))
    else:
        render.note("no such jobs")


def _without_repeats(trees: Iterable[service.Tree]) -> Iterator[service.Tree]:
    """Leave out a tree of which each line stands in those before it."""
    seen: set[tuple[str, str]] = set()
    for grown in trees:
        edges = {(edge.job_id, edge.need.id) for edge in (*grown.above, *grown.below)}
        if not edges or not edges <= seen:
            yield grown
        seen |= edges


def _print(trees: Iterable[service.Tree]) -> None:
    left = _MOST_LINES
    for number, grown in enumerate(trees):
        if number:
            render.out()
        lines = list(_draw(grown))
        render.out_lines(lines[:left])
        left -= len(lines)
        if grown.cut or left < 0:
            render.note("there is more than is shown; see it with: queuectl tree of another job")
        if left <= 0:
            return


def _draw(grown: service.Tree) -> Iterator[str]:
    above, below = _Branches(grown, up=True), _Branches(grown, up=False)
    if above.of(grown.root.id):
        yield "needs:"
        yield from above.draw(grown.root.id, "")
    yield _line(grown.root.id, grown.root)
    if below.of(grown.root.id):
        yield from below.draw(grown.root.id, "")


class _Branches:
    """One side of the tree. A job that several others share is drawn out where it comes first."""

    def __init__(self, grown: service.Tree, *, up: bool) -> None:
        self._jobs = grown.jobs
        self._next: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._drawn: set[str] = set()
        self._signs = render.branches()
        for edge in grown.above if up else grown.below:
            need = edge.need
            start, end = (edge.job_id, need.id) if up else (need.id, edge.job_id)
            self._next[start].append((end, wanted(need.condition).replace("; ", ": ")))

    def of(self, job_id: str) -> list[tuple[str, str]]:
        """Return the jobs next to this one, each with what is to be said of it."""
        return self._next[job_id]

    def draw(self, root: str, margin: str) -> Iterator[str]:
        """Yield the lines below a job; without recursion, for chains are long."""
        fork, last, bar, gap = self._signs
        waiting = [(margin, iter(self._with_last(root)))]
        while waiting:
            margin, branches = waiting[-1]
            found = next(branches, None)
            if found is None:
                waiting.pop()
                continue
            job_id, label, is_last = found
            again = job_id in self._drawn and bool(self.of(job_id))
            more = " (drawn above)" if again else ""
            line = _line(job_id, self._jobs.get(job_id))
            yield f"{margin}{last if is_last else fork}{label}{line}{more}"
            if not again:
                self._drawn.add(job_id)
                deeper = margin + (gap if is_last else bar)
                waiting.append((deeper, iter(self._with_last(job_id))))

    def _with_last(self, job_id: str) -> list[tuple[str, str, bool]]:
        found = self.of(job_id)
        return [(*each, position == len(found) - 1) for position, each in enumerate(found)]


def _line(job_id: str, job: Job | None) -> str:
    if job is None:
        return f"{job_id} gone"
    command = escape_line(job.command)
    if len(command) > _SHOWN_CHARACTERS:
        command = command[: _SHOWN_CHARACTERS - 3] + "..."
    return f"{job.id} {render.state(job.state)}  {command}"


def _tree_object(grown: service.Tree) -> dict[str, Any]:
    edges = {(edge.job_id, edge.need.id): edge for edge in (*grown.above, *grown.below)}
    return {
        "id": grown.root.id,
        "jobs": [
            {"id": job.id, "state": job.state, "queue": job.queue, "command": job.command}
            for job in sorted(grown.jobs.values(), key=lambda job: job.seq)
        ],
        "needs": [
            {
                "job": edge.job_id,
                "needs": edge.need.id,
                "condition": edge.need.condition,
                "outcome": edge.need.outcome,
            }
            for edge in edges.values()
        ],
        "complete": not grown.cut,
    }
