"""``queuectl db``: the store itself."""

from __future__ import annotations

import typer

from queuectl.cli import options, render
from queuectl.cli.store import location
from queuectl.db import schema
from queuectl.errors import StoreError

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def db() -> None:
    """Upgrade, check and locate the store."""


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
