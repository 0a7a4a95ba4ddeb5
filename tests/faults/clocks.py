"""Wall clocks that are wrong on purpose, by libfaketime; the monotonic clock stays right."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

_PLACES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")


def _find_library() -> str:
    for place in _PLACES:
        root = Path("/")
        for found in sorted(root.glob(f"{place.removeprefix('/')}/libfaketimeMT.so.1")):
            return str(found)
    raise AssertionError("libfaketime is not on this machine: run tests/install-tools.sh")


def _environment() -> dict[str, str]:
    return {
        "LD_PRELOAD": _find_library(),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",  # what older releases call it
        "FAKETIME_NO_CACHE": "1",
    }


def clock_at(instant: datetime, zone: str) -> dict[str, str]:
    """Return the environment in which it is that instant now, in that time zone."""
    ahead = (instant - datetime.now(UTC)).total_seconds()
    return {**_environment(), "TZ": zone, "FAKETIME": f"{ahead:+.0f}"}


class JumpingClock:
    """A wall clock that is right until it jumps, for processes that run meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall-clock"
        self._file.write_text("+0\n")

    @property
    def environment(self) -> dict[str, str]:
        return {**_environment(), "FAKETIME_TIMESTAMP_FILE": str(self._file)}

    def jump(self, seconds: int) -> None:
        """Set it this far ahead, for all at once."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


def tidy() -> None:
    """Remove what libfaketime leaves in shared memory for each process that did not exit by itself.

    Only of processes that are gone: another test's may still run.
    """
    for path in Path("/dev/shm").glob("*faketime_s*_*"):  # noqa: S108  # its place, not ours
        if not Path(f"/proc/{path.name.rpartition('_')[2]}").exists():
            path.unlink(missing_ok=True)
