"""What workers tell: a line an event, or an object; never a control sequence of a job's."""

from __future__ import annotations

import json

import pytest

from queuectl.worker.events import EventLog


def test_an_event_is_a_readable_line(capfd: pytest.CaptureFixture[str]) -> None:
    EventLog("text", "worker abc").emit("job-started", "job a started: echo hi", job="a")

    [line] = capfd.readouterr().out.splitlines()
    moment, rest = line.split(" ", 1)
    assert rest == "worker abc: job a started: echo hi"
    assert moment.endswith("Z")
    assert len(moment) == len("2026-11-24T18:00:00.000Z")


def test_a_command_of_many_lines_and_controls_stays_on_one(
    capfd: pytest.CaptureFixture[str],
) -> None:
    EventLog("text", "worker abc").emit("job-started", "a\nb\x1b[2J\x9b\r\udcff")

    assert capfd.readouterr().out.endswith("worker abc: a\\nb\\x1b[2J\\x9b\\r\\udcff\n")


def test_an_event_for_programs_is_an_object_with_its_fields(
    capfd: pytest.CaptureFixture[str],
) -> None:
    EventLog("json", "worker abc").emit("job-failed", "job a\nfailed", job="a", exit_code=None)

    [line] = capfd.readouterr().out.splitlines()
    entry = json.loads(line)
    assert entry.pop("at").endswith("Z")
    assert entry == {
        "source": "worker abc",
        "event": "job-failed",
        "message": "job a\nfailed",
        "job": "a",
        "exit_code": None,
    }
