"""Dates as people say them: ``tomorrow 9:00``, ``friday at 14:30``, ``in 3h``."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from queuectl.cli import render
from queuectl.domain import durations, request
from queuectl.errors import InvalidInput


def parse_when(text: str, option: str) -> str:
    """Return the instant as RFC 3339, with its zone; raises InvalidInput.

    Words are read as English, in this machine's zone, and mean the next such time.
    """
    try:
        request.parse_instant(text)
        return text
    except ValueError:
        found = _read_words(text)
    if found is None:
        raise InvalidInput(
            f"{option}: {text[:40]!r} names no time",
            hint="write 18:00, tomorrow 9:00, friday at 14:30, or 2026-11-24T18:00:00Z",
        )
    if found <= datetime.now(UTC):
        raise InvalidInput(
            f"{option}: {text[:40]!r} is over: it was {tell(found)}", hint="name a time to come"
        )
    return found.isoformat()


def parse_deadline(text: str, option: str = "--deadline") -> str:
    """Return a duration as it is, an instant as RFC 3339; raises InvalidInput for one in the past.

    Words are read as ``parse_when`` reads them.
    """
    with suppress(ValueError):
        durations.parse_duration(text)
        return text
    found = parse_when(text, option)
    instant = request.parse_instant(found)
    if instant is not None and instant <= datetime.now(UTC):
        raise InvalidInput(
            f"{option}: {text[:40]!r} is over: {tell(instant)}", hint="name a time to come, or 3h"
        )
    return found


def _read_words(text: str) -> datetime | None:
    import dateparser  # here: it takes 0.2 s

    return dateparser.parse(
        text,
        languages=["en"],
        settings={"PREFER_DATES_FROM": "future", "RETURN_AS_TIMEZONE_AWARE": True},
    )


def tell(instant: datetime) -> str:
    """Return an instant for people, in this machine's zone, and how far away it is."""
    local = instant.astimezone()
    return f"{local:%a %Y-%m-%d %H:%M:%S %Z} ({render.relative(instant)})"
