"""A shell line with places for a value, read as ``sh`` reads it: what stands around each place.

Read is only as much as must be known to quote a value: quotes, ``$(...)``, where a word and a
command begin, and whatever no value can stand in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from queuectl.domain.places import PLACE, Piece, Place, has_place, mark, refuse_code
from queuectl.errors import InvalidInput

#: What may follow such a value in its word.
_PLAIN_REST = re.compile(r"[A-Za-z0-9_./-]*(?=[ \t\n]|\Z)")
#: What takes a value that follows for a part of itself, in double quotes.
_GREEDY = re.compile(r"(\\|\$\w*)\Z")
#: Behind these the shell reads a command, and with it ``if`` and ``A=b`` as no plain words.
RESERVED = frozenset({"!", "{", "if", "then", "elif", "else", "while", "until", "do", "time"})
_EXPANSION = re.compile(r"\$\{[^{}'\"\\`$()]*\}")
_BACKQUOTES = re.compile(r"`(?:[^`\\]|\\.)*`", re.DOTALL)
_ANSI_C = re.compile(r"\$'(?:[^'\\]|\\.)*'", re.DOTALL)
_SCRIPT_HINT = "put it into a script, and enqueue: ./script {}"


@dataclass(slots=True)
class _Frame:
    """An open context: the line, a ``(``, a ``$(`` or double quotes; and the command in it."""

    opened_by: str
    words: list[str] = field(default_factory=list)
    word: str = ""
    in_word: bool = False


class ShellLine:
    """Reads a line as the shell does, as far as it must be known what quotes stand around what."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._at = 0
        self._pieces: list[Piece] = []
        self._stack = [_Frame("")]
        #: The words before the last place that was read, in its command.
        self.command_words: list[str] = []

    def read(self) -> list[Piece]:
        """Return the line in pieces; raises InvalidInput where a value would not be safe."""
        while self._at < len(self._line):
            if self._stack[-1].opened_by == '"':
                self._read_quoted()
            else:
                self._read_bare()
        self._end_word()
        if len(self._stack) > 1:
            raise InvalidInput(
                f"the template does not close its {self._stack[-1].opened_by}",
                hint="the shell would not read it either",
            )
        return self._pieces

    @property
    def _frame(self) -> _Frame:
        """The command that is being read."""
        return next(frame for frame in reversed(self._stack) if frame.opened_by != '"')

    def _take(self, length: int) -> None:
        """Go on; what was passed is part of a word."""
        text = self._line[self._at : self._at + length]
        self._frame.word += text
        self._frame.in_word = True
        self._pieces.append(text)
        self._at += length

    def _pass(self, length: int = 1) -> None:
        """Go on; what was passed is part of no word."""
        self._end_word()
        self._pieces.append(self._line[self._at : self._at + length])
        self._at += length

    def _end_word(self) -> None:
        frame = self._frame
        if frame.in_word:
            refuse_code(frame.words, frame.word)
            if frame.word == "case" and any(outer.opened_by == "$(" for outer in self._stack):
                # The ) of its patterns would be taken for the end of $(.
                raise InvalidInput("a template has no case in $(...)", hint=_SCRIPT_HINT)
            frame.words.append(frame.word)
            frame.word, frame.in_word = "", False

    def _end_command(self) -> None:
        self._end_word()
        self._frame.words.clear()

    def _put_place(self, match: re.Match[str], inside: str) -> None:
        current = self._frame
        self.command_words = list(current.words)
        current.in_word = True
        for frame in self._stack:  # what $(...) gives is a part of the word around it
            if frame.in_word:
                frame.word += mark(match)
        self._pieces.append(Place(match[1], inside))
        self._at = match.end()

    def _read_quoted(self) -> None:
        char = self._line[self._at]
        match = PLACE.match(self._line, self._at)
        if match is not None:
            greedy = _GREEDY.search(self._line, max(0, self._at - 200), self._at)
            self._put_place(match, "reopened" if greedy else "double")
        elif char == '"':
            self._stack.pop()
            self._take(1)
        elif char == "\\":
            self._read_quoted_backslash()
        else:
            self._read_either(char)

    def _read_quoted_backslash(self) -> None:
        if self._line[self._at + 1 : self._at + 2] in ("$", "`", '"', "\\", "\n"):
            self._take(2)
            return
        self._take(1)
        if PLACE.match(self._line, self._at):
            self._pieces.append("\\")  # it must not quote the mark that closes before the value

    def _read_bare(self) -> None:
        line, at = self._line, self._at
        char = line[at]
        match = PLACE.match(line, at)
        if match is not None:
            self._put_place(match, "word" if self._may_be_plain(match) else "bare")
        elif char in " \t":
            self._pass()
        elif char in "\n;&|":
            self._end_command()
            self._pass()
        elif char in "()":
            self._read_parenthesis(char)
        elif char in "<>":
            self._read_redirection()
        elif char == "\\":
            self._take(2)
        elif char == "'":
            self._read_single_quotes()
        elif char == '"':
            self._take(1)
            self._stack.append(_Frame('"'))
        elif char == "#" and not self._frame.in_word:
            end = line.find("\n", at)
            self._keep(end - at if end >= 0 else len(line) - at, "a comment")
        else:
            self._read_either(char)

    def _may_be_plain(self, match: re.Match[str]) -> bool:
        frame = self._frame
        return (
            not frame.in_word
            and bool(frame.words)
            and frame.words[-1] not in RESERVED
            and _PLAIN_REST.match(self._line, match.end()) is not None
        )

    def _read_either(self, char: str) -> None:
        """Read what means the same with double quotes around it and without."""
        if char == "$":
            self._read_dollar()
        elif char == "`":
            self._keep_matching(_BACKQUOTES, "backquotes", "write $(...) instead")
        else:
            self._take(1)

    def _read_dollar(self) -> None:
        line, at = self._line, self._at
        if line.startswith("$((", at):
            self._read_arithmetic()
        elif line.startswith("$(", at):
            self._take(2)
            self._stack.append(_Frame("$("))
        elif line.startswith("${", at):
            self._keep_matching(_EXPANSION, "${...}", _SCRIPT_HINT)
        elif line.startswith("$'", at) and self._stack[-1].opened_by != '"':
            found = _ANSI_C.match(line, at)
            if found is not None and "\\'" in found[0]:
                raise InvalidInput("$'...' with \\' in it is not the same in every sh")
            self._keep_matching(_ANSI_C, "$'...'", _SCRIPT_HINT)
        else:
            self._take(1)

    def _read_arithmetic(self) -> None:
        depth, end = 0, self._at + 1
        while end < len(self._line):
            depth += {"(": 1, ")": -1}.get(self._line[end], 0)
            end += 1
            if depth == 0:
                break
        inner = self._line[self._at : end]
        if depth or re.search(r"['\"\\`]|\s#", inner):
            raise InvalidInput(f"{inner[:40]!r} is too intricate for a template", hint=_SCRIPT_HINT)
        self._keep(end - self._at, "$((...))")

    def _read_parenthesis(self, char: str) -> None:
        if char == "(":
            if self._line.startswith("((", self._at):
                raise InvalidInput("(( is not the same in every sh", hint="write ( (")
            self._end_command()
            self._pass()
            self._stack.append(_Frame("("))
            return
        self._end_command()
        closed = self._stack[-1].opened_by
        if closed:
            self._stack.pop()
        if closed == "$(":
            self._take(1)
        else:
            self._pass()

    def _read_redirection(self) -> None:
        if self._line.startswith("<<<", self._at):
            self._pass(3)
        elif self._line.startswith("<<", self._at):
            raise InvalidInput("a template has no here-document", hint=_SCRIPT_HINT)
        else:
            self._pass()

    def _read_single_quotes(self) -> None:
        end = self._line.find("'", self._at + 1)
        if end < 0:
            raise InvalidInput(
                "the template does not close its '", hint="the shell would not read it either"
            )
        self._take(1)
        while match := PLACE.search(self._line, self._at, end):
            self._take(match.start() - self._at)
            self._put_place(match, "single")
        self._take(end + 1 - self._at)

    def _keep_matching(self, pattern: re.Pattern[str], name: str, hint: str) -> None:
        match = pattern.match(self._line, self._at)
        if match is None:
            raise InvalidInput(
                f"{self._line[self._at : self._at + 40]!r} is too intricate for a template",
                hint=hint,
            )
        self._keep(match.end() - self._at, name, hint)

    def _keep(self, length: int, name: str, hint: str = "take {} out of it") -> None:
        """Take what a value cannot stand in."""
        text = self._line[self._at : self._at + length]
        # ${#} is the shell's own, the number of its arguments.
        if has_place(text) and not _EXPANSION.fullmatch(text):
            raise InvalidInput(f"no value can stand in {name}: {text[:40]!r}", hint=hint)
        self._take(length)
