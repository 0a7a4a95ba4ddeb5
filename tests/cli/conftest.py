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
from tests.cli.warm import WarmProgram
from tests.supervision import end_marked, marked_environment

#: The command that was installed with the package, beside the Python that runs the tests.
PROGRAM = str(Path(sys.executable).with_name("queuectl"))
#: What begins so is read by Python, or the loader, before the program is.
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_")


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
    """Runs ``queuectl`` in a folder, on the store there.

    It is executed anew each time, unless a warm one is given, which does what a start does not
    change; then too where its environment, or that of what it leaves running, matters.
    """

    def __init__(self, folder: Path, store: Path, warm: WarmProgram | None = None) -> None:
        self.folder = folder
        self._warm = warm
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
        environment = {**self.environment, **(variables or {})}
        is_cold = "--detach" in words or any(map(_is_read_at_start, variables or ()))
        run = _execute if self._warm is None or is_cold else self._warm.run
        given = given.encode() if isinstance(given, str) else given
        done = run([PROGRAM, *words], given, folder=folder or self.folder, environment=environment)
        result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert result.code == code, result
        return result

    def cold(self) -> Program:
        """Return the same, executed anew at each call."""
        return Program(self.folder, self.location.path)

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


def _is_read_at_start(name: str) -> bool:
    return name.startswith(_READ_AT_START)


def _execute(
    words: Sequence[str], given: bytes, *, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        words,
        input=given,
        capture_output=True,
        cwd=folder,
        env=environment,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store without jobs, to be copied: making one takes half a second."""
    folder = tmp_path_factory.mktemp("empty") / "store"
    open_store(StoreLocation(folder / "queue.db", "test")).close()
    return folder


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmProgram]:
    """The program with its imports done, for all calls that wait for its end."""
    program = WarmProgram()
    yield program
    program.close()


@pytest.fixture
def queuectl(tmp_path: Path, empty_store: Path, warm: WarmProgram) -> Iterator[Program]:
    """The program, on an empty store."""
    shutil.copytree(empty_store, tmp_path / "store")
    yield Program(tmp_path, tmp_path / "store" / "queue.db", warm)
    end_marked(tmp_path)
