"""``queuectl queue``: list, pause, resume, limit, slow down and purge queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from queuectl.cli import completion, options, render
from queuectl.cli.store import open_store
from queuectl.domain import job as domain
from queuectl.domain import rate as domain_rate
from queuectl.errors import InvalidInput
from queuectl.service import counts, logs, queues

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_MOST = 1_000_000

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The queue.",
        autocompletion=completion.complete_queue,
        show_default=False,
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Queues.",
        autocompletion=completion.complete_queue,
        show_default=False,
    ),
]
NamesOnly = Annotated[bool, typer.Option("--quiet", "-q", help="Print names only.")]
All = Annotated[bool, typer.Option("--all", help="All queues that there are.")]


@app.callback()
def queue() -> None:
    """List, pause, resume, limit, rate and purge queues."""


@app.command("list")
def list_(ctx: typer.Context, quiet: NamesOnly = False, json: options.Json = False) -> None:
    """List the queues: what waits, runs and died there, and how many workers serve it."""
    found = counts.list_queues(open_store(ctx))
    if json:
        render.json_array(_state_object(state) for state in found)
    elif quiet:
        render.out_lines(state.name for state in found)
    elif found:
        _show(found)
    else:
        render.note("no queue yet; a queue appears with its first job")


def _show(found: list[counts.QueueState]) -> None:
    counted = ("PENDING", "SCHEDULED", "RUNNING", "FAILED", "DEAD")
    columns = [
        render.Column("NAME"),
        render.Column("PAUSED"),
        render.Column("LIMIT", right=True),
        render.Column("RATE", right=True),
        *(render.Column(title, right=True) for title in counted),
        render.Column("WORKERS", right=True),
    ]
    rows: list[list[render.Cell]] = [
        [
            state.name,
            state.paused_at,
            state.max_running,
            None if state.rate is None else str(state.rate),
            state.states[domain.State.PENDING],
            state.states[domain.State.SCHEDULED],
            state.states[domain.State.PROCESSING],
            state.states[domain.State.FAILED],
            state.states[domain.State.DEAD],
            len(state.workers),
        ]
        for state in found
    ]
    render.table(columns, rows)


def _state_object(state: counts.QueueState) -> dict[str, Any]:
    return {
        "name": state.name,
        "paused": state.paused_at is not None,
        "paused_at": state.paused_at,
        "limit": state.max_running,
        "rate": state.rate and str(state.rate),
        "opens_at": state.opens_at,
        **{str(name): count for name, count in state.states.items()},
        "workers": state.workers,
    }


@app.command("pause")
def pause(
    ctx: typer.Context,
    names: Names = None,
    all: All = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Let nothing more of a queue be started; what runs goes on."""
    chosen = _choose(names, all=all)
    for name in chosen or ():
        options.check_queue(name)
    changes = queues.pause(open_store(ctx), chosen, dry_run=dry_run)
    _tell_changes(changes, "would be paused" if dry_run else "paused", as_json=json)
    if json:
        return
    for change in changes:
        if not change.changed and change.paused_at is not None:
            render.note(f"{change.name} was paused before, {render.relative(change.paused_at)}")
    if running := sum(change.running for change in changes):
        render.note(_go_on(running))


@app.command("resume")
def resume(
    ctx: typer.Context,
    names: Names = None,
    all: All = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Let jobs of a paused queue start again."""
    chosen = _choose(names, all=all)
    changes = queues.resume(open_store(ctx), chosen, dry_run=dry_run)
    _tell_changes(changes, "would be resumed" if dry_run else "resumed", as_json=json)
    if json or chosen is None:
        return
    for change in changes:
        if not change.changed:
            render.note(f"{change.name} was not paused")


def _choose(names: list[str] | None, *, all: bool) -> list[str] | None:
    """Return the queues that were named; None: all of them."""
    if bool(names) == all:
        message = "give either names or --all, not both" if all else "no queue was named"
        raise InvalidInput(message, hint="name them, or write --all (see: queuectl queue list)")
    return names or None


def _tell_changes(changes: Sequence[queues.QueueChange], done: str, *, as_json: bool) -> None:
    changed = [change.name for change in changes if change.changed]
    if as_json:
        render.json_array(_change_object(change) for change in changes)
    else:
        render.out_lines(changed)
    render.note(f"{render.count(len(changed), 'queue')} {done}")


def _change_object(change: queues.QueueChange) -> dict[str, Any]:
    return {
        "name": change.name,
        "paused": change.paused_at is not None,
        "paused_at": change.paused_at,
        "limit": change.max_running,
        "rate": change.rate and str(change.rate),
        "changed": change.changed,
        "processing": change.running,
    }


@app.command("limit", context_settings={"ignore_unknown_options": True})
def limit(
    ctx: typer.Context,
    name: Name,
    most: Annotated[
        str,
        typer.Argument(
            metavar="N",
            help="So many of its jobs run at once at most, over all workers; none lifts it.",
            autocompletion=completion.complete_limit,
            show_default=False,
        ),
    ],
    json: options.Json = False,
) -> None:
    """Limit how many jobs of a queue run at once, over all workers and machines."""
    number = _parse_limit(name, most)
    options.check_queue(name)
    change = queues.limit(open_store(ctx), name, number)
    if json:
        render.json_value(_change_object(change))
        return
    render.out("none" if number is None else str(number))
    if not change.changed:
        render.note(f"that was the limit of {name} before")
    if number is not None and change.running > number:
        render.note(f"{_go_on(change.running)}; none starts until fewer than {number} run")


def _parse_limit(name: str, text: str) -> int | None:
    if text.lower() == "none":
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST:
        return int(text)
    raise InvalidInput(
        f"{text[:40]!r} is no limit: it must be a number from 1 to {_MOST}, or none",
        hint=f"to start nothing more of it, run: queuectl queue pause {name[:128]}",
    )


@app.command("rate", context_settings={"ignore_unknown_options": True})
def rate(
    ctx: typer.Context,
    name: Name,
    most: Annotated[
        str,
        typer.Argument(
            metavar="N/TIME",
            help="So many of its jobs start at most in any s, m, h or d (or 5m): 10/m; none lifts"
            " it.",
            autocompletion=completion.complete_rate,
            show_default=False,
        ),
    ],
    json: options.Json = False,
) -> None:
    """Let at most so many jobs of a queue start in a time, over all workers and machines.

    In no minute more than 10, wherever it begins. A queue that has used its rate up is closed
    until the next may start; a retry is a start too.
    """
    found = _parse_rate(name, most)
    options.check_queue(name)
    change = queues.set_rate(open_store(ctx), name, found)
    if json:
        render.json_value(_change_object(change))
        return
    render.out("none" if found is None else str(found))
    if not change.changed:
        render.note(f"that was the rate of {name} before")


def _parse_rate(name: str, text: str) -> domain_rate.Rate | None:
    try:
        return domain_rate.parse_rate(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text[:40]!r} {error}",
            hint=f"to start nothing more of it, run: queuectl queue pause {name[:128]}",
        ) from error


@app.command("purge")
def purge(
    ctx: typer.Context,
    name: Name,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Delete the jobs of a queue that wait, with their history and output, for good.

    Those that are pending, held, blocked, scheduled, or failed and in their backoff. What runs goes
    on; what is dead stays in the dead letter queue. Jobs of other queues that need one of those are
    cancelled.
    """
    store = open_store(ctx)
    waiting = queues.find_waiting(store, name)
    count, dependents = len(waiting.seqs), waiting.dependents
    if count and not dry_run:
        if not yes:
            waits = f"{render.count(count, 'waiting job')} of {name}{_of_them_held(waiting.held)}"
            also = f", and cancel {_that_need(len(dependents))}" if dependents else ""
            options.require_consent(f"delete {waits} with their history and output{also}?")
        purged = queues.purge(store, waiting)
        for seq, runs in purged.ran:
            logs.remove(store.location, seq, runs)
        count, dependents = purged.count, purged.dependents
    if json:
        numbers = {"jobs": count, "held": waiting.held, "processing": waiting.running}
        told = {"queue": name, **numbers, "dependents": dependents, "dry_run": dry_run}
        render.json_value(told)
        return
    done = f"would be deleted{_of_them_held(waiting.held)}" if dry_run else "deleted"
    render.out(f"{render.count(count, 'job')} {done}")
    if dependents:
        will = "would be" if dry_run else "is" if len(dependents) == 1 else "are"
        render.note(f"{_that_need(len(dependents))} {will} cancelled")
    if waiting.running:
        render.note(_go_on(waiting.running))


def _that_need(count: int) -> str:
    return "1 job that needs one of them" if count == 1 else f"{count} jobs that need one of them"


def _of_them_held(held: int) -> str:
    return f" ({held} of them held)" if held else ""


def _go_on(running: int) -> str:
    return "1 job that runs goes on" if running == 1 else f"{running} jobs that run go on"
