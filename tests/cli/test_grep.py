"""``queuectl grep``, through the program."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests import servers
from tests.cli.conftest import Program

JOBS = r"""
{"id": "a", "command": "printf 'one\nTwo\nthree\n'", "tags": ["x"], "name": "nightly"}
{"id": "b", "command": "printf 'two\nred \\033[31m\n'; exit 1", "queue": "q", "tags": ["x"]}
{"id": "c", "command": "printf 'nothing\n'"}
"""


@pytest.fixture
def printed(queuectl: Program) -> Program:
    """The program, on a store with three jobs that have run."""
    queuectl("config", "set", "max-retries", "0")
    queuectl("enqueue", "--file", "-", given=JOBS)
    queuectl.drain()
    return queuectl


def test_lines_are_found_the_newest_job_first(printed: Program) -> None:
    done = printed("grep", "-i", "t[wh]")

    assert done.lines == ["c:1:1:nothing", "b:1:1:two", "a:1:2:Two", "a:1:3:three"]
    assert done.err == ""


def test_context_and_gaps_are_as_in_grep(printed: Program) -> None:
    assert printed("grep", "-C", "1", "two|thr").lines == [
        "b:1:1:two",
        "b-1-2-red \\x1b[31m",
        "--",
        "a-1-2-Two",
        "a:1:3:three",
    ]


def test_ids_alone_and_the_choice_of_jobs(printed: Program) -> None:
    assert printed("grep", "-l", "t").lines == ["c", "b", "a"]
    assert printed("grep", "-q", "t", "-Q", "q").lines == ["b"]
    assert printed("grep", "-q", "t", "-Q", "q", "--queue", "default").lines == ["c", "b", "a"]
    assert printed("grep", "-l", "t", "--tag", "x").lines == ["b", "a"]
    assert printed("grep", "-l", "t", "--tag", "x", "--name", "nightly").lines == ["a"]
    assert printed("grep", "-l", "t", "--tag", "nobody", code=1).err.endswith("in 0 outputs\n")
    assert printed("grep", "-l", "t", "-s", "completed").lines == ["c", "a"]
    assert printed("grep", "-l", "t", "--since", "1h").lines == ["c", "b", "a"]
    assert printed("grep", "-l", "t", "--since", "0s", code=1).lines == []


def test_a_fixed_text_is_no_expression(printed: Program) -> None:
    assert printed("grep", "-F", "[31m").lines == ["b:1:2:red \\x1b[31m"]
    printed("grep", "-F", "t.o", code=1)


def test_json(printed: Program) -> None:
    found = printed("grep", "Two", "--json", "-C", "1").json

    assert [(line["line"], line["match"], line["text"]) for line in found] == [
        (1, False, "one"),
        (2, True, "Two"),
        (3, False, "three"),
    ]
    assert {(line["id"], line["attempt"], line["queue"], line["state"]) for line in found} == {
        ("a", 1, "default", "completed")
    }


def test_nothing_found_is_exit_code_1(printed: Program) -> None:
    done = printed("grep", "nowhere", code=1)

    assert (done.out, done.err) == ("", "note: nothing found in 3 outputs\n")
    assert printed("grep", "nowhere", "--json", code=1).json == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["("], "'(' is no regular expression"),
        ([""], "the pattern is empty"),
        (["x", "--since", "soon"], "--since: 'soon' is neither a duration nor a date"),
        (["x", "--state", "bad"], "there is no state 'bad'"),
        (["x", "-C", "9999"], "-C"),
    ],
)
def test_what_cannot_be_meant_is_refused(queuectl: Program, words: list[str], named: str) -> None:
    done = queuectl("grep", *words, code=2)

    assert done.out == ""
    assert named in done.err or "--context" in done.err
    assert "hint: " in done.err


def test_matches_are_coloured_on_a_terminal_and_nothing_of_a_job_acts(printed: Program) -> None:
    terminal = printed.on_terminal("grep", "red")
    shown = terminal.read()

    assert "\x1b[1;31mred\x1b[0m \\x1b[31m" in shown
    plain = printed.on_terminal("grep", "red", NO_COLOR="1").read()
    assert plain.strip() == "b:1:2:red \\x1b[31m"


def test_a_long_output_without_a_line_end_is_searched(queuectl: Program) -> None:
    queuectl("enqueue", "head -c 9000000 /dev/zero | tr '\\0' x; printf needle")
    queuectl.drain()

    [line] = queuectl("grep", "needle").lines

    assert re.fullmatch(r"[a-z0-9]+:1:1:…x+needle", line)
    assert len(line) < 1100


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of a store on a server."""
    with servers.new_database("queuectl_test_grep") as found:
        yield found


def test_of_what_ran_elsewhere_the_tail_is_searched(queuectl: Program, url: str) -> None:
    queuectl("--db", url, "db", "upgrade")
    queuectl("--db", url, "enqueue", "--id", "a", "seq 5000")
    queuectl("--db", url, "worker", "start", "--drain")
    away = queuectl.folder / "away"
    away.mkdir()

    here = queuectl("--db", url, "grep", "^(7|4999)$")
    there = queuectl("--db", url, "grep", "^(7|4999)$", variables={"HOME": str(away)})
    told = queuectl("--db", url, "grep", "4999", "--json", variables={"HOME": str(away)}).json

    assert here.lines == ["a:1:7:7", "a:1:4999:4999"]
    assert there.lines == ["a:1:?:4999"]
    assert "of 1 outputs only the last 4 KiB were searched" in there.err
    assert told[0]["line"] is None

    queuectl("--db", url, "config", "set", "output-store", "database")
    queuectl("--db", url, "enqueue", "--id", "b", "seq 5000")
    queuectl("--db", url, "worker", "start", "--drain")
    whole = queuectl("--db", url, "grep", "^7$", variables={"HOME": str(away)})
    assert whole.lines == ["b:1:7:7"]
