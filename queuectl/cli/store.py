"""Which store a command is about."""

from __future__ import annotations

import typer

from queuectl.db import engine, schema
from queuectl.settings import ServerLocation, StoreLocation, locate_store


def location(ctx: typer.Context) -> StoreLocation:
    """Return where the store is; raises InvalidInput."""
    return named_location(ctx.find_root().params.get("db"), "--db")


def named_location(text: str | None, option: str) -> StoreLocation:
    """Return where the store is that an option names; a password in it is hidden from ``ps``."""
    found = locate_store(text, option=option)
    if isinstance(found, ServerLocation) and found.source == option and found.password:
        from queuectl.cli.secrecy import hide_argument

        hide_argument(found.password)
    return found


def open_store(ctx: typer.Context) -> engine.Store:
    """Return the store, created or upgraded first where that is needed; raises StoreError."""
    return engine.open_store(location(ctx))


def open_if_there(ctx: typer.Context) -> engine.Store | None:
    """Return the store; None is made for a rehearsal if it is not there yet. Raises StoreError."""
    return open_store(ctx) if schema.is_there(location(ctx)) else None
