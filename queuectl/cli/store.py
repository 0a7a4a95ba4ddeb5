"""Which store a command is about."""

from __future__ import annotations

import typer

from queuectl.db import engine
from queuectl.settings import ServerLocation, StoreLocation, locate_store


def location(ctx: typer.Context) -> StoreLocation:
    """Return where the store is; raises InvalidInput."""
    found = locate_store(ctx.find_root().params.get("db"))
    if isinstance(found, ServerLocation) and found.source == "--db" and found.password:
        from queuectl.cli.secrecy import hide_argument

        hide_argument(found.password)
    return found


def open_store(ctx: typer.Context) -> engine.Store:
    """Return the store, created or upgraded first where that is needed; raises StoreError."""
    return engine.open_store(location(ctx))
