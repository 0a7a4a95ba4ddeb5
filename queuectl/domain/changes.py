"""Changes: which fields of a job that waits can be set anew, and to what.

The keys are those of a request (``domain/request.py``) but for the few in FIXED, and what may stand
there is what a request may hold: a change is judged as the whole request that the job would be
then, by the same model. So a new field of a request can be changed as soon as a job has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from queuectl.domain.durations import parse_duration
from queuectl.domain.job import Job, State
from queuectl.domain.request import JobRequest, describe_problem, validate_request
from queuectl.domain.terms import FIELDS as TERMS
from queuectl.domain.terms import Backoff, write_terms
from queuectl.errors import InvalidInput, InvalidJob

#: Where a job waits, and can be changed: nobody holds a claim.
CHANGEABLE = (State.HELD, State.BLOCKED, State.SCHEDULED, State.PENDING, State.FAILED)
#: What stays as it was enqueued, and what to do instead.
FIXED = {
    "id": "a job keeps its id: cancel it, and enqueue it under another one",
    "env": "its variables stay as they are: cancel it, and enqueue it with others",
    "stdin": "its input stays as it is: cancel it, and enqueue it with another",
    "unique": "its key stays as it is: cancel it, and enqueue it with another",
    "hold": "hold it with: queuectl hold ID, or let it go with: queuectl release ID",
    "after": "what it waits for stays as it is: cancel it, and enqueue it anew",
    "after_any": "what it waits for stays as it is: cancel it, and enqueue it anew",
    "after_failure": "what it waits for stays as it is: cancel it, and enqueue it anew",
}
#: Other names of fields, as options of ``enqueue`` have them.
ALIASES = {"at": "run_at", "in": "delay", "tag": "tags"}
#: What a request says that no column of a job holds: another field follows from it, it has rows, or
#: it stands with others in one column.
_BESIDE = ("delay", "tags", *TERMS)


def attribute_of(field: str) -> str:
    """Return what a field of a request is called in a job: ``timeout`` is ``timeout_seconds``."""
    return field if field in Job.__dataclass_fields__ else f"{field}_seconds"


def _is_kept(field: str) -> bool:
    return field in _BESIDE or attribute_of(field) in Job.__dataclass_fields__


#: The fields that can be changed, in the order of a request.
FIELDS = tuple(name for name in JobRequest.model_fields if name not in FIXED and _is_kept(name))
#: Those that have a column of their own.
COLUMNS = {name: attribute_of(name) for name in FIELDS if name not in _BESIDE}


def known_keys() -> list[str]:
    """Return what may stand before the ``=``: fields as options are called, and other names."""
    return [*(name.replace("_", "-") for name in FIELDS), *ALIASES]


def field_of(key: str) -> str:
    """Return the field that a key means; raises InvalidInput for one that cannot be changed."""
    name = key.strip().lower().replace("-", "_")
    name = ALIASES.get(name, name)
    if name in FIELDS:
        return name
    if name in FIXED:
        raise InvalidInput(f"{key[:40]!r} cannot be changed", hint=FIXED[name])
    near = get_close_matches(name.replace("_", "-"), known_keys(), n=3, cutoff=0.5)
    raise InvalidInput(
        f"a job has no {key[:40]!r} to change",
        hint=f"did you mean {' or '.join(near)}?" if near else f"keys: {', '.join(known_keys())}",
    )


def split_words(words: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Return the ids among these words, and the texts that the others give, by their keys.

    Raises InvalidInput for a key that is unknown, fixed or given twice.
    """
    ids: list[str] = []
    texts: dict[str, str] = {}
    fields: set[str] = set()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            ids.append(word)
            continue
        field = field_of(key)
        if field in fields:
            raise InvalidInput(f"{key[:40]!r} is given twice", hint="give each key once")
        fields.add(field)
        texts[key.strip()] = text
    return ids, texts


def read_text(field: str, text: str) -> Any:
    """Return the value that a text means for a field; raises InvalidJob.

    ``none`` is as if the field had not been given, where that can be.
    """
    if text.strip().lower() == "none" and JobRequest.model_fields[field].default is None:
        return None
    found: list[ErrorDetails] = []
    for value in _meanings(text):
        problems = _problems(field, value)
        if not problems:
            return value
        found += problems
    # A text that is no number says less than a number that is too high.
    told = next((each for each in found if not each["type"].endswith("_type")), found[0])
    raise InvalidJob([describe_problem(told)])


def _meanings(text: str) -> Iterator[Any]:
    yield text
    with suppress(ValueError, RecursionError):
        yield json.loads(text)
    parts = [part.strip() for part in text.split(",")]
    yield parts
    with suppress(ValueError, RecursionError):
        yield [json.loads(part) for part in parts]


def _problems(field: str, value: Any) -> list[ErrorDetails]:
    try:
        JobRequest.model_validate({"command": "true", field: value})
    except ValidationError as error:
        found = error.errors(include_url=False)
        return [detail for detail in found if detail["loc"][:1] == (field,)]
    return []


def resolve(given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the changes with instants in the place of durations from now; raises InvalidJob."""
    # Whether a base below 1 will do is a matter of the job's own backoff: ``judge`` looks at both.
    validate_request({"command": "true", "backoff": Backoff.FIXED.value, **given})
    fields = dict(given)
    delay = fields.pop("delay", None)
    if delay is not None:
        fields["run_at"] = _after(now, delay)
    elif fields.get("run_at", now) is None:
        fields["run_at"] = _plain(now)
    deadline = fields.get("deadline")
    if deadline is not None:
        with suppress(ValueError):
            fields["deadline"] = _after(now, deadline)
    return fields


def _after(now: datetime, duration: object) -> str:
    return _plain(now + timedelta(seconds=parse_duration(duration)))  # type: ignore[no-any-return]  # it was an instant


def judge(job: Job, tags: list[str], fields: Mapping[str, Any]) -> JobRequest:
    """Return the request that a job would be with these fields; raises InvalidJob."""
    whole = {**described(job, tags), **fields}
    if job.runs or not fields.keys() & {"run_at", "deadline"}:
        # When it was due is past, and after a backoff another matter than when it was to begin.
        for name in {"run_at", "deadline"} - fields.keys():
            del whole[name]
    said = {name: value for name, value in whole.items() if value is not None}
    return validate_request(said, where=f"job {job.id!r}")


def described(job: Job, tags: list[str]) -> dict[str, Any]:
    """Return what can be changed of a job, as the fields of a JSON job."""
    terms = write_terms(job.terms)
    found: dict[str, Any] = {}
    for name in FIELDS:
        if name == "tags":
            found[name] = tags
        elif name in terms:
            found[name] = terms[name]
        elif name in COLUMNS:
            found[name] = _plain(getattr(job, COLUMNS[name]))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        text = value.astimezone(UTC).isoformat(timespec="microseconds")
        return text.replace("+00:00", "Z")
    return value
