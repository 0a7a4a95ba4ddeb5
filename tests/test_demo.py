"""demo.sh: the tour runs to its end, and leaves everybody else's jobs and workers alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
QUEUECTL = Path(sys.executable).with_name("queuectl")

#: A tour takes 8 s, or a minute on a machine that is busy with other tests; one test takes two.
pytestmark = pytest.mark.timeout(300)


def demo(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ROOT / "demo.sh", capture_output=True, text=True, check=False, timeout=140, env=environment
    )


def queuectl(environment: dict[str, str], *words: str) -> str:
    return subprocess.check_output([QUEUECTL, *words], text=True, env=environment)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The caller's own, with a home and a folder for temporary files that are this test's."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("QUEUECTL_")}
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    return given | {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}


def test_the_demo_shows_every_step_and_leaves_nothing_behind(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = demo(environment)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("All three jobs completed.\n")
    assert "error" not in done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "home" / ".queuectl").exists()


def test_the_demo_keeps_to_the_named_store_and_to_its_own_queue(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment["QUEUECTL_DB_PATH"] = str(tmp_path / "queue.db")
    mine = queuectl(environment, "enqueue", "--", "echo", "mine").strip()

    first = demo(environment)
    again = demo(environment | {"QUEUECTL_LIST_LIMIT": "1", "QUEUECTL_ENQUEUE_QUEUE": "x"})

    completed = queuectl(environment, "list", "--state", "completed", "--quiet").split()
    pending = queuectl(environment, "list", "--state", "pending", "--quiet").split()
    alive = queuectl(environment, "worker", "list", "--quiet")
    assert first.returncode == again.returncode == 0, again.stdout + again.stderr
    assert len(completed) == 6
    assert pending == [mine]
    assert alive == ""


def test_the_demo_fails_when_a_step_does_not_do_what_it_says(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment["QUEUECTL_DB_PATH"] = str(tmp_path / "queue.db")
    (tmp_path / "queue.db").write_text("this is no store\n" * 100)

    done = demo(environment)

    assert done.returncode != 0
    assert "All three jobs completed" not in done.stdout
