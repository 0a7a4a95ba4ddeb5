"""``queuectl logs``: what a job printed, and what it prints while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from queuectl.cli import following, interleaving, lazy, options, render
from queuectl.cli.selection import selects
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain.selection import Selection
from queuectl.errors import InvalidInput, NotFound
from queuectl.service import chunks, jobs, logs
from queuectl.service import selection as service

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("logs")
@selects
def print_logs(
    ctx: typer.Context,
    selection: Selection,
    attempt: Annotated[
        int | None,
        typer.Option(
            "--attempt", metavar="N", min=1, max=10**9, help="Of this attempt, not the last one."
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on, over all attempts, until the job has ended."),
    ] = False,
    lines: Annotated[
        int | None,
        typer.Option("--lines", "-n", metavar="N", min=0, max=10**9, help="Only the last N lines."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="The bytes as they are; control sequences act.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Print what jobs printed; follow them while they run.

    The lines of several jobs stand behind their ids.
    """
    if follow and (json or attempt is not None):
        other = "--json" if json else "--attempt"
        raise InvalidInput(f"--follow and {other} exclude each other", hint="leave one of them out")
    store = open_store(ctx)
    found = _find(store, selection)
    if len(selection.references) != 1:
        alone = _alone(attempt, raw=raw, json=json)
        _print_several(store, found, lines, follow=follow, alone=alone)
        return
    [job] = found
    run = _choose(job, attempt)
    if json:
        _print_json(store, job, run, lines)
        return
    write = render.out_bytes if raw else following.Escaped().write
    if follow:
        lazy.finish_start()
        following.follow(store, job, lines=lines, write=write)
    else:
        _print(store, job, run, lines, write)


def _find(store: engine.Store, selection: Selection) -> list[domain.Job]:
    chosen = service.choose(store, selection, among=domain.State, verb="printed")
    return jobs.find_by_ids(store, [job.id for job in chosen])


def _alone(attempt: int | None, *, raw: bool, json: bool) -> str | None:
    """Return an option that was given and makes sense for one job alone."""
    given = {"--attempt": attempt is not None, "--raw": raw, "--json": json}
    return next((option for option, is_given in given.items() if is_given), None)


def _print_several(
    store: engine.Store,
    found: list[domain.Job],
    lines: int | None,
    *,
    follow: bool,
    alone: str | None,
) -> None:
    if alone is not None:
        raise InvalidInput(f"{alone} is for one job", hint="name one by its id, or leave it out")
    if not found:
        render.note("no such jobs")
    elif follow:
        lazy.finish_start()
        interleaving.follow(store, found)
    else:
        interleaving.print_all(store, found, lines)


def _choose(job: domain.Job, attempt: int | None) -> int:
    if attempt is not None and attempt > job.runs:
        raise NotFound(
            f"job {job.id} has no attempt {attempt}", hint=f"it was started {job.runs} times"
        )
    return attempt or job.runs


def _print(
    store: engine.Store, job: domain.Job, run: int, lines: int | None, write: following.Write
) -> None:
    if not run:
        render.note(f"job {job.id} has not run yet; it is {job.state}")
        return
    if (attempt := find_elsewhere(store, job, run)) is not None:
        _print_elsewhere(store, job, attempt, lines, write)
        return
    printed = False
    for block in _read(store, job, run, lines):
        printed = printed or bool(block)
        write(block)
    write(b"")
    if not printed and store.is_shared and job.state == domain.State.PROCESSING:
        render.note(f"attempt {run} of job {job.id} has printed nothing yet, or runs elsewhere")
    elif not printed and lines != 0:
        render.note(f"attempt {run} of job {job.id} has printed nothing")


def _read(store: engine.Store, job: domain.Job, run: int, lines: int | None) -> Iterable[bytes]:
    blocks = chunks.OutputReader(store, job.seq, run).read_all()
    return blocks if lines is None else [logs.last_lines(blocks, lines)]


def find_elsewhere(store: engine.Store, job: domain.Job, run: int) -> domain.Attempt | None:
    """Return an attempt that has ended and whose whole output is on another machine."""
    if logs.output_path(store.location, job.seq, run).exists():
        return None
    if chunks.are_there(store, job.seq, run):
        return None
    ended = jobs.history(store, job.id).attempts
    return next((a for a in ended if a.run == run and a.output_bytes), None)


def _print_elsewhere(
    store: engine.Store,
    job: domain.Job,
    attempt: domain.Attempt,
    lines: int | None,
    write: following.Write,
) -> None:
    tail = logs.last_lines([attempt.output_tail or b""], lines)
    write(tail)
    write(b"")
    shown = f"the last {len(attempt.output_tail or b'')} of {attempt.output_bytes} bytes"
    path = logs.output_path(store.location, job.seq, attempt.run)
    if not store.is_shared:  # the store was copied, and the file was not
        render.note(f"{shown}; it ran on {attempt.host}, and its file is not in {path.parent}")
        return
    folder = path.parent.parent.name
    render.note(
        f"{shown}; all of it is"
        f" on {attempt.host}: ~/.queuectl/{folder}/{path.parent.name}/{path.name}"
    )


def _print_json(store: engine.Store, job: domain.Job, run: int, lines: int | None) -> None:
    if not run:
        output = b""
    elif (attempt := find_elsewhere(store, job, run)) is not None:
        output = logs.last_lines([attempt.output_tail or b""], lines)
    else:
        output = b"".join(_read(store, job, run, lines))
    text = output.decode(errors="backslashreplace")
    render.json_value({"id": job.id, "attempt": run or None, "state": job.state, "output": text})
