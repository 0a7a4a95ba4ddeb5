"""``queuectl set``, through the program."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from queuectl.cli.completion import _KEYS
from queuectl.domain import changes
from queuectl.domain.request import JobRequest
from queuectl.domain.terms import Backoff
from tests.cli.conftest import Program
from tests.jobs import until
from tests.waiting import wait_until


@pytest.fixture
def filled(queuectl: Program) -> Program:
    """The program, on a store with jobs in every state in which one waits."""
    jobs = """
{"id": "a", "command": "true", "tags": ["x"]}
{"id": "later", "command": "true", "delay": "1h"}
{"id": "held", "command": "true", "hold": true}
{"id": "blocked", "command": "true", "after": ["held"]}
{"id": "failed", "command": "false", "queue": "f", "backoff_base": 1000, "max_retries": 5}
"""
    queuectl("enqueue", "--file", "-", given=jobs)
    queuectl.drain("--queue", "f")
    return queuectl


def show(queuectl: Program, job_id: str) -> dict[str, object]:
    found: dict[str, object] = queuectl("show", job_id, "--json").json
    return found


def test_every_field_that_can_be_changed_is_and_the_job_runs_so(filled: Program) -> None:
    done = filled(
        *("set", "a", "priority=5", "queue=slow", "max-retries=7", "timeout=1m30s", "name=five"),
        *("backoff-base=3", "deadline=3h", "command=echo other > out", f"cwd={filled.folder}"),
        *("tags=y,z", "in=0"),
    )

    assert (done.out, done.err.splitlines()[0]) == ("a\n", "note: 1 job changed")
    job = show(filled, "a")
    assert (job["priority"], job["queue"], job["max_retries"]) == (5, "slow", 7)
    assert (job["timeout_seconds"], job["name"], job["backoff_base"]) == (90, "five", 3)
    assert (job["tags"], job["state"], job["cwd"]) == (["y", "z"], "pending", str(filled.folder))
    assert "slow" in filled("queue", "list", "-q").lines
    filled.drain("--queue", "slow")
    assert show(filled, "a")["state"] == "completed"
    assert (filled.folder / "out").read_text() == "other\n"


def test_none_is_as_if_it_had_never_been_given(filled: Program) -> None:
    filled("config", "set", "timeout", "77")
    filled("set", "a", "name=n", "deadline=3h", "timeout=5", "backoff-base=4", "max-retries=9")

    none = ("name", "deadline", "timeout", "tag", "backoff-base", "max-retries")
    filled("set", "a", *(f"{key}=none" for key in none))

    job = show(filled, "a")
    assert (job["name"], job["deadline"], job["tags"]) == (None, None, [])
    assert (job["timeout_seconds"], job["backoff_base"], job["max_retries"]) == (77, None, 3)


def test_what_counts_as_its_failure_can_be_changed_and_taken_away(filled: Program) -> None:
    words = ["backoff=linear", "backoff-base=5m", "jitter=20%", "retry-on=124,75", "expect=^done"]
    words += ["fail-if=ERROR", "expect-file=out", "stall=10m"]

    done = filled("set", "a", "later", *words, "--json")
    again = filled("set", "a", *words)

    expected = {
        "backoff": "linear",
        "backoff_base": 300,
        "jitter": 0.2,
        "retry_on": [75, 124],
        "no_retry_on": [],
        "expect": "^done",
        "fail_if": "ERROR",
        "expect_file": "out",
        "stall_seconds": 600,
    }
    assert [expected.items() <= job.items() for job in done.json] == [True, True]
    assert "note: 1 job was so before" in again.err
    filled("set", "a", "retry-on=none", "no-retry-on=3", "expect=none", "command=exit 3")
    filled.drain()
    job = show(filled, "a")
    assert (job["state"], job["retry_on"], job["no_retry_on"]) == ("dead", [], [3])
    assert (job["expect"], job["fail_if"], job["jitter"]) == (None, "ERROR", 0.2)
    keys = ("backoff", "backoff-base", "jitter", "retry-on", "fail-if", "expect-file", "stall")
    filled("set", "later", "expect=none", *(f"{key}=none" for key in keys))
    job = show(filled, "later")
    assert (job["backoff"], job["backoff_base"], job["jitter"]) == ("exponential", None, 0)
    assert [job[name] for name in ("retry_on", "fail_if", "stall_seconds")] == [[], None, None]


def test_a_job_is_judged_by_its_own_backoff(queuectl: Program) -> None:
    fixed = ("--backoff", "fixed", "--backoff-base", "0.5", "--jitter", "20%")
    queuectl("enqueue", "--id", "bf", "--hold", *fixed, "true")

    queuectl("set", "bf", "priority=4")
    queuectl("set", "bf", "backoff-base=0.25")
    refused = queuectl("set", "bf", "backoff=none", code=2)
    excluded = queuectl("set", "bf", "retry-on=1", "no-retry-on=2", code=2)

    job = show(queuectl, "bf")
    assert (job["priority"], job["backoff_base"], job["backoff"]) == (4, 0.25, "fixed")
    assert job["jitter"] == 0.2
    assert "job 'bf': backoff_base: 0.25 must be at least 1" in refused.err
    assert "retry_on and no_retry_on exclude each other" in excluded.err


def test_a_time_puts_a_job_off_and_brings_it_forward(filled: Program) -> None:
    far = datetime.now(UTC) + timedelta(days=1)

    put_off = filled("set", "a", "at=tomorrow 9:00")
    filled("set", "later", "in=2h")

    assert re.search(r"note: due \w{3} \d{4}-\d\d-\d\d 09:00:00", put_off.err)
    assert show(filled, "a")["state"] == "scheduled"
    assert show(filled, "later")["state"] == "scheduled"
    filled("set", "a", "later", "run-at=now")
    assert [show(filled, job_id)["state"] for job_id in ("a", "later")] == ["pending", "pending"]
    filled("set", "held", "blocked", "failed", f"at={far.isoformat()}")
    states = [show(filled, job_id)["state"] for job_id in ("held", "blocked", "failed")]
    assert states == ["held", "blocked", "failed"]
    filled("set", "failed", "at=now", "command=true")
    filled.drain()
    assert show(filled, "failed")["state"] == "completed"


def test_many_are_changed_at_once_and_told(filled: Program) -> None:
    rehearsed = filled("set", "--all", "priority=3", "--dry-run")
    assert rehearsed.lines == ["a", "later", "held", "blocked", "failed"]
    assert rehearsed.err == "note: 5 jobs would be changed\n"
    assert show(filled, "a")["priority"] == 0

    by_tag = filled("set", "--tag", "x", "priority=3", "--json")
    rest = filled("set", "--all", "priority=3", "-q")
    again = filled("set", "--state", "held", "--state", "failed", "priority=3")

    assert [(job["id"], job["priority"]) for job in by_tag.json] == [("a", 3)]
    assert (rest.lines, rest.err) == (["later", "held", "blocked", "failed"], "")
    assert again.err == "note: 0 jobs changed\nnote: 2 jobs were so before\n"


def test_many_are_asked_for_on_a_terminal(filled: Program) -> None:
    terminal = filled.on_terminal("set", "--queue", "f", "priority=1")
    terminal.expect("1 job will be changed; go on")
    terminal.sendline("n")
    terminal.expect("nothing was changed")

    assert show(filled, "failed")["priority"] == 0


def test_one_that_cannot_be_so_keeps_all_as_they_were(filled: Program) -> None:
    filled("set", "later", "deadline=2h")

    refused = filled("set", "--all", "run-at=2099-01-01T00:00:00Z", "priority=9", code=2)

    assert "error: job 'later': the deadline must be later than the start" in refused.err
    assert show(filled, "a")["priority"] == 0
    assert show(filled, "a")["state"] == "pending"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("prioritty=5", "hint: did you mean priority"),
        ("zzzz=5", f"hint: keys: {', '.join(_KEYS)}\n"),
        ("priority=much", "error: priority: 'much' must be a valid integer"),
        ("priority=9999999999", "error: priority: 9999999999 must be less than or equal to"),
        ("queue=a b", "error: queue: 'a b' must begin with a letter or digit"),
        ("timeout=-1", "error: timeout: '-1' is not a duration"),
        ("backoff-base=0.5", "error: job 'a': backoff_base: 0.5 must be at least 1"),
        ("backoff-base=-1", "error: backoff_base: -1.0 must be greater than or equal to 0"),
        ("backoff=weird", "error: backoff: 'weird' must be 'exponential', 'linear' or 'fixed'"),
        ("jitter=120%", "error: jitter: '120%' must be a share from 0 to 1"),
        ("retry-on=0", "error: retry_on: '0' has 0, and exit codes of failures are 1 to 255"),
        ("expect=[", "error: expect: '['"),
        ("stall=soon", "error: stall: 'soon' is not a duration"),
        ("backoff-base=nan", "error: backoff_base: "),
        ("command= ", "error: command: must not be empty"),
        ("at=whenever", "error: at: 'whenever' names no time"),
        ("deadline=yesterday", "error: deadline: "),
        ("tags=a b", "error: tags.0: 'a b' must begin with"),
        ("env=A=1", "error: 'env' cannot be changed"),
        ("id=b", "error: 'id' cannot be changed"),
        ("after=b", "error: 'after' cannot be changed"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(filled: Program, word: str, said: str) -> None:
    refused = filled("set", "a", "name=other", word, code=2)

    assert said in refused.err
    assert refused.out == ""
    assert show(filled, "a")["name"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a"], "nothing to set was given"),
        (["priority=1"], "no jobs were named"),
        (["a", "--all", "priority=1"], "not both"),
        (["a", "priority=1", "priority=2"], "'priority' is given twice"),
        (["a", "at=now", "in=2h"], "run_at and delay exclude each other"),
    ],
)
def test_a_wrong_call_is_refused(filled: Program, words: list[str], said: str) -> None:
    assert said in filled("set", *words, code=2).err


def test_what_runs_or_has_ended_is_refused_with_a_way_out(filled: Program) -> None:
    go = filled.folder / "go"
    filled("enqueue", "--id", "running", "--queue", "busy", until(go))
    filled("cancel", "a")
    filled("worker", "start", "--detach", "--queue", "busy")
    wait_until(lambda: show(filled, "running")["state"] == "processing")

    runs = filled("set", "held", "running", "priority=5", code=4)
    ended = filled("set", "a", "priority=5", code=4)
    gone = filled("set", "nobody", "priority=5", code=3)

    assert "job 'running' is processing, and cannot be changed" in runs.err
    assert "queuectl cancel running" in runs.err
    assert "job 'a' is cancelled, and cannot be changed" in ended.err
    assert "queuectl retry a" in ended.err
    assert "there is no job 'nobody'" in gone.err
    assert show(filled, "held")["priority"] == 0
    go.touch()
    filled("worker", "stop")


def test_the_same_request_still_finds_a_job_that_was_changed(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "--", "true")
    queuectl("set", "a", "priority=5")

    again = queuectl("enqueue", "--id", "a", "--", "true")

    assert again.out == "a\n"
    assert show(queuectl, "a")["priority"] == 5


def test_each_field_of_a_request_can_be_changed_or_says_why_not() -> None:
    assert set(changes.FIELDS) | set(changes.FIXED) == set(JobRequest.model_fields)
    assert list(_KEYS) == changes.known_keys()


def test_the_help_names_each_key_and_how_it_is_called(queuectl: Program) -> None:
    shown = queuectl("set", "--help").out

    assert shown.startswith("Usage: queuectl set [OPTIONS] [ID]... KEY=VALUE...\n")
    assert f"Keys:{','.join(_KEYS)}." in "".join(shown.split())
    assert "pause [OPTIONS] NAME...\n" in queuectl("schedule", "pause", "--help").out


def test_keys_queues_and_jobs_are_completed(filled: Program) -> None:
    def complete(*words: str) -> list[str]:
        variables = {"_QUEUECTL_COMPLETE": "fish"}
        return [line.partition("\t")[0] for line in filled(*words, variables=variables).lines]

    assert complete("set", "pr") == ["priority="]
    assert {"a", "later", "queue="} <= set(complete("set", ""))
    assert complete("set", "a", "queue=f") == ["queue=f"]
    assert complete("set", "a", "tags=") == ["tags=x"]
    assert complete("set", "a", "retry") == ["retry-on="]
    assert complete("set", "a", "backoff=") == [f"backoff={each}" for each in Backoff]
    assert complete("queue", "rate", "f", "1") == ["1/s", "1/m", "1/h", "1/d"]
