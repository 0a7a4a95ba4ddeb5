"""``queuectl dlq``: the jobs whose retries are exhausted."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, NamedTuple

import typer

from queuectl.cli import completion, jobs, kinds, objects, options, render
from queuectl.cli.selection import Asked, is_narrowed, narrows, tell
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain.selection import Chosen, Selection
from queuectl.errors import Conflict, InvalidInput
from queuectl.service import dead_letters, headcount, logs, requeueing
from queuectl.service import jobs as service

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_DEAD = (domain.State.DEAD,)

DeadIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ID",
        help="Dead jobs, by id or by any unique beginning of it.",
        autocompletion=completion.complete_dead,
        show_default=False,
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="All dead jobs of this kind (see: dlq list --group).",
        autocompletion=completion.complete_kind,
    ),
]
All = Annotated[bool, typer.Option("--all", help="All dead jobs.")]


@app.callback()
def dlq() -> None:
    """See, retry and purge the jobs whose retries are exhausted."""


@app.command("list")
@narrows
def list_(
    ctx: typer.Context,
    only: Selection,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, max=10**9, help="At most so many; 0: all.")
    ] = 0,
    group: Annotated[
        bool,
        typer.Option("--group", help="Fold them into kinds: the same program and error."),
    ] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """List dead jobs, those that died last first."""
    if group:
        kinds.show(open_store(ctx), only, limit, quiet=quiet, as_json=json)
        return
    letters = dead_letters.list_dead(open_store(ctx), only, limit=limit or None)
    if json:
        render.json_array(
            {
                **objects.job_object(letter.job),
                "dead_reason": letter.reason,
                "died_at": letter.died_at,
            }
            for letter in letters
        )
    elif quiet:
        render.out_lines(letter.job.id for letter in letters)
    elif letters:
        _show(letters)
    else:
        render.note("no dead jobs")


def _show(letters: list[dead_letters.DeadLetter]) -> None:
    columns = [
        render.Column("ID"),
        render.Column("QUEUE"),
        render.Column("DIED"),
        render.Column("REASON"),
        render.Column("LAST ERROR"),
        render.Column("COMMAND", fills=True),
    ]
    rows: list[list[render.Cell]] = [
        [
            letter.job.id,
            letter.job.queue,
            letter.died_at,
            letter.reason,
            letter.last_error,
            letter.job.command,
        ]
        for letter in letters
    ]
    render.table(columns, rows)


@app.command("show")
def show(
    ctx: typer.Context,
    id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A dead job's id, or any unique beginning of it.",
            autocompletion=completion.complete_dead,
            show_default=False,
        ),
    ],
    json: options.Json = False,
) -> None:
    """Show a dead job, why it died, and each of its attempts."""
    store = open_store(ctx)
    history = service.history(store, id)
    if history.job.state is not domain.State.DEAD:
        raise Conflict(
            f"job {history.job.id!r} is {history.job.state}, not dead",
            hint=f"see it with: queuectl show {history.job.id}",
        )
    jobs.show_history(store.location, history, as_json=json)


@app.command("retry")
@narrows
def retry(
    ctx: typer.Context,
    ids: DeadIds = None,
    kind: Kind = None,
    all: All = False,
    *,
    only: Selection,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Queue dead jobs again with all their retries; their history is kept.

    Jobs that were cancelled for them wait for them again.
    """
    meant = _Meant(_choose(ids, kind, only, named=all or is_narrowed(ctx), all=all), kind)
    store = open_store(ctx)
    found = _find(store, meant)
    # Those that were counted, and none that died since.
    chosen = [Chosen(job.seq, job.id, job.state) for job in found]
    if dry_run:
        done = requeueing.rehearse_retry(store, chosen, among=_DEAD)
    else:
        if chosen and not ids and not yes:
            question = f"{render.count(len(chosen))} will be queued again; go on?"
            options.require_consent(question, otherwise="nothing was changed")
        done = requeueing.retry(store, chosen, among=_DEAD)
    tell(store, done, Asked(meant.selection, dry_run, yes, quiet, json), "queued again")
    if done.ids and not dry_run and not quiet and not headcount.count_alive(store):
        render.note("no worker is running; start one with: queuectl worker start")


@app.command("purge")
@narrows
def purge(
    ctx: typer.Context,
    ids: DeadIds = None,
    kind: Kind = None,
    all: All = False,
    *,
    only: Selection,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Delete dead jobs, with their history and output, for good."""
    meant = _Meant(_choose(ids, kind, only, named=all or is_narrowed(ctx), all=all), kind)
    store = open_store(ctx)
    found = _find(store, meant)
    touched = found
    if not dry_run and found:
        if not yes:
            number = render.count(len(found))
            options.require_consent(f"delete {number} with their history and output?")
        # Those that were counted, and none that died since.
        touched = _delete(store, [job.id for job in found])
    _tell(touched, "would be deleted" if dry_run else "deleted", as_json=json)


class _Meant(NamedTuple):
    """The dead jobs that were named: by id, by kind, or by what else they have in common."""

    selection: Selection
    kind: str | None


def _choose(
    ids: list[str] | None, kind: str | None, only: Selection, *, named: bool, all: bool
) -> Selection:
    """Return which dead jobs are meant; ``named``: by what was typed. Raises InvalidInput."""
    if kind is not None and (ids or all):
        raise InvalidInput(
            f"--kind says which jobs, and so {'does --all' if all else 'do ids'}",
            hint="leave one of them out",
        )
    if ids and all:
        raise InvalidInput("give either ids or --all, not both", hint="leave one of them out")
    if ids and only != Selection():
        raise InvalidInput(
            "--queue, --tag, --name and --since go with --all or --kind, not with ids",
            hint="leave one of them out",
        )
    if kind is None and not (ids or named):
        raise InvalidInput(
            "no dead jobs were named",
            hint="name them by id, --kind, --queue, --tag, --name or --since, or write --all"
            " (see: queuectl dlq list)",
        )
    return replace(only, references=tuple(ids or ()), everything=all)


def _find(store: engine.Store, meant: _Meant) -> list[domain.Job]:
    if meant.kind is not None:
        return dead_letters.find_kind(store, meant.kind, meant.selection)
    if meant.selection.references:
        return dead_letters.purge(store, list(meant.selection.references), dry_run=True)
    return dead_letters.purge_all(store, meant.selection, dry_run=True)


def _delete(store: engine.Store, ids: list[str]) -> list[domain.Job]:
    gone = dead_letters.purge(store, ids)
    for job in gone:
        logs.remove(store.location, job.seq, job.runs)
    return gone


def _tell(touched: list[domain.Job], done: str, *, as_json: bool) -> None:
    if as_json:
        render.json_array(objects.job_object(job) for job in touched)
    else:
        render.out_lines(job.id for job in touched)
    render.note(f"{render.count(len(touched))} {done}")
