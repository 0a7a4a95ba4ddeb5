"""Five hundred faults on every run of the tests; the same command runs for hours.

Rows C1 to C5, T1, S3, S4, R1 and R2 of the table in docs/reliability.md come up in it at random;
on a server, with two hosts, rows P1 to P5.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign import plan, strays
from tests.cli.conftest import PROGRAM
from tests.supervision import marked_environment

#: Another seed than that of the long run, so that they are different plans.
_SEED = 500
#: One with each fault of a server, several times.
_SERVER_SEED = 656
_LIMIT_SECONDS = 900


def run_campaign(
    folder: Path, *arguments: str, store: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a campaign on a store in this folder; its end is waited for, whatever it takes.

    ``store`` is another store, of which only the campaign's own files are in the folder.
    """
    place = ["--store", store or str(folder / "queue.db"), "--files", str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "tests.campaign", *place, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=_LIMIT_SECONDS,
        check=False,
    )


def assert_sound(folder: Path, number: str) -> None:
    """``audit`` and ``doctor`` find nothing wrong with a store that went through a campaign."""
    environment = marked_environment(folder)
    for command in ("audit", "doctor"):
        told = subprocess.run(
            [PROGRAM, "--db", str(folder / f"queue.db{number}"), command],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert told.returncode == 0, told.stdout + told.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB, which a campaign fills up really."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("row S3 was not run at random: a full disk needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.timeout(_LIMIT_SECONDS + 30)
def test_a_disk_that_is_really_full_at_random_breaks_no_invariant(
    tmp_path: Path, small_disk: Path
) -> None:
    """S3: the store's own file system has no byte left, again and again."""
    arguments = ["--faults", "40", "--seed", "3", "--jobs", "300", "--files", str(tmp_path)]

    ended = run_campaign(small_disk, *arguments, "--only", "disk full", "--only", "worker killed")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "disk full: really" in ended.stdout


@pytest.mark.timeout(_LIMIT_SECONDS + 30)
def test_five_hundred_faults_break_no_invariant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--faults", "500", "--seed", str(_SEED), "--stores", "4", "--jobs", "2500"]

    ended = run_campaign(tmp_path, *arguments, "--rate", "2.5")

    with capsys.disabled():
        sys.stdout.write(f"\n{ended.stdout}\n")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "every invariant holds" in ended.stdout
    for number in ("", "-2", "-3", "-4"):
        folder = tmp_path / f"queue.db{number}.campaign"
        assert folder.is_dir()
        assert strays.find(folder) == []
        assert_sound(tmp_path, number)


@pytest.mark.timeout(_LIMIT_SECONDS + 30)
def test_faults_of_a_server_and_of_the_network_to_it_break_no_invariant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``audit`` and ``doctor`` look at the store before its server is stopped; see I7."""
    arguments = ["--faults", "120", "--seed", str(_SERVER_SEED), "--stores", "2", "--lease", "5"]

    ended = run_campaign(tmp_path, *arguments, "--rate", "1.5", store="postgresql")

    with capsys.disabled():
        sys.stdout.write(f"\n{ended.stdout}\n")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "every invariant holds" in ended.stdout
    for fault in set(plan.SERVER_KINDS).difference(plan.KINDS):
        assert f" {fault}\n" in ended.stdout
    for store in range(2):
        folder = tmp_path / f"postgresql-{_SERVER_SEED * 1000 + store}.campaign"
        assert folder.is_dir()
        assert strays.find(folder) == []
