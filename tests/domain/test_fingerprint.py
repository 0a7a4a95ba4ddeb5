"""Kinds of failures: what differs by accident is one, what differs in substance is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.fingerprint import KIND_DIGITS, kind_of, normalize, program_of, shorten


@pytest.mark.parametrize(
    ("error", "normal"),
    [
        ("exit code 1: cat: sales.csv: No such file", "exit code 1: cat: PATH: No such file"),
        ("exit code 1: cat: /a/b c: gone", "exit code 1: cat: PATH c: gone"),
        ("exit code 137: x", "exit code 137: x"),
        ("killed by SIGKILL", "killed by SIGKILL"),
        ("timed out after 5s", "timed out after Ns"),
        ("2026-11-25T09:10:11.123Z worker 12 failed", "TIME worker N failed"),
        ("at 09:10:11,5: 3 of 4", "at TIME: N of N"),
        ("segfault at 0x7fffAB in deadbeef01", "segfault at HEX in HEX"),
        ("job 123e4567-e89b-12d3-a456-426614174000 lost", "job HEX lost"),
        ("HTTPError: 503 https://x.org/a/b?c=1", "HTTPError: N PATH?c=N"),
        ("10.0.0.1:5432: connection refused", "N:N: connection refused"),
        ("json.decoder.JSONDecodeError: line 1", "json.decoder.JSONDecodeError: line N"),
        ("\x1b[31mred\x1b[0m  two", "red two"),
        ("", ""),
    ],
)
def test_accidents_are_made_equal(error: str, normal: str) -> None:
    assert normalize(error) == normal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("exit code 1: a", "exit code 2: a"),
        ("disk full", "no memory"),
        ("killed by signal 35", "killed by signal 40"),
    ],
)
def test_what_differs_in_substance_stays_different(one: str, other: str) -> None:
    assert normalize(one) != normalize(other)


@given(st.text(), st.integers(min_value=0), st.integers(min_value=0))
def test_numbers_never_make_a_kind(text: str, one: int, other: int) -> None:
    assert normalize(f"{text} at {one} of") == normalize(f"{text} at {other} of")


@given(st.text(max_size=3000))
def test_any_error_has_a_kind(error: str) -> None:
    assert len(kind_of("x", error)) == KIND_DIGITS


@pytest.mark.parametrize("error", ["/" * 100_000, "a" * 100_000, "1:" * 50_000, "a.b-" * 25_000])
def test_a_long_error_is_looked_at_in_part(error: str) -> None:
    """A pattern that backtracked would not come to an end here."""
    assert len(normalize(error)) <= 4000


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("convert a b", "convert"),
        ("/usr/bin/convert a b", "convert"),
        ("A=1 B='x y' ./run.sh a", "run.sh"),
        ("python3 /x/train.py --fast", "python3 train.py"),
        ("python3 -m train", "python3"),
        ("sh -c 'x'", "sh"),
        ("'/opt/my tools/run' x", "run"),
        ("cd x && make", "cd"),
        ("", ""),
        ("A=1", ""),
        ("'", ""),
    ],
)
def test_a_program_is_what_a_command_calls(command: str, program: str) -> None:
    assert program_of(command) == program


def test_a_kind_is_of_the_program_and_the_error() -> None:
    assert kind_of("a 1", "line 3") == kind_of("/bin/a 2", "line 4")
    assert kind_of("a", "x") != kind_of("b", "x")
    assert kind_of("a", "x") != kind_of("a", "y")
    assert kind_of("a", None) == kind_of("a", "")


def test_a_kind_is_the_same_in_every_version() -> None:
    assert kind_of("convert a b", "exit code 1: cat: a.csv: No such file") == "fa9efa1baa0b"


@given(st.lists(st.text("ab", min_size=6, max_size=6), unique=True))
def test_a_short_id_begins_one_kind_alone(kinds: list[str]) -> None:
    shown = shorten(kinds)

    assert set(shown) == set(kinds)
    for kind, short in shown.items():
        assert [other for other in kinds if other.startswith(short)] == [kind]
        assert len(short) >= 4
