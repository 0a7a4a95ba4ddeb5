"""Records: a row as a line of an export, and back, validated.

A line is a JSON object: its ``kind``, then the fields of its table, in the table's order. The key
``seq`` is left out, as another store gives a job another number: whatever belongs to a job names it
by id, as ``job``. Instants are RFC 3339 to the microsecond, bytes are base64. The models that read
the lines back are made from the tables, so a new column needs nothing here; where a value has a
rule of its own, it is the one by which a new job is judged (``domain/request.py``).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)
from pydantic_core import ErrorDetails
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, String, Table

from queuectl.db.models import Instant
from queuectl.domain.dependency import DELETED, Condition
from queuectl.domain.job import FINISHED, Ending, State
from queuectl.domain.rate import LONGEST_SECONDS, MOST_STARTS, decode_starts
from queuectl.domain.request import (
    check_command,
    check_cwd,
    check_env,
    check_id,
    check_label,
    check_name,
    check_text,
    describe_problem,
    parse_instant,
    validate_request,
)
from queuectl.domain.schedule import (
    CatchUp,
    Overlap,
    check_cron,
    check_timezone,
    parse_interval,
)
from queuectl.domain.terms import FIELDS
from queuectl.errors import InvalidInput, InvalidJob
from queuectl.service import tables

#: The version of the format; another one is refused.
FORMAT = 1
HEAD, END = "queuectl", "end"
#: What a line is called, by its table.
KINDS = {
    "options": "option",
    "queues": "queue",
    "schedules": "schedule",
    "jobs": "job",
    "attempts": "attempt",
    "output_chunks": "output",
    "dead_letters": "dead_letter",
    "tags": "tag",
    "dependencies": "dependency",
    "inputs": "input",
}
TABLES = {kind: tables.TABLES[name] for name, kind in KINDS.items()}
#: The column that a line names by the job's id instead.
_OF_JOB = "job_seq"
_NUMBER = "seq"


def columns_of(table: Table) -> list[Column[Any]]:
    """Return the columns whose values a line holds as they are."""
    return [column for column in table.columns if column.name not in (_OF_JOB, _NUMBER)]


def belongs_to_job(table: Table) -> bool:
    """Whether its rows belong to a job."""
    return _OF_JOB in table.columns


@cache
def _names(kind: str) -> list[str]:
    return [column.name for column in columns_of(TABLES[kind])]


# Writing


def encode(kind: str, row: Mapping[str, Any], job_id: str | None) -> str:
    """Return the line of a row: whatever came from a job is escaped, and breaks no terminal."""
    fields = {"kind": kind} if job_id is None else {"kind": kind, "job": job_id}
    values = {name: _plain(row[name]) for name in _names(kind)}
    return dump({**fields, **values})


def dump(fields: Mapping[str, Any]) -> str:
    """Return a line without its end."""
    return json.dumps(fields, separators=(",", ":")).replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        text = value.astimezone(UTC).isoformat(timespec="microseconds")
        return text.replace("+00:00", "Z")
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode()
    return value


# Reading


def _decode_bytes(value: object) -> bytes | None:
    if value is None:
        return None
    try:
        return binascii.a2b_base64(str(value), strict_mode=True)
    except ValueError as error:
        raise ValueError("is not base64") from error


def _check_json(text: str) -> str:
    try:
        json.loads(text)
    except ValueError as error:
        raise ValueError("is not JSON") from error
    return text


def _check_starts(text: str) -> str:
    decode_starts(text)
    return text


def _check_request(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        validate_request(fields)
    except InvalidJob as error:
        raise ValueError(error.message) from error
    return fields


def _check_terms(fields: dict[str, Any]) -> dict[str, Any] | None:
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise ValueError(f"has the unknown field {unknown[0][:40]!r}; it knows {', '.join(FIELDS)}")
    try:
        return validate_request({"command": "true", **fields}).terms
    except InvalidJob as error:
        raise ValueError(error.message) from error


def _one_of(words: Sequence[str]) -> Any:
    def check(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return AfterValidator(check)


_COUNT = Annotated[int, Field(ge=0, lt=1 << 31)]
#: Rules besides what the column can hold.
_RULES: dict[tuple[str, str], Any] = {
    ("job", "id"): Annotated[str, AfterValidator(check_name), AfterValidator(check_id)],
    ("job", "queue"): Annotated[str, AfterValidator(check_name)],
    ("job", "command"): Annotated[str, AfterValidator(check_command)],
    ("job", "cwd"): Annotated[str, AfterValidator(check_cwd)],
    ("job", "env"): Annotated[dict[str, str], AfterValidator(check_env)],
    ("job", "state"): Annotated[str, _one_of(list(State))],
    ("job", "runs"): _COUNT,
    ("job", "attempts"): _COUNT,
    ("job", "max_retries"): _COUNT,
    ("job", "crashes"): _COUNT,
    ("job", "version"): Annotated[int, Field(ge=1, lt=1 << 31)],
    ("job", "name"): Annotated[str, AfterValidator(check_label)],
    ("job", "unique_key"): Annotated[str, AfterValidator(check_label)],
    ("job", "terms"): Annotated[dict[str, Any], AfterValidator(_check_terms)],
    ("tag", "tag"): Annotated[str, AfterValidator(check_name)],
    ("dependency", "needed_id"): Annotated[str, AfterValidator(check_name)],
    ("dependency", "condition"): Annotated[str, _one_of(list(Condition))],
    ("dependency", "outcome"): Annotated[str, _one_of([*FINISHED, DELETED])],
    ("attempt", "outcome"): Annotated[str, _one_of(list(Ending))],
    ("attempt", "run"): Annotated[int, Field(ge=1, lt=1 << 31)],
    ("queue", "name"): Annotated[str, AfterValidator(check_name)],
    ("queue", "rate_count"): Annotated[int, Field(ge=1, le=MOST_STARTS)],
    ("queue", "rate_seconds"): Annotated[int, Field(ge=1, le=LONGEST_SECONDS)],
    ("queue", "rate_starts"): Annotated[str, AfterValidator(_check_starts)],
    ("job", "schedule"): Annotated[str, AfterValidator(check_name)],
    ("schedule", "name"): Annotated[str, AfterValidator(check_name)],
    ("schedule", "cron"): Annotated[str, AfterValidator(check_cron)],
    ("schedule", "every_seconds"): Annotated[float, AfterValidator(parse_interval)],
    ("schedule", "timezone"): Annotated[str, AfterValidator(check_timezone)],
    ("schedule", "catch_up"): Annotated[str, _one_of(list(CatchUp))],
    ("schedule", "overlap"): Annotated[str, _one_of(list(Overlap))],
    ("schedule", "request"): Annotated[dict[str, Any], AfterValidator(_check_request)],
    ("option", "value"): Annotated[str, AfterValidator(_check_json)],
}


def _type_of(kind: str, column: Column[Any]) -> Any:
    if (rule := _RULES.get((kind, column.name))) is not None:
        found = rule
    elif isinstance(column.type, Instant):
        found = Annotated[datetime, BeforeValidator(parse_instant)]
    elif isinstance(column.type, LargeBinary):
        found = Annotated[bytes, BeforeValidator(_decode_bytes)]
    elif isinstance(column.type, Boolean):
        found = bool
    elif isinstance(column.type, Integer):
        bits = 63 if isinstance(column.type, BigInteger) else 31
        found = Annotated[int, Field(ge=-(1 << bits), lt=1 << bits)]
    elif isinstance(column.type, Float):
        found = Annotated[float, Field(allow_inf_nan=False)]
    elif isinstance(column.type, String):
        longest = Field(max_length=column.type.length)
        found = Annotated[str, AfterValidator(check_text), longest]
    else:
        found = Any
    return found | None if column.nullable else found


@cache
def _model(kind: str) -> type[BaseModel]:
    table = TABLES[kind]
    fields: dict[str, Any] = {
        column.name: (_type_of(kind, column), None if column.nullable else ...)
        for column in columns_of(table)
    }
    if belongs_to_job(table):
        fields["job"] = (Annotated[str, AfterValidator(check_name)], ...)
    config = ConfigDict(strict=True, extra="forbid")
    return create_model(f"Line_{kind}", __config__=config, **fields)


def decode(kind: str, fields: dict[str, Any], *, where: str) -> dict[str, Any]:
    """Return the values of a line's fields, by column, with ``job`` where it belongs to one.

    ``where`` says which line it is. Raises InvalidInput, which names each wrong field and why.
    """
    try:
        return vars(_model(kind).model_validate(fields))
    except ValidationError as error:
        problems = [_describe(detail) for detail in error.errors(include_url=False)]
        raise InvalidInput(
            f"{where}: {'; '.join(problems)}",
            hint="nothing was imported; a line must be as queuectl export wrote it",
        ) from error


def _describe(detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return f"{detail['loc'][-1]}: unknown field; was it written by a newer queuectl?"
    return describe_problem(detail)
