"""Terms: what counts as a failure of a job, which failures are tried again, and after what pauses.

Most jobs bring none. What one brings is kept as a whole, by the names of its fields in JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from queuectl.domain.search import compile_expression

#: What ``timeout`` reports of a command whose time was over, and so do we.
TIMED_OUT_CODE = 124
#: A command that a signal ended has this and the signal's number as its exit code in a shell.
BY_SIGNAL = 128
#: The longest pattern, in characters; the longest path that Linux takes, in bytes.
LONGEST_PATTERN = 1000
LONGEST_PATH_BYTES = 4095
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%")
_NUMBER = re.compile(r"\d(?:\.\d+)?")


class Backoff(StrEnum):
    """How the pause grows with the failures. ``n`` is the number of the failure."""

    EXPONENTIAL = "exponential"  #: base ** n seconds
    LINEAR = "linear"  #: base * n seconds
    FIXED = "fixed"  #: base seconds


@dataclass(frozen=True, slots=True)
class Terms:
    """What a job brings of its own. Codes are sorted; none are given as an empty tuple."""

    backoff: Backoff = Backoff.EXPONENTIAL
    #: Up to this share of a pause is added to it or taken from it, at random.
    jitter: float = 0.0
    #: Exit codes that are tried again; if there are any, no other is.
    retry_on: tuple[int, ...] = ()
    #: Exit codes that are not.
    no_retry_on: tuple[int, ...] = ()
    #: Some line of the output must match this, ...
    expect: str | None = None
    #: ... and none may match this.
    fail_if: str | None = None
    #: What must be there afterwards, relative to the job's folder.
    expect_file: str | None = None
    #: It is killed when it has printed nothing for so long.
    stall_seconds: float | None = None

    @property
    def searches_output(self) -> bool:
        """Whether the output has to be read to tell success from failure."""
        return self.expect is not None or self.fail_if is not None

    @property
    def has_expectations(self) -> bool:
        """Whether exit code 0 is not enough."""
        return self.searches_output or self.expect_file is not None

    def refusal(self, code: int | None) -> str | None:
        """Return why a job is not tried again that ended with this exit code; None: it is.

        None as a code is that of an attempt that failed otherwise: such are always tried again.
        """
        if not code:
            return None
        if code in self.no_retry_on:
            return f"exit code {code} is among those not retried ({_list(self.no_retry_on)})"
        if self.retry_on and code not in self.retry_on:
            return f"exit code {code} is not among those retried ({_list(self.retry_on)})"
        return None


#: The terms of a job that brings none.
NO_TERMS = Terms()
#: The fields of a job in JSON that make them.
FIELDS = (
    "backoff",
    "jitter",
    "retry_on",
    "no_retry_on",
    "expect",
    "fail_if",
    "expect_file",
    "stall",
)


def read_terms(kept: Mapping[str, Any] | None) -> Terms:
    """Return the terms that were kept by the names of FIELDS; None: there are none."""
    if not kept:
        return NO_TERMS
    return Terms(
        backoff=Backoff(kept.get("backoff") or Backoff.EXPONENTIAL),
        jitter=kept.get("jitter") or 0.0,
        retry_on=tuple(kept.get("retry_on") or ()),
        no_retry_on=tuple(kept.get("no_retry_on") or ()),
        expect=kept.get("expect"),
        fail_if=kept.get("fail_if"),
        expect_file=kept.get("expect_file"),
        stall_seconds=kept.get("stall"),
    )


def write_terms(terms: Terms) -> dict[str, Any]:
    """Return terms by the names of FIELDS, as a JSON job may have them; None: it brings none."""
    return {
        "backoff": terms.backoff.value,
        "jitter": terms.jitter or None,
        "retry_on": list(terms.retry_on) or None,
        "no_retry_on": list(terms.no_retry_on) or None,
        "expect": terms.expect,
        "fail_if": terms.fail_if,
        "expect_file": terms.expect_file,
        "stall": terms.stall_seconds,
    }


def _list(codes: Sequence[int]) -> str:
    return ",".join(map(str, codes))


# What may be given; each of these raises ValueError with the reason


def parse_codes(value: object) -> list[int] | None:
    """Return exit codes in order, from a list of them or from a text like ``75,124``."""
    if value is None:
        return None
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
            raise ValueError("is no list of exit codes: write them like 75,124")
        value = [int(part) for part in parts]
    if not isinstance(value, list) or any(type(code) is not int for code in value):
        raise ValueError("must be a list of exit codes, or a text like 75,124")
    if not value:
        raise ValueError("must name an exit code")
    if wrong := [code for code in value if not 1 <= code <= 255]:
        raise ValueError(f"has {wrong[0]}, and exit codes of failures are 1 to 255")
    return sorted(set(value))


def parse_share(value: object) -> float | None:
    """Return a share of 1, from a number up to 1 or from a text like ``20%``."""
    if value is None:
        return None
    share = _to_share(value.strip()) if isinstance(value, str) else value
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError("must be a share from 0 to 1, or a text like 20%")
    return float(share)


def _to_share(text: str) -> object:
    if percent := _PERCENT.fullmatch(text):
        return float(percent[1]) / 100
    return float(text) if _NUMBER.fullmatch(text) else text


def check_pattern(text: str) -> str:
    """Refuse what cannot be searched for."""
    if not text:
        raise ValueError("is empty, and matches every line")
    if len(text) > LONGEST_PATTERN:
        raise ValueError(f"must be at most {LONGEST_PATTERN} characters long")
    compile_expression(text)
    return text


def check_path(text: str) -> str:
    """Refuse what names no file."""
    if not text:
        raise ValueError("must name a file")
    if len(text.encode()) > LONGEST_PATH_BYTES:
        raise ValueError(f"must be at most {LONGEST_PATH_BYTES} bytes long")
    return text
