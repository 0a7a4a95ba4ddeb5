"""Python scripts in processes of their own: other users of a store, to be held or killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.supervision import marked_environment

#: Before every script: what nearly all of them need, and ``location``, the store in argument 1.
_PREAMBLE = """
import os, sys, time
from pathlib import Path
from queuectl.db.engine import open_store
from queuectl.domain.request import JobRequest
from queuectl.errors import QueuectlError
from queuectl.service import jobs
from queuectl.settings import locate_store

location = locate_store(sys.argv[1])

def ready():
    print("ready", flush=True)
    sys.stdin.readline()

"""


def start_script(
    folder: Path,
    store: Path | str,
    code: str,
    *,
    under: Sequence[str] = (),
    words: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """Start a script on a store, ``under`` another program; talk to it through its pipes.

    ``ready()`` in it says so and waits for a line. ``words`` are its arguments from the second on.
    """
    return subprocess.Popen(
        [*under, sys.executable, "-c", _PREAMBLE + code, str(store), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=marked_environment(folder),
        text=True,
    )


def await_ready(process: subprocess.Popen[str]) -> None:
    """Wait until a script has called ``ready()``."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", line + process.communicate()[1]


def run_script(folder: Path, store: Path | str, code: str, *, under: Sequence[str] = ()) -> str:
    """Run a script to its end; return what it printed. It must not fail."""
    process = start_script(folder, store, code, under=under)
    printed, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    return printed
