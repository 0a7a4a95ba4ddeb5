"""``queuectl stats``, through the program."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Program

JOBS = """
{"id": "a", "command": "true"}
{"id": "b", "command": "sleep 0.2"}
{"id": "c", "command": "exit 3", "max_retries": 0, "queue": "other"}
"""


@pytest.fixture
def ran(queuectl: Program) -> Program:
    """The program, on a store with three jobs that have run."""
    queuectl("enqueue", "--file", "-", given=JOBS)
    queuectl.drain()
    return queuectl


def test_all_numbers_are_in_json(ran: Program) -> None:
    told = ran("stats", "--json").json

    assert told["attempts"] == 3
    assert (told["outcomes"]["completed"], told["outcomes"]["failed"]) == (2, 1)
    assert told["failures"] == [{"program": "exit", "count": 1}]
    assert [(q["name"], q["attempts"], q["failures"]) for q in told["queues"]] == [
        ("other", 1, 1),
        ("default", 2, 0),
    ]
    running = told["running"]
    assert running["count"] == 3
    assert running["median_seconds"] <= running["p95_seconds"] <= running["longest_seconds"]
    assert running["p99_seconds"] == running["longest_seconds"] >= 0.2
    assert sum(bar["count"] for bar in running["histogram"]) == 3
    assert told["waiting"]["count"] == 3
    assert sum(told["throughput"]["ended"]) == 3
    assert told["throughput"]["span_seconds"] == 3600
    assert told["queue"] is None


def test_a_queue_alone(ran: Program) -> None:
    told = ran("stats", "--queue", "other", "--since", "1h", "--json").json

    assert (told["queue"], told["attempts"], told["throughput"]["span_seconds"]) == (
        "other",
        1,
        300,
    )


def test_what_is_shown(ran: Program) -> None:
    shown = ran("stats").out

    assert "attempts    3: 2 completed, 1 failed" in shown
    assert "█" in shown
    assert "under 1s" in shown
    assert "MEDIAN" in shown
    assert "exit" in shown


def test_where_blocks_cannot_be_shown_signs_are(ran: Program) -> None:
    shown = ran("stats", variables={"PYTHONIOENCODING": "ascii"}).out

    assert "#" in shown
    assert "\\u" not in shown


def test_on_a_terminal(ran: Program) -> None:
    assert "█" in ran.on_terminal("stats").read()


def test_an_empty_store_is_told(queuectl: Program) -> None:
    done = queuectl("stats", "--queue", "none")

    assert done.out == ""
    assert "no attempt has ended in the queue none since" in done.err
    told = queuectl("stats", "--json").json
    assert (told["attempts"], told["running"]["median_seconds"]) == (0, None)


def test_a_time_that_is_none_is_refused(queuectl: Program) -> None:
    assert (
        "--since: 'soon' is neither a duration nor a date"
        in queuectl("stats", "--since", "soon", code=2).err
    )
