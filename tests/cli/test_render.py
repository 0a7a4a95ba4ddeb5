"""Tables on a terminal, columns in a pipe, and no control sequence of a job's anywhere."""

from __future__ import annotations

import re

import pexpect

from tests.cli.conftest import Program

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def _shown(queuectl: Program, *words: str, columns: int = 100, **variables: str) -> str:
    terminal = queuectl.on_terminal(*words, columns=columns, **variables)
    terminal.expect(pexpect.EOF)
    terminal.wait()
    return str(terminal.before)


def test_a_table_fits_the_terminal_and_cuts_the_command(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "--", "echo", "x" * 300)

    lines = ESCAPE.sub("", _shown(queuectl, "list", columns=90)).splitlines()

    assert len(lines) == 2
    assert lines[0].split() == ["ID", "STATE", "QUEUE", "TRIES", "CREATED", "DUE", "COMMAND"]
    assert all(len(line) <= 90 for line in lines)
    assert lines[1].rstrip().endswith("x…")
    assert " ago" in lines[1]


def test_colours_are_for_terminals_that_want_them(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "true")
    queuectl.drain()

    assert "\x1b[32mcompleted\x1b[0m" in _shown(queuectl, "list")
    assert "\x1b[32mcompleted\x1b[0m" in _shown(queuectl, "show", "j")
    assert "\x1b[1;31merror:\x1b[0m" in _shown(queuectl, "show", "nope")
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        for words in (["list"], ["show", "j"], ["show", "nope"], []):
            shown = _shown(queuectl, *words, columns=100, **variables)
            assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown), (words, variables)
    assert "\x1b" not in queuectl("list").out


def test_no_control_sequence_of_a_job_acts_on_the_terminal(queuectl: Program) -> None:
    evil = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e\x7f"
    command = f"printf '%s' '{evil}'; printf '\\033[2J\\302\\2332J' >&2; exit 1"
    queuectl("enqueue", "--id", "j", "--max-retries", "0", command)
    queuectl.drain()

    for words in (
        ["list"],
        ["show", "j"],
        ["dlq", "list"],
        ["logs", "j"],
        ["status"],
        ["list", "--json"],
        ["show", "j", "--json"],
        ["logs", "j", "--json"],
        ["logs", "-f", "j"],
    ):
        shown = ESCAPE.sub("", _shown(queuectl, *words))
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", shown), words


def test_json_is_indented_for_a_reader_and_one_line_for_a_program(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "true")

    assert queuectl("show", "j", "--json").out.count("\n") == 1
    assert _shown(queuectl, "show", "j", "--json").startswith('{\r\n  "id": "j",')
