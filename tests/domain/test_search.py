"""Search: lines that match, with those around them, in flat memory."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.search import (
    PIECE_BYTES,
    SHOWN_CHARACTERS,
    Line,
    compile_pattern,
    find_lines,
)
from queuectl.errors import InvalidInput


def find(output: bytes, pattern: str, context: int = 0, block: int = 1 << 16) -> list[Line]:
    blocks = (output[at : at + block] for at in range(0, len(output), block))
    return list(find_lines(blocks, re.compile(pattern), context))


def numbers(lines: list[Line]) -> list[tuple[int, bool, bool]]:
    return [(line.number, line.is_match, line.after_gap) for line in lines]


def test_lines_that_match_are_found_with_their_places() -> None:
    [first, second] = find(b"one\ntwo two\nnone", "two|none$")

    assert (first.number, first.text, first.spans) == (2, "two two", ((0, 3), (4, 7)))
    assert (second.number, second.text, second.spans) == (3, "none", ((0, 4),))


def test_lines_around_a_match_are_told_once_and_gaps_are_marked() -> None:
    output = b"".join(b"%d\n" % number for number in range(1, 21))

    assert numbers(find(output, "^(5|7|15)$", context=1)) == [
        (4, False, False),
        (5, True, False),
        (6, False, False),
        (7, True, False),
        (8, False, False),
        (14, False, True),
        (15, True, False),
        (16, False, False),
    ]


@given(
    st.lists(st.sampled_from([b"x", b"hit", b""]), max_size=12),
    st.integers(0, 3),
    st.integers(1, 9),
)
def test_context_is_that_of_grep(lines: list[bytes], context: int, block: int) -> None:
    output = b"".join(line + b"\n" for line in lines)
    hits = {number for number, line in enumerate(lines, 1) if line == b"hit"}
    near = {n for hit in hits for n in range(hit - context, hit + context + 1)}

    found = find(output, "hit", context, block)

    assert [line.number for line in found] == sorted(n for n in near if 1 <= n <= len(lines))
    assert {line.number for line in found if line.is_match} == hits


def test_an_empty_match_is_a_match_without_a_place() -> None:
    assert [(line.number, line.spans) for line in find(b"a\n\nb\n", "^$")] == [(2, ())]


def test_bytes_that_are_no_text_are_shown_as_escapes() -> None:
    [line] = find(b"a\xffb\r\n", "a")

    assert line.text == "a\\xffb"


@pytest.mark.parametrize("at", [0, PIECE_BYTES - 2, 3 * PIECE_BYTES + 1, 10 * PIECE_BYTES - 6])
def test_a_match_in_a_long_line_is_found_wherever_it_is_cut(at: int) -> None:
    output = bytearray(b"." * (10 * PIECE_BYTES))
    output[at : at + 6] = b"needle"

    [line, last] = find(bytes(output) + b"\nneedle", "needle")

    assert (line.number, last.number) == (1, 2)
    assert len(line.text) <= SHOWN_CHARACTERS + 2
    [(start, end)] = line.spans
    assert line.text[start:end] == "needle"


def test_a_long_line_is_one_line_around_a_match() -> None:
    long = b"." * (3 * PIECE_BYTES)

    found = find(b"hit\n" + long + b"\nhit\n" + long + b"end", "hit|end$", context=1)

    assert numbers(found) == [(n, n != 2, False) for n in (1, 2, 3, 4)]


def test_memory_is_flat_whatever_a_line_is_long() -> None:
    def blocks(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield b"." * (1 << 16)

    pattern = re.compile("needle")
    peaks = []
    for count in (64, 512):
        tracemalloc.start()
        assert list(find_lines(blocks(count), pattern, 3)) == []
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < peaks[0] * 1.2


def test_a_fixed_text_is_no_expression() -> None:
    assert compile_pattern("a.b", ignore_case=False, fixed=True).search("axb") is None
    assert compile_pattern("A", ignore_case=True, fixed=True).search("a") is not None


@pytest.mark.parametrize("pattern", ["", "(", "*", "a{99999999999}"])
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput):
        compile_pattern(pattern, ignore_case=False, fixed=False)
