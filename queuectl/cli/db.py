"""``queuectl db``: the store itself."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from queuectl.cli import options, render
from queuectl.cli.store import location, named_location
from queuectl.db import schema
from queuectl.errors import InvalidInput, StoreError
from queuectl.service import backup as backups
from queuectl.service import copying, outputs
from queuectl.settings import StoreLocation

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def db() -> None:
    """Upgrade, check, locate, copy and back up the store."""


@app.command("upgrade")
def upgrade(ctx: typer.Context, json: options.Json = False) -> None:
    """Create the store, or bring its tables to what this program needs."""
    at = location(ctx)
    changed = schema.upgrade(at)
    revision = schema.stored_revision(at)
    if json:
        render.json_value({"path": str(at), "changed": changed, "schema": revision})
        return
    render.out(f"{at}: {'upgraded to' if changed else 'already at'} schema {revision}")


@app.command("check")
def check(ctx: typer.Context, json: options.Json = False) -> None:
    """Compare the tables with what is needed; exit code 5 if they differ."""
    at = location(ctx)
    differences = schema.check(at)
    if json:
        render.json_value({"path": str(at), "ok": not differences, "differences": differences})
    elif not differences:
        render.out(f"{at}: ok, schema {schema.stored_revision(at)}")
    if differences:
        raise StoreError(
            f"{at} differs from what this program needs: {'; '.join(differences)}",
            hint="run: queuectl db upgrade",
        )


@app.command("path")
def path(ctx: typer.Context, json: options.Json = False) -> None:
    """Print where the store is."""
    at = location(ctx)
    if json:
        render.json_value({"path": str(at), "source": at.source})
    else:
        render.out(str(at))


@app.command("copy")
def copy(
    ctx: typer.Context,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="PATH-OR-URL",
            help="The store to fill: a path that is not there yet, or an empty store.",
            show_default=False,
        ),
    ],
    without_output: Annotated[
        bool, typer.Option("--without-output", help="Leave the output files where they are.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Empty an unfinished copy, and begin anew.")
    ] = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Copy the store into an empty one, SQLite or PostgreSQL; the source is only read.

    Jobs with their sequence numbers, tags, dependencies and inputs, attempts, outputs that are kept
    in the store, dead letters, options, queues and schedules go over, and the output files that are
    on this machine; those of other machines stay there, and logs shows the last 4 KiB of each.
    Workers do not go over: stop them first, and what enqueues too. In the end counts and checksums
    of both are compared. A copy that was cut off is used by nothing; the same command goes on where
    it stopped.
    """
    target = named_location(to, "--to")
    with closing(copying.open_source(location(ctx))) as source:
        plan = copying.plan(source, target, restart=restart)
        files = 0 if without_output else outputs.count_outputs(source.location)
        if dry_run:
            _tell(source.location, target, plan, plan.rows, files, as_json=json)
            return
        if plan.resumes:
            render.note("an earlier copy was cut off; it goes on where that one stopped")
        with (
            closing(copying.begin(source, target, restart=restart)) as opened,
            render.progress(_amounts(plan, files)) as watch,
        ):
            copying.transfer(source, opened, watch)
            if not without_output:
                files = outputs.copy_outputs(source.location, target, watch)
            done = copying.finish(source, opened, watch)
    rows = {name: table.rows for name, table in done.tables.items()}
    _tell(source.location, target, plan, rows, files, as_json=json, done=done)


@app.command("backup")
def backup(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A new file, which will be a store.", show_default=False
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if it is there.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Copy an SQLite store to one file, of one moment, while its workers go on.

    All rows are in it, and the last 4 KiB of each attempt's output; the output files beside the
    store are not, nor are workers. The file appears when it is whole, readable by you alone. It is
    a store: queuectl --db FILE reads it, and jobs that waited or ran at that moment run again when
    a worker is started on it. A store on PostgreSQL is backed up by pg_dump.
    """
    if not file or "\0" in file:
        raise InvalidInput("FILE names no file", hint="write queuectl db backup queue-copy.db")
    with closing(copying.open_source(location(ctx))) as source:
        done = backups.back_up(source, Path(file), force=force)
    if json:
        render.json_value(
            {
                "path": str(done.path),
                "size_bytes": done.size_bytes,
                "jobs": done.jobs,
                "running": done.running,
            }
        )
    else:
        render.out(str(done.path))
    render.note(f"{done.jobs:,} jobs, {done.size_bytes:,} bytes; output files are not in it")


def _amounts(plan: copying.Plan, files: int) -> dict[str, int]:
    rows = sum(plan.rows.values())
    return {
        copying.COPYING: rows - sum(plan.done.values()),
        outputs.WRITING: files,
        copying.COMPARING: 2 * rows,
    }


def _tell(
    source: StoreLocation,
    target: StoreLocation,
    plan: copying.Plan,
    rows: dict[str, int],
    files: int,
    *,
    as_json: bool,
    done: copying.Copy | None = None,
) -> None:
    if as_json:
        told: dict[str, object] = {
            "from": str(source),
            "to": str(target),
            "dry_run": done is None,
            "resumed": plan.resumes,
            **rows,
            "output_files": files,
        }
        if done is not None:
            told["last_seq"] = done.last_seq
            told["checksums"] = {name: table.checksum for name, table in done.tables.items()}
        render.json_value(told)
    else:
        counted = {**rows, "output files": files}
        render.out_lines(
            f"{count:>12,} {name.replace('_', ' ')}" for name, count in counted.items()
        )
    if done is None:
        render.note(f"would be copied from {source} to {target}")
        return
    render.note(f"copied to {target}; counts and checksums agree")
    render.hint(f"{source} is as it was: start no worker there, or its jobs run twice")
