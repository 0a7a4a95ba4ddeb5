"""The commands on a PostgreSQL store: the same as on SQLite, from the upgrade to the logs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.cli.conftest import Program


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of a database without tables."""
    with servers.new_database("queuectl_test_fleet") as found:
        yield found


def test_a_job_goes_its_way_from_the_upgrade_to_the_logs(queuectl: Program, url: str) -> None:
    refused = queuectl("--db", url, "enqueue", "--", "true", code=5)
    assert "queuectl db upgrade" in refused.err
    queuectl("--db", url, "db", "upgrade")
    queuectl("--db", url, "enqueue", "--id", "a", "--", "echo", "hello")

    queuectl("--db", url, "worker", "start", "--drain")

    [job] = queuectl("--db", url, "list", "--json").json
    assert (job["id"], job["state"]) == ("a", "completed")
    assert queuectl("--db", url, "logs", "a").out == "hello\n"
    found = queuectl("--db", url, "doctor", "--json", code=1).json["findings"]
    # The tests' server does not sync; that is all that is not well.
    assert [finding["name"] for finding in found if not finding["ok"]] == ["durability"]


def test_the_output_of_another_machine_is_told_with_its_place(
    queuectl: Program, url: str, tmp_path: Path
) -> None:
    queuectl("--db", url, "db", "upgrade")
    queuectl("--db", url, "enqueue", "--id", "a", "--", "echo", "hello")
    queuectl("--db", url, "worker", "start", "--drain")

    # Another user's home stands for another machine: the files are not there.
    away = tmp_path / "away"
    away.mkdir()
    told = queuectl("--db", url, "logs", "a", variables={"HOME": str(away)})

    assert told.out == "hello\n"
    assert "the last 6 of 6 bytes" in told.err
    assert "/store.logs/1-1.log" in told.err
