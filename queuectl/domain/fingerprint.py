"""What is the same in errors and commands that differ only by accident: kinds of failures.

Standard library only: completion asks for kinds, too, at each press of the tab key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import islice

#: The shortest id of a kind that is shown.
SHORTEST_KIND = 4
#: The digits that a kind has in all.
KIND_DIGITS = 12
#: So much of an error and of a command is looked at.
_LONGEST = 2000

_TIME = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?"
#: In this order: what a later one would take apart comes first.
_ACCIDENTS = (
    (re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"), ""),
    (re.compile(rf"\d{{4}}-\d\d-\d\d(?:[Tt ]{_TIME}(?:\s?(?:[Zz]|[+-]\d\d:?\d\d))?)?"), "TIME"),
    (re.compile(rf"(?<![\w:]){_TIME}(?!\w)"), "TIME"),
    (re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"), "HEX"),
    (re.compile(r"0[xX][0-9A-Fa-f]+"), "HEX"),
    (re.compile(r"(?<!\w)(?=[0-9A-Fa-f]*\d)(?=[0-9A-Fa-f]*[A-Fa-f])[0-9A-Fa-f]{7,}(?!\w)"), "HEX"),
    # A path or a URL. It is looked for where a word begins, so that a long word costs little.
    (re.compile(r"(?<![\w.@%+=~-])(?:\w+:/)?[\w.@%+=~-]*(?:/[\w.@%+=~,-]*)+"), "PATH"),
    # A file's name by its ending, like sales.csv; a number is none, nor is json.decoder.
    (re.compile(r"(?<![\w.])[\w-][\w.-]*\.(?=\w{0,3}[A-Za-z])\w{1,4}(?![\w.])"), "PATH"),
    (re.compile(r"\d+(?:\.\d+)*"), "N"),
)
#: What is no accident: by which code a command ended.
_KEPT = re.compile(r"exit code \d+|killed by signal \d+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_WORD = re.compile(r"""(?:[^\s'"\\;&|()<>]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+""", re.DOTALL)
_INTERPRETER = re.compile(r"(?:python|perl|ruby|node|php|sh|ash|bash|dash|zsh|ksh)[\d.]*")


def normalize(error: str) -> str:
    """Return the error with times, numbers, paths and hexadecimal numbers made equal.

    The exit code that it begins with stays: 1 and 137 are different ends.
    """
    error = error[:_LONGEST]
    kept = _KEPT.match(error)
    begins = kept[0] if kept else ""
    rest = error[len(begins) :]
    for pattern, word in _ACCIDENTS:
        rest = pattern.sub(word, rest)
    return " ".join((begins + rest).split())


def program_of(command: str) -> str:
    """Return what a command line calls: its first word without its folder, ``python train.py``.

    Of an interpreter the script belongs to it; assignments before it do not.
    """
    words = list(islice(_words(command[:_LONGEST]), 2))
    if not words:
        return ""
    name = _base(words[0])
    if _INTERPRETER.fullmatch(name) and len(words) > 1 and not words[1].startswith("-"):
        return f"{name} {_base(words[1])}"
    return name


def _words(command: str) -> Iterator[str]:
    """Yield the words without their quotes, and without assignments."""
    for match in _WORD.finditer(command):
        word = re.sub(r"['\"]|\\(?=.)", "", match[0])
        if not _ASSIGNMENT.match(word):
            yield word


def _base(word: str) -> str:
    return word.rstrip("/").rpartition("/")[2] or word


def kind_of(command: str, error: str | None) -> str:
    """Return the whole id of the kind of a failure: the same for the same program and error."""
    said = f"{program_of(command)}\0{normalize(error or '')}"
    return hashlib.sha256(said.encode(errors="backslashreplace")).hexdigest()[:KIND_DIGITS]


def shorten(kinds: list[str]) -> dict[str, str]:
    """Return for each whole id the shortest beginning of it that no other of them has."""
    shown = {}
    ordered = sorted(set(kinds))
    for position, kind in enumerate(ordered):
        neighbours = ordered[max(0, position - 1) : position] + ordered[position + 1 : position + 2]
        length = SHORTEST_KIND
        while any(kind[:length] == other[:length] for other in neighbours):
            length += 1
        shown[kind] = kind[:length]
    return shown
