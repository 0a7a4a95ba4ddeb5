"""A password in an argument is overwritten, so that ps shows it no more (X2)."""

from __future__ import annotations

import subprocess
import sys

_SHOW = """
import os, sys
from pathlib import Path
from queuectl.cli.secrecy import hide_argument

hide_argument(sys.argv[1].split(":")[2].partition("@")[0])
print(Path("/proc/self/cmdline").read_bytes())
if os.fork() == 0:
    print(Path("/proc/self/cmdline").read_bytes())
"""


def test_a_secret_in_the_command_line_is_overwritten_for_forks_too() -> None:
    words = [sys.executable, "-c", _SHOW, "postgresql://me:open-sesame@db/queue"]

    shown = subprocess.run(words, capture_output=True, check=True, text=True).stdout

    assert "open-sesame" not in shown
    assert shown.count("postgresql://me:***********@db/queue") == 2
