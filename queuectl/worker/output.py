"""Capture what a command prints: into its file up to the cap, the last bytes in memory.

The layout of the files is described in ``service/logs.py``. Memory stays flat whatever is printed.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from queuectl.db.files import open_private
from queuectl.service import logs
from queuectl.settings import StoreLocation

#: What is kept in the attempt's row, in bytes.
TAIL_BYTES = 4096
_READ_BYTES = 1 << 16
#: How much is read from one command before the others have their turn, in bytes.
_TURN_BYTES = 1 << 20


class Part(NamedTuple):
    """Bytes of a file from ``start`` to ``stop``; None: to its end."""

    path: str
    start: int = 0
    stop: int | None = None


class OutputCapture:
    """The reading end of one command's stdout and stderr."""

    def __init__(self, location: StoreLocation, seq: int, run: int, limit_bytes: int) -> None:
        self._location, self._seq, self._run = location, seq, run
        self._half = max(limit_bytes // 2, 1)
        self.pipe, self._write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.pipe, False)
        self._file: int | None = None
        #: -1: the head; else the number of the segment that is being written.
        self._number = -1
        self._written = 0  # in the current file
        #: Whether the segments have been put behind the head.
        self._is_assembled = False
        self.total_bytes = 0
        #: When something was last taken in, by the monotonic clock; 0: never.
        self.grew_at = 0.0
        self.tail = b""
        #: Why some of the output was not kept, if so.
        self.error: str | None = None

    @property
    def write_end(self) -> int:
        """What the command gets as its stdout and stderr."""
        return self._write_end

    def started(self) -> None:
        """The command has its own copy of the writing end now."""
        os.close(self._write_end)

    def pump(self) -> bool:
        """Take in what there is; False at the end of the output."""
        taken = 0
        while taken < _TURN_BYTES:
            try:
                block = os.read(self.pipe, _READ_BYTES)
            except BlockingIOError:
                return True
            if not block:
                return False
            taken += len(block)
            self._take(block)
        return True

    def finish(self) -> None:
        """Take in what is left in the pipe without waiting for its writers, and close all."""
        deadline_bytes = self.total_bytes + 16 * _TURN_BYTES  # more than any pipe holds
        before = -1
        while self.total_bytes != before and self.total_bytes < deadline_bytes:
            before = self.total_bytes
            if not self.pump():
                break
        os.close(self.pipe)
        try:
            self._assemble()
        except OSError as error:
            self._give_up(error)
        if self._file is not None:
            os.close(self._file)

    def stretches(self) -> list[list[Part]]:
        """Return what was kept, when all is finished: the parts of each stretch without a gap."""
        if self._file is None:
            return []
        if self._number < 0 or not self._is_assembled:
            return self._stretches_apart()
        dropped = max(self.total_bytes - 2 * self._half, 0)
        if not dropped:
            return [[Part(str(self._head))]]
        end = self._half + len(logs.dropped_line(dropped))
        return [[Part(str(self._head), 0, self._half)], [Part(str(self._head), end)]]

    def _stretches_apart(self) -> list[list[Part]]:
        """Return the same where the head and the last two segments stand for themselves."""
        half = self._half
        kept = (self._number + 1) * half + self._written
        tail_start = max(half, kept - half)
        first, offset = divmod(tail_start, half)
        tail = [
            Part(str(self._segment(number)), 0 if number >= first else offset)
            for number in range(first - 1, self._number + 1)
        ]
        head = [Part(str(self._head), 0, half)]
        return [head + tail] if tail_start == half else [head, tail]

    def _take(self, block: bytes) -> None:
        self.total_bytes += len(block)
        self.grew_at = time.monotonic()
        self.tail = (self.tail + block[-TAIL_BYTES:])[-TAIL_BYTES:]
        if self.error is None:
            try:
                self._store(block)
            except OSError as error:
                self._give_up(error)

    def _store(self, block: bytes) -> None:
        while block:
            file = self._current_file()
            count = os.write(file, block[: self._room()])
            self._written += count
            block = block[count:]

    def _room(self) -> int:
        return self._half - self._written

    def _current_file(self) -> int:
        """Return a file with room in it: the head, made with the first byte, or a segment."""
        if self._file is None:
            self._file = _create(self._head)
        elif self._room() == 0:
            segment = _create(self._segment(self._number + 1))
            os.close(self._file)
            self._file, self._written = segment, 0
            self._number += 1
            self._segment(self._number - 2).unlink(missing_ok=True)
        return self._file

    @property
    def _head(self) -> Path:
        return logs.output_path(self._location, self._seq, self._run)

    def _segment(self, number: int) -> Path:
        return logs.segment_path(self._location, self._seq, self._run, number)

    def _assemble(self) -> None:
        """Put the segments behind the head, which may drop the middle, and remove them."""
        if self._number < 0 or self.error is not None:
            return
        self._is_assembled = True
        numbers = [number for number in (self._number - 1, self._number) if number >= 0]
        dropped = max(self.total_bytes - 2 * self._half, 0)
        file = os.open(self._head, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        skipped = 0
        try:
            if dropped:
                # In one write, and first: a reader that finds it knows what the rest is.
                os.write(file, logs.dropped_line(dropped))
                skipped = self._written if len(numbers) == 2 else 0
            for number in numbers:
                _append(file, self._segment(number), skipped)
                skipped = 0
        finally:
            os.close(file)
        for number in numbers:
            self._segment(number).unlink()

    def _give_up(self, error: OSError) -> None:
        # The command goes on: a full disk must not kill a night's work.
        self.error = f"its output was not kept from byte {self.total_bytes} on: {error.strerror}"


class SpooledCapture(OutputCapture):
    """Its files are a spool: they are read from where they stand, and go when all is delivered."""

    @property
    def half_bytes(self) -> int:
        """How much is kept of the beginning, and how much of the end; no file is longer."""
        return self._half

    @property
    def kept_bytes(self) -> int:
        """How much has been written, what was dropped since included; all but for a full disk."""
        return 0 if self._file is None else (self._number + 1) * self._half + self._written

    def read(self, position: int, size: int) -> bytes:
        """Return bytes of one file: the head, or one of the last two segments.

        b"" if they cannot be read.
        """
        number, offset = divmod(position, self._half)
        path = self._head if number == 0 else self._segment(number - 1)
        with suppress(OSError):
            if (file := logs.open_output(path)) is not None:
                try:
                    return os.pread(file, size, offset)
                finally:
                    os.close(file)
        return b""

    def remove(self) -> None:
        """Remove the files."""
        if self._file is None:
            return
        segments = [self._segment(k) for k in (self._number - 1, self._number) if k >= 0]
        for path in (self._head, *segments):
            with suppress(OSError):  # it stays, and does no harm
                path.unlink()

    def _assemble(self) -> None:
        """Leave them apart: nobody but the delivery reads them."""


def _append(file: int, source: Path, skipped: int) -> None:
    """Add what a file holds behind its first bytes, in blocks: it may be as long as the cap."""
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb", buffering=0) as segment:
        segment.seek(skipped)
        while block := segment.read(_READ_BYTES):
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(file, rest) :]


def _create(path: Path) -> int:
    """Create a file of our own there: what is in the way, a link above all, is removed first."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    for _ in range(3):
        with suppress(FileExistsError):
            return open_private(path, flags)
        with suppress(FileNotFoundError):
            path.unlink()
    return open_private(path, flags)
