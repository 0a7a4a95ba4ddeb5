"""The ear of a PostgreSQL store: LISTEN on the store's own connection.

A descriptor of its own (an epoll that holds the connection's socket) stays the same when the
connection is lost and made anew, so that whoever sleeps need not care. Notifications also come in
while statements run; so it must be asked before each sleep. Polling stays behind it as the truth.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import psycopg
from sqlalchemy import Connection

from queuectl.db.postgresql import CHANNEL, driver_connection

_POOLER = "a pooler stands between, which passes no notifications on"


class Listener:
    """One store's ear; ``hang_up`` closes the connection once it is seen to be broken."""

    def __init__(self, hang_up: Callable[[], None]) -> None:
        self._hang_up = hang_up
        self._epoll = select.epoll()
        self._driver: Any = None
        self._rang = False
        self.deafness: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._driver = None
        self._epoll.close()

    def attend(self, connection: Connection) -> None:
        """Listen on a connection that has just been opened; raises the driver's errors."""
        if self._epoll.closed:
            return
        driver = driver_connection(connection)
        if driver.is_pooled:
            self.deafness = _POOLER
            return
        driver.execute(f"LISTEN {CHANNEL}")
        driver.add_notify_handler(lambda note: self._note(note.pid))
        self._epoll.register(driver.pgconn.socket, select.EPOLLIN)
        self._driver = driver
        self._rang = True  # what came before was missed

    @property
    def fileno(self) -> int | None:
        """A descriptor that becomes readable when the server says something, or is gone."""
        return self._epoll.fileno()

    @property
    def must_be_asked(self) -> bool:
        """Whether it can have rung without its descriptor saying so."""
        return True

    def heard(self) -> bool:
        """Whether somebody else has committed something since the last call. Never blocks."""
        driver = self._driver
        if driver is not None and not driver.closed:
            try:
                driver.pgconn.consume_input()
                while note := driver.pgconn.notifies():
                    self._note(note.be_pid)
            except psycopg.Error:
                self._driver, self._rang = None, True  # the next transaction finds out more
                with suppress(Exception):
                    self._hang_up()
        rang, self._rang = self._rang, False
        return rang

    def wait(self, seconds: float) -> bool:
        """Sleep until it rings or the time is over; return whether it rang."""
        deadline = time.monotonic() + seconds
        while not (rang := self.heard()) and (left := deadline - time.monotonic()) > 0:
            self._epoll.poll(left)
        return rang

    def _note(self, sender: int) -> None:
        driver = self._driver
        # What this very connection has committed is no news.
        if driver is None or sender != driver.pgconn.backend_pid:
            self._rang = True
