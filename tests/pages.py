"""Lines of a page of the docs, typed as a reader types them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pexpect

from tests.cli.conftest import PROGRAM
from tests.supervision import marked_environment


def environment_of(home: Path) -> dict[str, str]:
    """Return what a reader has whose home is this; every editor there leaves all as it is."""
    return {
        **marked_environment(home),
        "PATH": f"{Path(PROGRAM).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "EDITOR": "true",
    }


def type_on_terminal(line: str, home: Path) -> None:
    """The same as ``type_line``, for what needs a terminal."""
    terminal: Any = pexpect.spawn(
        "bash",
        ["-c", line],
        cwd=str(home),
        env=environment_of(home),
        encoding="utf-8",
        timeout=60,
    )
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0, (line, terminal.before)
    assert "error:" not in terminal.before, (line, terminal.before)


def type_line(line: str, home: Path) -> None:
    """Run a line in a shell whose home and folder this is, and see that it ends well."""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=home,
        env=environment_of(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (line, done)
    assert "error:" not in done.stderr, (line, done)
