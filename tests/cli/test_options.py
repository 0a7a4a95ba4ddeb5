"""Every option has a variable; those that arm something have none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.core import TyperOption
from typer.main import get_command

from queuectl.cli import program
from queuectl.cli.commands import COMMANDS
from queuectl.cli.lazy import LazyCommand
from tests.cli.conftest import Program

ARMING = {"--all", "--kind", "--yes", "--now", "--force"}
ACTS = {"--version", "--install-completion", "--show-completion"}


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    command = command.load() if isinstance(command, LazyCommand) else command
    yield path, command
    for name, member in getattr(command, "commands", {}).items():
        yield from _walk(member, (*path, name))


def every_command() -> list[tuple[tuple[str, ...], Any]]:
    """Return all commands and groups with the words that name them."""
    return list(_walk(get_command(program.app), ()))


def test_every_option_has_a_variable_except_those_that_arm_something() -> None:
    seen = 0
    for path, command in every_command():
        for option in command.params:
            if not isinstance(option, TyperOption) or "--db" in option.opts:
                continue
            flag = max(option.opts, key=len)
            expected = "_".join(["QUEUECTL", *path, flag[2:]]).upper().replace("-", "_")
            assert option.envvar == (None if flag in ARMING | ACTS else expected), (path, flag)
            seen += 1
    assert seen > 40


def test_every_command_has_a_help_text_and_every_option_too() -> None:
    for path, command in every_command():
        assert command.help, path
        for param in command.params:
            assert param.help, (path, param.name)


def test_the_readme_names_the_commands_without_json() -> None:
    without = {
        " ".join(path)
        for path, command in every_command()
        if path
        and not getattr(command, "commands", None)
        and not any("--json" in param.opts for param in command.params)
    }

    assert without == {"top", "worker start", "worker unit"}


def test_the_table_says_the_same_as_the_commands_themselves() -> None:
    for entry in COMMANDS:
        own = LazyCommand(entry).load().help.splitlines()[0]
        assert entry.summary.split()[0] == own.split()[0], entry.name


@pytest.mark.parametrize(
    ("variables", "words", "expected"),
    [
        ({"QUEUECTL_LIST_LIMIT": "1"}, ["list", "-q"], 1),
        ({"QUEUECTL_LIST_QUEUE": "other"}, ["list", "-q"], 1),
        ({"QUEUECTL_LIST_STATE": "pending dead"}, ["list", "-q"], 2),
        ({"QUEUECTL_LIST_LIMIT": "1"}, ["list", "-q", "--limit", "2"], 2),
        ({"QUEUECTL_LIST_QUIET": "1"}, ["list"], 2),
    ],
)
def test_a_variable_stands_for_its_option(
    queuectl: Program, variables: dict[str, str], words: list[str], expected: int
) -> None:
    queuectl("enqueue", "true")
    queuectl("enqueue", "--queue", "other", "true")

    assert len(queuectl(*words, variables=variables).lines) == expected


def test_a_bad_variable_is_named(queuectl: Program) -> None:
    result = queuectl("list", code=2, variables={"QUEUECTL_LIST_LIMIT": "many"})

    assert "QUEUECTL_LIST_LIMIT" in result.err


def test_nothing_is_armed_by_a_variable(queuectl: Program) -> None:
    variables = {
        "QUEUECTL_DLQ_PURGE_ALL": "1",
        "QUEUECTL_DLQ_PURGE_KIND": "a",
        "QUEUECTL_DLQ_PURGE_YES": "1",
        "QUEUECTL_DLQ_PURGE_QUEUE": "default",
        "QUEUECTL_DLQ_PURGE_TAG": "x",
    }

    assert "no dead jobs were named" in queuectl("dlq", "purge", code=2, variables=variables).err


def test_the_help_names_the_variables(queuectl: Program) -> None:
    assert "QUEUECTL_ENQUEUE_FILE for --file" in queuectl("enqueue", "--help").out
    assert "QUEUECTL_DLQ_RETRY_QUEUE" in queuectl("dlq", "retry", "--help").out
