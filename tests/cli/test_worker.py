"""``queuectl worker``, through the program."""

from __future__ import annotations

import json
import os
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pexpect
import psutil
import pytest

from tests.cli.conftest import Program
from tests.jobs import until
from tests.waiting import wait_until


def _start(queuectl: Program, *words: str) -> None:
    queuectl("worker", "start", "--detach", *words)


def test_drain_runs_what_is_due_and_leaves(queuectl: Program) -> None:
    queuectl("enqueue", "--file", "-", given='{"command": "true"}\n' * 5)

    result = queuectl("worker", "start", "--drain", "-c", "2", "-j", "2", "--log-format", "json")

    assert {job["state"] for job in queuectl("list", "--json").json} == {"completed"}
    events = [json.loads(line) for line in result.lines]
    assert len([event for event in events if event["event"] == "worker-started"]) == 2


def test_detached_workers_are_listed_and_stopped(queuectl: Program) -> None:
    started = queuectl("worker", "start", "--detach", "-c", "2", "-j", "3", "-Q", "a", "-Q", "b")
    assert "2 workers started" in started.err
    assert int(started.out) > 0

    listed = queuectl("worker", "list", "--json").json

    assert [(worker["state"], worker["slots"], worker["queues"]) for worker in listed] == [
        ("alive", 3, ["a", "b"])
    ] * 2
    assert queuectl("worker", "list").lines[0].split()[:4] == ["ID", "STATE", "HOST", "PID"]
    assert len(queuectl("worker", "list", "-q").lines) == 2
    assert queuectl("worker", "stop").out == "2 workers stopped\n"
    assert queuectl("worker", "list", "--json").json == []


def test_stop_without_workers_says_so(queuectl: Program) -> None:
    result = queuectl("worker", "stop")

    assert (result.out, result.err) == ("", "note: no worker is running\n")
    assert queuectl("worker", "stop", "--json").json == []


@pytest.mark.parametrize(
    ("words", "mode"), [(["stop"], "drain"), (["stop", "--now"], "now"), (["drain"], "drain")]
)
def test_the_workers_that_left_are_told_as_they_are_then(
    queuectl: Program, words: list[str], mode: str
) -> None:
    _start(queuectl)
    [before] = queuectl("worker", "list", "--json").json

    [left] = queuectl("worker", *words, "--json").json

    assert (left["id"], left["state"], left["running"]) == (before["id"], "stopped", [])
    assert (left["stop_mode"], left["stop_requested_at"] is None) == (mode, False)


def test_stop_waits_and_tells_for_what(queuectl: Program) -> None:
    go_on = queuectl.folder / "go-on"
    _start(queuectl)
    queuectl("enqueue", "--id", "j", f"until [ -e {go_on} ]; do sleep 0.05; done")
    wait_until(lambda: queuectl("list", "--state", "processing", "-q").lines)

    late = queuectl("worker", "stop", "--timeout", "0.5s", code=1)
    listed = queuectl("worker", "list").lines[1]
    with queuectl.start("worker", "stop") as stop:
        assert stop.stderr is not None
        assert "(runs j)" in stop.stderr.readline()
        go_on.touch()
        assert stop.wait(30) == 0

    assert "(runs j)" in late.err.splitlines()[-2]
    assert late.err.splitlines()[-1].startswith("hint: ")
    assert "stopping" in listed
    assert queuectl("show", "j", "--json").json["state"] == "completed"


def test_stop_now_puts_running_jobs_back_uncharged(queuectl: Program) -> None:
    _start(queuectl)
    queuectl("enqueue", "--id", "j", "sleep 300")
    wait_until(lambda: queuectl("list", "--state", "processing", "-q").lines)

    queuectl("worker", "stop", "--now")

    job = queuectl("show", "j", "--json").json
    assert (job["state"], job["attempts"]) == ("pending", 0)
    assert [attempt["outcome"] for attempt in job["history"]] == ["stopped"]


def test_stop_by_queue_leaves_the_others(queuectl: Program) -> None:
    _start(queuectl, "-Q", "a")
    _start(queuectl, "-Q", "b")

    queuectl("worker", "stop", "--queue", "a")

    assert [worker["queues"] for worker in queuectl("worker", "list", "--json").json] == [["b"]]
    assert "for queue a" in queuectl("worker", "stop", "--queue", "a").err
    queuectl("worker", "stop")


def test_stop_does_not_hang_on_workers_that_were_killed(queuectl: Program) -> None:
    supervisor = int(queuectl("worker", "start", "--detach").out)
    queuectl("enqueue", "--id", "j", "sleep 300")
    wait_until(lambda: queuectl("list", "--state", "processing", "-q").lines)
    [worker] = queuectl("worker", "list", "--json").json

    os.kill(supervisor, signal.SIGSTOP)
    os.kill(worker["pid"], signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    queuectl("worker", "stop", "--timeout", "20s")

    assert queuectl("worker", "list", "--json").json == []
    assert queuectl("show", "j", "--json").json["state"] == "pending"


@pytest.fixture
def go(queuectl: Program) -> Path:
    """The running job ends when this file is there; another job waits behind it."""
    go = queuectl.folder / "go"
    queuectl("enqueue", "--id", "running", until(go))
    queuectl("enqueue", "--id", "waiting", "true")
    return go


def state(queuectl: Program, job: str) -> tuple[str, list[str]]:
    """Return a job's state and how its attempts ended."""
    shown = queuectl("show", job, "--json").json
    return shown["state"], [attempt["outcome"] for attempt in shown["history"]]


def test_ctrl_c_in_a_terminal_drains(queuectl: Program, go: Path) -> None:
    """T5: the terminal signals whoever is in its foreground; only the supervisor hears it."""
    with queuectl.on_terminal("worker", "start") as terminal:
        terminal.expect("job running started")

        terminal.sendcontrol("c")
        terminal.expect("stops, waits for 1 running job")
        go.touch()
        terminal.expect(pexpect.EOF)

    assert terminal.exitstatus == 0
    assert state(queuectl, "running") == ("completed", ["completed"])
    assert state(queuectl, "waiting") == ("pending", [])


def test_ctrl_c_twice_in_a_terminal_puts_the_jobs_back(queuectl: Program, go: Path) -> None:
    """T5: the second one ends the jobs."""
    with queuectl.on_terminal("worker", "start") as terminal:
        terminal.expect("job running started")

        terminal.sendcontrol("c")
        terminal.expect("stops, waits for 1 running job")
        terminal.sendcontrol("c")
        terminal.expect(pexpect.EOF)

    assert terminal.exitstatus == 0
    assert state(queuectl, "running") == ("pending", ["stopped"])
    assert queuectl("worker", "list", "--json").json == []


def test_ctrl_z_and_fg_leave_the_jobs_as_if_nothing_had_been(queuectl: Program, go: Path) -> None:
    """T5: suspended for longer than a lease; the worker and its job go on meanwhile."""
    queuectl("config", "set", "lease", "2s")
    with queuectl.shell_on_terminal() as shell:
        shell.sendline("queuectl worker start")
        shell.expect("job running started")
        [before] = queuectl("worker", "list", "--json").json

        shell.sendcontrol("z")
        shell.expect("Stopped")
        supervisor = psutil.Process(before["pid"]).parent()
        assert supervisor is not None
        assert supervisor.status() == psutil.STATUS_STOPPED
        later = datetime.fromisoformat(before["heartbeat_at"]) + timedelta(seconds=5)
        wait_until(lambda: heartbeat(queuectl) > later)
        shell.sendline("fg")
        wait_until(lambda: supervisor.status() != psutil.STATUS_STOPPED)
        later = heartbeat(queuectl) + timedelta(seconds=2)
        wait_until(lambda: heartbeat(queuectl) > later)
        go.touch()
        wait_until(lambda: state(queuectl, "waiting")[0] == "completed")
        [after] = queuectl("worker", "list", "--json").json
        shell.sendcontrol("c")
        wait_until(lambda: queuectl("worker", "list", "--json").json == [])
        shell.sendline("exit $?")
        shell.expect(pexpect.EOF)

    assert shell.exitstatus == 0
    assert after["id"] == before["id"]
    assert state(queuectl, "running") == ("completed", ["completed"])


def heartbeat(queuectl: Program) -> datetime:
    """Return when the one worker was last heard of."""
    [worker] = queuectl("worker", "list", "--json").json
    return datetime.fromisoformat(worker["heartbeat_at"])


def test_status_tells_of_workers_and_of_a_stop(queuectl: Program) -> None:
    _start(queuectl)
    queuectl("enqueue", "--id", "j", "sleep 300")
    wait_until(lambda: queuectl("list", "--state", "processing", "-q").lines)

    assert "no worker" not in queuectl("enqueue", "true").err
    assert "workers     1 alive" in queuectl().out
    queuectl("worker", "stop", "--timeout", "0", code=1)

    assert queuectl("status", "--json").json["stop_requested"] is True
    assert "a stop was asked for" in queuectl().out
    queuectl("worker", "stop", "--now")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["start", "--count", "0"], "--count"),
        (["start", "--concurrency", "x"], "--concurrency"),
        (["start", "--log-format", "xml"], "--log-format"),
        (["stop", "--timeout", "soon"], "--timeout"),
    ],
)
def test_bad_values_are_refused(queuectl: Program, words: list[str], named: str) -> None:
    assert named in queuectl("worker", *words, code=2).err
