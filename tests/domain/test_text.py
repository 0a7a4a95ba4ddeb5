"""Text that came from a job never acts on a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.text import escape_block, escape_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, äöü 漢字 🎬", "plain text, äöü 漢字 🎬"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("\u2028\u200b\ufeff", "\\u2028\\u200b\\ufeff"),
        ("\udcff", "\\udcff"),
        ("\x7f", "\\x7f"),
    ],
)
def test_a_control_character_on_a_line_is_shown_not_sent(text: str, shown: str) -> None:
    assert escape_line(text) == shown


def test_a_block_keeps_its_lines_and_tabs() -> None:
    assert escape_block("a\tb\r\nc\rd\x1b\n") == "a\tb\nc\\rd\\x1b\n"


@given(st.text(st.characters()))
def test_no_control_character_gets_through(text: str) -> None:
    assert all(unicodedata.category(sign) not in ("Cc", "Cs") for sign in escape_line(text))
    assert "\x1b" not in escape_block(text)
    escape_block(text).encode()
