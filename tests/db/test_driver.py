"""PostgreSQL's driver: an extra, which an SQLite store neither needs nor loads."""

from __future__ import annotations

import subprocess
import sys

from queuectl.db.engine import Store

_WITHOUT_DRIVER = """
import sys
sys.modules["psycopg"] = None
from queuectl.db.engine import open_store
from queuectl.errors import StoreError
from queuectl.settings import locate_store
try:
    open_store(locate_store("postgresql://db/queue"))
except StoreError as error:
    print(error.exit_code, error.message, error.hint)
"""
_ON_SQLITE = """
import sys
from queuectl.db.engine import open_store
from queuectl.service import claims, jobs, workers
from queuectl.settings import locate_store
open_store(locate_store(sys.argv[1])).read(lambda connection: None)
print([name for name in sys.modules if "psycopg" in name or "postgresql" in name])
"""


def run(code: str, *words: object) -> str:
    told = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True
    )
    return told.stdout


def test_without_the_driver_it_is_said_how_to_get_it() -> None:
    told = run(_WITHOUT_DRIVER)

    assert told.startswith("5 a PostgreSQL store needs the driver psycopg")
    assert "pip install -e '.[postgresql]'" in told


def test_an_sqlite_store_loads_nothing_of_it(store: Store) -> None:
    """Once it is there: its migrations speak of both."""
    assert run(_ON_SQLITE, store.location.path) == "[]\n"
