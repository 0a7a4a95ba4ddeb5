"""Failpoints: brought into a process when it starts, around every write transaction of the store.

The campaign leaves orders, files in a folder. A process that comes to the place which an order
names takes it, by removing it, which only one can, and dies there of SIGKILL. An order ``weather``
is for everybody until its time is over: each commit fails as on a full or a failing disk.

    NUMBER.before.TRANSACTION.0     all statements done, COMMIT not yet sent
    NUMBER.after.TRANSACTION.0      committed, the caller does not know it yet
    NUMBER.within.TRANSACTION.N     behind the N-th statement
    NUMBER.reply.TRANSACTION.0      committed, but the caller is told of an error: nobody dies
    NUMBER.weather.CODE.UNTIL       SQLite's error code, and milliseconds of CLOCK_BOOTTIME

On a server the reply is lost for real: the connection is deaf when COMMIT is sent.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, event

from queuectl.db import sqlite
from queuectl.db.engine import Store
from queuectl.db.prepared import Prepared
from queuectl.db.server_connection import ServerConnection

ORDERS = "CAMPAIGN_ORDERS"
STRIKES = "CAMPAIGN_STRIKES"
FULL = 13
IOERR_FSYNC = 10 | 4 << 8

_MESSAGES = {FULL: "database or disk is full", IOERR_FSYNC: "disk I/O error"}


class Order(NamedTuple):
    """One file of the folder of orders; ``number`` is what the strike will be known by."""

    number: int
    stage: str
    transaction: str
    argument: int

    @property
    def file(self) -> str:
        return ".".join(map(str, self))


def read_orders(folder: Path) -> list[Order]:
    """Return what is ordered now."""
    orders = []
    for name in os.listdir(folder):  # noqa: PTH208  # ten times as fast, and it is on every commit
        number, stage, transaction, argument = name.split(".")
        orders.append(Order(int(number), stage, transaction, int(argument)))
    return orders


def boottime() -> float:
    """Return the time by which a campaign counts, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write_strike(path: Path, number: int, detail: str) -> None:
    """Write down that a fault struck this process; one write, so that lines never mix."""
    line = f"{number} {os.getpid()} {boottime():.3f} {detail}\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


class _Passage:
    """One write transaction on its way past the failpoints."""

    current: _Passage | None = None
    #: The one whose COMMIT comes next.
    committing: _Passage | None = None

    def __init__(self, transaction: str) -> None:
        self.transaction = transaction
        self.statements = 0
        self.orders = read_orders(Path(os.environ[ORDERS]))

    def pass_by(self, stage: str, count: int = 0) -> None:
        for order in self.orders:
            if order[1:] == (stage, self.transaction, count) and _take(order):
                os.kill(os.getpid(), signal.SIGKILL)

    def lose_reply(self) -> None:
        if self._is_reply_lost():
            raise _make_error(IOERR_FSYNC)

    def cut_off_reply(self, descriptor: int) -> None:
        """Let what is sent arrive, and nothing come back."""
        if self._is_reply_lost():
            with socket.socket(fileno=os.dup(descriptor)) as line:
                line.shutdown(socket.SHUT_RD)

    def _is_reply_lost(self) -> bool:
        wanted = ("reply", self.transaction, 0)
        return any(order[1:] == wanted and _take(order) for order in self.orders)

    def weather(self) -> None:
        for order in self.orders:
            if order.stage == "weather" and boottime() * 1000 < order.argument:
                raise _make_error(int(order.transaction))

    def count_statement(self) -> None:
        self.statements += 1
        self.pass_by("within", self.statements)


def _make_error(code: int) -> Exception:
    error: Any = sqlite.LIBRARY.OperationalError(_MESSAGES[code])
    error.sqlite_errorcode = code
    return error  # type: ignore[no-any-return]  # the driver has no types


def _take(order: Order) -> bool:
    try:
        (Path(os.environ[ORDERS]) / order.file).unlink()
    except FileNotFoundError:
        return False  # another process was first
    detail = f"{order.stage} {order.transaction}"
    write_strike(Path(os.environ[STRIKES]), order.number, detail)
    return True


def install() -> None:
    """Wrap the store's write transactions in this process and all that it forks."""
    original: Callable[..., Any] = Store._transact

    def transact(self: Store, work: Callable[[Connection], Any], *, writes: bool) -> Any:
        if not writes:
            return original(self, work, writes=False)
        passage = _Passage(work.__qualname__.split(".")[0])

        def watched(connection: Connection) -> Any:
            _Passage.current = passage
            try:
                result = work(connection)
            finally:
                _Passage.current = None
            passage.pass_by("before")
            passage.weather()
            _Passage.committing = passage
            return result

        try:
            result = original(self, watched, writes=True)
        finally:
            _Passage.committing = None
        passage.pass_by("after")
        if not self.is_shared:
            passage.lose_reply()
        return result

    setattr(Store, "_transact", transact)  # noqa: B010  # an assignment would need an ignore

    _cut_off_replies()
    event.listen(Engine, "after_cursor_execute", _count_statement)
    for name in ("fetch", "execute"):
        _count_calls(Prepared, name)
    _count_calls(ServerConnection, "_exchange")


def _cut_off_replies() -> None:
    """Let the connection be deaf when nothing but the COMMIT, and what goes with it, is to come."""
    original = ServerConnection._send_commit

    def send_commit(self: ServerConnection) -> None:
        if _Passage.committing is not None:
            _Passage.committing.cut_off_reply(self.pgconn.socket)
        original(self)

    setattr(ServerConnection, "_send_commit", send_commit)  # noqa: B010  # as above


def _count_statement(*arguments: object) -> None:
    if _Passage.current is not None:
        _Passage.current.count_statement()


def _count_calls(owner: type, name: str) -> None:
    original = getattr(owner, name)

    def counted(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        _count_statement()
        return result

    setattr(owner, name, counted)
