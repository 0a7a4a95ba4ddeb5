"""``queuectl grep``: search what all jobs printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import typer

from queuectl.cli import completion, options, render
from queuectl.cli.selection import OnlyName, OnlyQueue, OnlyTag, narrow, parse_states
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import search as domain
from queuectl.domain.text import escape_line
from queuectl.service import search as service

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_NOTHING_FOUND = 1
_MATCH_COLOUR = "1;31"
_PLACE_COLOUR = "35"
#: Hosts that are named at the end.
_NAMED_HOSTS = 5


@app.command("grep")
def grep(
    ctx: typer.Context,
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN", help="A regular expression, as Python has them.", show_default=False
        ),
    ],
    ignore_case: Annotated[
        bool, typer.Option("--ignore-case", "-i", help="Upper and lower case alike.")
    ] = False,
    fixed_strings: Annotated[
        bool, typer.Option("--fixed-strings", "-F", help="PATTERN is a text as it stands.")
    ] = False,
    context: Annotated[
        int,
        typer.Option(
            "--context", "-C", metavar="N", min=0, max=1000, help="Lines around each match."
        ),
    ] = 0,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Only attempts that ended within 2d, 90m, or still run."
        ),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            help="Only jobs in this state; repeatable.",
            autocompletion=completion.complete_state,
        ),
    ] = None,
    queue: OnlyQueue = None,
    tag: OnlyTag = None,
    name: OnlyName = None,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", "-l", help="Print only the ids of the jobs, each once."),
    ] = False,
    json: options.Json = False,
) -> None:
    """Search what all jobs printed, the newest first; exit code 1 if nothing is found.

    A line of the result is ID:ATTEMPT:LINE:TEXT. What ran on another machine, and is in a file
    there, is searched in its last 4 KiB alone; a note says so, and its lines have the number "?".
    """
    compiled = domain.compile_pattern(pattern, ignore_case=ignore_case, fixed=fixed_strings)
    scope = service.Scope(
        only=replace(narrow(queue, tag, name), states=parse_states(state)),
        since=None if since is None else options.parse_since(since),
    )
    search = _Search(open_store(ctx), scope, compiled, context)
    if quiet:
        search.print_ids()
    elif json:
        render.json_array(search.objects())
    else:
        search.print_lines(context)
    search.tell()
    if not search.found:
        raise typer.Exit(_NOTHING_FOUND)


@dataclass(slots=True)
class _Search:
    """Goes through the outputs once, and counts what it has seen."""

    store: engine.Store
    scope: service.Scope
    pattern: Any
    context: int
    found: int = 0
    searched: int = 0
    #: Attempts of which only the end could be searched, by the host that has the rest.
    partial: Counter[str] = field(default_factory=Counter)

    def outputs(self) -> Iterator[tuple[service.Output, Iterator[domain.Line]]]:
        for output in service.list_outputs(self.store, self.scope):
            self.searched += 1
            if not output.is_whole:
                self.partial[output.host or "?"] += 1
            yield output, domain.find_lines(output.read(self.store), self.pattern, self.context)

    def print_ids(self) -> None:
        last = None
        for output, lines in self.outputs():
            if output.job_id != last and next(lines, None) is not None:
                self.found += 1
                last = output.job_id
                render.out(last)

    def print_lines(self, context: int) -> None:
        for output, lines in self.outputs():
            before = self.found
            for number, line in enumerate(lines):
                if context and (line.after_gap or (number == 0 and before)):
                    render.out("--")
                self.found += line.is_match
                render.out(_shown(output, line))

    def objects(self) -> Iterator[dict[str, Any]]:
        for output, lines in self.outputs():
            for line in lines:
                self.found += line.is_match
                yield {
                    "id": output.job_id,
                    "attempt": output.run,
                    "line": line.number if output.is_whole else None,
                    "match": line.is_match,
                    "text": line.text,
                    "queue": output.queue,
                    "state": output.state,
                    "host": output.host,
                }

    def tell(self) -> None:
        """Tell what was not searched whole, and if nothing was found, in how much."""
        if self.partial:
            hosts = ", ".join(f"{name} ({n})" for name, n in self.partial.most_common(_NAMED_HOSTS))
            more = ", ..." if len(self.partial) > _NAMED_HOSTS else ""
            render.note(
                f"of {sum(self.partial.values())} outputs only the last 4 KiB were searched;"
                f" the files are on {hosts}{more}"
            )
        if not self.found:
            outputs = "1 output" if self.searched == 1 else f"{self.searched} outputs"
            render.note(f"nothing found in {outputs}")


def _shown(output: service.Output, line: domain.Line) -> str:
    mark = ":" if line.is_match else "-"
    number = str(line.number) if output.is_whole else "?"
    place = render.paint(mark.join([output.job_id, str(output.run), number]), _PLACE_COLOUR)
    parts = []
    position = 0
    for start, end in line.spans:
        parts.append(escape_line(line.text[position:start]))
        parts.append(render.paint(escape_line(line.text[start:end]), _MATCH_COLOUR))
        position = end
    parts.append(escape_line(line.text[position:]))
    return f"{place}{mark}{''.join(parts)}"
