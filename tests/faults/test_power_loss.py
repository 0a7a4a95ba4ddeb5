"""A power cut: a file system that is shut down without writing out what it still holds.

A loop-mounted ext4 is shut down by its own ioctl, which drops everything that was not synced, the
journal included, as a power cut does. What is found after mounting it again is what was on disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from queuectl.db.engine import open_store
from queuectl.service import audit, jobs
from queuectl.settings import StoreLocation
from tests.cli.conftest import PROGRAM, Program
from tests.scripts import await_ready, start_script
from tests.supervision import end_marked, marked_environment
from tests.waiting import wait_until

_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
ENQUEUED = 200
SETTLED = 30

_CLIENT = """
store = open_store(location)
for n in range(200):
    receipt = jobs.enqueue(store, [JobRequest(command="true")], cwd="/")
    print(receipt.ids[0], flush=True)
ready()
"""
_UNSYNCED = """from queuectl.db import sqlite
store.read(sqlite.driver_connection).execute("PRAGMA synchronous=OFF")
"""
_CARELESS = _CLIENT.replace("for n", f"{_UNSYNCED}for n")


class Disk:
    """A small disk whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "disk.img"
        self.root = folder / "disk"
        self.root.mkdir()
        with self._image.open("wb") as image:
            image.truncate(128 * 1024**2)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._image], check=True)

    def mount(self) -> None:
        # Nothing is written out by the clock: what is on disk was synced by somebody.
        options = "loop,commit=3600"
        subprocess.run(
            ["mount", "-o", options, self._image, self.root],
            check=True,
            capture_output=True,
            text=True,
        )

    def unmount(self) -> None:
        subprocess.run(["umount", self.root], check=True)

    def cut_power(self) -> None:
        root = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(root, _IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(root)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A mounted disk; skips, by the row's name, only where loop mounts are not allowed."""
    disk = Disk(tmp_path)
    try:
        disk.mount()
    except subprocess.CalledProcessError as error:
        if os.geteuid() != 0 or "permi" in error.stderr or "loop device" in error.stderr:
            reason = error.stderr.strip().rpartition(": ")[2]
            pytest.skip(f"row C8 was not run: no loop mounts here: {reason}")
        raise
    disk.root.chmod(0o700)
    yield disk
    end_marked(tmp_path)
    with suppress(subprocess.CalledProcessError):
        disk.unmount()


def read_acknowledged(client: subprocess.Popen[str]) -> list[str]:
    """Return the ids that a client was told, all of them."""
    assert client.stdout is not None
    ids = [client.stdout.readline().strip() for _ in range(ENQUEUED)]
    await_ready(client)
    return ids


def told(events: Path, event: str) -> set[str]:
    lines = [json.loads(line) for line in events.read_bytes().splitlines() if line.endswith(b"}")]
    return {line["job"] for line in lines if line["event"] == event}


def test_what_was_acknowledged_survives_a_power_cut(disk: Disk, tmp_path: Path) -> None:
    """C8: 200 acknowledged enqueues and every settlement that was told are there afterwards."""
    location = StoreLocation(disk.root / "store" / "queue.db", "test")
    events = tmp_path / "events"
    with events.open("wb") as out:
        supervisor = subprocess.Popen(
            [PROGRAM, "worker", "start", "--count", "2", "--log-format", "json"],
            env={**marked_environment(tmp_path), "QUEUECTL_DB_PATH": str(location)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.DEVNULL,
        )
    with start_script(tmp_path, location.path, _CLIENT) as client:
        ids = read_acknowledged(client)
        wait_until(lambda: len(told(events, "job-completed")) >= SETTLED)
        completed = told(events, "job-completed")
        disk.cut_power()
        end_marked(tmp_path)
    supervisor.wait()
    disk.unmount()
    disk.mount()

    with closing(open_store(location)) as store:
        found = {job.id: job.state for job in jobs.find_by_ids(store, ids)}
        assert len(ids) == len(set(ids)) == ENQUEUED
        assert sorted(found) == sorted(ids)
        assert {found[job_id] for job_id in completed} == {"completed"}
        Program(tmp_path, location.path).drain()
        assert {job.state for job in jobs.find_by_ids(store, ids)} == {"completed"}
        assert [check for check in audit.audit(store) if not check.ok] == []


def test_the_power_cut_is_one(disk: Disk, tmp_path: Path) -> None:
    """C8: a client that does not sync loses what it was told, so the cut above does cut."""
    location = StoreLocation(disk.root / "store" / "queue.db", "test")
    open_store(location).close()

    with start_script(tmp_path, location.path, _CARELESS) as client:
        ids = read_acknowledged(client)
        disk.cut_power()
        end_marked(tmp_path)
    disk.unmount()
    disk.mount()

    with closing(open_store(location)) as store:
        assert len(jobs.find_by_ids(store, ids)) < ENQUEUED
