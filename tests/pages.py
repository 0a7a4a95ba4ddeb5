"""Lines of a page of the docs, typed as a reader types them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.cli.conftest import PROGRAM
from tests.supervision import marked_environment


def type_line(line: str, home: Path) -> None:
    """Run a line in a shell whose home and folder this is, and see that it ends well."""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=home,
        env={
            **marked_environment(home),
            "PATH": f"{Path(PROGRAM).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (line, done)
    assert "error:" not in done.stderr, (line, done)
