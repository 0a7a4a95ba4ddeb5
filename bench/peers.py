"""Other queues: Python ones in an environment of their own, tools from Debian's packages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from bench import redis
from bench.contest import describe, tell

_APPS = Path(__file__).resolve().parent / "apps"
_WANTED = Path(__file__).resolve().parent / "peers.txt"
#: Tools, and the Debian packages that hold them.
_TOOLS = {
    "parallel": "parallel",
    "tsp": "task-spooler",
    "nq": "nq",
    redis.PROGRAM: "redis-tools",
}


class Peers:
    """What is there to be measured against; ``missing`` says what is not, and why."""

    def __init__(self, folder: Path) -> None:
        self._environment = folder / "peers"
        self.missing: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    @property
    def python(self) -> Path:
        """The interpreter that has the peers' packages."""
        return self._environment / "bin" / "python"

    def install(self) -> None:
        """Install what is not there yet; what cannot be installed is named in ``missing``."""
        stamp = self._environment / "installed"
        if not stamp.is_file() or stamp.read_text() != _WANTED.read_text():
            tell("installing the peers' Python packages")
            subprocess.run([sys.executable, "-m", "venv", self._environment], check=True)
            for requirement in _WANTED.read_text().split():
                self._install_package(requirement)
            if not self.missing:  # else it is tried again the next time
                stamp.write_text(_WANTED.read_text())
        for tool, package in _TOOLS.items():
            if shutil.which(tool) is None:
                self._install_tool(tool, package)

    def _install_package(self, requirement: str) -> None:
        command = [str(self.python), "-m", "pip", "install", "--quiet", requirement]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            self.missing[requirement] = describe(error)

    def _install_tool(self, tool: str, package: str) -> None:
        apt = shutil.which("apt-get")
        if apt is None or os.geteuid() != 0:
            self.missing[tool] = f"not installed; it is in Debian's package {package}"
            return
        try:
            subprocess.run(
                [apt, "install", "-y", "--no-install-recommends", package],
                check=True,
                capture_output=True,
            )
        except subprocess.CalledProcessError as error:
            self.missing[tool] = describe(error)

    def look(self) -> None:
        """Find out which versions are there."""
        if self.python.exists():
            listed = subprocess.run(
                [self.python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True
            )
            wanted = {re.split(r"[=\[]", line)[0] for line in _WANTED.read_text().split()}
            found = {entry["name"].lower(): entry["version"] for entry in json.loads(listed.stdout)}
            self.versions = {name: found[name] for name in sorted(wanted & found.keys())}
            for name in wanted - found.keys():
                self.missing.setdefault(name, "not installed")
        query = ["dpkg-query", "-W", "-f=${Version}"]
        for tool, package in _TOOLS.items():
            if shutil.which(tool):
                asked = subprocess.run([*query, package], check=False, capture_output=True)
                self.versions[tool] = asked.stdout.decode() or "unknown"
            else:
                self.missing.setdefault(tool, f"not installed; it is in Debian's package {package}")

    def has(self, name: str) -> bool:
        """Whether this package or tool is there."""
        return name in self.versions

    def app(self, name: str) -> Path:
        """Return one of the programs in ``apps``."""
        return _APPS / f"{name}.py"

    def run(self, app: str, *words: object, environment: dict[str, str] | None = None) -> Any:
        """Run one of the programs in ``apps`` to its end; return the JSON value it prints."""
        done = subprocess.run(
            [self.python, self.app(app), *map(str, words)],
            check=True,
            capture_output=True,
            env={**os.environ, **(environment or {})},
        )
        return json.loads(done.stdout.splitlines()[-1])

    def start(self, app: str, *words: object) -> subprocess.Popen[bytes]:
        """Start one of the programs in ``apps``; talk to it through its pipes."""
        return subprocess.Popen(
            [self.python, self.app(app), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program in ``apps`` and all that it has started."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.communicate()
