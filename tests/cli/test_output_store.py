"""``output-store database``: a whole output is read on any machine, and moves with its store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from queuectl.settings import locate_store
from tests import servers
from tests.cli.conftest import Program
from tests.waiting import wait_until

_NAME = "queuectl_test_output"
_NUMBERS = [str(number) for number in range(1, 60_001)]


@pytest.fixture
def url(queuectl: Program) -> Iterator[str]:
    """The URL of a store that keeps outputs itself."""
    with servers.new_database(_NAME) as found:
        queuectl("--db", found, "db", "upgrade")
        queuectl("--db", found, "config", "set", "output-store", "database")
        yield found


@pytest.fixture
def elsewhere(tmp_path: Path) -> Mapping[str, str]:
    """Another user's home stands for another machine: the files are not there."""
    away = tmp_path / "away"
    away.mkdir()
    return {"HOME": str(away)}


def test_a_whole_output_is_read_on_another_machine(
    queuectl: Program, url: str, elsewhere: Mapping[str, str]
) -> None:
    queuectl("--db", url, "enqueue", "--id", "a", "seq 60000")
    queuectl("--db", url, "worker", "start", "--drain")

    for home in ({}, elsewhere):
        told = queuectl("--db", url, "logs", "a", variables=home)
        assert (told.lines, told.err) == (_NUMBERS, "")
    tail = queuectl("--db", url, "logs", "a", "-n", "2", variables=elsewhere)
    assert tail.lines == _NUMBERS[-2:]
    shown = queuectl("--db", url, "logs", "a", "--json", variables=elsewhere).json
    assert shown["output"].split() == _NUMBERS
    logs = locate_store(url, {}).path.name + ".logs"
    assert [*queuectl.folder.glob(f".queuectl/*/{logs}/*")] == []


def test_a_running_job_is_followed_from_another_machine(
    queuectl: Program, url: str, elsewhere: Mapping[str, str]
) -> None:
    wait = "until [ -e on ]; do sleep 0.1; done"
    queuectl("--db", url, "enqueue", "--id", "a", f"echo one; {wait}; seq 60000")
    queuectl("--db", url, "worker", "start", "--detach")
    queuectl.environment.update(elsewhere)

    with queuectl.start("--db", url, "logs", "-f", "a") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "one\n"
        (queuectl.folder / "on").touch()
        rest = follower.stdout.read().splitlines()

    assert follower.returncode == 0
    assert rest == _NUMBERS
    queuectl("--db", url, "worker", "stop")


def test_a_follower_on_the_same_machine_misses_nothing_when_the_file_goes(
    queuectl: Program,
) -> None:
    queuectl("config", "set", "output-store", "database")
    wait = "until [ -e on ]; do sleep 0.1; done"
    queuectl("enqueue", "--id", "a", f"echo one; {wait}; seq 60000")

    with queuectl.start("logs", "-f", "a") as follower:
        queuectl("worker", "start", "--detach")
        assert follower.stdout is not None
        assert follower.stdout.readline() == "one\n"
        (queuectl.folder / "on").touch()
        rest = follower.stdout.read().splitlines()

    assert rest == _NUMBERS
    assert wait_until(lambda: not [*queuectl.location.logs.iterdir()])
    queuectl("worker", "stop")


def test_workers_may_differ_from_the_setting(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "echo in the database")
    queuectl.drain("--output-store", "database")
    queuectl("config", "set", "output-store", "database")
    queuectl("enqueue", "--id", "b", "echo in a file")
    queuectl.drain("--output-store", "files")

    assert [path.name for path in queuectl.location.logs.iterdir()] == ["2-1.log"]
    assert queuectl("logs", "a").out == "in the database\n"
    assert queuectl("logs", "b").out == "in a file\n"
    refused = queuectl("worker", "start", "--output-store", "tape", code=2)
    assert "'tape' is not one of" in refused.err


def test_a_copy_has_the_outputs(queuectl: Program, url: str, tmp_path: Path) -> None:
    back = str(tmp_path / "back" / "queue.db")
    queuectl("--db", url, "enqueue", "--id", "a", "seq 60000")
    queuectl("--db", url, "worker", "start", "--drain")

    told = queuectl("--db", url, "db", "copy", "--to", back, "--json").json

    assert told["output_chunks"] > 1
    assert told["output_files"] == 0
    assert queuectl("--db", back, "logs", "a").lines == _NUMBERS
    assert queuectl("--db", back, "audit").code == 0
