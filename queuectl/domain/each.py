"""A job for each line of a file: read bit by bit, and put into the places of a template."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from queuectl.domain.places import fill
from queuectl.domain.request import LONGEST_COMMAND_BYTES, JobRequest, validate_request
from queuectl.domain.template import Template
from queuectl.errors import InvalidJob

_BLOCK_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Pattern:
    """What each job is like. Without a template a line is the command itself."""

    template: Template | None
    #: The job but for its command, its id and its unique key.
    base: JobRequest
    #: The id, with places; None: one is drawn.
    id: str | None
    #: The unique key, with places; None: there is none.
    unique: str | None = None
    #: The file that must be there afterwards, with places; None: as in the base.
    expect_file: str | None = None
    #: What people call it, with places; None: as in the base.
    name: str | None = None


def read_jobs(
    file: BinaryIO, pattern: Pattern, *, separator: bytes = b"\n"
) -> Iterator[JobRequest]:
    """Yield a validated job for each value that is not empty; little of the file is held.

    Raises InvalidJob at the first one that is not acceptable, naming its line.
    """
    for number, (where, value) in enumerate(_read_values(file, separator), start=1):
        yield _make_job(pattern, value, number, where)


def _make_job(pattern: Pattern, value: str, number: int, where: str) -> JobRequest:
    command = value if pattern.template is None else pattern.template.render(value, number)
    if command.startswith('{"'):
        raise InvalidJob(
            ["is a job in JSON, not a command"], where=where, hint="hand them over with --file"
        )
    fields = {"command": command}
    if pattern.id is not None:
        fields["id"] = fill(pattern.id, value, number)
    if pattern.unique is not None:
        fields["unique"] = fill(pattern.unique, value, number)
    if pattern.name is not None:
        fields["name"] = fill(pattern.name, value, number)
    if pattern.expect_file is not None:
        fields["expect_file"] = fill(pattern.expect_file, value, number)
    validate_request(fields, where=where)
    return pattern.base.model_copy(update=fields)


def _read_values(file: BinaryIO, separator: bytes) -> Iterator[tuple[str, str]]:
    """Yield where each value stands, and the value; empty ones are left out."""
    kind = "line" if separator == b"\n" else "item"
    for number, content in _split(file, separator):
        where = f"{kind} {number}"
        if number == 1 and separator == b"\n":
            content = content.removeprefix(_BOM)
        if len(content) > LONGEST_COMMAND_BYTES:
            raise InvalidJob([f"is longer than {LONGEST_COMMAND_BYTES} bytes"], where=where)
        if content:
            yield where, _decode(content, where)


def _split(file: BinaryIO, separator: bytes) -> Iterator[tuple[int, bytes]]:
    number, rest = 1, b""
    while block := file.read(_BLOCK_BYTES):
        *whole, rest = (rest + block).split(separator)
        for content in whole:
            yield number, content
            number += 1
        if len(rest) > LONGEST_COMMAND_BYTES:
            break  # it is refused, however long it is
    yield number, rest


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidJob([f"is not UTF-8 at byte {error.start + 1}"], where=where) from error
