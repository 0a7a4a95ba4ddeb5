"""System calls of a running process that fail for a while: strace injects the error."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def failing(pid: int, calls: str, error: str) -> Iterator[None]:
    """Let these calls of a process fail in the block, like ``fsync,fdatasync`` with ``EIO``."""
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    with subprocess.Popen(
        ["strace", *inject, "-o", "/dev/null", "-p", str(pid)], stderr=subprocess.PIPE, text=True
    ) as tracer:
        assert tracer.stderr is not None
        assert "attached" in tracer.stderr.readline()
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)  # it lets go of the process
