"""The program itself, for faults that are brought about from outside of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.supervision import end_marked


@pytest.fixture
def queuectl(tmp_path: Path) -> Iterator[Program]:
    """The program, on the store that ``location`` names; it makes it."""
    yield Program(tmp_path, tmp_path / "store" / "queue.db")
    end_marked(tmp_path)
