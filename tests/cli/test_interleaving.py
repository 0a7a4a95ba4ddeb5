"""``queuectl logs`` of several jobs at once."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.cli.conftest import Program


def test_the_lines_of_several_jobs_stand_behind_their_ids(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "printf 'one\\ntwo'")
    queuectl("enqueue", "--id", "long-name", "printf 'x\\033[2Jy\\n'")
    queuectl("enqueue", "--id", "waits", "--delay", "1h", "true")
    queuectl.drain()

    done = queuectl("logs", "a", "long-name", "waits", "a")
    last = queuectl("logs", "a", "long-name", "--lines", "1")

    assert done.lines == ["a         | one", "a         | two", "long-name | x\\x1b[2Jy"]
    assert last.lines == ["a         | two", "long-name | x\\x1b[2Jy"]


def test_several_jobs_are_followed_to_their_ends(queuectl: Program, tmp_path: Path) -> None:
    until = "until [ -e go ]; do sleep 0.02; done"
    queuectl("enqueue", "--id", "a", f"echo a1; {until}; echo a2")
    flaky = 'echo try $QUEUECTL_ATTEMPT; [ "$QUEUECTL_ATTEMPT" = 2 ]'
    queuectl("enqueue", "--id", "b", "--backoff-base", "1", flaky)
    worker = queuectl.start("worker", "start", "-j", "2")
    followed = queuectl.start("logs", "-f", "a", "b")
    assert followed.stdout is not None
    seen = [followed.stdout.readline() for _ in range(3)]

    (tmp_path / "go").touch()
    rest, notes = followed.communicate(timeout=60)
    worker.send_signal(signal.SIGINT)
    worker.communicate()

    assert sorted(seen) == ["a | a1\n", "b | try 1\n", "b | try 2\n"]
    assert rest == "a | a2\n"
    assert set(re.findall("job (.) is completed", notes)) == {"a", "b"}


def test_each_job_has_a_colour_on_a_terminal(queuectl: Program) -> None:
    for name in ("a", "b"):
        queuectl("enqueue", "--id", name, f"echo {name}")
    queuectl.drain()

    terminal = queuectl.on_terminal("logs", "a", "b")
    shown = terminal.read()

    assert "\x1b[36ma |\x1b[0m a" in shown
    assert "\x1b[33mb |\x1b[0m b" in shown


def test_what_is_for_one_job_is_refused_for_several(queuectl: Program) -> None:
    for name in ("a", "b"):
        queuectl("enqueue", "--id", name, "true")

    for option in (["--attempt", "1"], ["--raw"], ["--json"]):
        assert f"{option[0]} is for one job" in queuectl("logs", "a", "b", *option, code=2).err
    assert "no job 'c'" in queuectl("logs", "a", "c", code=3).err
