"""Many jobs in one file: one object, an array, or one object a line, read bit by bit."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from json import JSONDecodeError
from typing import BinaryIO

from queuectl.domain.request import (
    DECODER,
    LARGEST_JOB_BYTES,
    JobRequest,
    decode_request,
    describe_json_error,
    validate_request,
)
from queuectl.errors import InvalidJob

#: What makes jobs of a file, bit by bit.
Reader = Callable[[BinaryIO], Iterator[JobRequest]]

#: Bytes that are read at a time where lines do not matter.
_PIECE_BYTES = 1024 * 1024
#: A value that was cut off is found out at most this far from the cut: ``-Infinity`` is longest.
_LONGEST_LITERAL = 10
_SPACE = re.compile(r"[ \t\n\r]*")
_BLANK = b" \t\r\n"
_TOO_LARGE = f"a job's JSON is at most {LARGEST_JOB_BYTES} bytes long"
_NOTHING = "there are no jobs in it"


def read_requests(file: BinaryIO) -> Iterator[JobRequest]:
    """Yield the validated jobs of a file one by one; at most a few MiB of it are held.

    Raises InvalidJob at the first one that is not acceptable, naming its line.
    """
    number, line = _first_line(file)
    if line.lstrip(_BLANK).startswith(b"["):
        yield from _read_array(_Text(file, line, number))
    elif _is_whole(line):
        yield from _read_lines(file, number, line)
    else:
        yield _read_object(_Text(file, line, number))


def _first_line(file: BinaryIO) -> tuple[int, bytes]:
    """Return the first line that holds something (its beginning, if it is long), and its number."""
    for number, line in _lines(file):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip(_BLANK):
            return number, line
    raise InvalidJob([_NOTHING])


def _lines(file: BinaryIO, before: int = 0) -> Iterator[tuple[int, bytes]]:
    while line := file.readline(LARGEST_JOB_BYTES + 2):
        before += 1
        yield before, line


def _is_whole(line: bytes) -> bool:
    """Whether a first line is a job of its own, good or bad, and not the beginning of a longer one.

    The brackets are counted outside of texts: only an object that is left open goes on below.
    """
    if not line.endswith(b"\n") or len(line) > LARGEST_JOB_BYTES:
        return True
    outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line)
    return outside.count(b"{") + outside.count(b"[") <= outside.count(b"}") + outside.count(b"]")


def _read_lines(file: BinaryIO, number: int, line: bytes) -> Iterator[JobRequest]:
    yield _read_line(number, line)
    for later, other in _lines(file, number):
        if other.strip(_BLANK):
            yield _read_line(later, other)


def _read_line(number: int, line: bytes) -> JobRequest:
    # The quick way, for all that is well: 50,000 a second and more depend on it.
    if len(line) <= LARGEST_JOB_BYTES:
        try:
            return JobRequest.model_validate(DECODER.decode(line.decode()))
        except (ValueError, RecursionError):
            pass  # told below, with the reason
    where = f"line {number}"
    if len(line) > LARGEST_JOB_BYTES:
        raise InvalidJob([_TOO_LARGE], where=where)
    try:
        text = line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError as error:
        raise InvalidJob([f"is not UTF-8 at byte {error.start + 1}"], where=where) from error
    return decode_request(text, where=where)


class _Text:
    """The rest of a file as text, of which always a whole job, or all that is left, is at hand."""

    def __init__(self, file: BinaryIO, beginning: bytes, line: int) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line = line
        self._counted = 0
        self.ended = False
        self.position = 0
        self.buffer = ""
        self._append(beginning)

    @property
    def line(self) -> int:
        """The number of the line at ``position``."""
        self._line += self.buffer.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line

    def skip_space(self) -> str:
        """Go on to what is no white space, and return that character; empty at the end."""
        while True:
            self.position = _SPACE.match(self.buffer, self.position).end()  # type: ignore[union-attr]  # it matches nothing, too
            self.fill()
            if self.position < len(self.buffer):
                return self.buffer[self.position]
            if self.ended:
                return ""

    def fill(self) -> None:
        """Have the longest job that there may be after ``position``."""
        while not self.ended and len(self.buffer) - self.position <= LARGEST_JOB_BYTES:
            self._line = self.line
            self.buffer = self.buffer[self.position :]
            self.position = self._counted = 0
            self._append(self._file.read(_PIECE_BYTES))

    def _append(self, piece: bytes) -> None:
        try:
            self.buffer += self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            before = piece[: error.start].count(b"\n") + self.buffer.count("\n", self._counted)
            where = f"line {self._line + before}"
            raise InvalidJob(["is not UTF-8"], where=where) from error
        self.ended = not piece

    def decode(self, where: str) -> object:
        """Return the JSON value at ``position`` and go behind it; raises InvalidJob."""
        start = self.position
        try:
            value, self.position = DECODER.raw_decode(self.buffer, start)
        except RecursionError as error:
            raise InvalidJob(["the JSON is nested too deeply"], where=where) from error
        except ValueError as error:
            raise InvalidJob([self._describe(error)], where=where) from error
        if self.position - start > LARGEST_JOB_BYTES:
            raise InvalidJob([_TOO_LARGE], where=where)
        return value

    def _describe(self, error: ValueError) -> str:
        if not isinstance(error, JSONDecodeError):
            return describe_json_error(error)
        unclosed = error.msg.startswith("Unterminated string")
        if not self.ended and (unclosed or error.pos >= len(self.buffer) - _LONGEST_LITERAL):
            return _TOO_LARGE
        line = self.line + self.buffer.count("\n", self.position, error.pos)
        return f"not valid JSON: {error.msg} at line {line} column {error.colno}"


def _read_object(text: _Text) -> JobRequest:
    text.skip_space()
    where = f"line {text.line}"
    request = validate_request(text.decode(where), where=where)
    if text.skip_space():
        raise InvalidJob(
            ["more follows the job"],
            where=f"line {text.line}",
            hint="several jobs stand one a line, or in an array",
        )
    return request


def _read_array(text: _Text) -> Iterator[JobRequest]:
    text.skip_space()
    text.position += 1
    item = 0
    if text.skip_space() == "]":
        raise InvalidJob([_NOTHING])
    while True:
        item += 1
        text.skip_space()
        where = f"item {item} (line {text.line})"
        yield validate_request(text.decode(where), where=where)
        separator = text.skip_space()
        text.position += 1
        if separator == "]":
            break
        if separator != ",":
            reason = "the array is not closed" if not separator else "a comma is missing after it"
            raise InvalidJob([reason], where=where)
    if text.skip_space():
        raise InvalidJob(["more follows the array"], where=f"line {text.line}")
