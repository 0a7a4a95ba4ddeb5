"""The program that searches one output: a process of its own, for a pattern may take for ever.

It is told on its standard input which patterns, and where the output is; it says on its standard
output, a line at a time, what it looks for and what it found. It needs the standard library and
``domain/search.py`` only, so that it starts in some 30 milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from queuectl.domain.search import compile_expression, find_lines

_BLOCK_BYTES = 1 << 16
#: So much of a line that matches is told, in characters.
_TOLD_CHARACTERS = 200
_BEFORE_MATCH = 60


def main() -> None:
    """Search for what is asked for, and tell of each pattern whether a line matches."""
    asked = json.load(sys.stdin)
    for name, pattern in asked["patterns"]:
        _tell({"searches": name})
        _tell({"searched": name, "line": find(asked["stretches"], pattern)})


def _tell(fact: dict[str, Any]) -> None:
    print(json.dumps(fact), flush=True)  # noqa: T201  # it is read by the worker


def find(stretches: Sequence[Sequence[Sequence[Any]]], pattern: str) -> str | None:
    """Return the first line that matches, or the part of it that does; None: no line does."""
    expression = compile_expression(pattern)
    for parts in stretches:
        for line in find_lines(_read(parts), expression, 0):
            first = line.spans[0][0] if line.spans else 0
            start = max(0, first - _BEFORE_MATCH)
            return line.text[start : start + _TOLD_CHARACTERS]
    return None


def _read(parts: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    for path, start, stop in parts:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            file.seek(start)
            left = sys.maxsize if stop is None else stop - start
            while left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
                left -= len(block)
                yield block
