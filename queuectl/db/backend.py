"""What a kind of database must be able to do for a store; one module each keeps to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from queuectl.db import sqlite
from queuectl.settings import ServerLocation, StoreLocation

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from queuectl.db.wakeup import Bell
    from queuectl.errors import StoreError


class Backend(Protocol):
    """The functions of ``db/sqlite.py`` and ``db/postgresql.py`` that the rest of db calls."""

    SHARED: bool
    ERROR: type[Exception]
    PATIENCE_SECONDS: float
    POLL_SECONDS: float

    def create_store_engine(self, location: StoreLocation) -> Engine: ...
    def prepare_connection(self, location: StoreLocation, connection: Connection) -> None: ...
    def stored_revision(self, location: StoreLocation, connection: Connection) -> str | None: ...
    def writers_queue(self, location: StoreLocation) -> AbstractContextManager[None]: ...
    def changes(self, connection: Connection) -> int: ...
    def announce(self, connection: Connection) -> None: ...
    def ring(self, location: StoreLocation, *, hushed: bool = False) -> None: ...
    def doorbell(
        self, location: StoreLocation, hang_up: Callable[[], None], *, hushed: bool
    ) -> Bell: ...
    def settle_in(self, location: StoreLocation, connection: Connection) -> None: ...
    def data_version(self, connection: Connection) -> int | None: ...
    def clock(self, connection: Connection) -> datetime: ...
    def translate_error(
        self, location: StoreLocation, error: BaseException
    ) -> StoreError | None: ...
    def is_disconnect(self, error: BaseException) -> bool: ...
    def is_outcome_unknown(self, error: BaseException) -> bool: ...
    def is_worth_a_try(self, error: BaseException, *, connected: bool, waited: float) -> bool: ...
    def pause_before_retry(self, attempt: int) -> None: ...
    def end_connection(self, connection: Connection) -> None: ...


def backend_of(location: StoreLocation) -> Backend:
    """Return what knows this location's kind of database.

    PostgreSQL's is imported only when it is asked for: it costs 80 ms. Raises StoreError when its
    driver is not installed.
    """
    if isinstance(location, ServerLocation):
        from queuectl.db import postgresql

        return postgresql
    return sqlite


def driver_error(error: BaseException) -> BaseException:
    """Return the driver's own error, which SQLAlchemy may have wrapped."""
    return getattr(error, "orig", None) or error
