"""Text that came from a job, made harmless for a terminal."""

from __future__ import annotations

import re

# C0 and C1 controls, DEL, line and paragraph separators, bidirectional overrides and isolates,
# zero-width characters, and lone surrogates: whatever can act on a terminal or fool its reader.
_UNSAFE = "\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
_LINE = re.compile(f"[{_UNSAFE}]")
_BLOCK = re.compile(f"[{_UNSAFE}]".replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def escape_line(text: str) -> str:
    """Return the text on one line, each control character as a visible escape like ``\\x1b``."""
    return _LINE.sub(_visible, text)


def escape_block(text: str) -> str:
    """The same for several lines: newlines and tabs stay, and ``\\r\\n`` becomes a newline."""
    return _BLOCK.sub(_visible, text.replace("\r\n", "\n"))


def _visible(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")
