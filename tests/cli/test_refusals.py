"""What cannot be meant is refused: one line that names the value, a hint, a documented code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM, Program


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["enqueue", "--max-retries", "abc", "true"], "--max-retries: 'abc' is not a valid"),
        (["enqueue", '{"command":"true"}', "--json"], "'--json' came behind it"),
        (["enqueue", '["true"]'], "a list of jobs is not a command"),
        (["enqueue", "--file", ""], "--file names no file"),
        (["enqueue", "--file", "/no/such/file"], "/no/such/file cannot be read"),
        (["list", "--limit", "9" * 20], f"--limit: '{'9' * 20}' must be less"),
        (["list", "--order", "best"], "--order: 'best' is not one of"),
        (["logs", "x", "--attempt", "0"], "--attempt: '0' must be greater"),
        (["worker", "start", "--count", "0"], "--count: '0' must be greater"),
        (["worker", "start", "--queue", "a b", "--drain"], "--queue: 'a b' must begin"),
        (["worker", "stop", "--timeout", "soon"], "--timeout: 'soon' is not a duration"),
        (["config", "set", "lease", "1"], "lease: '1' must be greater"),
    ],
)
def test_a_wrong_value_is_named_with_a_way_out(
    queuectl: Program, arguments: list[str], named: str
) -> None:
    done = queuectl(*arguments, code=2)

    assert done.out == ""
    error, hint = done.err.splitlines()
    assert error.startswith("error: ")
    assert named in error
    assert hint.startswith("hint: ")


def test_a_shell_test_in_brackets_is_a_command(queuectl: Program) -> None:
    queuectl("enqueue", "[ -f x ] && echo there")

    assert queuectl("list", "--json").json[0]["command"] == "[ -f x ] && echo there"


@pytest.mark.parametrize(
    "call", ["show nosuch 2>&-", "enqueue -- true 2>&- | grep -v '^[a-z0-9]*$'"]
)
def test_nothing_but_results_is_printed_when_stderr_is_closed(tmp_path: Path, call: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{PROGRAM} --db {tmp_path}/q.db {call}"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == ""


def test_a_closed_stdin_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{PROGRAM} --db {tmp_path}/q.db enqueue --file - <&-"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.startswith("error: stdin is closed")


def test_a_relative_store_in_a_folder_that_is_gone_is_refused(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    done = subprocess.run(
        ["sh", "-c", f"cd {gone} && rmdir {gone} && {PROGRAM} --db rel.db list"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "the current folder is gone: 'rel.db'" in done.stderr
