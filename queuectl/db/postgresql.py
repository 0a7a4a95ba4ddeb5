"""PostgreSQL: connections, transactions with limits, notifications, and what its errors mean.

Each transaction sets its own limits (they go with its first statement, so that they cost no round
trip, and hold behind a pooler too), and each wait for the server has one of the client's: a
server that is stopped, or a network that swallows everything, must not hold up a worker that has a
lease to keep.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from queuectl import extras
from queuectl.db import schema
from queuectl.db.files import adopt_folder
from queuectl.db.server_errors import is_disconnect as is_disconnect
from queuectl.db.server_errors import is_transient, is_unreachable
from queuectl.db.server_errors import translate_error as translate_error
from queuectl.db.wakeup import Bell
from queuectl.errors import StoreError
from queuectl.settings import ServerLocation, StoreLocation

try:
    import psycopg
except ImportError as error:
    raise StoreError(
        "a PostgreSQL store needs the driver psycopg, which is not installed",
        hint=extras.how_to_install("postgresql"),
    ) from error
from queuectl.db.server_connection import ServerConnection

Result = TypeVar("Result")

#: Several machines share such a store: leases decide where a lock cannot be tried.
SHARED = True
#: The driver's own error, which statements below SQLAlchemy raise.
ERROR: type[Exception] = psycopg.Error
#: How long a transaction is tried again, and how long one statement may take, in seconds.
PATIENCE_SECONDS = 10.0
#: The part of its patience for which a transaction waits for one lock: then it lets go of its own,
#: and is tried again as a whole. The limit of a statement comes first where it is not longer.
_LOCK_PART = 1 / 3
#: The poll behind notifications, which come with the commit or not at all. It is what many idle
#: workers cost.
POLL_SECONDS = 30.0
#: How long a server that refuses connections is asked again, in seconds; a restart takes less.
_RECONNECT_SECONDS = 2.0
#: The channel of all notifications.
CHANNEL = "queuectl"

#: For libpq, where the URL says nothing else. A dead peer is noticed in 11 s even while idle.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "fallback_application_name": "queuectl",
}
_RING = (
    f"SELECT pg_notify('{CHANNEL}', '') WHERE pg_current_xact_id_if_assigned() IS NOT NULL".encode()
)
_CLOCK = b"SELECT clock_timestamp()"


def create_store_engine(location: StoreLocation) -> Engine:
    """Return an engine whose connections are ready for queuectl."""
    server = cast("ServerLocation", location)
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: _connect(server),
        poolclass=NullPool,  # Store keeps its one connection itself
        pool_reset_on_return=None,
        use_native_hstore=False,
    )
    event.listen(engine, "begin", _begin)
    return engine


def _connect(location: ServerLocation) -> ServerConnection:
    """Let libpq take the URL apart: its hosts, files, variables and options all work."""
    given = psycopg.conninfo.conninfo_to_dict(location.url)
    defaults: dict[str, Any] = {
        name: value for name, value in _DEFAULTS.items() if name not in given
    }
    if os.environ.get("PGCONNECT_TIMEOUT"):
        defaults.pop("connect_timeout", None)
    defaults["client_encoding"] = "UTF8"  # an SQL_ASCII database's texts would be bytes
    # Statements begin and commit as _begin says; the driver adds nothing of its own.
    return ServerConnection.connect(location.url, autocommit=True, **defaults)


def _begin(connection: Connection) -> None:
    writes = connection.info.get("writes", False)
    patience = connection.info.get("patience", PATIENCE_SECONDS)
    driver = driver_connection(connection)
    if patience is None:  # a migration takes as long as it takes
        driver.patience = None
        driver.owe_transaction("READ COMMITTED", 0, 60_000, 0)
        return
    driver.patience = patience + 1
    # READ COMMITTED: a claim takes what is there now. A reader sees one moment.
    mode = "READ COMMITTED, READ WRITE" if writes else "REPEATABLE READ, READ ONLY"
    limit = int(patience * 1000)
    driver.owe_transaction(mode, limit, max(1, int(limit * _LOCK_PART)), limit)


def driver_connection(connection: Connection) -> Any:
    """Return the bare driver's connection below SQLAlchemy's."""
    return connection.connection.driver_connection


def prepare_connection(location: StoreLocation, connection: Connection) -> None:
    """Refuse a server that takes no writes, and mind a pooler; raises StoreError."""
    query = "SELECT pg_is_in_recovery(), pg_backend_pid()"
    standby, server_pid = connection.exec_driver_sql(query).one()
    driver = driver_connection(connection)
    # A pooler gives each client a number of its own.
    driver.is_pooled = server_pid != driver.pgconn.backend_pid
    if driver.is_pooled:
        # What another client has prepared on the next server may bear the same name.
        driver.prepare_threshold = None
    if standby:
        raise StoreError(
            f"{location} is a read-only standby",
            hint="name the primary; or several hosts with ?target_session_attrs=read-write",
        )


def stored_revision(location: StoreLocation, connection: Connection) -> str | None:
    """Return the revision that the database says it has; None if it has no tables of ours."""
    found = connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar()
    if found is None:
        return None
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if revision is None else str(revision)


@contextmanager
def writers_queue(location: StoreLocation) -> Iterator[None]:
    """Writers need no line here: the database lets them work side by side."""
    yield


def changes(connection: Connection) -> int:
    """Return nothing that tells: whether something changed is for ``announce`` to ask."""
    return 0


def announce(connection: Connection) -> None:
    """Let the commit that comes wake the idle workers, if the transaction has written."""
    if not connection.info.get("hushed"):
        driver_connection(connection).owe(_RING)


def ring(location: StoreLocation, *, hushed: bool = False) -> None:
    """Do nothing: the commit has rung."""


def doorbell(location: StoreLocation, hang_up: Callable[[], None], *, hushed: bool) -> Bell:
    """Return an ear for what others commit; what wakes no worker is not notified to anybody.

    ``hang_up`` closes the connection once it is seen to be broken.
    """
    from queuectl.db.listening import Listener  # whoever waits for nothing needs none

    return Listener(hang_up)


def settle_in(location: StoreLocation, connection: Connection) -> None:
    """Let this machine's own files of the store be where all its URLs lead; raises StoreError."""
    adopt_folder(location, schema.read_id(connection))


def data_version(connection: Connection) -> int | None:
    """Return None: nothing tells cheaply whether somebody else has committed."""
    return None


def clock(connection: Connection) -> datetime:
    """Return the time by the one clock that all machines share: the database's."""
    found: datetime = driver_connection(connection).owe(_CLOCK).rows()[0][0]
    return found


def is_outcome_unknown(error: BaseException) -> bool:
    """Whether a commit that failed with this may stand all the same."""
    return is_disconnect(error)


def is_worth_a_try(error: BaseException, *, connected: bool, waited: float) -> bool:
    """Whether the same transaction may succeed a moment later."""
    if not connected:
        return is_unreachable(error) and waited < _RECONNECT_SECONDS
    return is_transient(error)


def pause_before_retry(attempt: int) -> None:
    """Sleep a little longer each time, and not as long as others do."""
    time.sleep(min(0.005 * 2**attempt, 0.5) * random.uniform(0.5, 1.5))  # noqa: S311  # jitter


def end_connection(connection: Connection) -> None:
    """Close a connection, whatever state it is in."""
    with suppress(Exception):  # one that broke has nothing left to say
        driver_connection(connection).close()
    with suppress(Exception):
        connection.close()
