"""A machine on which a row of the table of faults cannot be tried says so, and which one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent

_SKIPPED = """
import pytest

pytest_plugins = ["tests.unrun"]

@pytest.mark.skipif(True, reason="row S3 was not run: only root can mount")
def test_of_a_row(): pass

@pytest.mark.skipif(True, reason="only root can mount")
def test_of_no_row(): pass

def test_that_runs(): pass
"""


def last_lines(*words: str | Path, code: int, path: str) -> list[str]:
    """Return what a run of pytest prints below its heading of what was not run."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
        cwd=CHECKOUT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    print(done.stdout, done.stderr)  # noqa: T201  # pytest shows it when the test fails
    assert done.returncode == code
    before, told, after = done.stdout.partition(" NOT RUN ON THIS MACHINE ")
    assert told
    assert re.search(r" in [0-9.]+s[^\n]*\n!+$", before)  # pytest's own last line
    return after.lstrip("!").strip().splitlines()


@pytest.mark.parametrize("processes", ["0", "2"])
def test_rows_whose_programs_are_missing_fail_and_are_named_last(
    tmp_path: Path, processes: str
) -> None:
    files = ("faults/test_clocks.py", "faults/test_io_errors.py", "db/test_creation.py")
    words = [f"tests/{file}" for file in files]

    chosen = "(clock or client or killed) and not schedule and not history"
    told = last_lines("-n", processes, "-k", chosen, *words, path=str(tmp_path), code=1)

    where = "here (see tests/install-tools.sh)"
    creation = "tests/db/test_creation.py::test_a_creation_that_is_killed_leaves_no_half_store"
    assert told == [
        f"row C1 was not run: no strace {where}",
        f"row S4 was not run: no strace {where}",
        f"row T2 was not run: no faketime {where}",
        f"row T3 was not run: no faketime {where}",
        f"{creation} was not run: no strace {where}",
    ]


def test_what_was_skipped_is_named_last_too(tmp_path: Path) -> None:
    file = tmp_path / "test_skipped.py"
    file.write_text(_SKIPPED)

    told = last_lines("--rootdir", tmp_path, file, path=os.environ["PATH"], code=0)

    assert told == [
        "row S3 was not run: only root can mount",
        "test_skipped.py::test_of_no_row was not run: only root can mount",
    ]
