"""Durations as people write them (``90``, ``90s``, ``1h30m``) and as they read them back."""

from __future__ import annotations

import math
import re

#: The longest duration that is accepted: ten years, so that now plus it is always a date.
LONGEST_SECONDS = 3650 * 86_400.0

_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[dhms]))+")


def parse_duration(value: object) -> float:
    """Return seconds for a number of seconds or for a text like ``90s``, ``5m`` or ``1h30m``.

    Raises ValueError with the reason for anything else, negative and endless ones included.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be seconds or a text like 90s, 5m or 1h30m")
    seconds = _parse_text(value.strip()) if isinstance(value, str) else _finite(value)
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise ValueError("must lie between 0 and 3650d")
    return seconds


def _finite(value: float) -> float:
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise ValueError("must be a finite number of seconds")
    return seconds


def _parse_text(text: str) -> float:
    if _WHOLE.fullmatch(text):
        return math.fsum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return _finite(float(text))
    raise ValueError("is not a duration: write seconds, or 90s, 5m, 1h30m, 2d")


def format_duration(seconds: float) -> str:
    """Return the two largest units that matter: ``0.4s``, ``3s``, ``1m30s``, ``2h5m``, ``3d4h``."""
    if seconds < 10 and seconds != round(seconds):
        return f"{seconds:.1f}s"
    rest = round(seconds)
    parts: list[str] = []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, int(_UNITS[unit]))
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            break
    return "".join(parts) or "0s"
