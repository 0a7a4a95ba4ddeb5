"""Nothing is read from the current folder: its owner must not run code or choose the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Program

#: What tools of the stack, and Python itself, would look for.
_BAIT = [
    "queuectl.py",
    "queuectl/__init__.py",
    "sqlalchemy.py",
    "pydantic.py",
    "typer.py",
    "typing_extensions.py",
    "sitecustomize.py",
    "usercustomize.py",
    "migrations/env.py",
    "migrations/__init__.py",
]
_TRAP = "open({path!r}, 'w').close()\nraise SystemExit('taken from the current folder')\n"


@pytest.fixture
def queuectl(queuectl: Program) -> Program:
    """The program, executed at each call: what its start does is tested here."""
    return queuectl.cold()


def test_a_folder_full_of_bait_changes_nothing(queuectl: Program, tmp_path: Path) -> None:
    folder, sprung = tmp_path / "bait", tmp_path / "sprung"
    for name in _BAIT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(_TRAP.format(path=str(sprung)))
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
    (folder / ".env").write_text("QUEUECTL_DB_PATH=elsewhere.db\nQUEUECTL_ENQUEUE_QUEUE=bait\n")
    (folder / "pyproject.toml").write_text("not toml")
    before = sorted(folder.rglob("*"))

    queuectl("enqueue", "--id", "a", "echo done", folder=folder)
    queuectl("worker", "start", "--drain", folder=folder)
    job = queuectl("show", "a", "--json", folder=folder).json

    assert (job["state"], job["queue"]) == ("completed", "default")
    assert queuectl("logs", "a", folder=folder).out == "done\n"
    assert queuectl.location.path.exists()
    assert not sprung.exists()
    assert sorted(folder.rglob("*")) == before
