"""Outputs in the database: put them there piece by piece, keep to the cap, read them.

A piece is named by the attempt and by its place in what the attempt printed, so a reader on any
machine knows where to go on, and how much was dropped between two that do not meet. The pieces of
one attempt are written by the one worker that holds its claim: whoever lost it adds nothing more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
)

from queuectl.db.engine import Store
from queuectl.db.models import JobRow, OutputChunkRow
from queuectl.domain.job import Claim
from queuectl.service import logs

#: The longest piece, in bytes.
CHUNK_BYTES = 1 << 16
#: Pieces that are read at a time: 1 MiB of memory.
_READ_CHUNKS = 16

_OF_ATTEMPT: tuple[ColumnElement[bool], ...] = (
    OutputChunkRow.job_seq == bindparam("seq"),
    OutputChunkRow.run == bindparam("of_run"),
)
_FROM = OutputChunkRow.position >= bindparam("start")
_BEFORE = OutputChunkRow.position < bindparam("end")
_READ = (
    select(OutputChunkRow.position, OutputChunkRow.content)
    .where(*_OF_ATTEMPT, _FROM)
    .order_by(OutputChunkRow.position)
    .limit(_READ_CHUNKS)
)
_ANY = select(OutputChunkRow.position).where(*_OF_ATTEMPT).limit(1)
_LAST_BETWEEN = (
    select(OutputChunkRow.position, OutputChunkRow.content)
    .where(*_OF_ATTEMPT, _FROM, _BEFORE)
    .order_by(OutputChunkRow.position.desc())
    .limit(1)
)
_DELETE_FROM = delete(OutputChunkRow).where(*_OF_ATTEMPT, _FROM)
_DELETE_BETWEEN = delete(OutputChunkRow).where(*_OF_ATTEMPT, _FROM, _BEFORE)
#: The claim stands, and its job cannot be purged until this transaction is over.
_HELD = (
    select(JobRow.seq)
    .where(
        JobRow.seq == bindparam("seq"),
        JobRow.version == bindparam("claimed_version"),
        JobRow.state == literal_column("'processing'"),
    )
    .with_for_update(read=True, key_share=True)
)


class Chunk(NamedTuple):
    """A piece of an output: how much was printed before it, and its bytes."""

    position: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Shipment:
    """What an attempt has printed since the last one."""

    claim: Claim
    #: Where the last one ended. What is there from here on came by a try whose reply was lost.
    start: int
    chunks: list[Chunk]
    #: What is kept: so much of the beginning, and all from there on.
    head_bytes: int
    tail_start: int


def ship(store: Store, shipments: Sequence[Shipment]) -> set[str]:
    """Add to the outputs of attempts that run, in one transaction that wakes nobody.

    Returns the marks of the claims that were lost; nothing was added for them. Raises StoreError.
    """

    def work(connection: Connection) -> set[str]:
        store.hush(connection)
        lost = {item.claim.mark for item in shipments if not _is_held(connection, item.claim)}
        put(connection, [item for item in shipments if item.claim.mark not in lost])
        return lost

    return store.write(work)


def _is_held(connection: Connection, claim: Claim) -> bool:
    values = {"seq": claim.seq, "claimed_version": claim.version}
    return connection.execute(_HELD, values).first() is not None


def put(connection: Connection, shipments: Sequence[Shipment]) -> None:
    """Add to outputs and drop what is past the cap; part of a transaction that holds the claims."""
    for item in shipments:
        attempt = {"seq": item.claim.seq, "of_run": item.claim.run}
        connection.execute(_DELETE_FROM, {**attempt, "start": item.start})
        if item.start > item.head_bytes and item.tail_start > item.head_bytes:
            _drop_middle(connection, item, attempt)
        _insert(connection, item.claim, item.chunks)


def _drop_middle(connection: Connection, item: Shipment, attempt: dict[str, int]) -> None:
    """Remove what is no longer among the last bytes; of a piece that is so in part, keep the rest.

    A reader that knows its place misses nothing: a piece never begins further in front than before.
    """
    middle = {**attempt, "start": item.head_bytes, "end": item.tail_start}
    last = connection.execute(_LAST_BETWEEN, middle).first()
    if last is None:
        return
    connection.execute(_DELETE_BETWEEN, middle)
    if rest := bytes(last.content)[item.tail_start - last.position :]:
        _insert(connection, item.claim, [Chunk(item.tail_start, rest)])


def _insert(connection: Connection, claim: Claim, chunks: Sequence[Chunk]) -> None:
    if chunks:
        connection.execute(
            insert(OutputChunkRow),
            [{"job_seq": claim.seq, "run": claim.run, **chunk._asdict()} for chunk in chunks],
        )


def are_there(store: Store, seq: int, run: int) -> bool:
    """Whether the database has anything of this attempt's output."""
    values = {"seq": seq, "of_run": run}
    return store.read(lambda connection: connection.execute(_ANY, values).first() is not None)


def read(store: Store, seq: int, run: int, position: int) -> list[Chunk]:
    """Return the next pieces that begin there or later, 1 MiB at most."""
    values = {"seq": seq, "of_run": run, "start": position}
    rows = store.read(lambda connection: connection.execute(_READ, values).all())
    return [Chunk(row.position, bytes(row.content)) for row in rows]


class OutputReader:
    """Reads an output, growing or finished, each byte once, and tells what it had to skip.

    As long as its file is on this machine, that has everything; the database has the rest, once
    the attempt has ended and its file is removed, or all of it if it ran elsewhere.
    """

    def __init__(self, store: Store, seq: int, run: int) -> None:
        self._store, self._seq, self._run = store, seq, run
        self._files = logs.OutputReader(store.location, seq, run)
        self._position = 0
        self._fetched: deque[Chunk] = deque()

    @property
    def is_here(self) -> bool:
        """Whether the file is on this machine: then the database need not be asked."""
        return self._files.path.exists()

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def read_new(self) -> bytes:
        """Return what was added since the last call, some 64 KiB at most; b"" if nothing was."""
        if not self._fetched:
            if block := self._files.read_new():
                return block
            if self.is_here:
                return b""
            self._position = max(self._position, self._files.position)
            self._fetched.extend(read(self._store, self._seq, self._run, self._position))
        if not self._fetched:
            return b""
        if skipped := self._fetched[0].position - self._position:
            self._position += skipped
            return logs.dropped_line(skipped)
        content = self._fetched.popleft().content
        self._position += len(content)
        return content

    def read_all(self) -> Iterator[bytes]:
        """Yield everything that is there, and close."""
        while block := self.read_new():
            yield block
        self.close()
