"""The jobs' outputs: where the files are, and how to read one while it is still being written.

An attempt's output is ``<store>.logs/<seq>-<run>.log``. Once it is longer than half of
``output-limit``, that file (the head) stands still, and what follows goes to segments of the same
size, ``<seq>-<run>.0.log``, ``.1.log`` and so on, of which the last two are kept. When the attempt
ends, the last half of the limit is added to the head, behind a line that counts the bytes dropped
if any were, and the segments are removed. Names are made of numbers only; no text of a job ever
reaches a path.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from queuectl.settings import StoreLocation

#: What an output file is called; the first group is the number of its job.
NAME = re.compile(r"(\d{1,18})-\d+(?:\.\d+)?\.log")

_BLOCK_BYTES = 1 << 16
_DROPPED = re.compile(rb"\n\[queuectl: (\d+) bytes dropped\]\n")


def output_path(location: StoreLocation, seq: int, run: int) -> Path:
    """Return the file of an attempt's output; it exists once the first byte was printed."""
    return location.logs / f"{seq:d}-{run:d}.log"


def segment_path(location: StoreLocation, seq: int, run: int, number: int) -> Path:
    """Return the file of one segment behind the head."""
    return location.logs / f"{seq:d}-{run:d}.{number:d}.log"


def dropped_line(count: int) -> bytes:
    """Return the line that stands where ``count`` bytes were left out."""
    return b"\n[queuectl: %d bytes dropped]\n" % count


def segments(location: StoreLocation, seq: int, run: int) -> list[int]:
    """Return the numbers of the segments that are there, in order."""
    pattern = re.compile(rf"{seq:d}-{run:d}\.(\d+)\.log")
    try:
        names = [path.name for path in location.logs.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for match in map(pattern.fullmatch, names) if match)


def remove(location: StoreLocation, seq: int, runs: int) -> None:
    """Remove the output of all attempts of a job."""
    for run in range(1, runs + 1):
        paths = [output_path(location, seq, run)]
        paths += [segment_path(location, seq, run, k) for k in segments(location, seq, run)]
        for path in paths:
            with suppress(FileNotFoundError):
                path.unlink()


def remove_heads(location: StoreLocation, seq: int, runs: int) -> None:
    """Remove the whole outputs of a job without reading the folder.

    Segments, which only an attempt leaves whose worker was killed, are for who sweeps the folder.
    """
    for run in range(1, runs + 1):
        with suppress(FileNotFoundError):
            output_path(location, seq, run).unlink()


def open_output(path: Path) -> int | None:
    """Open an output file for reading, never through a symbolic link; None if it is not there."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None


def read_all(location: StoreLocation, seq: int, run: int) -> Iterator[bytes]:
    """Yield the whole output, as far as it was kept, in blocks."""
    head = output_path(location, seq, run)
    yield from _blocks(head)
    kept = segments(location, seq, run)  # only while it runs, or if its worker died
    if kept and kept[0] > 0:
        yield dropped_line(kept[0] * head.stat().st_size)
    for number in kept:
        yield from _blocks(segment_path(location, seq, run, number))


def _blocks(path: Path) -> Iterator[bytes]:
    descriptor = open_output(path)
    if descriptor is None:
        return
    try:
        while block := os.read(descriptor, _BLOCK_BYTES):
            yield block
    finally:
        os.close(descriptor)


def tail(location: StoreLocation, seq: int, run: int, lines: int) -> bytes:
    """Return the last lines of the output."""
    return last_lines(read_all(location, seq, run), lines)


def last_lines(blocks: Iterable[bytes], lines: int | None) -> bytes:
    """Return the last lines of these blocks; None: all of them."""
    kept: deque[bytes] = deque(maxlen=lines)
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        kept.extend(line + b"\n" for line in whole)
    if rest:
        kept.append(rest)
    return b"".join(kept)


class OutputReader:
    """Reads an output that is still growing, each byte once, and tells what it had to skip."""

    def __init__(self, location: StoreLocation, seq: int, run: int) -> None:
        self.path = output_path(location, seq, run)
        self._location, self._seq, self._run = location, seq, run
        self._head: int | None = None
        self._segment: int | None = None
        self._number = -1
        #: How much of the head's file, and of the attempt's whole output, has been read.
        self._head_position = 0
        self._position = 0

    @property
    def position(self) -> int:
        """How much of the attempt's output has been read or told as dropped, in bytes."""
        return self._position

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._head, self._segment):
            if descriptor is not None:
                os.close(descriptor)
        self._head = self._segment = None

    def read_new(self) -> bytes:
        """Return what was added since the last call, some 64 KiB at most; b"" if nothing was."""
        if self._head is None:
            self._head = open_output(self.path)
        if self._head is None:
            return b""
        return self._read_current(self._head) or self._read_later(self._head)

    def _read_current(self, head: int) -> bytes:
        if self._segment is not None:
            block = os.read(self._segment, _BLOCK_BYTES)
        elif self._number < 0:
            block = os.pread(head, _BLOCK_BYTES, self._head_position)
            self._head_position += len(block)
        else:
            return b""
        self._position += len(block)
        return block

    def _read_later(self, head: int) -> bytes:
        later = [k for k in segments(self._location, self._seq, self._run) if k > self._number]
        if not later:
            return self._read_final(head) if self._number >= 0 else b""
        # A later one exists, so the current one has all that it will ever have.
        if block := self._read_current(head):
            return block
        descriptor = open_output(segment_path(self._location, self._seq, self._run, later[0]))
        if descriptor is None:
            return self._read_later(head)  # removed meanwhile; look what came of it
        if self._segment is not None:
            os.close(self._segment)
        self._segment, self._number = descriptor, later[0]
        start = (later[0] + 1) * self._head_position
        skipped, self._position = start - self._position, start
        return dropped_line(skipped) if skipped else self._read_current(head)

    def _read_final(self, head: int) -> bytes:
        """Read on in the finished file, from where the segments ended."""
        note = _DROPPED.match(os.pread(head, 80, self._head_position))
        if note is None:  # nothing was dropped: places in the file are places in the output
            place = self._position
        else:
            start = self._head_position + note.end()
            rest_position = self._head_position + int(note[1])
            if self._position < rest_position:
                skipped, self._position = rest_position - self._position, rest_position
                return dropped_line(skipped)
            place = start + self._position - rest_position
        block = os.pread(head, _BLOCK_BYTES, place)
        self._position += len(block)
        return block
