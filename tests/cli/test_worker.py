"""``queuectl worker``, through the program."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.cli.conftest import Program
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
