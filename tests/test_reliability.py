"""The table of faults in docs/reliability.md is true: each row has the tests that it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent

#: How many rows each kind has; those of PostgreSQL (P) are not in this table.
KINDS = {"C": 8, "T": 5, "S": 7, "R": 7, "N": 5, "X": 2}
ROWS = [f"{kind}{number + 1}" for kind, most in KINDS.items() for number in range(most)]

_NUMBER = re.compile(rf"\b[{''.join(KINDS)}]\d\b")
_LINE = re.compile(
    rf"^\| ({_NUMBER.pattern}(?:, {_NUMBER.pattern})*) \|(.*)\|([^|]*)\|$", re.MULTILINE
)
#: How a test's docstring begins, and how that of a file ends.
_OF_TEST = re.compile(r"(?:[A-Z]\d, )*[A-Z]\d: ")
_OF_FILE = re.compile(r" \((?:[A-Z]\d, )*[A-Z]\d\)\.$")


@cache
def listed() -> dict[str, set[str]]:
    """The test files that the table names, by row."""
    text = (CHECKOUT / "docs" / "reliability.md").read_text()
    found: dict[str, set[str]] = {}
    for rows, _, tests in _LINE.findall(text):
        for row in _NUMBER.findall(rows):
            assert row not in found
            found[row] = set(re.findall(r"`(\w+/\w+\.py)`", tests))
    return found


def named(path: Path, *, by_file: bool) -> Iterator[str]:
    """The rows that the docstrings of a file's tests name, and those that its own does if asked."""
    tree = ast.parse(path.read_text())
    if by_file and (rows := _OF_FILE.search((ast.get_docstring(tree) or "").split("\n")[0])):
        yield from _NUMBER.findall(rows[0])
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for test in (node for node in tests if node.name.startswith("test_")):
        if rows := _OF_TEST.match(ast.get_docstring(test) or ""):
            yield from _NUMBER.findall(rows[0])


@cache
def tried(*, by_file: bool) -> dict[str, set[str]]:
    """The test files that name a row, by row; the table calls a whole campaign by that name."""
    found: dict[str, set[str]] = {row: set() for row in ROWS}
    for path in sorted((CHECKOUT / "tests").glob("*/test_*.py")):
        if path.parent.name != "campaign":
            for row in named(path, by_file=by_file):
                found[row].add(path.relative_to(CHECKOUT / "tests").as_posix())
    return found


def test_every_row_is_listed_once() -> None:
    assert sorted(listed()) == sorted(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_the_tests_of_a_row_are_those_that_name_it(row: str) -> None:
    assert listed()[row] == tried(by_file=True)[row]
    assert tried(by_file=False)[row], "no test has a docstring that begins with it"
