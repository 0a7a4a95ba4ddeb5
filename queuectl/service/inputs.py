"""What jobs get as their standard input: kept apart, and read only for those that have any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, bindparam, insert, select

from queuectl.db.models import InputRow, JobRow
from queuectl.domain.job import Claim
from queuectl.service.spool import Draft

_INSERT = insert(InputRow).from_select(
    ["job_seq", "content"],
    select(JobRow.seq, bindparam("new_content", type_=InputRow.content.type)).where(
        JobRow.id == bindparam("job_id")
    ),
)


def insert_inputs(connection: Connection, drafts: Sequence[Draft], ids: Sequence[str]) -> None:
    """Keep the input of jobs that have been inserted; part of the enqueueing transaction."""
    rows = [
        {"job_id": job_id, "new_content": draft.stdin}
        for job_id, draft in zip(ids, drafts, strict=True)
        if draft.stdin is not None
    ]
    if rows:
        connection.execute(_INSERT, rows)


def attach(connection: Connection, claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims with the input of their jobs; nothing is read if none has any."""
    seqs = [claim.seq for claim in claims if claim.stdin_bytes is not None]
    if not seqs:
        return list(claims)
    query = select(InputRow.job_seq, InputRow.content).where(InputRow.job_seq.in_(seqs))
    contents = {row.job_seq: bytes(row.content) for row in connection.execute(query)}
    return [replace(claim, stdin=contents.get(claim.seq)) for claim in claims]
