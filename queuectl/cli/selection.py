"""The ways to name jobs, alike in every command that changes some."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType
from typing import Annotated, Any

import typer

from queuectl.cli import completion, objects, options, render
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain import selection as domain_selection
from queuectl.errors import InvalidInput
from queuectl.service import jobs
from queuectl.service import selection as service


def select(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID",
            help="Jobs, by id, by any unique beginning of it, or: last.",
            autocompletion=completion.complete_job,
            show_default=False,
        ),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="All jobs in this state; repeatable.",
            autocompletion=completion.complete_state,
        ),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue",
            "-Q",
            metavar="NAME",
            help="All jobs of this queue.",
            autocompletion=completion.complete_queue,
        ),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(
            "--tag",
            "-t",
            metavar="TAG",
            help="All jobs with this tag.",
            autocompletion=completion.complete_tag,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="All jobs of this name.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="All jobs enqueued in the last 2h, or since a date."
        ),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="All jobs.")] = False,
) -> domain_selection.Selection:
    """Return the jobs that were named; raises InvalidInput."""
    selection = domain_selection.Selection(
        references=tuple(ids or ()),
        states=tuple(jobs.parse_state(text) for text in state or ()),
        queue=queue,
        tag=tag,
        name=name,
        since=None if since is None else options.parse_since(since),
        everything=all,
    )
    if ids and selection != domain_selection.Selection(references=selection.references):
        raise InvalidInput(
            "jobs are named either by id or by what they have in common, not both",
            hint="leave out the ids, or --state, --queue, --tag, --name, --since and --all",
        )
    return selection


@dataclass(frozen=True, slots=True)
class Asked:
    """Which jobs somebody named, and how the change of them is to go."""

    selection: domain_selection.Selection
    dry_run: bool
    yes: bool
    quiet: bool
    as_json: bool


def ask(
    selection: domain_selection.Selection,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> Asked:
    """Return which jobs are to be changed, and how."""
    return Asked(selection, dry_run, yes, quiet, json)


def selects(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the ways to name jobs, before its own options: it gets a ``selection``."""
    return expand(function, "selection", select)


def changes_jobs(function: Callable[..., None]) -> Callable[..., None]:
    """The same for a command that changes the jobs: it gets what was ``asked``."""
    return expand(expand(function, "asked", ask), "selection", select)


def expand(
    function: Callable[..., None], name: str, make: Callable[..., object]
) -> Callable[..., None]:
    """Put the parameters of ``make`` in the place of the one that is to get what it returns."""
    own = dict(inspect.signature(function, eval_str=True).parameters)
    given = dict(inspect.signature(make, eval_str=True).parameters)

    @wraps(function)
    def command(**values: Any) -> None:
        values[name] = make(**{each: values.pop(each) for each in given})
        function(**values)

    place = list(own).index(name)
    del own[name]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own.values()]
    parameters[place:place] = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in given.values()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer's
    return command


def change(
    ctx: typer.Context,
    asked: Asked,
    act: Callable[[engine.Store, Sequence[domain_selection.Chosen]], list[str]],
    *,
    among: Iterable[domain.State],
    verb: str,
    ways_out: Mapping[domain.State, str] = MappingProxyType({}),
    rehearse: Callable[[engine.Store, Sequence[domain_selection.Chosen]], list[str]] | None = None,
) -> list[str]:
    """Do something to the jobs that were named, and tell to which; many are asked for first.

    ``verb`` says what it is: ``cancelled``; ``ways_out`` what to do with a job to which it cannot
    be done; ``rehearse`` returns to which it would be, if not to all. Returns the ids of the jobs
    that were changed.
    """
    store = open_store(ctx)
    chosen = service.choose(store, asked.selection, among=among, verb=verb, ways_out=ways_out)
    if asked.dry_run:
        ids = [job.id for job in chosen] if rehearse is None else rehearse(store, chosen)
    else:
        if chosen and not asked.selection.references and not asked.yes:
            question = f"{render.count(len(chosen))} will be {verb}; go on?"
            options.require_consent(question, otherwise="nothing was changed")
        ids = act(store, chosen)
    if asked.as_json:
        render.json_array(objects.job_objects(store, ids))
    else:
        render.out_lines(ids)
    if not asked.quiet:
        render.note(f"{render.count(len(ids))} {'would be ' if asked.dry_run else ''}{verb}")
    return [] if asked.dry_run else ids
