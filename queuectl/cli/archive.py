"""``queuectl export`` and ``queuectl import``."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from queuectl.cli import completion, options, render
from queuectl.cli.selection import narrows, parse_states
from queuectl.cli.store import location, open_store
from queuectl.db import files
from queuectl.domain.selection import Selection
from queuectl.errors import InvalidInput
from queuectl.service import copying, exporting, importing

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_STDIN = _STDOUT = "-"


@app.command("export")
@narrows
def export(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A new file, or - for stdout.", show_default=False),
    ] = _STDOUT,
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
    *,
    only: Selection,
    without_output: Annotated[
        bool, typer.Option("--without-output", help="Leave out outputs kept in the store.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if it is there.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Write everything in the store as lines of JSON, all of one moment; workers may go on.

    Jobs with every field, tags, dependencies and inputs, attempts with the last 4 KiB of their
    output, outputs that are kept in the store, dead letters, options, queues and schedules; with
    --state, --queue, --tag, --name or --since jobs and what belongs to them. Output files are not
    in it. It holds the values of variables, which may be secrets: the file is readable by you
    alone, and appears when it is whole.
    """
    only = replace(only, states=parse_states(state))
    part = exporting.Part(only, with_output=not without_output)
    store = copying.open_source(location(ctx))
    if file == _STDOUT:
        if json:
            raise InvalidInput("--json tells of a file", hint="name a file, or leave out --json")
        counts = exporting.export(store, render.out, part)
    else:
        with (
            files.whole_file(_path(file), force=force) as draft,
            draft.open("w", encoding="ascii") as target,
        ):
            counts = exporting.export(store, lambda line: _write(target, line), part)
    if json:
        render.json_value({"file": file, **counts})
    else:
        render.note(f"exported {_said(counts)}")


def _write(target: object, line: str) -> None:
    print(line, file=target)  # type: ignore[call-overload]


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise InvalidInput("FILE names no file", hint="write queuectl export jobs.jsonl, or -")
    return Path(text)


def _said(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="What queuectl export wrote; - is stdin.", show_default=False
        ),
    ],
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Read what export wrote, into an empty store or beside what is there; all of it or nothing.

    Every line is validated first, then all are stored in one transaction. Jobs that are there
    already are left as they are, whatever has become of them, so the same import may be repeated;
    a job that is there under the same id but was asked for differently refuses it all. Options and
    queues of the store stay as they are. A job that was running comes in as pending, its attempt
    recorded as lost.
    """
    with _seekable(file) as source:
        shown = "stdin" if file == _STDIN else file
        done = importing.import_(
            open_store(ctx), lambda: _lines(source, shown), shown, dry_run=dry_run
        )
    if json:
        render.json_value(
            {
                "dry_run": dry_run,
                **done.new,
                "existing": done.existing,
                "kept_options": done.kept_options,
                "lost_attempts": done.lost,
            }
        )
    else:
        render.out_lines(
            f"{count:>12,} {name.replace('_', ' ')}" for name, count in done.new.items()
        )
    _tell(done, dry_run=dry_run)


def _tell(done: importing.Imported, *, dry_run: bool) -> None:
    if there := done.existing["jobs"]:
        render.note(f"{there:,} {'job was' if there == 1 else 'jobs were'} there already")
    for name in done.kept_options:
        render.note(f"the option {name} has another value here, and keeps it")
    if done.lost:
        render.note(
            f"{done.lost:,} {'job' if done.lost == 1 else 'jobs'} ran when it was exported:"
            " pending here, the attempt recorded as lost"
        )
    if dry_run:
        render.note("that would come in; nothing was changed")
    elif done.new["jobs"]:
        render.hint("the store that it came from is as it was: jobs that wait there run there too")


@contextmanager
def _seekable(name: str) -> Iterator[BinaryIO]:
    """Yield the file; what cannot be read twice is kept on disk meanwhile."""
    if name == _STDIN:
        if sys.stdin is None:
            raise InvalidInput("stdin is closed", hint="hand the export over through a pipe")
        with tempfile.TemporaryFile() as kept:
            shutil.copyfileobj(sys.stdin.buffer, kept)
            yield kept
        return
    try:
        file = _path(name).open("rb")
    except OSError as error:
        raise InvalidInput(
            f"{name} cannot be read: {error.strerror}", hint="check the name and its permissions"
        ) from error
    with file:
        if file.seekable():
            yield file
            return
        with tempfile.TemporaryFile() as kept:
            shutil.copyfileobj(file, kept)
            yield kept


def _lines(source: BinaryIO, name: str) -> Iterator[str]:
    source.seek(0)
    number = 0
    try:
        while line := source.readline(importing.LONGEST_LINE + 1):
            number += 1
            yield line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name}, line {number}: is not UTF-8") from error
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read: {error.strerror}") from error
