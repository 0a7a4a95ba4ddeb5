"""A job for each line: which lines there are, and what is said of a bad one."""

from __future__ import annotations

import io

import pytest

from queuectl.domain.each import Pattern, read_jobs
from queuectl.domain.request import LONGEST_COMMAND_BYTES, JobRequest, validate_request
from queuectl.domain.template import Template
from queuectl.errors import InvalidJob

ECHO = Template.of_line("echo {}")
BASE = validate_request({"command": "true", "queue": "q", "delay": "1h", "timeout": 5})


def read(
    content: bytes,
    template: Template | None = ECHO,
    *,
    separator: bytes = b"\n",
    id: str | None = None,
) -> list[JobRequest]:
    return list(read_jobs(io.BytesIO(content), Pattern(template, BASE, id), separator=separator))


def commands(content: bytes, separator: bytes = b"\n") -> list[str]:
    return [job.command for job in read(content, separator=separator)]


def test_each_line_makes_a_job_with_all_the_options() -> None:
    jobs = read(b"a\nb c\n")

    assert [job.command for job in jobs] == ["echo a", "echo 'b c'"]
    assert {(job.queue, job.delay, job.timeout, job.id) for job in jobs} == {
        ("q", 3600.0, 5.0, None)
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a", ["echo a"]),
        (b"\na\n\nb\n\n", ["echo a", "echo b"]),
        (b" \n", ["echo ' '"]),
        (b"a\r\n", ["echo 'a\r'"]),
        (b"\xef\xbb\xbfa\n", ["echo a"]),
        ("ü\n".encode(), ["echo 'ü'"]),
    ],
)
def test_a_line_is_taken_as_it_is_and_an_empty_one_is_none(
    content: bytes, expected: list[str]
) -> None:
    assert commands(content) == expected


def test_items_may_be_ended_by_nul_and_hold_newlines() -> None:
    assert commands(b"a\nb\0\0c\0", b"\0") == ["echo 'a\nb'", "echo c"]


def test_the_number_is_that_of_the_job() -> None:
    jobs = read(b"a\n\nb\n", Template.of_line("echo {#} {}"), id="job-{#}-{}")

    assert [(job.command, job.id) for job in jobs] == [
        ("echo 1 a", "job-1-a"),
        ("echo 2 b", "job-2-b"),
    ]


def test_without_a_template_a_line_is_the_command() -> None:
    assert [job.command for job in read(b"make a && ls\n{ ls; }\n", None)] == [
        "make a && ls",
        "{ ls; }",
    ]


def test_an_id_is_digested_with_what_was_given() -> None:
    [job] = read(b"a\n", id="x-{}")

    assert (
        job.digest()
        == validate_request(
            {"command": "echo a", "id": "x-a", "queue": "q", "delay": "1h", "timeout": 5}
        ).digest()
    )


@pytest.mark.parametrize(
    ("content", "template", "id", "where", "why"),
    [
        (b"a\nb\0c\n", ECHO, None, "line 2", "NUL"),
        (b"a\n\n\xff\n", ECHO, None, "line 3", "is not UTF-8 at byte 1"),
        (b"a\n" + b"x" * (LONGEST_COMMAND_BYTES + 1), ECHO, None, "line 2", "longer than"),
        (b"x" * 10_000_000, ECHO, None, "line 1", "longer than"),
        (b"'" * 60_000 + b"\n", ECHO, None, "line 1", "bytes long"),
        (b"a\nb c\n", ECHO, "{}", "line 2", "id: 'b c' must begin"),
        (b'{"command": "true"}\n', None, None, "line 1", "is a job in JSON"),
        (b"ls\n  \n", None, None, "line 2", "command: must not be empty"),
    ],
)
def test_a_bad_line_is_named(
    content: bytes, template: Template | None, id: str | None, where: str, why: str
) -> None:
    with pytest.raises(InvalidJob) as refusal:
        read(content, template, id=id)

    assert refusal.value.where == where
    assert why in refusal.value.message


def test_a_bad_item_is_named() -> None:
    with pytest.raises(InvalidJob, match="item 2: is not UTF-8"):
        read(b"a\0\xff\0", separator=b"\0")
