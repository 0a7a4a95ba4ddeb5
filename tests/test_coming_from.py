"""Each line of ``docs/coming-from.md`` does what it says: it is run, and ends well."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM
from tests.supervision import end_marked, marked_environment

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
    environment = {
        **marked_environment(tmp_path),
        "PATH": f"{Path(PROGRAM).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    try:
        for _, line in _SECTIONS[section]:
            done = subprocess.run(
                ["bash", "-c", line.replace(r"\|", "|")],
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
    finally:
        end_marked(tmp_path)
