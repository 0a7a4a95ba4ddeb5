"""What ``docs/schedules.md`` and ``docs/keeping.md`` show is typed as it stands, and ends well."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM
from tests.supervision import end_marked, marked_environment

_DOCS = Path(__file__).resolve().parent.parent / "docs"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A worker that is started by a page's last line leaves when nothing is due.
_START = re.compile(r"worker start$")


def _lines(page: str) -> list[str]:
    blocks = _BLOCK.findall((_DOCS / page).read_text())
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize(("page", "count"), [("schedules.md", 8), ("keeping.md", 18)])
def test_each_command_of_a_page_works(page: str, count: int, tmp_path: Path) -> None:
    environment = {
        **marked_environment(tmp_path),
        "PATH": f"{Path(PROGRAM).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    (tmp_path / "backups").mkdir()

    def type_in(line: str) -> None:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (line, done)
        assert "error:" not in done.stderr, (line, done)

    lines = _lines(page)
    try:
        assert len(lines) == count
        type_in("queuectl run -- echo hello")
        for line in lines:
            type_in(_START.sub("worker start --drain", line))
    finally:
        end_marked(tmp_path)
