"""``queuectl prune``: jobs that ended long ago are deleted."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import typer

from queuectl.cli import completion, options, render
from queuectl.cli.selection import narrows
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import durations
from queuectl.domain import job as domain
from queuectl.domain.selection import Selection
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.service import jobs, leftovers, pruning

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_STEP = "deleting"


@app.command("prune")
@narrows
def prune(
    ctx: typer.Context,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than",
            metavar="TIME",
            help="Jobs that ended so long ago, like 12h, 7d; 0s: all that have ended.",
            show_default=False,
        ),
    ],
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            help="completed, cancelled or dead; repeatable. The first two, if none is named.",
            autocompletion=completion.complete_ended,
        ),
    ] = None,
    *,
    only: Selection,
    dry_run: options.DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Delete jobs that ended long ago, with their attempts and output, for good.

    Workers do that by themselves 30 days after a job completed or was cancelled: see the settings
    retention-completed, retention-cancelled and retention-dead. Output files are deleted on this
    machine, those of jobs that are gone already too; elsewhere a worker does it.
    """
    store = open_store(ctx)
    states = [jobs.parse_state(text) for text in state or ("completed", "cancelled")]
    seconds = _parse_time(older_than)
    choice = pruning.choose(store, states, older_than_seconds=seconds, only=only)
    counted = pruning.count(store, choice)
    if not dry_run and not yes:
        _confirm(sum(counted.values()))
    done: Counter[domain.State] = Counter()
    with render.progress({_STEP: sum(counted.values())} if not dry_run else {}) as watch:
        for batch in _batches(store, choice, dry_run=dry_run):
            done.update(pruning.by_state(batch))
            if quiet and not json:
                render.out_lines(job.id for job in batch)
            if not dry_run:
                watch(_STEP, len(batch))
    left = 0 if dry_run else leftovers.sweep(store)
    if json or not quiet:
        _tell(choice, {each: done[each] for each in choice.states}, dry_run=dry_run, as_json=json)
    number = done.total()
    jobs_told = "1 job" if number == 1 else f"{number:,} jobs"
    render.note(f"{jobs_told} {'would be deleted' if dry_run else 'deleted'}")
    if left:
        render.note(f"and {left:,} output file{'s' * (left != 1)} of jobs that were gone")


def _parse_time(text: str) -> float:
    try:
        return durations.parse_duration(text)
    except ValueError as error:
        raise InvalidInput(
            f"--older-than: {text[:40]!r} {error}", hint="write it like 12h, 7d or 30d"
        ) from error


def _confirm(number: int) -> None:
    if not number or not render.is_terminal(sys.stdin):
        return
    jobs_told = "1 job" if number == 1 else f"{number:,} jobs"
    if not render.confirm(f"delete {jobs_told} with their history and output?"):
        raise QueuectlError("nothing was deleted", hint="--yes skips the question")


def _batches(
    store: engine.Store, choice: pruning.Choice, *, dry_run: bool
) -> Iterator[list[pruning.Ended]]:
    """Yield the jobs that are gone, or would be, a transaction at a time."""
    for state in choice.states:
        last = 0
        while found := pruning.find_some(store, choice, state, last):
            last = found[-1].seq
            yield found if dry_run else pruning.prune(store, choice, found)


def _tell(
    choice: pruning.Choice, done: dict[domain.State, int], *, dry_run: bool, as_json: bool
) -> None:
    if as_json:
        counted = {str(state): number for state, number in done.items()}
        told = {"dry_run": dry_run, "before": choice.before, "jobs": sum(done.values())}
        render.json_value({**told, **counted})
        return
    render.out_lines(f"{number:>12,} {state}" for state, number in done.items())
