"""The ways to name jobs, alike in every command that changes some."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queuectl.cli import completion, objects, options, render
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain import selection as domain_selection
from queuectl.errors import InvalidInput
from queuectl.service import jobs, relations
from queuectl.service import selection as service

if TYPE_CHECKING:  # at run time they would import the rooms below
    #: What does something to jobs, or would: it returns the ids of those that changed, or with them
    #: those that need them and changed with them.
    Act = Callable[
        [engine.Store, Sequence[domain_selection.Chosen]], list[str] | domain_selection.Effect
    ]
    #: Takes those jobs out for which the command is not, though their states are right.
    Sift = Callable[
        [engine.Store, "Asked", list[domain_selection.Chosen]], list[domain_selection.Chosen]
    ]


#: What one job does that needs those that are changed, and what several do: `` waits longer``.
OthersDo = tuple[str, str]


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
        list[str] | None,
        typer.Option(
            "--queue",
            "-Q",
            metavar="NAME",
            help="All jobs of this queue; repeatable.",
            autocompletion=completion.complete_queue,
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            "-t",
            metavar="TAG",
            help="All jobs with this tag; repeatable: any of them.",
            autocompletion=completion.complete_tag,
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="All jobs of this name; repeatable.",
            autocompletion=completion.complete_name,
        ),
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
    selection = replace(
        narrow(queue, tag, name, since),
        references=tuple(ids or ()),
        states=parse_states(state),
        everything=all,
    )
    if ids and selection != domain_selection.Selection(references=selection.references):
        raise InvalidInput(
            "jobs are named either by id or by what they have in common, not both",
            hint="leave out the ids, or --state, --queue, --tag, --name, --since and --all",
        )
    return selection


def parse_states(texts: Iterable[str] | None) -> tuple[domain.State, ...]:
    """Return the states of ``--state``; raises InvalidInput."""
    return tuple(jobs.parse_state(text) for text in texts or ())


OnlyQueue = Annotated[
    list[str] | None,
    typer.Option(
        "--queue",
        "-Q",
        metavar="NAME",
        help="Only of this queue; repeatable.",
        autocompletion=completion.complete_queue,
    ),
]
OnlyTag = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        "-t",
        metavar="TAG",
        help="Only with this tag; repeatable: any of them.",
        autocompletion=completion.complete_tag,
    ),
]
OnlyName = Annotated[
    list[str] | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="Only of this name; repeatable.",
        autocompletion=completion.complete_name,
    ),
]


def narrow(
    queue: OnlyQueue = None,
    tag: OnlyTag = None,
    name: OnlyName = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Only those enqueued in the last 2h, or since a date."
        ),
    ] = None,
) -> domain_selection.Selection:
    """Return what narrows a command that is about all jobs, or all of a kind; InvalidInput."""
    return domain_selection.Selection(
        queues=tuple(queue or ()),
        tags=tuple(tag or ()),
        names=tuple(name or ()),
        since=None if since is None else options.parse_since(since),
    )


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


def narrows(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the ways to leave jobs out: it gets ``only`` those."""
    return expand(function, "only", narrow)


def is_narrowed(ctx: typer.Context) -> bool:
    """Whether one of those ways was typed; a variable leaves jobs out, and never names any."""
    sources = map(ctx.get_parameter_source, inspect.signature(narrow).parameters)
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


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
    act: Act,
    *,
    among: Iterable[domain.State],
    verb: str,
    ways_out: Mapping[domain.State, str] = MappingProxyType({}),
    rehearse: Act | None = None,
    sift: Sift | None = None,
    others_do: OthersDo = ("", ""),
) -> list[str]:
    """Do something to the jobs that were named, and tell to which; many are asked for first.

    ``verb`` says what it is: ``cancelled``; ``ways_out`` what to do with a job to which it cannot
    be done; ``rehearse`` returns to which it would be, if not to all; ``sift`` takes out those that
    are in such a state and that it is not for all the same, or refuses; ``others_do`` is what the
    jobs that need those do, if not the same. Returns the ids of the jobs
    that were changed.
    """
    store = open_store(ctx)
    chosen = service.choose(store, asked.selection, among=among, verb=verb, ways_out=ways_out)
    if sift is not None:
        chosen = sift(store, asked, chosen)
    done: list[str] | domain_selection.Effect
    if asked.dry_run:
        done = [job.id for job in chosen] if rehearse is None else rehearse(store, chosen)
    else:
        if chosen and not asked.selection.references and not asked.yes:
            question = f"{render.count(len(chosen))} will be {verb}; go on?"
            options.require_consent(question, otherwise="nothing was changed")
        done = act(store, chosen)
    tell(store, done, asked, verb, others_do)
    return [] if asked.dry_run else list(ids_of(done))


def ids_of(done: list[str] | domain_selection.Effect) -> Sequence[str]:
    """Return the ids of the jobs that were meant and changed."""
    return done.ids if isinstance(done, domain_selection.Effect) else done


def tell(
    store: engine.Store,
    done: list[str] | domain_selection.Effect,
    asked: Asked,
    verb: str,
    others_do: OthersDo = ("", ""),
) -> None:
    """Print which jobs were changed, or would be, and how many others with them."""
    ids = list(ids_of(done))
    if not asked.as_json:
        render.out_lines(ids)
    elif isinstance(done, domain_selection.Effect):
        found = relations.trace(store, ids, done.dependents)
        told = objects.job_objects(store, ids)
        render.json_array({**job, "dependents": found.get(job["id"], [])} for job in told)
    else:
        render.json_array(objects.job_objects(store, ids))
    if not asked.quiet:
        others = len(done.dependents) if isinstance(done, domain_selection.Effect) else 0
        would = "would be " if asked.dry_run else ""
        also = and_others(others, len(ids), others_do)
        render.note(f"{render.count(len(ids))} {would}{verb}{also}")


def and_others(others: int, changed: int, others_do: OthersDo = ("", "")) -> str:
    """Return ``, and 2 that need it``, and what those do; nothing where there are none."""
    if not others:
        return ""
    need, do = ("needs", others_do[0]) if others == 1 else ("need", others_do[1])
    return f", and {others} that {need} {_them(changed)}{do}"


def _them(number: int) -> str:
    return "it" if number == 1 else "them"
