"""Many jobs in one file: its forms, and what is wrong with it by line (N1, N2, N3)."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.batch import read_requests
from queuectl.domain.request import LARGEST_JOB_BYTES
from queuectl.errors import InvalidJob


def commands(file: str | bytes) -> list[str]:
    encoded = file.encode() if isinstance(file, str) else file
    return [request.command for request in read_requests(io.BytesIO(encoded))]


def refusal(file: str | bytes) -> str:
    """Return why a file is refused."""
    with pytest.raises(InvalidJob) as caught:
        commands(file)
    return caught.value.message


def test_one_object_is_one_job() -> None:
    assert commands('{"command": "a"}') == ["a"]


def test_an_object_may_span_lines() -> None:
    assert commands('\n{\n  "command": "a",\n  "env": {\n "A": "}"}\n}\n\n') == ["a"]


def test_an_array_is_many_jobs() -> None:
    assert commands('[{"command": "a"},\n {"command": "b"}]\n') == ["a", "b"]


def test_one_object_a_line_is_many_jobs_and_blank_lines_are_nothing() -> None:
    assert commands('\n{"command": "a"}\n \r\n{"command": "b"}\r\n{"command": "c"}') == list("abc")


def test_a_byte_order_mark_is_no_part_of_it() -> None:
    assert commands(b'\xef\xbb\xbf{"command": "a"}\n{"command": "b"}') == ["a", "b"]


@pytest.mark.parametrize("file", ["", " \n\n", "[]", " [ ] "])
def test_a_file_without_jobs_is_refused(file: str) -> None:
    assert refusal(file) == "there are no jobs in it"


def test_a_wrong_line_is_named() -> None:
    file = '{"command": "a"}\n\n{"command": ""}\n{"command": "c"}\n'

    assert refusal(file) == "line 3: command: must not be empty"


def test_a_wrong_item_of_an_array_is_named_with_its_line() -> None:
    file = '[\n{"command": "a"},\n{"command": "b",\n "priority": "high"}\n]'

    assert refusal(file).startswith("item 2 (line 3): priority: ")


def test_jobs_before_a_wrong_one_are_told_before_it_is_found() -> None:
    reader = read_requests(io.BytesIO(b'{"command": "a"}\n{"command": 1}\n'))

    first = next(reader)

    assert first.command == "a"
    with pytest.raises(InvalidJob, match=r"^line 2: command: "):
        next(reader)


# N3


def test_a_key_that_appears_twice_is_named() -> None:
    assert refusal('{"command": "a", "command": "b"}') == "line 1: the key 'command' appears twice"


def test_an_unknown_key_is_named() -> None:
    assert refusal('[{"command": "a", "cmd": "b"}]').startswith("item 1 (line 1): cmd: unknown")


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("[[]]", "item 1 (line 1): must be a JSON object, not an array"),
        ('[{"command": "a"}, 3]', "item 2 (line 1): must be a JSON object, not a number"),
        ('{"command": "a"}\n"b"\n', "line 2: must be a JSON object, not a text"),
        ("null", "line 1: must be a JSON object, not null"),
    ],
)
def test_what_is_no_object_is_named_by_its_kind(file: str, reason: str) -> None:
    assert refusal(file) == reason


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_know_is_refused(constant: str) -> None:
    file = f'{{"command": "a", "backoff_base": {constant}}}'

    assert refusal(file) == f"line 1: {constant} is not a number that JSON knows"


def test_a_number_of_too_many_digits_is_refused() -> None:
    file = '{"command": "a", "priority": ' + "9" * 5000 + "}"

    assert refusal(file) == "line 1: holds a number with too many digits"


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("prefix", ["", "[", '{"command": "a", "env": '])
def test_json_that_is_nested_a_hundred_thousand_deep_is_refused(prefix: str, opening: str) -> None:
    assert "nested too deeply" in refusal(prefix + opening * 100_000)


@pytest.mark.parametrize("form", ["%s", "[%s]", "%s\n%s"], ids=["one", "array", "lines"])
def test_a_job_of_more_than_a_mebibyte_is_refused_with_the_limit(form: str) -> None:
    job = json.dumps({"command": "a", "id": "x" * LARGEST_JOB_BYTES})
    file = form.replace("%s", job)

    assert refusal(file).endswith(f"a job's JSON is at most {LARGEST_JOB_BYTES} bytes long")


class Endless(io.RawIOBase):
    """A file of one text that never ends; counts what is taken of it."""

    def __init__(self) -> None:
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io gives these
        start = b'{"command": "' if self.taken == 0 else b""
        buffer[:] = start.ljust(len(buffer), b"x")
        self.taken += len(buffer)
        return len(buffer)


def test_input_without_end_is_refused_after_a_few_mebibytes() -> None:
    file = Endless()

    with pytest.raises(InvalidJob, match="at most"):
        list(read_requests(io.BufferedReader(file)))

    assert file.taken < 8 * LARGEST_JOB_BYTES


@pytest.mark.parametrize(
    ("file", "where"),
    [
        (b'{"command": "\xff"}', "line 1"),
        (b'{"command": "a"}\n{"command": "\xc3\x28"}', "line 2"),
        (b'[{"command": "a"},\n{"command": "\xed\xa0\x80"}]', "line 2"),
        (b'{\n\n"command": "\xff"}', "line 3"),
    ],
)
def test_what_is_no_utf_8_is_refused_by_line(file: bytes, where: str) -> None:
    assert refusal(file).startswith(f"{where}: is not UTF-8")


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ('[{"command": "a"}', "the array is not closed"),
        ('[{"command": "a"} {"command": "b"}]', "a comma is missing"),
        ('[{"command": "a"},]', "not valid JSON"),
        ('[{"command": "a"}] x', "more follows the array"),
        ('{\n"command": "a"}\n{"command": "b"}', "more follows the job"),
        ('{"command": "a"', "not valid JSON"),
        ('{"command": a}', "not valid JSON"),
        ("sleep 2", "not valid JSON"),
        ("{'command': 'a'}", "not valid JSON"),
    ],
)
def test_broken_json_is_refused_with_the_reason(file: str, reason: str) -> None:
    assert reason in refusal(file)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(st.lists(texts.filter(str.strip), min_size=1, max_size=20))
def test_all_forms_hold_the_same_jobs(wanted: list[str]) -> None:
    jobs = [{"command": command} for command in wanted]

    assert commands("\n".join(json.dumps(job) for job in jobs)) == wanted
    assert commands(json.dumps(jobs)) == wanted
    assert commands(json.dumps(jobs, indent=1, ensure_ascii=False)) == wanted


def test_jobs_on_the_border_of_what_is_read_at_a_time_are_whole() -> None:
    wanted = ["é" * 50_000 + str(number) for number in range(60)]
    jobs = [{"command": command} for command in wanted]

    assert commands(json.dumps(jobs, ensure_ascii=False)) == wanted


@given(st.binary(max_size=200))
def test_no_bytes_break_it(file: bytes) -> None:
    refusal = "none"
    try:
        read = commands(file)
    except InvalidJob as error:
        read, refusal = ["none"], error.message

    assert all(command.strip() for command in read)
    assert "\n" not in refusal
