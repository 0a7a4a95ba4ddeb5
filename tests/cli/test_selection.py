"""``list``, ``show``, ``logs``, ``export`` and ``prune`` of jobs by what they have in common."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Program

JOBS = """
{"id": "a", "command": "echo from a", "queue": "q", "tags": ["x", "y"], "name": "nightly"}
{"id": "b", "command": "echo from b", "queue": "r", "tags": ["y"]}
{"id": "c", "command": "echo from c", "name": "nightly"}
{"id": "later", "command": "true", "delay": "1h", "tags": ["x"]}
"""


@pytest.fixture
def used(queuectl: Program) -> Program:
    """The program, on a store with three jobs that have run, and one that is due later."""
    queuectl("enqueue", "--file", "-", given=JOBS)
    queuectl.drain()
    return queuectl


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--tag", "x"], ["later", "a"]),
        (["--tag", "x", "--tag", "y", "--state", "completed"], ["b", "a"]),
        (["--name", "nightly"], ["c", "a"]),
        (["--name", "nightly", "--queue", "q", "--queue", "r"], ["a"]),
        (["-Q", "q", "-Q", "r"], ["b", "a"]),
        (["--since", "1h", "--limit", "1"], ["later"]),
        (["--since", "0s"], []),
        (["--tag", "x", "--order", "next"], ["later"]),
        (["--tag", "nobody"], []),
    ],
)
def test_a_list_is_of_what_was_selected(used: Program, words: list[str], ids: list[str]) -> None:
    assert used("list", *words, "-q").lines == ids


def test_outputs_are_those_of_the_selected_jobs(used: Program) -> None:
    assert used("logs", "--tag", "y").lines == ["a | from a", "b | from b"]
    both = used("logs", "-f", "--name", "nightly", "--since", "1h")
    assert sorted(both.lines) == ["a | from a", "c | from c"]
    assert used("logs", "--queue", "q", "--state", "completed").lines == ["a | from a"]
    assert used("logs", "--tag", "nobody").err == "note: no such jobs\n"
    assert "no jobs were named" in used("logs", code=2).err
    assert "not both" in used("logs", "a", "--tag", "x", code=2).err
    assert "--raw is for one job" in used("logs", "--tag", "y", "--raw", code=2).err


def test_several_jobs_are_shown(used: Program) -> None:
    shown = used("show", "b", "a").out.split("\n\njob")
    assert shown[0].startswith("job         b\n")
    assert shown[1].lstrip().startswith("a\n")
    assert [job["id"] for job in used("show", "b", "a", "--json").json] == ["b", "a"]
    assert [job["id"] for job in used("show", "--tag", "x", "--json").json] == ["a", "later"]
    assert used("show", "--queue", "q", "--json").json[0]["tags"] == ["x", "y"]
    assert used("show", "a", "--json").json["id"] == "a"
    assert used("show", "--tag", "nobody").err == "note: no such jobs\n"
    assert "no jobs were named" in used("show", code=2).err
    assert "no job 'nope'" in used("show", "a", "nope", code=3).err


def test_an_export_and_a_pruning_are_of_what_was_selected(used: Program) -> None:
    told = [json.loads(line) for line in used("export", "--tag", "y", "--name", "nightly").lines]
    assert [line["id"] for line in told if line["kind"] == "job"] == ["a"]

    prune = ("prune", "--older-than", "0s", "-q", "--yes")
    assert used(*prune, "--tag", "x", "-n").lines == ["a"]
    assert used(*prune, "--name", "nightly", "--queue", "default").lines == ["c"]
    assert sorted(used("list", "-q").lines) == ["a", "b", "later"]
