"""What ``docs/schedules.md`` and ``docs/keeping.md`` show is typed as it stands, and ends well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import type_line
from tests.supervision import end_marked

_DOCS = Path(__file__).resolve().parent.parent / "docs"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A worker that is started by a page's last line leaves when nothing is due.
_START = re.compile(r"worker start$")


def _lines(page: str) -> list[str]:
    blocks = _BLOCK.findall((_DOCS / page).read_text())
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize(("page", "count"), [("schedules.md", 8), ("keeping.md", 18)])
def test_each_command_of_a_page_works(page: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    lines = _lines(page)
    try:
        assert len(lines) == count
        type_line("queuectl run -- echo hello", tmp_path)
        for line in lines:
            type_line(_START.sub("worker start --drain", line), tmp_path)
    finally:
        end_marked(tmp_path)
