"""Search: the lines of an output that match, in flat memory however long a line is."""

from __future__ import annotations

import re
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from queuectl.errors import InvalidInput

#: A longer line is searched in pieces of so many bytes, ...
PIECE_BYTES = 1 << 18
#: ... each of which begins so many bytes before the end of the last: a match that is not longer is
#: found wherever the line is cut.
OVERLAP_BYTES = 1 << 12
#: So many characters of a line are shown, around its first match.
SHOWN_CHARACTERS = 1000
_BEFORE_MATCH = 200


class Line(NamedTuple):
    """A line that matches, or one around it."""

    #: Counted from 1.
    number: int
    text: str
    #: Whether it matches; else it stands around one that does.
    is_match: bool
    #: Where the matches in ``text`` begin and end; an empty match has no place.
    spans: tuple[tuple[int, int], ...]
    #: Whether it does not follow the line before, so that a gap is between them.
    after_gap: bool = False


class _Piece(NamedTuple):
    number: int
    content: bytes
    #: Whether it goes on a line of which a piece came before.
    continues: bool = False
    #: Whether the line ends with it.
    ends: bool = True


def compile_pattern(pattern: str, *, ignore_case: bool, fixed: bool) -> re.Pattern[str]:
    """Return the regular expression, or what stands for a fixed text; raises InvalidInput."""
    if not pattern:
        raise InvalidInput("the pattern is empty", hint="every line would match")
    try:
        text = re.escape(pattern) if fixed else pattern
        return compile_expression(text, re.IGNORECASE if ignore_case else re.NOFLAG)
    except ValueError as error:
        raise InvalidInput(
            f"{pattern[:60]!r} {error}", hint="-F searches for the text as it is"
        ) from error


def compile_expression(text: str, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    """Return the regular expression; raises ValueError with the reason and the position."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what some later Python may read otherwise
            return re.compile(text, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is no regular expression: {error}") from error


def find_lines(blocks: Iterable[bytes], pattern: re.Pattern[str], context: int) -> Iterator[Line]:
    """Yield the lines that match, with so many lines around each of them, in order."""
    before: deque[Line] = deque(maxlen=context)
    owed = shown = found_in = 0
    unmatched = None
    for piece in _pieces(blocks):
        if piece.number == found_in:
            continue  # of a long line its first match is enough
        text = piece.content.decode(errors="backslashreplace")
        matches = list(pattern.finditer(text))
        if matches:
            for line in (*before, _cut(piece.number, text, matches)):
                yield line._replace(after_gap=0 < shown < line.number - 1)
                shown = line.number
            before.clear()
            owed, found_in = context, piece.number
            continue
        if not piece.continues:
            unmatched = _cut(piece.number, text, [])
        if piece.ends and unmatched is not None:
            if owed:
                owed -= 1
                shown = piece.number
                yield unmatched
            else:
                before.append(unmatched)


def _pieces(blocks: Iterable[bytes]) -> Iterator[_Piece]:
    """Yield each line, a long one in several pieces."""
    number, rest, continues = 1, b"", False
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for content in whole:
            yield _Piece(number, content, continues)
            number, continues = number + 1, False
        if len(rest) >= PIECE_BYTES:
            yield _Piece(number, rest, continues, ends=False)
            rest, continues = rest[-OVERLAP_BYTES:], True
    if rest:
        yield _Piece(number, rest, continues)


def _cut(number: int, text: str, matches: list[re.Match[str]]) -> Line:
    """Return a line, of a long one the part that matters."""
    text = text.removesuffix("\r")
    spans = [match.span() for match in matches if match.end() > match.start()]
    if len(text) <= SHOWN_CHARACTERS:
        return Line(number, text, bool(matches), tuple(spans))
    first = matches[0].start() if matches else 0
    start = max(0, min(first - _BEFORE_MATCH, len(text) - SHOWN_CHARACTERS))
    end = start + SHOWN_CHARACTERS
    dots = "…" if start else ""
    shown = f"{dots}{text[start:end]}{'…' if end < len(text) else ''}"
    shift = len(dots) - start
    kept = ((max(a, start) + shift, min(b, end) + shift) for a, b in spans if a < end and b > start)
    return Line(number, shown, bool(matches), tuple(kept))
