"""JobRequest: one job as somebody asks for it, validated before anything is stored."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from queuectl.domain.durations import parse_duration
from queuectl.domain.terms import FIELDS as TERMS
from queuectl.domain.terms import Backoff, check_path, check_pattern, parse_codes, parse_share
from queuectl.errors import InvalidJob

#: The longest command, in bytes: Linux refuses a longer argument (MAX_ARG_STRLEN, with its NUL).
LONGEST_COMMAND_BYTES = 128 * 1024 - 1
#: The largest environment, in bytes: it shares the kernel's room for arguments with the command.
LARGEST_ENV_BYTES = 256 * 1024
#: One job's JSON, in bytes.
LARGEST_JOB_BYTES = 1024 * 1024
#: What is kept of a job's standard input, in bytes.
LARGEST_STDIN_BYTES = 1024 * 1024
#: Ids that the command line gives a meaning of its own.
RESERVED_IDS = frozenset({"last"})
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:\-]{0,127}$"
NAME_RULE = (
    "must begin with a letter or digit and hold only letters, digits and . _ : - (128 at most)"
)
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def check_text(text: str) -> str:
    """Refuse what no argument of a process can hold: NUL, and characters that are not Unicode."""
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must be valid Unicode (it holds a lone surrogate)") from error
    return text


def check_command(text: str) -> str:
    """Refuse a command that could never be run."""
    check_text(text)
    if not text.strip():
        raise ValueError("must not be empty")
    if len(text.encode()) > LONGEST_COMMAND_BYTES:
        raise ValueError(f"must be at most {LONGEST_COMMAND_BYTES} bytes long; put it in a script")
    return text


def check_name(text: str) -> str:
    """Return a name of a queue as it is; raises ValueError for one that no job can have."""
    if not re.match(NAME_PATTERN.removesuffix("$") + r"\Z", text):
        raise ValueError(NAME_RULE)
    return text


def check_label(text: str) -> str:
    """Refuse a label that no terminal shows in one line."""
    check_text(text)
    if not text.strip() or not text.isprintable():
        raise ValueError("must be printable, and not empty")
    return text


def _check_tags(tags: list[str]) -> list[str]:
    return sorted(set(tags))


def check_id(text: str) -> str:
    """Refuse an id that commands read as something else."""
    if text in RESERVED_IDS:
        raise ValueError("is taken: commands read it as the newest job")
    return text


def check_cwd(text: str) -> str:
    """Refuse a folder that means another one elsewhere."""
    check_text(text)
    if not text.startswith("/"):
        raise ValueError("must be an absolute path")
    return text


def check_env(env: dict[str, str]) -> dict[str, str]:
    """Refuse an environment that no process can have, and variables that are the worker's."""
    size = 0
    for name, value in env.items():
        if not name or "=" in name:
            raise ValueError(f"{name!r} cannot be the name of a variable")
        if name.startswith("QUEUECTL_"):
            raise ValueError(f"{name!r}: names that begin with QUEUECTL_ are set by the worker")
        check_text(name)
        check_text(value)
        length = len(name.encode()) + len(value.encode()) + 2
        if length > LONGEST_COMMAND_BYTES:
            raise ValueError(f"{name!r} must be at most {LONGEST_COMMAND_BYTES} bytes long")
        size += length
    if size > LARGEST_ENV_BYTES:
        raise ValueError(f"must be at most {LARGEST_ENV_BYTES} bytes in all")
    return env


def _positive_duration(value: object) -> float | None:
    if value is None:
        return None
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError("must be more than 0 seconds")
    return seconds


def _duration(value: object) -> float | None:
    return None if value is None else parse_duration(value)


def parse_instant(value: object) -> datetime | None:
    """Return the UTC instant that an RFC 3339 text names; raise ValueError for anything else."""
    if value is None:
        return None
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper().replace(" ", "T")).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"is not a date: {error}") from error
    raise ValueError("must be an RFC 3339 date with its zone, like 2026-11-24T18:00:00Z")


def _instant_or_duration(value: object) -> datetime | float | None:
    """Return what ``2026-11-24T18:00:00Z``, ``3h`` or a number of seconds means."""
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        return parse_instant(value)
    return _positive_duration(value)


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
#: What a job is called by people, or told apart by: any line of text.
Label = Annotated[str, StringConstraints(max_length=128), AfterValidator(check_label)]


def _check_stdin(value: object) -> object:
    if isinstance(value, str):
        try:
            value = value.encode()
        except UnicodeEncodeError as error:
            raise ValueError("must be valid Unicode (it holds a lone surrogate)") from error
    if isinstance(value, bytes) and len(value) > LARGEST_STDIN_BYTES:
        raise ValueError(f"must be at most {LARGEST_STDIN_BYTES} bytes long; name a file instead")
    return value


def _check_references(references: list[str]) -> list[str]:
    for reference in references:
        if not re.match(NAME_PATTERN.removesuffix("$") + r"\Z", reference):
            raise ValueError(f"{reference[:60]!r} is no job's id: it {NAME_RULE}")
    return sorted(set(references))


#: Other jobs, by id, by any unique beginning of it, or ``last``.
References = Annotated[list[str], Field(max_length=1000), AfterValidator(_check_references)]


#: A regular expression, and the path of a file.
Pattern = Annotated[str, AfterValidator(check_text), AfterValidator(check_pattern)]
Path = Annotated[str, AfterValidator(check_text), AfterValidator(check_path)]


class JobRequest(BaseModel):
    """One job that somebody asks for. Durations in seconds, or as texts like ``1h30m``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, ser_json_bytes="base64")

    command: Annotated[str, AfterValidator(check_command)]
    id: Annotated[Name, AfterValidator(check_id)] | None = None
    queue: Name = "default"
    priority: Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)] = 0
    max_retries: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    timeout: Annotated[float | None, BeforeValidator(_positive_duration)] = None
    run_at: Annotated[datetime | None, BeforeValidator(parse_instant)] = None
    delay: Annotated[float | None, BeforeValidator(_duration)] = None
    #: At least 1 where the pauses grow by its powers.
    backoff_base: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None = None
    #: How the pauses grow.
    backoff: Literal["exponential", "linear", "fixed"] | None = None
    #: The share of a pause that is added or taken at random.
    jitter: Annotated[float | None, BeforeValidator(parse_share)] = None
    #: The exit codes that are retried, or those that are not.
    retry_on: Annotated[list[int] | None, BeforeValidator(parse_codes)] = None
    no_retry_on: Annotated[list[int] | None, BeforeValidator(parse_codes)] = None
    #: What must stand in the output, what must not, and what must be there afterwards.
    expect: Pattern | None = None
    fail_if: Pattern | None = None
    expect_file: Path | None = None
    #: How long it may be silent.
    stall: Annotated[float | None, BeforeValidator(_positive_duration)] = None
    cwd: Annotated[str, AfterValidator(check_cwd)] | None = None
    env: Annotated[dict[str, str], AfterValidator(check_env)] | None = None
    name: Label | None = None
    tags: Annotated[list[Name], Field(max_length=64), AfterValidator(_check_tags)] | None = None
    #: While a job with this key waits or runs, the same request answers with that job.
    unique: Label | None = None
    #: Whether it waits until somebody releases it.
    hold: bool = False
    #: What it reads from its standard input, at every attempt.
    stdin: Annotated[bytes | None, BeforeValidator(_check_stdin)] = None
    #: When it must have been started: an instant, or how long after it was enqueued.
    deadline: Annotated[datetime | float | None, BeforeValidator(_instant_or_duration)] = None
    #: Jobs that must have completed before it starts.
    after: References | None = None
    #: Jobs that must have ended, however.
    after_any: References | None = None
    #: Jobs of which one must have died or been cancelled.
    after_failure: References | None = None

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.run_at is not None and self.delay is not None:
            raise ValueError("run_at and delay exclude each other: give one of them")
        for start in (self.run_at, self.delay):
            alike = start is not None and type(start) is type(self.deadline)
            if alike and start >= self.deadline:  # type: ignore[operator]  # two instants, or numbers
                raise ValueError("the deadline must be later than the start")
        return self

    @model_validator(mode="after")
    def _sound_terms(self) -> Self:
        base = self.backoff_base
        if base is not None and base < 1 and self.backoff in (None, Backoff.EXPONENTIAL):
            raise ValueError(
                f"backoff_base: {base:g} must be at least 1 where the pauses grow by its powers"
                " (the backoff is exponential)"
            )
        if self.retry_on is not None and self.no_retry_on is not None:
            raise ValueError(
                "retry_on and no_retry_on exclude each other: with the first no other code is"
                " retried anyway"
            )
        return self

    @property
    def terms(self) -> dict[str, Any] | None:
        """What is kept of the fields that most jobs do not have; None: it has none of them."""
        if self.model_fields_set.isdisjoint(TERMS):
            return None
        given = {name: getattr(self, name) for name in TERMS}
        if given["backoff"] == Backoff.EXPONENTIAL:
            del given["backoff"]
        # A share of nothing is none.
        return {name: value for name, value in given.items() if value} or None

    def digest(self) -> str:
        """Return a fingerprint of the fields that were given (not of defaults, not of the id)."""
        given = self.model_dump(mode="json", exclude_unset=True, exclude={"id"})
        canonical = json.dumps(given, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def validate_request(fields: object, *, where: str | None = None) -> JobRequest:
    """Return the job that these decoded JSON fields ask for.

    Raises InvalidJob, which names each wrong field and why; ``where`` says which of many it was.
    """
    if not isinstance(fields, dict):
        raise InvalidJob([f"must be a JSON object, not {_json_name(fields)}"], where=where)
    try:
        return JobRequest.model_validate(fields)
    except ValidationError as error:
        problems = [describe_problem(detail) for detail in error.errors(include_url=False)]
        raise InvalidJob(problems, where=where) from error


def decode_request(text: str, *, where: str | None = None) -> JobRequest:
    """Return the job that one JSON object asks for; raises InvalidJob."""
    if len(text) > LARGEST_JOB_BYTES:
        raise InvalidJob([f"a job's JSON is at most {LARGEST_JOB_BYTES} bytes long"], where=where)
    return validate_request(decode_json(text, where=where), where=where)


def decode_json(text: str, *, where: str | None = None) -> Any:
    """Return the value of one JSON text, strictly: no duplicate keys, no NaN; raises InvalidJob."""
    try:
        return DECODER.decode(text)
    except RecursionError as error:
        raise InvalidJob(["the JSON is nested too deeply"], where=where) from error
    except ValueError as error:
        raise InvalidJob([describe_json_error(error)], where=where) from error


def describe_json_error(error: ValueError) -> str:
    """Return one line for what the JSON decoder did not like."""
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg} at column {error.colno}"
    if "integer string conversion" in str(error):
        return "holds a number with too many digits"
    return str(error)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} appears twice")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


DECODER = json.JSONDecoder(object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)


def _json_name(value: object) -> str:
    names = {list: "an array", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def describe_problem(detail: ErrorDetails) -> str:
    """Return which field is wrong, and why."""
    field = ".".join(str(part) for part in detail["loc"])
    reason = _reason(detail, field)
    return f"{field}: {reason}" if field else reason


#: Fields whose values are not repeated before what is wrong with them.
_SAID_WHOLE = frozenset({"", "env", "command", "stdin", "after", "after_any", "after_failure"})


def _reason(detail: ErrorDetails, field: str) -> str:
    kind, shown = detail["type"], _shorten(detail["input"])
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return f"unknown field; a job has {', '.join(JobRequest.model_fields)}"
    if kind == "string_pattern_mismatch":
        return f"{shown} {NAME_RULE}"
    if kind == "string_unicode":
        return "must be valid Unicode (it holds a lone surrogate)"
    if kind == "value_error":
        reason = str(detail["ctx"]["error"])
        return reason if field in _SAID_WHOLE else f"{shown} {reason}".strip()
    message = detail["msg"].removeprefix("Input ").removeprefix("should").strip()
    return f"{shown} must {message}" if detail["msg"].startswith("Input should") else detail["msg"]


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
