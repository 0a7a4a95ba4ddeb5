"""``queuectl worker scale`` and ``drain``, through the program."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest

from tests import servers
from tests.cli.conftest import Program
from tests.jobs import until
from tests.waiting import wait_until


def start(queuectl: Program, *words: str) -> int:
    return int(queuectl("worker", "start", "--detach", *words).out)


def workers(queuectl: Program) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = queuectl("worker", "list", "--json").json
    return listed


def outcomes(queuectl: Program, job: str) -> tuple[str, list[str]]:
    shown = queuectl("show", job, "--json").json
    return shown["state"], [attempt["outcome"] for attempt in shown["history"]]


def running(queuectl: Program, count: int) -> None:
    wait_until(lambda: len(queuectl("list", "--state", "processing", "-q").lines) == count)


@pytest.fixture
def go(queuectl: Program) -> Path:
    """Two jobs run until this file is there, and one waits behind them."""
    go = queuectl.folder / "go"
    for name in ("a", "b"):
        queuectl("enqueue", "--id", name, until(go))
    return go


def test_up_and_down_and_what_is_told(queuectl: Program) -> None:
    start(queuectl)
    short = workers(queuectl)[0]["supervisor_id"][:8]

    up = queuectl("worker", "scale", "3")
    told = queuectl("worker", "scale", "2", "--json").json
    ids = queuectl("worker", "scale", "2", "-q").lines

    assert up.out == "3 workers running\n"
    host = socket.gethostname()
    assert f"note: supervisor {short} on {host} goes from 1 to 3 workers" in up.err
    assert (told["before"], told["wanted"], told["reached"]) == (3, 2, True)
    assert [worker["id"] for worker in told["workers"]] == ids
    assert sorted(ids) == sorted(worker["id"] for worker in workers(queuectl))
    assert len(ids) == 2
    again = queuectl("worker", "scale", "2").err
    assert f"supervisor {short} on {host} stays at 2 workers" in again
    queuectl("worker", "stop")


def test_it_waits_for_those_that_leave_unless_told_not_to(queuectl: Program, go: Path) -> None:
    start(queuectl, "--count", "2")
    running(queuectl, 2)

    told = queuectl("worker", "scale", "1", "--no-wait", "--json").json
    late = queuectl("worker", "scale", "1", "--timeout", "1s", code=1)
    wait_until(lambda: "stopping" in queuectl("worker", "list").out)
    status = queuectl("status", "--json").json
    queuectl("enqueue", "--id", "later", "true")
    with queuectl.start("worker", "scale", "1") as scaling:
        assert scaling.stderr is not None
        assert "stays at 1 worker" in scaling.stderr.readline()
        assert "(runs " in scaling.stderr.readline()
        go.touch()
        assert scaling.wait(30) == 0

    assert told["reached"] is False
    assert "error: not reached after 1s: worker " in late.err
    assert "hint: it stays asked for" in late.err
    assert status["stop_requested"] is False
    assert outcomes(queuectl, "a") == outcomes(queuectl, "b") == ("completed", ["completed"])
    wait_until(lambda: outcomes(queuectl, "later")[0] == "completed")
    assert len(workers(queuectl)) == 1
    queuectl("worker", "stop")


def test_one_of_several_supervisors_must_be_named(queuectl: Program) -> None:
    start(queuectl, "-Q", "a")
    start(queuectl, "-Q", "b", "-c", "2")
    of_a, of_b = ([w for w in workers(queuectl) if w["queues"] == [q]] for q in "ab")

    refused = queuectl("worker", "scale", "3", code=4)
    queuectl("worker", "scale", "3", of_a[0]["supervisor_id"][:10])
    queuectl("worker", "scale", "1", of_b[1]["id"][:12])

    for one, what in ((of_a, "1 worker, queue a"), (of_b, "2 workers, queue b")):
        assert f"{one[0]['supervisor_id'][:8]} ({what})" in refused.err
    assert "hint: name one: queuectl worker scale N " in refused.err
    assert sorted(w["queues"][0] for w in workers(queuectl)) == ["a", "a", "a", "b"]
    queuectl("worker", "stop")


def test_what_cannot_be_scaled_is_refused(queuectl: Program, go: Path) -> None:
    zero = queuectl("worker", "scale", "0", code=2).err
    many = queuectl("worker", "scale", "1001", code=2).err
    both = queuectl("worker", "scale", "2", "--no-wait", "--timeout", "1s", code=2).err
    nobody = queuectl("worker", "scale", "2", code=3).err
    unknown = queuectl("worker", "scale", "2", "nope", code=3).err
    with queuectl.start("run", "--id", "here", "--", "sleep", "300"):
        running(queuectl, 1)
        [worker] = workers(queuectl)
        alone = queuectl("worker", "scale", "2", worker["id"], code=4).err
        queuectl("cancel", "here")
    start(queuectl)
    running(queuectl, 1)
    queuectl("worker", "stop", "--timeout", "0s", code=1)
    stopping = queuectl("worker", "scale", "2", workers(queuectl)[0]["id"], code=4).err
    go.touch()

    assert "hint: let them finish and leave with: queuectl worker drain" in zero
    assert "a supervisor has at most 1000" in many
    assert "--no-wait" in both
    assert "that could be scaled" in nobody
    assert "no worker or supervisor 'nope' is running" in unknown
    assert "is that of queuectl run" in alone
    assert "was asked to stop" in stopping
    queuectl("worker", "stop")


def test_a_drain_ends_no_job_however_long_it_takes(queuectl: Program, go: Path) -> None:
    start(queuectl, "--count", "2")
    running(queuectl, 2)
    queuectl("enqueue", "--id", "waits", "true")

    late = queuectl("worker", "drain", "--timeout", "0.5s", code=1)
    with queuectl.on_terminal("worker", "drain") as terminal:
        terminal.expect(r"waiting for worker \w+ \(runs [ab]\), worker \w+ \(runs [ab]\)")
        go.touch()
        terminal.expect("2 workers drained")
        terminal.expect(pexpect.EOF)

    assert terminal.exitstatus == 0
    assert "error: still running after 0.5s: worker " in late.err
    assert "hint: they go on draining" in late.err
    assert outcomes(queuectl, "a") == outcomes(queuectl, "b") == ("completed", ["completed"])
    assert outcomes(queuectl, "waits") == ("pending", [])
    assert workers(queuectl) == []


def test_a_signal_after_a_drain_puts_the_jobs_back(queuectl: Program, go: Path) -> None:
    supervisor = start(queuectl, "--count", "2")
    running(queuectl, 2)
    queuectl("worker", "drain", "--timeout", "0s", code=1)
    wait_until(lambda: all(worker["stop_mode"] == "drain" for worker in workers(queuectl)))
    log = queuectl.location.worker_log
    wait_until(lambda: log.read_text().count("stops, waits for 1 running job") == 2)

    os.kill(supervisor, signal.SIGTERM)

    wait_until(lambda: not psutil.pid_exists(supervisor))
    assert outcomes(queuectl, "a") == outcomes(queuectl, "b") == ("pending", ["stopped"])
    assert go.exists() is False


def test_one_worker_drains_alone(queuectl: Program, go: Path) -> None:
    start(queuectl, "--count", "2")
    running(queuectl, 2)
    first = next(w for w in workers(queuectl) if w["running"][0]["id"] == "a")

    with queuectl.start("worker", "drain", first["id"][:12], "--json") as drain:
        wait_until(lambda: "stopping" in queuectl("worker", "list").out)
        go.touch()
        told, _ = drain.communicate(timeout=30)

    assert first["id"] in told
    [left] = workers(queuectl)
    assert (left["stop_mode"], left["id"] != first["id"]) == (None, True)
    queuectl("enqueue", "--id", "later", "true")
    queuectl("wait", "later")
    assert queuectl("show", "later", "--json").json["history"][0]["worker_id"] == left["id"]
    queuectl("worker", "scale", "2")  # counts it no more
    queuectl("worker", "stop")


def test_a_drain_of_nobody_says_so_and_a_wrong_one_is_refused(queuectl: Program) -> None:
    host = socket.gethostname()

    assert queuectl("worker", "drain").err == f"note: no worker is running on {host}\n"
    assert queuectl("worker", "drain", "--host", "mars").err == (
        "note: no worker is running on mars\n"
    )
    assert queuectl("worker", "drain", "--all", "--json").json == []
    assert "'nope'" in queuectl("worker", "drain", "nope", code=3).err
    assert "by one of them alone" in queuectl("worker", "drain", "--all", "w", code=2).err
    assert "--timeout" in queuectl("worker", "drain", "--timeout", "soon", code=2).err


def test_on_postgresql_hosts_are_drained_apart(queuectl: Program) -> None:
    location = servers.empty_store()
    there = {"QUEUECTL_DATABASE_URL": location.url}

    def run(*words: str, code: int = 0) -> Any:
        return queuectl(*words, code=code, variables=there)

    run("worker", "start", "--detach")
    assert run("worker", "scale", "2").out == "2 workers running\n"

    assert run("worker", "drain", "--host", "mars").err == "note: no worker is running on mars\n"
    assert len(run("worker", "list", "-q").lines) == 2
    assert run("worker", "drain").out == "2 workers drained\n"
    assert run("worker", "list", "--json").json == []


def test_the_shell_completes_workers_and_hosts(queuectl: Program) -> None:
    start(queuectl, "--count", "2")
    ids = {worker["id"] for worker in workers(queuectl)}
    bash = {"_QUEUECTL_COMPLETE": "bash"}

    drained = queuectl("queuectl worker drain ", "9", "", variables=bash).lines
    scaled = queuectl("queuectl worker scale 3 ", "9", "", variables=bash).lines
    hosts = queuectl("queuectl worker drain --host ", "9", "", variables=bash).lines

    assert set(drained) == set(scaled) == ids
    assert hosts == [socket.gethostname()]
    queuectl("worker", "stop")
