"""Spool: validated requests on their way into one transaction, on disk when they are many."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import IO, Any, NamedTuple, Self

from queuectl.domain.request import JobRequest

#: Requests that are written and inserted at a time; below SQLite's limit of parameters.
CHUNK_SIZE = 1000
#: Input of jobs after which a chunk ends, in bytes.
_CHUNK_STDIN_BYTES = 8 << 20


class Draft(NamedTuple):
    """What a request says, with the digest of what was given if it brings an id of its own.

    A plain tuple, for which the spool takes 1 microsecond a job where whole models take 12.
    """

    id: str | None
    queue: str
    command: str
    cwd: str | None
    env: dict[str, str] | None
    priority: int
    run_at: datetime | None
    delay: float | None
    max_retries: int | None
    timeout: float | None
    backoff_base: float | None
    name: str | None
    tags: list[str] | None
    unique: str | None
    hold: bool
    stdin: bytes | None
    deadline: datetime | float | None
    after: list[str] | None
    after_any: list[str] | None
    after_failure: list[str] | None
    terms: dict[str, Any] | None
    digest: str | None


_said_by = attrgetter(*Draft._fields[:-1])


def draft(request: JobRequest) -> Draft:
    """Return what a request says, as a plain tuple."""
    digest = request.digest() if request.id else None
    return Draft._make((*_said_by(request), digest))


def _take(drafts: Iterator[Draft]) -> list[Draft]:
    """Return the next chunk: fewer requests where they bring much input."""
    chunk: list[Draft] = []
    room = _CHUNK_STDIN_BYTES
    for draft in islice(drafts, CHUNK_SIZE):
        chunk.append(draft)
        room -= len(draft.stdin or b"")
        if room <= 0:
            break
    return chunk


class Spool:
    """Holds any number of requests in flat memory; can be read again for another try.

    The first chunk stays in memory, so an ordinary enqueue touches no temporary file.
    """

    def __init__(self) -> None:
        self._first: list[Draft] = []
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def fill(self, requests: Iterable[JobRequest]) -> None:
        """Take in all requests; raises what reading them raises."""
        drafts = map(draft, requests)
        self._first = _take(drafts)
        while chunk := _take(drafts):
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # __exit__ closes it
            plain = [tuple(drawn) for drawn in chunk]
            pickle.dump(plain, self._file, pickle.HIGHEST_PROTOCOL)

    def chunks(self) -> Iterator[list[Draft]]:
        """Yield all requests from the beginning, some at a time."""
        yield self._first
        if self._file is None:
            return
        end = self._file.seek(0, 2)
        self._file.seek(0)
        while self._file.tell() < end:
            plain = pickle.load(self._file)  # noqa: S301  # our own unlinked file
            yield [Draft._make(values) for values in plain]
