"""The stored options: their names, types, defaults and limits."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from queuectl.domain.durations import parse_duration
from queuectl.domain.job import State
from queuectl.domain.retry import BackoffRule
from queuectl.errors import InvalidInput, NotFound

#: In seconds.
_DAY = 86_400.0
_SIZE_UNITS = {
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
}


def _parse_optional_duration(value: object) -> float | None:
    if value is None or value == "none":
        return None
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError("must be more than 0 seconds, or none")
    return seconds


def _parse_retention(value: object) -> float | None:
    if value is None or value in ("never", "none"):
        return None
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError("must be more than 0 seconds, or never")
    return seconds


def parse_size(value: object) -> int:
    """Return bytes for a number, or for a text like ``64KiB`` or ``10MiB``; raises ValueError."""
    text = str(value).strip().lower()
    factor = 1
    for unit, size in _SIZE_UNITS.items():
        if text.endswith(unit):
            text, factor = text.removesuffix(unit).strip(), size
            break
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ValueError("is not a size: write bytes, 64KiB or 10MiB")
    return int(text) * factor


def _parse_number(value: object) -> object:
    """Let ``config set`` hand over texts; what is no number stays for Pydantic to refuse."""
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return _to_float(value)
    return value


def _to_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("is not a number") from None


class OutputStore(StrEnum):
    """Where the whole output of an attempt is kept."""

    FILES = "files"
    DATABASE = "database"


class Options(BaseModel):
    """All stored options with their values. Durations in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_retries: Annotated[int, BeforeValidator(_parse_number), Field(ge=0, le=1_000_000)] = 3
    """Retries of a job after its first failure."""
    backoff_base: Annotated[
        float, BeforeValidator(_parse_number), Field(ge=1, le=1_000_000, allow_inf_nan=False)
    ] = 2.0
    """The pause after failure k is this to the power of k, in seconds."""
    backoff_max: Annotated[float, BeforeValidator(parse_duration)] = 3600.0
    """The longest pause between two attempts."""
    timeout: Annotated[float | None, BeforeValidator(_parse_optional_duration)] = None
    """How long an attempt may run."""
    max_crashes: Annotated[int, BeforeValidator(_parse_number), Field(ge=0, le=1_000_000)] = 5
    """How often a job may crash its worker before it is dead."""
    lease: Annotated[float, BeforeValidator(parse_duration), Field(ge=2, le=86_400)] = 30.0
    """How long a silent worker is believed alive."""
    output_limit: Annotated[int, BeforeValidator(parse_size), Field(ge=1024, le=1024**4)] = (
        10 * 1024 * 1024
    )
    """How much of an attempt's output is kept, in bytes."""
    output_store: OutputStore = OutputStore.FILES
    """Where it is kept: in files of the machine that ran it, or in the database."""
    retention_completed: Annotated[float | None, BeforeValidator(_parse_retention)] = 30 * _DAY
    """How long a job is kept after it completed; None: for ever."""
    retention_cancelled: Annotated[float | None, BeforeValidator(_parse_retention)] = 30 * _DAY
    """How long a job is kept after it was cancelled; None: for ever."""
    retention_dead: Annotated[float | None, BeforeValidator(_parse_retention)] = None
    """How long a job is kept after it died; None: for ever."""

    @property
    def backoff_rule(self) -> BackoffRule:
        """The part of the options that decides about retries."""
        return BackoffRule(self.backoff_base, self.backoff_max, self.max_crashes)

    @property
    def retention(self) -> dict[State, float]:
        """For how many seconds jobs of a state are kept; a state that is not there: for ever."""
        kept = {
            State.COMPLETED: self.retention_completed,
            State.CANCELLED: self.retention_cancelled,
            State.DEAD: self.retention_dead,
        }
        return {state: seconds for state, seconds in kept.items() if seconds is not None}


#: ``max-retries`` and so on, in the order in which they are listed.
OPTION_NAMES = tuple(field.replace("_", "-") for field in Options.model_fields)


def option_field(name: str) -> str:
    """Return the field that ``max-retries`` or ``max_retries`` names; raises NotFound."""
    field = name.replace("-", "_")
    if field not in Options.model_fields:
        raise NotFound(
            f"there is no option {name[:60]!r}", hint=f"options: {', '.join(OPTION_NAMES)}"
        )
    return field


def validate_option(name: str, value: object) -> Any:
    """Return the value as it is stored.

    Raises NotFound for the name, InvalidInput for the value.
    """
    field = option_field(name)
    try:
        return getattr(Options.model_validate({field: value}), field)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        reason = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else detail["msg"]
        reason = reason.replace("Input should be", "must be").split(", got")[0]
        raise InvalidInput(f"{field.replace('_', '-')}: {str(value)[:40]!r} {reason}") from error
