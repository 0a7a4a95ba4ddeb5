"""``queuectl dlq``: the jobs whose retries are exhausted."""

from __future__ import annotations

from typing import Annotated

import typer

from queuectl.cli import completion, jobs, kinds, objects, options, render
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.errors import Conflict, InvalidInput
from queuectl.service import dead_letters, headcount, logs
from queuectl.service import jobs as service

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

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
All = Annotated[bool, typer.Option("--all", help="All dead jobs, or those of --queue.")]


@app.callback()
def dlq() -> None:
    """See, retry and purge the jobs whose retries are exhausted."""


@app.command("list")
def list_(
    ctx: typer.Context,
    queue: options.Queue = None,
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
        kinds.show(open_store(ctx), queue, limit, quiet=quiet, as_json=json)
        return
    letters = dead_letters.list_dead(open_store(ctx), queue=queue, limit=limit or None)
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
def retry(
    ctx: typer.Context,
    ids: DeadIds = None,
    kind: Kind = None,
    all: All = False,
    queue: options.Queue = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Queue dead jobs again with all their retries; their history is kept."""
    chosen = _choose(ids, kind, queue, all=all)
    store = open_store(ctx)
    if kind is not None:
        touched = dead_letters.requeue_kind(store, kind, queue=queue, dry_run=dry_run)
    elif chosen is None:
        touched = dead_letters.requeue_all(store, queue=queue, dry_run=dry_run)
    else:
        touched = dead_letters.requeue(store, chosen, dry_run=dry_run)
    if not dry_run:
        touched = service.find_by_ids(store, [job.id for job in touched])
    _tell(touched, "would be queued again" if dry_run else "queued again", as_json=json)
    if touched and not dry_run and not headcount.count_alive(store):
        render.note("no worker is running; start one with: queuectl worker start")


@app.command("purge")
def purge(
    ctx: typer.Context,
    ids: DeadIds = None,
    kind: Kind = None,
    all: All = False,
    queue: options.Queue = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Delete dead jobs, with their history and output, for good."""
    chosen = _choose(ids, kind, queue, all=all)
    store = open_store(ctx)
    found = _find(store, chosen, kind, queue)
    touched = found
    if not dry_run and found:
        if not yes:
            number = render.count(len(found))
            options.require_consent(f"delete {number} with their history and output?")
        # Those that were counted, and none that died since.
        touched = _delete(store, [job.id for job in found])
    _tell(touched, "would be deleted" if dry_run else "deleted", as_json=json)


def _choose(
    ids: list[str] | None, kind: str | None, queue: str | None, *, all: bool
) -> list[str] | None:
    """Return the ids that were named; None: all of them, or all of the kind."""
    if kind is not None and (ids or all):
        raise InvalidInput(
            f"--kind says which jobs, and so {'does --all' if all else 'do ids'}",
            hint="leave one of them out",
        )
    if kind is None and bool(ids) == all:
        message = "give either ids or --all, not both" if all else "no dead jobs were named"
        raise InvalidInput(
            message, hint="name them by id or --kind, or write --all (see: queuectl dlq list)"
        )
    if ids and queue:
        raise InvalidInput(
            "--queue goes with --all or --kind, not with ids", hint="leave one of them out"
        )
    return ids or None


def _find(
    store: engine.Store, ids: list[str] | None, kind: str | None, queue: str | None
) -> list[domain.Job]:
    if kind is not None:
        return dead_letters.find_kind(store, kind, queue=queue)
    if ids is None:
        return dead_letters.purge_all(store, queue=queue, dry_run=True)
    return dead_letters.purge(store, ids, dry_run=True)


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
