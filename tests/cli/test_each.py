"""``queuectl enqueue --each``, through the program."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Program

HOSTILE = ["two words", "it's", "$(touch pwned)", "-rf", "`touch pwned`", "a;b", 'say "hi"', "*"]


def commands(queuectl: Program) -> list[str]:
    """Return the commands of all jobs, the oldest first."""
    return [job["command"] for job in reversed(queuectl("list", "--limit", "0", "--json").json)]


def test_each_line_of_a_file_becomes_a_job(queuectl: Program) -> None:
    (queuectl.folder / "names").write_text("in/a.jpg\n\nb c.jpg\n")

    done = queuectl("enqueue", "--each", "names", "convert {} {.}.png {/} {//} {#}")

    assert len(done.lines) == 2
    assert commands(queuectl) == [
        "convert in/a.jpg in/a.png a.jpg in 1",
        "convert 'b c.jpg' 'b c'.png 'b c.jpg' . 2",
    ]


def test_options_hold_for_each_job(queuectl: Program) -> None:
    options = ["-Q", "q", "--priority", "3", "--timeout", "5m", "--max-retries", "1"]
    options += ["--delay", "1h", "--cwd", "/", "--env", "A=b"]

    told = queuectl("enqueue", *options, "--each", "-", "--json", "echo", given="a\nb\n").json

    assert [job["command"] for job in told] == ["echo a", "echo b"]
    for job in told:
        assert (job["queue"], job["priority"], job["timeout_seconds"]) == ("q", 3, 300)
        assert (job["max_retries"], job["cwd"], job["env"]) == (1, "/", ["A"])
        assert job["state"] == "scheduled"


@pytest.mark.parametrize(
    "template",
    [
        ["printf '%s\\n' {} >> got"],
        ['printf "%s\\n" "{}" >> got'],
        ["--", "sh", "-c", "printf '%s\\n' \"$1\" >> got", "sh", "{}"],
    ],
)
def test_hostile_names_reach_the_command_as_they_are(
    queuectl: Program, template: list[str]
) -> None:
    lines = "".join(f"{name}\n" for name in HOSTILE)

    queuectl("enqueue", "--each", "-", *template, given=lines)
    queuectl.drain()

    assert sorted((queuectl.folder / "got").read_text().splitlines()) == sorted(HOSTILE)
    assert not (queuectl.folder / "pwned").exists()


def test_names_that_find_ended_by_nul_may_hold_newlines(queuectl: Program) -> None:
    queuectl("enqueue", "--each", "-", "-0", "cat < {} > {.}.copy", given="a\nb.txt\0c.txt\0")
    for name in ("a\nb.txt", "c.txt"):
        (queuectl.folder / name).write_text(name)
    queuectl.drain()

    assert (queuectl.folder / "a\nb.copy").read_text() == "a\nb.txt"
    assert (queuectl.folder / "c.copy").read_text() == "c.txt"


def test_without_a_template_each_line_is_a_command(queuectl: Program) -> None:
    queuectl("enqueue", "--each", "-", given="make a\nmake b && make c\n")

    assert commands(queuectl) == ["make a", "make b && make c"]


def test_an_id_with_a_place_makes_it_safe_to_repeat(queuectl: Program) -> None:
    for _ in range(2):
        done = queuectl("enqueue", "--id", "png:{/.}", "--each", "-", "echo", given="x/a.b\nc\n")

        assert done.lines == ["png:a", "png:c"]

    assert "2 of the jobs were there already" in done.err
    assert len(commands(queuectl)) == 2


def test_nothing_to_do_is_no_error(queuectl: Program) -> None:
    done = queuectl("enqueue", "--each", "-", "echo", given="\n\n")

    assert done.out == ""
    assert done.err == "note: there is no line with something in it; nothing was stored\n"
    assert queuectl("enqueue", "--each", "-", "--json", "echo", given="").json == []


@pytest.mark.parametrize(
    ("words", "given", "named"),
    [
        (["--each", "-", "echo {}"], b"a\n\xff\n", "stdin: line 2: is not UTF-8"),
        (["--each", "-", "echo {}"], b"a\n" + b"x" * 200_000, "stdin: line 2: is longer"),
        (["--each", "nope", "echo"], b"", "nope cannot be read"),
        (["--each", "", "echo"], b"", "--each names no file"),
        (["--each", "-", "--file", "x"], b"a\n", "either --file or --each"),
        (["--null", "echo"], b"", "--null is for --each"),
        (["--each", "-", "--id", "x", "echo"], b"a\n", "--id 'x' would be the id of every job"),
        (["--each", "-", "--id", "{}", "echo"], b"a\nb c\n", "line 2: id: 'b c' must begin"),
        (["--each", "-", "--priority", "9999999999", "echo"], b"a\n", "--priority: 9999999999"),
        (["--each", "-", "--timeout", "soon", "echo"], b"a\n", "--timeout: 'soon'"),
        (["--each", "-", '{"command": "echo {}"}'], b"a\n", "not a job in JSON"),
        (["--each", "-"], b'{"command": "true"}\n', "line 1: is a job in JSON"),
        (["--each", "-", "sh -c 'echo {}'"], b"a\n", "as a part of its code"),
        (["--each", "-", "echo {} # {}"], b"a\n", "in a comment"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_stored(
    queuectl: Program, words: list[str], given: bytes, named: str
) -> None:
    done = queuectl("enqueue", *words, code=2, given=given)

    assert done.out == ""
    error, hint = done.err.splitlines()
    assert named in error
    assert hint.startswith("hint: ")
    assert commands(queuectl) == []


def test_many_lines_take_no_more_memory_than_few(queuectl: Program, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        names = tmp_path / f"names-{count}"
        names.write_text("".join(f"some/folder/picture-{n}.jpg\n" for n in range(count)))
        words = ["enqueue", "-n", "--each", str(names), "convert {} {.}.png"]
        with queuectl.start(*words) as child:
            assert child.stdout is not None
            for _ in child.stdout:
                pass
            _, child.returncode, usage = os.wait4(child.pid, 0)
        assert child.returncode == 0
        return usage.ru_maxrss

    assert peak(60_000) < peak(1_500) * 1.2
