"""Two hosts in networks of their own, one of which is cut off while it runs a job."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent
_NAMESPACES = ("unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true")
_PROMPT = re.compile(r"^(\[host-[ab]\]\$ .*|# The cable .*)$", re.MULTILINE)


def _may_make_hosts() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    return subprocess.run(_NAMESPACES, check=False, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("two hosts"),  # one run of the script for all
    pytest.mark.skipif(
        not _may_make_hosts(),
        reason="the two hosts of docs/fleet.md were not tried: only root with iproute2, where the"
        " kernel allows it, can make network namespaces",
    ),
]


@lru_cache
def transcript() -> str:
    """Run the demonstration; return what it shows."""
    done = subprocess.run(
        [CHECKOUT / "tests" / "two-hosts.sh"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr}"
    return done.stdout


def steps_of(text: str) -> list[str]:
    """Return what is done where; which of the hosts takes which job is chance."""
    steps = [re.sub(r"hello-\d+$", "hello-N", step) for step in _PROMPT.findall(text)]
    return [re.sub(r"host-[ab](?=\]| is)", "HOST", step) for step in steps]


def test_the_host_that_is_cut_off_ends_its_job_before_the_other_starts_it() -> None:
    shown = transcript()

    cut, other = re.findall(r"^ +\d+ (host-[ab])$", shown, re.MULTILINE)  # all steps of the job
    assert {cut, other} == {"host-a", "host-b"}
    assert f"# The cable of {cut} is pulled." in shown
    assert "its lease runs out; ends 1 jobs" in shown
    assert re.search(rf"1  lost .* {cut} .*\n +2  completed .* {other} ", shown)
    assert "8 attempts, 0 overlaps\n" in shown
    assert "2 workers stopped" in shown


def test_the_output_of_the_other_host_is_told_with_its_place() -> None:
    shown = transcript()

    assert shown.count("hello from host-a\n") == 2
    assert "note: the last 18 of 18 bytes; all of it is on host-a: ~/.queuectl/" in shown


def test_the_guide_shows_what_was_typed() -> None:
    guide = (CHECKOUT / "docs" / "fleet.md").read_text()

    assert steps_of(guide) == steps_of(transcript())
