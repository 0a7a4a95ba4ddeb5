"""``queuectl config`` and ``queuectl db``, through the program."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from queuectl.cli import completion
from queuectl.domain.job import State
from queuectl.domain.options import OPTION_NAMES
from tests.cli.conftest import Program


def test_list_shows_value_default_and_source(queuectl: Program) -> None:
    queuectl("config", "set", "lease", "1m")

    options = {option["name"]: option for option in queuectl("config", "list", "--json").json}
    text = queuectl("config", "list").out

    assert tuple(options) == OPTION_NAMES
    assert options["lease"] == options["lease"] | {"value": 60, "default": 30, "source": "stored"}
    assert options["max-retries"]["source"] == "default"
    row = next(line for line in text.splitlines() if line.startswith("lease"))
    assert row.split()[:4] == ["lease", "1m", "30s", "stored"]
    assert "10MiB" in text


def test_get_set_and_unset(queuectl: Program) -> None:
    assert queuectl("config", "set", "max_retries", "7").out == "7\n"
    assert queuectl("config", "get", "max-retries").out == "7\n"
    assert queuectl("config", "get", "max_retries", "--json").json["value"] == 7
    assert queuectl("enqueue", "--json", "true").json["max_retries"] == 7
    assert queuectl("config", "unset", "max-retries").out == "3\n"
    assert queuectl("config", "get", "timeout").out == "none\n"
    assert queuectl("config", "set", "backoff-base", "1.5").out == "1.5\n"
    assert queuectl("config", "set", "output-limit", "1MiB").out == "1048576\n"
    assert queuectl("config", "get", "retention-dead").out == "never\n"
    assert queuectl("config", "set", "retention-dead", "90d").out == "7776000\n"
    assert queuectl("config", "set", "retention-dead", "never", "--json").json["value"] is None


@pytest.mark.parametrize(
    ("name", "value", "code", "named"),
    [
        ("max-retries", "-1", 2, "max-retries: '-1'"),
        ("max-retries", "many", 2, "max-retries: 'many'"),
        ("backoff-base", "0.5", 2, "backoff-base"),
        ("backoff-base", "nan", 2, "backoff-base"),
        ("lease", "soon", 2, "lease: 'soon'"),
        ("colour", "red", 3, "'colour'"),
    ],
)
def test_a_bad_name_or_value_is_refused(
    queuectl: Program, name: str, value: str, code: int, named: str
) -> None:
    result = queuectl("config", "set", name, value, code=code)

    assert named in result.err
    if code == 3:
        assert "options: max-retries" in result.err


def test_the_completion_knows_the_options_and_the_states() -> None:
    assert completion.complete_option("") == list(OPTION_NAMES)
    assert completion.complete_state("") == list(State)


def test_the_store_is_created_checked_and_named(queuectl: Program) -> None:
    path = queuectl.folder / "new" / "q.db"
    db = ["--db", str(path)]

    assert queuectl(*db, "db", "path").out == f"{path}\n"
    assert not path.exists()
    assert "upgraded to schema" in queuectl(*db, "db", "upgrade").out
    assert "already at schema" in queuectl(*db, "db", "upgrade").out
    assert ": ok, schema " in queuectl(*db, "db", "check").out
    assert queuectl(*db, "db", "check", "--json").json["ok"] is True
    assert queuectl("db", "path", "--json").json == {
        "path": str(queuectl.location.path),
        "source": "QUEUECTL_DB_PATH",
    }


def test_a_check_names_what_differs(queuectl: Program) -> None:
    with closing(sqlite3.connect(queuectl.location.path)) as connection:
        connection.execute("DROP INDEX ix_jobs_due")

    assert "ix_jobs_due" in queuectl("db", "check", code=5).err
