"""One job as somebody asks for it: what is accepted, and what is refused (N1, N2, N3, N4)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.request import (
    LARGEST_ENV_BYTES,
    LARGEST_JOB_BYTES,
    LONGEST_COMMAND_BYTES,
    JobRequest,
    decode_request,
    validate_request,
)
from queuectl.errors import InvalidJob


def refusal(**fields: Any) -> str:
    """Return why these fields (and a command, if they have none) are refused."""
    with pytest.raises(InvalidJob) as caught:
        validate_request({"command": "true", **fields})
    return caught.value.message


def test_a_command_is_all_that_a_job_needs() -> None:
    request = validate_request({"command": "sleep 2"})

    assert request == JobRequest(command="sleep 2")
    assert request.queue == "default"
    assert request.priority == 0
    assert not request.hold
    unset = {"command", "queue", "priority", "hold"}
    assert set(request.model_dump(exclude=unset).values()) == {None}


def test_every_field_is_taken_over() -> None:
    request = validate_request(
        {
            "id": "encode:film-1.v2",
            "command": "ffmpeg -i in.mp4",
            "queue": "video",
            "priority": -5,
            "max_retries": 0,
            "timeout": "1h30m",
            "run_at": "2026-11-24T20:00:00+02:00",
            "backoff_base": 1.5,
            "cwd": "/srv/films",
            "env": {"LANG": "C"},
        }
    )

    assert request.model_dump(exclude_unset=True) == {
        "id": "encode:film-1.v2",
        "command": "ffmpeg -i in.mp4",
        "queue": "video",
        "priority": -5,
        "max_retries": 0,
        "timeout": 5400.0,
        "run_at": datetime(2026, 11, 24, 18, tzinfo=UTC),
        "backoff_base": 1.5,
        "cwd": "/srv/films",
        "env": {"LANG": "C"},
    }


def test_a_missing_command_is_named() -> None:
    with pytest.raises(InvalidJob) as caught:
        validate_request({"id": "a"})

    assert caught.value.problems == ["command: is required"]
    assert caught.value.exit_code == 2


def test_an_unknown_field_is_named_and_the_known_ones_are_told() -> None:
    assert refusal(retries=3).startswith("retries: unknown field; a job has command, id, queue")


def test_every_wrong_field_is_told_at_once() -> None:
    with pytest.raises(InvalidJob) as caught:
        validate_request({"command": " ", "priority": "high", "max_retries": -1})

    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "command",
        "priority",
        "max_retries",
    ]


def test_where_it_stands_comes_before_the_reason() -> None:
    with pytest.raises(InvalidJob, match=r"^line 7: command: must not be empty$"):
        validate_request({"command": ""}, where="line 7")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ([], "an array"),
        ("sleep", "a text"),
        (3, "a number"),
        (1.5, "a number"),
        (True, "true or false"),
        (None, "null"),
    ],
)
def test_what_is_no_object_is_refused_by_its_kind(value: object, name: str) -> None:
    with pytest.raises(InvalidJob, match=f"^must be a JSON object, not {name}$"):
        validate_request(value)


# N1, the texts of a job


@pytest.mark.parametrize("command", ["", " ", "\t\n"])
def test_an_empty_command_is_refused(command: str) -> None:
    assert refusal(command=command) == "command: must not be empty"


@pytest.mark.parametrize(
    "fields",
    [{"command": "a\0b"}, {"cwd": "/a\0b"}, {"env": {"A": "\0"}}, {"env": {"A\0": "b"}}],
    ids=["command", "cwd", "env value", "env name"],
)
def test_a_nul_character_is_refused_by_field(fields: dict[str, Any]) -> None:
    field = next(iter(fields))

    assert refusal(**fields).startswith(f"{field}: ")
    assert "must not hold a NUL character" in refusal(**fields)


@pytest.mark.parametrize(
    "fields",
    [{"command": "echo \ud800"}, {"cwd": "/\udcff"}, {"env": {"A": "\ud800"}}, {"id": "\ud800"}],
    ids=["command", "cwd", "env", "id"],
)
def test_a_lone_surrogate_is_refused_by_field(fields: dict[str, Any]) -> None:
    field = next(iter(fields))

    assert refusal(**fields).startswith(field)
    assert "Unicode" in refusal(**fields)


def test_a_surrogate_that_json_escaped_is_refused() -> None:
    with pytest.raises(InvalidJob, match=r"^command: must be valid Unicode"):
        decode_request('{"command": "echo \\ud800"}')


@given(st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text))
def test_any_other_text_is_a_command_and_is_kept_as_it_is(command: str) -> None:
    assert validate_request({"command": command}).command == command


# Names


@pytest.mark.parametrize("name", ["a", "7", "Job-1_a.b:c", "x" * 128])
@pytest.mark.parametrize("field", ["id", "queue"])
def test_a_name_of_letters_digits_and_some_signs_is_accepted(field: str, name: str) -> None:
    request = validate_request({"command": "true", field: name})

    assert getattr(request, field) == name


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "_a", ":a", "a b", "a/b", "a\n", "é", "x" * 129, "a\x1b[31m", "٣"]
)
@pytest.mark.parametrize("field", ["id", "queue"])
def test_any_other_name_is_refused_with_the_rule(field: str, name: str) -> None:
    message = refusal(**{field: name})

    assert message.startswith(f"{field}: {name!r}"[:40])
    assert "must begin with a letter or digit" in message


def test_the_id_that_commands_read_as_the_newest_job_is_taken() -> None:
    assert refusal(id="last") == "id: 'last' is taken: commands read it as the newest job"
    assert validate_request({"command": "true", "queue": "last"}).queue == "last"


# N2, its numbers


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30, 1.5, "3", True, [1]])
@pytest.mark.parametrize("field", ["priority", "max_retries"])
def test_what_is_no_integer_of_the_allowed_size_is_refused(field: str, value: object) -> None:
    assert refusal(**{field: value}).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("field", "lowest", "highest"),
    [
        ("priority", -1_000_000_000, 1_000_000_000),
        ("max_retries", 0, 1_000_000),
        ("backoff_base", 1, 1_000_000),
    ],
)
def test_a_number_is_accepted_up_to_its_limits_and_refused_beyond(
    field: str, lowest: int, highest: int
) -> None:
    for value in (lowest, highest):
        assert getattr(validate_request({"command": "true", field: value}), field) == value
    for value in (lowest - 1, highest + 1):
        assert refusal(**{field: value}).startswith(f"{field}: {value} must be ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 0.999, -2, "2", True])
def test_a_backoff_base_that_is_below_one_or_no_number_is_refused(value: object) -> None:
    assert refusal(backoff_base=value).startswith("backoff_base: ")


@pytest.mark.parametrize(
    "value", [0, -1, "0s", "-1s", "90x", "", float("nan"), float("inf"), 10**400, True, [], "3651d"]
)
def test_a_timeout_that_is_no_positive_duration_is_refused(value: object) -> None:
    assert refusal(timeout=value).startswith("timeout: ")


@pytest.mark.parametrize("value", [-1, "-1s", "soon", float("nan"), float("inf"), False, 10**400])
def test_a_delay_that_is_no_duration_is_refused(value: object) -> None:
    assert refusal(delay=value).startswith("delay: ")


@pytest.mark.parametrize(("value", "seconds"), [(0, 0.0), (1.5, 1.5), ("2m", 120.0), (None, None)])
def test_a_delay_may_be_nothing(value: object, seconds: float | None) -> None:
    assert validate_request({"command": "true", "delay": value}).delay == seconds


# Instants


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-24T18:00:00Z", datetime(2026, 11, 24, 18, tzinfo=UTC)),
        ("2026-11-24t18:00:00z", datetime(2026, 11, 24, 18, tzinfo=UTC)),
        ("2026-11-24 18:00:00-05:30", datetime(2026, 11, 24, 23, 30, tzinfo=UTC)),
        ("2026-11-24T18:00:00.25Z", datetime(2026, 11, 24, 18, microsecond=250_000, tzinfo=UTC)),
    ],
)
def test_an_rfc_3339_date_becomes_a_utc_instant(text: str, instant: datetime) -> None:
    assert validate_request({"command": "true", "run_at": text}).run_at == instant


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-24T18:00:00",
        "2026-11-24",
        "tomorrow",
        "2026-02-30T00:00:00Z",
        "2026-11-24T25:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-11-24T18:00:00+99:00",
        "2026-11-24T18:00:00Z\n",
        1_764_000_000,
        True,
    ],
)
def test_any_other_date_is_refused(value: object) -> None:
    assert refusal(run_at=value).startswith("run_at: ")


def test_run_at_and_delay_exclude_each_other() -> None:
    assert "exclude each other" in refusal(run_at="2026-11-24T18:00:00Z", delay=3)


# Folders and variables


def test_a_relative_working_directory_is_refused() -> None:
    assert refusal(cwd="films") == "cwd: 'films' must be an absolute path"


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"": "a"}, "cannot be the name of a variable"),
        ({"A=B": "a"}, "cannot be the name of a variable"),
        ({"QUEUECTL_JOB_ID": "a"}, "are set by the worker"),
        ({"A": "x" * LONGEST_COMMAND_BYTES}, "bytes long"),
        ({f"A{n}": "x" * 100_000 for n in range(3)}, "bytes in all"),
    ],
    ids=["empty name", "equals sign", "ours", "one too long", "too many"],
)
def test_an_environment_that_no_process_can_have_is_refused(
    env: dict[str, str], reason: str
) -> None:
    assert refusal(env=env).startswith("env: ")
    assert reason in refusal(env=env)


@pytest.mark.parametrize("env", [{"A": 1}, {"A": None}, [], "A=1"])
def test_an_environment_of_something_but_texts_is_refused(env: object) -> None:
    assert refusal(env=env).startswith("env")


def test_an_environment_up_to_the_limit_is_accepted() -> None:
    length = LARGEST_ENV_BYTES // 4 - len("A0") - 2
    env = {f"A{number}": "x" * length for number in range(4)}

    assert validate_request({"command": "true", "env": env}).env == env


# N4, its length


def test_a_command_is_accepted_up_to_what_one_argument_may_be() -> None:
    longest = "x" * LONGEST_COMMAND_BYTES

    assert validate_request({"command": longest}).command == longest
    assert "put it in a script" in refusal(command=longest + "x")


def test_a_command_is_measured_in_bytes() -> None:
    assert "bytes long" in refusal(command="é" * (LONGEST_COMMAND_BYTES // 2 + 1))


def test_the_json_of_a_job_has_a_limit() -> None:
    text = '{"command": "true"}'.ljust(LARGEST_JOB_BYTES + 1)

    with pytest.raises(InvalidJob, match=f"at most {LARGEST_JOB_BYTES} bytes"):
        decode_request(text)
