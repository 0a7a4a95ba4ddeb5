"""The program itself, run as a user runs it, on a store of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest

from queuectl.db.engine import open_store
from queuectl.settings import StoreLocation
from tests.supervision import end_marked, marked_environment

#: The command that was installed with the package, beside the Python that runs the tests.
PROGRAM = str(Path(sys.executable).with_name("queuectl"))


@dataclass(frozen=True, slots=True)
class Result:
    """What a run left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Program:
    """Runs ``queuectl`` in a folder, on the store there."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        self.location = StoreLocation(store, "test")
        self.environment = {
            **marked_environment(folder),
            "PATH": f"{Path(PROGRAM).parent}:/usr/local/bin:/usr/bin:/bin",
            "QUEUECTL_DB_PATH": str(store),
            "TERM": "xterm-256color",
        }

    def __call__(
        self,
        *words: str,
        code: int = 0,
        given: str | bytes = b"",
        variables: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Result:
        """Run it with these arguments and this standard input; it must end with ``code``."""
        done = subprocess.run(
            [PROGRAM, *words],
            input=given.encode() if isinstance(given, str) else given,
            capture_output=True,
            cwd=folder or self.folder,
            env={**self.environment, **(variables or {})},
            timeout=60,
            check=False,
        )
        result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert result.code == code, result
        return result

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start it and leave it running; the test's end ends it."""
        return subprocess.Popen(
            [PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
            text=True,
        )

    def on_terminal(self, *words: str, columns: int = 100, **variables: str) -> Any:
        """Start it in a terminal."""
        return self._spawn(PROGRAM, words, columns, variables)

    def shell_on_terminal(self) -> Any:
        """Start a shell with job control in a terminal, for which ``queuectl`` is on the path."""
        return self._spawn("bash", ("--norc", "--noprofile", "-i"), 200, {})

    def _spawn(
        self, program: str, words: Sequence[str], columns: int, variables: Mapping[str, str]
    ) -> Any:
        return pexpect.spawn(
            program,
            list(words),
            cwd=str(self.folder),
            env={**self.environment, **variables},
            dimensions=(40, columns),
            timeout=30,
            encoding="utf-8",
        )

    def drain(self, *words: str) -> None:
        """Run what is due."""
        self("worker", "start", "--drain", *words)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store without jobs, to be copied: making one takes half a second."""
    folder = tmp_path_factory.mktemp("empty") / "store"
    open_store(StoreLocation(folder / "queue.db", "test")).close()
    return folder


@pytest.fixture
def queuectl(tmp_path: Path, empty_store: Path) -> Iterator[Program]:
    """The program, on an empty store."""
    shutil.copytree(empty_store, tmp_path / "store")
    yield Program(tmp_path, tmp_path / "store" / "queue.db")
    end_marked(tmp_path)
