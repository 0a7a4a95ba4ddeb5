"""What an error of a PostgreSQL server means: try again, or tell the user what to do."""

from __future__ import annotations

import re
from typing import cast

from queuectl.errors import StoreError, StoreUnavailable
from queuectl.settings import ServerLocation, StoreLocation

#: The message of an error that this program raises when a reply does not come.
CONNECTION_LOST = "the server has not answered in time"

#: Deadlock, serialization failure, lock timeout; a prepared statement that a pooler lost.
_REPEATABLE = frozenset({"40001", "40P01", "55P03", "26000", "42P05"})
#: The server went away: a shutdown, a crash of one of its processes, a start, a failover.
_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25006"})
_HINTS = {
    "55P03": "another session holds a lock: look with pg_blocking_pids(), then try again",
    "57014": "the server took too long; look for locks and slow disks, then try again",
    "53100": "free some disk space on the server",
    "53200": "the server is out of memory",
    "53300": "the server has no connection left: raise max_connections or use a pooler",
    "42501": "this role may not do that: use one that may, or see the grants in docs/fleet.md",
    "25P02": "try again",
}
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58", "40", "55", "25")
#: What libpq says of a server that may be there a moment later.
_UNREACHABLE = re.compile(
    r"refused|starting up|shutting down|recovery|closed the connection|No such file|timeout"
    r"|unreachable|not answered|reset by peer|SSL SYSCALL|too many clients|remaining connection"
)


def _state(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""


def is_disconnect(error: BaseException) -> bool:
    """Whether the connection is of no use any more."""
    state = _state(error)
    if state:
        return state in _GONE or state.startswith("08")
    return type(error).__name__ in ("OperationalError", "InterfaceError", "ConnectionTimeout")


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed a moment later."""
    return _state(error) in _REPEATABLE or is_disconnect(error)


def is_unreachable(error: BaseException) -> bool:
    """Whether a connection that was refused may be had a moment later."""
    return bool(_UNREACHABLE.search(str(error)))


def translate_error(location: StoreLocation, error: BaseException) -> StoreError | None:
    """Return what a driver's error means for the user; None if it is no matter of the store."""
    server = cast("ServerLocation", location)
    state = _state(error)
    reason = server.scrub(" ".join(str(error).splitlines()[:1]))
    if not state:
        return _translate_connection(server, error, reason)
    if state.startswith(_UNAVAILABLE_CLASSES):
        hint = _HINTS.get(state, "the server is busy or restarting; try again")
        return StoreUnavailable(f"{location}: {reason}", hint=hint)
    if state in _HINTS:
        return StoreError(f"{location}: {reason}", hint=_HINTS[state])
    if state in ("42P01", "42703"):
        return StoreError(f"{location}: {reason}", hint="run: queuectl db check")
    return None


def _translate_connection(
    location: ServerLocation, error: BaseException, reason: str
) -> StoreError | None:
    if "does not exist" in reason and "database" in reason:
        return StoreError(
            f"{location}: {reason}", hint="create it (createdb), then run: queuectl db upgrade"
        )
    if re.search(r"authentication|no password|role .* does not exist|pg_hba", reason):
        return StoreError(
            f"{location}: {reason}",
            hint="check user and password: PGPASSWORD, ~/.pgpass or a service file",
        )
    if "not accept read-write" in str(error) or "read-only" in reason:
        return StoreUnavailable(
            f"{location}: no host takes writes: {reason}",
            hint="is a standby being promoted? try again, or name the primary",
        )
    if is_disconnect(error):
        return StoreUnavailable(
            f"{location} is out of reach: {reason}",
            hint="is the server running, and is the host right?",
        )
    if type(error).__name__ == "ProgrammingError":  # libpq could not read the URL
        return StoreError(
            f"{location}: {reason}", hint="write postgresql://user@host:port/database?option=value"
        )
    return None
