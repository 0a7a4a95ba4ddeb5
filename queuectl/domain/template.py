"""A command with places for a value, ``convert {} {.}.png``, and the value put there safely.

The places are GNU parallel's. Whatever a value holds, the shell that runs the command makes
exactly that value of it: the template is read as ``sh`` reads it, and a value is quoted as its
place needs it, bare, in single or in double quotes. Where no quoting is safe (a comment,
backquotes, arithmetic, a here-document), or where a second shell would read the value again,
the template is refused.
"""

from __future__ import annotations

import shlex

from queuectl.domain.places import PLACE, Piece, Word, has_place, mark, refuse_code
from queuectl.domain.shell_line import RESERVED, ShellLine
from queuectl.errors import InvalidInput

_SLOT = "{%}"


class Template:
    """A command that is made anew for each value."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces

    @classmethod
    def of_line(cls, line: str) -> Template:
        """Read a shell line; without a place the value becomes its last word.

        Raises InvalidInput where the value could not be kept from acting on the shell.
        """
        _refuse_slot(line)
        if has_place(line):
            return cls(ShellLine(line).read())
        reader = ShellLine(line.rstrip("\n") + " {}")
        pieces = reader.read()
        if not reader.command_words:
            raise InvalidInput(
                f"behind {line[-40:]!r} a value would be a command",
                hint="say where it belongs: write {} there",
            )
        return cls(pieces)

    @classmethod
    def of_words(cls, words: list[str]) -> Template:
        """Take a command and its arguments as they are; without a place the value comes last."""
        if not any(map(has_place, words)):
            words = [*words, "{}"]
        pieces: list[Piece] = []
        for number, word in enumerate(words):
            _refuse_slot(word)
            refuse_code(words[:number], PLACE.sub(mark, word))
            if number:
                pieces.append(" ")
            if has_place(word):
                pieces.append(Word(word, bool(number) and words[number - 1] not in RESERVED))
            else:
                pieces.append(shlex.quote(word))
        return cls(pieces)

    def render(self, value: str, number: int) -> str:
        """Return the command for the value that is the ``number``-th, counted from 1."""
        return "".join(
            piece if isinstance(piece, str) else piece.render(value, number)
            for piece in self._pieces
        )


def _refuse_slot(text: str) -> None:
    if _SLOT in text:
        raise InvalidInput(
            "{%} is a slot's number, which no job has before it runs",
            hint="{#} is the number of the line",
        )
