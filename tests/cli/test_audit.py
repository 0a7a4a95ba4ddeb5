"""``queuectl audit``."""

from __future__ import annotations

from contextlib import closing

from queuectl.db import sqlite
from tests.cli.conftest import Program


def break_by(queuectl: Program, statement: str) -> None:
    with closing(sqlite.LIBRARY.connect(queuectl.location.path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_what_was_looked_at_is_told(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "true")
    queuectl("enqueue", "--id", "b", "--max-retries", "0", "false")
    queuectl.drain()

    told = queuectl("audit")

    assert told.lines[0] == "2 attempts, 0 overlaps"
    assert "1 dead job, 0 at odds with the dead letter queue" in told.lines
    assert told.err == ""


def test_a_broken_promise_names_the_job_and_fails(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "true")
    queuectl.drain()
    break_by(queuectl, "DELETE FROM attempts")

    told = queuectl("audit", code=1)

    assert "1 job, 1 with gaps in their attempts" in told.lines
    assert told.lines[told.lines.index("1 job, 1 with gaps in their attempts") + 1] == "  a"
    assert "error: 2 of 10 checks failed: gaps, wrong" in told.err
    assert "hint: " in told.err


def test_json_has_every_check(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "true")
    good = queuectl("audit", "--json").json
    break_by(queuectl, "UPDATE jobs SET runs = 1")

    bad = queuectl("audit", "--json", code=1).json

    assert (good["ok"], bad["ok"]) == (True, False)
    assert len(good["checks"]) == 10
    [gaps] = [check for check in bad["checks"] if not check["ok"]]
    assert (gaps["name"], gaps["broken"], gaps["examples"]) == ("gaps", 1, ["a"])
    assert gaps["hint"]


def test_a_store_that_is_not_there_is_not_made_only_to_be_found_sound(queuectl: Program) -> None:
    missing = queuectl.folder / "typo.db"

    told = queuectl("--db", str(missing), "audit", code=5)

    assert told.err.startswith(f"error: there is no store at {missing}\nhint: ")
    assert not missing.exists()
