"""``queuectl worker unit``: it names this program and store, and its command works."""

from __future__ import annotations

import configparser
import getpass
import os
import shlex
import shutil
import subprocess

import pytest

from tests.cli.conftest import PROGRAM, Program


def parse(text: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    unit.read_string(text)
    return unit


def test_a_unit_drains_on_a_stop_and_starts_again_after_a_failure(queuectl: Program) -> None:
    result = queuectl("worker", "unit", "-c", "2", "-j", "4", "-Q", "a", "--queue", "b")

    service = parse(result.out)["Service"]
    assert service["User"] == getpass.getuser()
    assert (service["KillMode"], service["Restart"]) == ("mixed", "on-failure")
    assert service["ExecStart"] == (
        f"{PROGRAM} worker start --count=2 --concurrency=4 --queue=a --queue=b --log-format json"
    )
    assert result.err == ""


def test_the_command_of_a_unit_works_the_store_that_it_names(queuectl: Program) -> None:
    folder = queuectl.folder / "two words"
    shutil.copytree(queuectl.location.folder, folder)
    place = str(folder / "queue.db")
    queuectl("--db", place, "enqueue", "--id", "j", "true")
    service = parse(queuectl("--db", place, "worker", "unit").out)["Service"]
    name, _, value = shlex.split(service["Environment"])[0].partition("=")

    subprocess.run(
        [*shlex.split(service["ExecStart"]), "--drain"],
        env={"HOME": str(queuectl.folder), "PATH": os.environ["PATH"], name: value},
        check=True,
        stdout=subprocess.DEVNULL,
    )

    assert (name, value) == ("QUEUECTL_DB_PATH", place)
    assert queuectl("--db", place, "show", "j", "--json").json["state"] == "completed"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann@db/q?sslrootcert=/ca", "postgresql://ann@db/q?sslrootcert=/ca"),
        ("postgresql://ann:secret@db/q", "postgresql://ann@db/q"),
        ("postgresql://ann@db/q?password=secret", "postgresql://ann@db/q"),
        ("postgresql://ann@/q?host=/run/50%25", "postgresql://ann@/q?host=/run/50%%25"),
    ],
)
def test_a_unit_holds_no_password_and_says_so(queuectl: Program, url: str, shown: str) -> None:
    result = queuectl("worker", "unit", variables={"QUEUECTL_DATABASE_URL": url})

    unit = parse(result.out)
    assert unit["Service"]["Environment"] == f"QUEUECTL_DATABASE_URL={shown}"
    assert unit["Unit"]["After"] == "network-online.target"
    assert "secret" not in result.out
    assert ("the password is left out" in result.err) == ("secret" in url)


def test_a_queue_that_cannot_be_is_refused(queuectl: Program) -> None:
    assert "--queue: 'a b' must begin" in queuectl("worker", "unit", "-Q", "a b", code=2).err
