"""The places in a template, GNU parallel's, and what is written there for a value."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

from queuectl.errors import InvalidInput

PLACE = re.compile(r"\{(|\.|//|/\.|/|#)\}")
#: A value that needs no quotes where a word begins and is no command.
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
_SHELLS = frozenset({"sh", "ash", "bash", "dash", "fish", "ksh", "mksh", "su", "zsh"})
_CODE_OPTION = re.compile(r"-\w*c")


def has_place(text: str) -> bool:
    """Whether there is a place for a value in it."""
    return PLACE.search(text) is not None


def fill(text: str, value: str, number: int) -> str:
    """Return the text with the value in its places as it is, not quoted."""
    return PLACE.sub(lambda match: _derive(match[1], value, number), text)


def _derive(kind: str, value: str, number: int) -> str:
    """Return what stands for ``{kind}``, as GNU parallel has it."""
    if kind == "#":
        return str(number)
    if kind == "//":
        stripped = value.rstrip("/") or value[:1]
        return posixpath.dirname(stripped) or "."
    if kind.startswith("/"):
        value = value.rpartition("/")[2]
    return re.sub(r"\.[^/.]*\Z", "", value) if kind.endswith(".") else value


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value goes; ``inside`` is how it must be written there."""

    kind: str
    #: ``bare``, ``word`` (bare, and needs no quotes if it is plain), ``single``, ``double`` or
    #: ``reopened`` (in double quotes that must be closed before it).
    inside: str

    def render(self, value: str, number: int) -> str:
        """Return what is written here for the ``number``-th value."""
        text = _derive(self.kind, value, number)
        if self.inside == "word" and _PLAIN.fullmatch(text):
            return text
        if self.inside == "single":
            return _leave_single_quotes(text)
        if self.inside == "double":
            return re.sub(r'([$`"\\])', r"\\\1", text)
        quoted = _quote(text)
        return f'"{quoted}"' if self.inside == "reopened" else quoted


@dataclass(frozen=True, slots=True)
class Word:
    """A word that the shell shall take as it is, with places in it."""

    text: str
    may_be_plain: bool

    def render(self, value: str, number: int) -> str:
        """Return what is written here for the ``number``-th value."""
        text = fill(self.text, value, number)
        return text if self.may_be_plain and _PLAIN.fullmatch(text) else _quote(text)


Piece = str | Place | Word


def _quote(text: str) -> str:
    # Always with quotes: shlex.quote leaves A=b, if, and the 2 of {}>file as they are.
    return f"'{_leave_single_quotes(text)}'"


def _leave_single_quotes(text: str) -> str:
    return text.replace("'", "'\"'\"'")


def mark(match: re.Match[str]) -> str:
    """Stand for a place in the text of a word: a NUL for one that a second shell would read."""
    return "1" if match[1] == "#" else "\0"


def refuse_code(before: Iterable[str], word: str) -> None:
    """Refuse a word that a second shell would read as code, with a value in the middle of it."""
    if "\0" not in word or word.strip("'\"") == "\0":
        return
    names = [posixpath.basename(earlier) for earlier in before]
    is_code = names[:1] == ["eval"] or (
        names and _CODE_OPTION.fullmatch(names[-1]) and not _SHELLS.isdisjoint(names)
    )
    if is_code:
        raise InvalidInput(
            f"{names[0]} would read the value as a part of its code",
            hint="hand it over as an argument: sh -c '... \"$1\" ...' sh {}",
        )
