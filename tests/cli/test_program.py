"""How every call ends: exit codes, error lines, hints, and nothing on a closed pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from queuectl import __version__
from tests.cli.conftest import PROGRAM, Program


@pytest.fixture
def queuectl(queuectl: Program) -> Program:
    """The program, executed at each call: what its start does is tested here."""
    return queuectl.cold()


def test_version(queuectl: Program) -> None:
    assert queuectl("--version").out == f"queuectl {__version__}\n"


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["enqeue"], "no such command 'enqeue'", "did you mean 'enqueue', 'queue'?"),
        (["worker", "strat"], "no such command 'strat'", "did you mean 'start'"),
        (["zzz"], "no such command 'zzz'", "see: queuectl --help"),
        (["list", "--foo"], "no such option: --foo", "see: queuectl list --help"),
        (["list", "x"], "got unexpected extra argument(s) (x)", "see: queuectl list --help"),
        (["explain"], "missing argument 'ID'", "see: queuectl explain"),
        (
            ["list", "--limit", "x"],
            "--limit: 'x' is not a valid integer",
            "see: queuectl list --help",
        ),
        (["list", "--state", "done"], "there is no state 'done'", "states: "),
        (["--db", "mysql://h/d", "list"], "--db names a 'mysql' database", "give the path"),
    ],
)
def test_wrong_usage_is_two_lines_and_exit_code_2(
    queuectl: Program, words: list[str], error: str, hint: str
) -> None:
    result = queuectl(*words, code=2)

    first, second = result.err.splitlines()
    assert first.startswith(f"error: {error}")
    assert second.startswith(f"hint: {hint}")
    assert result.out == ""


@pytest.mark.parametrize("group", ["queue", "worker", "dlq", "config", "db", "schedule"])
def test_a_bare_group_shows_its_help_as_wrong_usage(queuectl: Program, group: str) -> None:
    told = queuectl(group, code=2)

    assert told.out == ""
    assert told.err == queuectl(group, "--help").out
    assert told.err.startswith(f"Usage: queuectl {group} ")


def test_an_unknown_id_is_exit_code_3_and_an_ambiguous_one_4(queuectl: Program) -> None:
    queuectl("enqueue", "--file", "-", given='{"id":"ab","command":"a"}\n{"id":"ac","command":"a"}')

    assert queuectl("show", "b", code=3).err.startswith("error: there is no job 'b'")
    assert "ab, ac" in queuectl("show", "a", code=4).err


def test_a_store_that_is_none_is_exit_code_5_and_stays_as_it_is(queuectl: Program) -> None:
    path = queuectl.folder / "letter.txt"
    path.write_text("Dear Sir or Madam,")

    result = queuectl("--db", str(path), "list", code=5)

    assert "letter.txt is not a queuectl store" in result.err
    assert path.read_text() == "Dear Sir or Madam,"


def test_debug_shows_the_traceback(queuectl: Program) -> None:
    assert "Traceback" not in queuectl("show", "x", code=3).err
    assert "Traceback" in queuectl("--debug", "show", "x", code=3).err
    assert "Traceback" in queuectl("show", "x", code=3, variables={"QUEUECTL_DEBUG": "1"}).err


def test_control_characters_of_an_argument_are_escaped(queuectl: Program) -> None:
    result = queuectl("show", "\x1b]0;title\x07", code=3)

    assert "\\x1b]0;title\\x07" in result.err
    assert "\x1b" not in result.err


def test_a_reader_that_has_seen_enough_is_no_error(queuectl: Program) -> None:
    queuectl("enqueue", "--file", "-", given='{"command": "true"}\n' * 5000)
    line = f"{PROGRAM} list --limit 0 --json | head -1; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(
        ["bash", "-c", line], env=queuectl.environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")


def test_results_that_cannot_be_written_are_an_error(queuectl: Program) -> None:
    queuectl("enqueue", "true")

    with open("/dev/full", "w") as full:  # noqa: PTH123  # a device
        done = subprocess.run(
            [PROGRAM, "list"],
            env=queuectl.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


def test_an_interrupt_is_exit_code_130_without_a_word(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "j", "true")
    with queuectl.start("logs", "-f", "j") as process:
        assert process.stderr is not None
        assert "waiting for a worker" in process.stderr.readline()

        process.send_signal(signal.SIGINT)

        assert process.stderr.read() == ""
        assert process.wait(30) == 130


def test_output_in_a_narrow_encoding_does_not_fail(queuectl: Program) -> None:
    queuectl("enqueue", "--", "echo", "€😀é")
    variables = {"PYTHONIOENCODING": "ascii"}

    assert "\\u20ac" in queuectl("list", variables=variables).out
    assert queuectl("list", "--json", variables=variables).json[0]["command"] == "echo '€😀é'"


def test_a_bare_queuectl_shows_how_to_begin_and_then_a_short_status(queuectl: Program) -> None:
    examples = queuectl()
    queuectl("enqueue", "true")

    assert len([line for line in examples.lines if line.startswith("  queuectl ")]) == 3
    assert queuectl().lines[0] == "jobs        1 pending"


IMPORTS = """
import sys
from queuectl.cli import program
sys.stdout = sys.stderr
code = program.run(sys.argv[1:])
heavy = {"sqlalchemy", "pydantic", "rich", "textual", "alembic"} & set(sys.modules)
print("heavy:", sorted(heavy), file=sys.__stdout__)
"""

HELP = [
    ["--version"],
    ["--help"],
    ["--show-completion", "bash"],
    ["enqueue", "--help"],
    ["list", "--help"],
    ["logs", "--help"],
    ["top", "--help"],
    ["dlq", "--help"],
    ["worker", "start", "--help"],
]


def _heavy_modules(queuectl: Program, words: list[str], **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *words],
        env={**queuectl.environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_imports_nothing_heavy(queuectl: Program, words: list[str]) -> None:
    loaded = _heavy_modules(queuectl, words)

    # Typer itself reads a command's help option with Pydantic; ours and SQLAlchemy are not needed.
    assert loaded in ("heavy: []", "heavy: ['pydantic']")
    assert loaded == "heavy: []" or len(words) > 1


@pytest.mark.parametrize("words", [["show", ""], ["list", "--state", ""], ["list", "-"], [""]])
def test_completion_imports_nothing_heavy(queuectl: Program, words: list[str]) -> None:
    assert _heavy_modules(queuectl, words, _QUEUECTL_COMPLETE="zsh") == "heavy: []"


def test_a_command_for_a_pipe_imports_no_rich(queuectl: Program) -> None:
    assert "rich" not in _heavy_modules(queuectl, ["list"])


def test_the_environment_of_jobs_is_not_touched(queuectl: Program) -> None:
    queuectl("enqueue", "env")

    queuectl.drain()

    assert "PYDANTIC" not in queuectl("logs", "last").out
    assert os.environ.get("PYDANTIC_DISABLE_PLUGINS") is None
