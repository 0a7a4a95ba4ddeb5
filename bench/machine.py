"""The machine and the versions that figures were taken with; never a host name or a path."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from queuectl import __version__
from queuectl.db import sqlite

_TOP = Path(__file__).resolve().parent.parent
_OWN_STACK = ("typer", "sqlalchemy", "pydantic", "pysqlite3")


def describe() -> dict[str, Any]:
    """Return what matters about the machine."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(),
        "system": platform.system(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def own_versions() -> dict[str, str]:
    """Return the versions of queuectl and of what it stands on."""
    own = {
        "queuectl": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite.LIBRARY.sqlite_version,
    }
    return own | {name: version(name) for name in _OWN_STACK}


def commit() -> str:
    """Return the commit that was measured, with a plus if something in the program was changed."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", "queuectl", "bench/*.py", "migrations")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}+" if changed else name


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=_TOP, check=True, capture_output=True, text=True
    ).stdout.strip()


def load() -> float:
    """Return how many processes wanted a processor in the last minute."""
    return os.getloadavg()[0]


def now() -> str:
    """Return this instant, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
