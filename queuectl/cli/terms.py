"""What counts as a failure of a job, and what is retried when, in words."""

from __future__ import annotations

from collections.abc import Sequence

from queuectl.domain import durations
from queuectl.domain.terms import Backoff, Terms
from queuectl.domain.text import escape_line


def facts(terms: Terms, base: float | None) -> list[tuple[str, str]]:
    """Return titles and texts; a text is empty where the job brings nothing of its own.

    ``base`` is that of its backoff, None: the stored option.
    """
    return [
        ("backoff", _backoff(terms, base)),
        ("retried on", _codes(terms.retry_on)),
        ("not retried", _codes(terms.no_retry_on)),
        ("expects", _expectation(terms)),
        ("fails if", "" if terms.fail_if is None else f"a line matches {_quote(terms.fail_if)}"),
        ("stalled", _stall(terms)),
    ]


def describe_jitter(terms: Terms) -> str:
    """Return by how much a pause differs: ``20%``; empty: by nothing."""
    return f"{terms.jitter * 100:g}%" if terms.jitter else ""


def _backoff(terms: Terms, base: float | None) -> str:
    if terms.backoff is Backoff.EXPONENTIAL and not terms.jitter:
        return ""
    of = "" if base is None else f", base {base:g}"
    jitter = describe_jitter(terms)
    return f"{terms.backoff}{of}" + (f", give or take {jitter}" if jitter else "")


def _codes(codes: Sequence[int]) -> str:
    if not codes:
        return ""
    return f"exit code{'s' * (len(codes) > 1)} {', '.join(map(str, codes))}"


def _expectation(terms: Terms) -> str:
    line = "" if terms.expect is None else f"a line that matches {_quote(terms.expect)}"
    file = "" if terms.expect_file is None else f"the file {escape_line(terms.expect_file)}"
    return ", and ".join(filter(None, (line, file)))


def _stall(terms: Terms) -> str:
    if terms.stall_seconds is None:
        return ""
    return f"when silent for {durations.format_duration(terms.stall_seconds)}"


def _quote(pattern: str) -> str:
    return f"/{escape_line(pattern)}/"
