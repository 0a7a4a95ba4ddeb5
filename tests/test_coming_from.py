"""Each line of ``docs/coming-from.md`` does what it says: it is run, and ends well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import type_line, type_on_terminal
from tests.supervision import end_marked

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "coming-from.md"
_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `(.+)` \| `(.*queuectl .+)` \|$", re.MULTILINE)
_SECTIONS = {name: _ROW.findall(text) for name, text in _SECTION.findall(_PAGE.read_text())}


def test_the_page_is_read() -> None:
    assert list(_SECTIONS) == ["pueue", "task-spooler", "GNU parallel"]
    assert _PAGE.read_text().count("\n| `") == sum(map(len, _SECTIONS.values())) > 30


@pytest.mark.parametrize("section", _SECTIONS)
def test_each_line_works(section: str, tmp_path: Path) -> None:
    (tmp_path / "commands").write_text("true\n")
    (tmp_path / "names").write_text("in/a.txt\n")
    (tmp_path / "a.jpg").touch()
    try:
        for _, line in _SECTIONS[section]:
            write = type_on_terminal if line.startswith("queuectl edit ") else type_line
            write(line.replace(r"\|", "|"), tmp_path)
    finally:
        end_marked(tmp_path)
