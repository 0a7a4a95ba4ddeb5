"""Each exception of the security rules (ruff's S) says why it stands."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
FOLDERS = ("queuectl", "migrations", "docs", "bench", "tests")

_EXCEPTION = re.compile(r"# noqa: (?:[A-Z]+\d+, )*S\d{3}\b.*")
_WITH_REASON = re.compile(r"# noqa: (?:[A-Z]+\d+(?:, )?)+  # \w.+")


def test_an_exception_of_one_line_has_its_reason_behind_it() -> None:
    exceptions = [
        f"{path.relative_to(CHECKOUT)}: {found}"
        for folder in FOLDERS
        for path in (CHECKOUT / folder).rglob("*.py")
        if path != Path(__file__)
        for found in _EXCEPTION.findall(path.read_text())
    ]

    assert len(exceptions) > 10
    assert [told for told in exceptions if not _WITH_REASON.search(told)] == []


def test_an_exception_of_whole_folders_has_its_reason_behind_it() -> None:
    text = (CHECKOUT / "pyproject.toml").read_text()

    exceptions = re.findall(r'^.*"S\d{3}".*$', text, re.MULTILINE)

    assert exceptions
    assert [line for line in exceptions if not re.search(r",\s+# \S.+$", line)] == []
    assert not re.search(r"^(extend-)?ignore = ", text, re.MULTILINE)
