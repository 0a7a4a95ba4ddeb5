"""What the shell offers when the tab key is pressed: reads of the bare driver, and nothing else.

It never creates, upgrades or locks a store, never waits, and is silent about whatever fails.
SQLAlchemy is not imported: that would take longer than a person presses a key.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import closing
from typing import Any

from queuectl.settings import ServerLocation, StoreLocation

# One library for every connection of a process, the one that db/sqlite.py takes.
try:
    import pysqlite3.dbapi2 as _library
except ImportError:  # no wheel for this platform
    import sqlite3 as _library

_LIBRARY: Any = _library

#: Candidates that are offered at most.
_LIMIT = 100
#: With more matches than this, the newest are found by looking at the newest jobs alone.
_MANY = 1000
_RECENT = 20_000
_SHOWN_CHARACTERS = 200

_MATCHING = "SELECT seq FROM jobs WHERE id >= :first AND id < :end LIMIT :many"
_NEWEST = f"""
    SELECT id, substr(command, 1, {_SHOWN_CHARACTERS})
    FROM (SELECT id, command, seq FROM jobs ORDER BY seq DESC LIMIT :recent)
    WHERE id >= :first AND id < :end ORDER BY seq DESC LIMIT :limit
"""  # noqa: S608  # a number of ours, not a value
_FEW = f"""
    SELECT id, substr(command, 1, {_SHOWN_CHARACTERS}) FROM jobs
    WHERE seq IN ({_MATCHING}) ORDER BY seq DESC LIMIT :limit
"""  # noqa: S608  # put together from constants
_NEWEST_DEAD = f"""
    SELECT id, substr(command, 1, {_SHOWN_CHARACTERS})
    FROM (SELECT job_seq FROM dlq ORDER BY job_seq DESC LIMIT :recent)
    JOIN jobs ON jobs.seq = job_seq
    WHERE id >= :first AND id < :end ORDER BY seq DESC LIMIT :limit
"""  # noqa: S608  # a number of ours, not a value
_FEW_DEAD = f"""
    SELECT id, substr(command, 1, {_SHOWN_CHARACTERS}) FROM jobs
    WHERE seq IN ({_MATCHING}) AND state = 'dead' ORDER BY seq DESC LIMIT :limit
"""  # noqa: S608  # put together from constants
#: From one name to the next by the index, however many jobs have each.
_NAMES = """
    WITH RECURSIVE found (name) AS (
        SELECT min(name) FROM jobs WHERE name >= :first AND name < :end
        UNION ALL
        SELECT (SELECT min(name) FROM jobs WHERE name > found.name AND name < :end)
        FROM found WHERE found.name IS NOT NULL
    )
    SELECT name FROM found WHERE name IS NOT NULL LIMIT :limit
"""
#: Dead jobs that are looked at for their kinds: the newest, 50 ms.
_LETTERS_READ = 5000
_LETTERS = """
    SELECT jobs.command, dlq.last_error FROM dlq JOIN jobs ON jobs.seq = dlq.job_seq
    ORDER BY dlq.job_seq DESC LIMIT :many
"""


def jobs(location: StoreLocation, prefix: str) -> list[tuple[str, str]]:
    """Return ids that begin with ``prefix``, the newest first, each with its command."""
    return _jobs(location, prefix, _FEW, _NEWEST)


def dead(location: StoreLocation, prefix: str) -> list[tuple[str, str]]:
    """Return the same of dead jobs."""
    return _jobs(location, prefix, _FEW_DEAD, _NEWEST_DEAD)


def _jobs(location: StoreLocation, prefix: str, few: str, newest: str) -> list[tuple[str, str]]:
    values = _range(prefix)
    found = len(_read(location, _MATCHING, {**values, "many": _MANY})) if prefix else _MANY
    if found < _MANY:
        return _read(location, few, {**values, "many": _MANY, "limit": _LIMIT})
    return _read(location, newest, {**values, "recent": _RECENT, "limit": _LIMIT})


def kinds(location: StoreLocation, prefix: str) -> list[tuple[str, str]]:
    """Return the kinds of dead jobs that begin so, the most frequent first, with an error each."""
    from queuectl.domain.fingerprint import kind_of, shorten

    errors: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for command, error in _read(location, _LETTERS, {"many": _LETTERS_READ}):
        kind = kind_of(command, error)
        errors[kind] = error or ""
        counts[kind] += 1
    shown = shorten(list(counts))
    return [
        (kind[: max(len(shown[kind]), len(prefix))], f"{count}: {errors[kind]}")
        for kind, count in counts.most_common()
        if kind.startswith(prefix)
    ][:_LIMIT]


def queues(location: StoreLocation) -> list[str]:
    """Return the names of the queues."""
    query = "SELECT name FROM queues ORDER BY name LIMIT :limit"
    return [name for (name,) in _read(location, query, {"limit": _LIMIT})]


def tags(location: StoreLocation, prefix: str) -> list[str]:
    """Return the tags that begin with ``prefix``."""
    query = (
        "SELECT DISTINCT tag FROM tags WHERE tag >= :first AND tag < :end ORDER BY tag LIMIT :limit"
    )
    return [tag for (tag,) in _read(location, query, {**_range(prefix), "limit": _LIMIT})]


def names(location: StoreLocation, prefix: str) -> list[str]:
    """Return the names of jobs that begin with ``prefix``."""
    values = {**_range(prefix), "limit": _LIMIT}
    return [name for (name,) in _read(location, _NAMES, values)]


def schedules(location: StoreLocation, prefix: str) -> list[tuple[str, str]]:
    """Return the schedules that begin with ``prefix``, each with its cron expression."""
    query = (
        "SELECT name, coalesce(cron, 'every ' || every_seconds || ' s') FROM schedules"
        " WHERE name >= :first AND name < :end ORDER BY name LIMIT :limit"
    )
    return _read(location, query, {**_range(prefix), "limit": _LIMIT})


def workers(location: StoreLocation, prefix: str) -> list[tuple[str, str]]:
    """Return the workers that begin with ``prefix`` and have not left, each with its process."""
    query = (
        "SELECT id, host || ', process ' || pid FROM workers"
        " WHERE state = 'alive' AND id >= :first AND id < :end ORDER BY started_at LIMIT :limit"
    )
    return _read(location, query, {**_range(prefix), "limit": _LIMIT})


def hosts(location: StoreLocation, prefix: str) -> list[str]:
    """Return the hosts that begin with ``prefix`` on which a worker has not left."""
    query = (
        "SELECT DISTINCT host FROM workers"
        " WHERE state = 'alive' AND host >= :first AND host < :end ORDER BY host LIMIT :limit"
    )
    return [host for (host,) in _read(location, query, {**_range(prefix), "limit": _LIMIT})]


def _range(prefix: str) -> dict[str, Any]:
    return {"first": prefix, "end": prefix + "\U0010ffff"}


def _read(location: StoreLocation, query: str, values: dict[str, Any]) -> list[Any]:
    if isinstance(location, ServerLocation):
        return _ask_server(location, query, values)
    try:
        uri = f"{location.path.as_uri()}?mode=ro"
        with closing(_LIBRARY.connect(uri, uri=True, timeout=0.1)) as connection:
            rows: list[Any] = connection.execute(query, values).fetchall()
            return rows
    except (_LIBRARY.Error, ValueError, UnicodeError):
        return []


def _ask_server(location: ServerLocation, query: str, values: dict[str, Any]) -> list[Any]:
    try:
        import psycopg
    except ImportError:
        return []
    named = re.sub(r":([a-z]+)", r"%(\1)s", query)
    try:
        with psycopg.connect(location.url, connect_timeout=2) as connection:
            connection.execute("SET LOCAL statement_timeout = 500")
            return connection.execute(named.encode(), values).fetchall()
    except (psycopg.Error, UnicodeError):
        return []
