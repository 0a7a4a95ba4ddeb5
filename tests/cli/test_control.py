"""``cancel``, ``kill``, ``freeze``, ``thaw``, ``retry``, ``release`` and ``wait``, as typed."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.waiting import wait_until


def state(queuectl: Program, job: str) -> str:
    return str(queuectl("show", job, "--json").json["state"])


@pytest.fixture
def worker(queuectl: Program) -> Iterator[subprocess.Popen[str]]:
    """A worker of two slots."""
    process = queuectl.start("worker", "start", "-j", "2")
    wait_until(lambda: queuectl("worker", "list", "-q").out)
    yield process
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate()


def assert_told_as_frozen(queuectl: Program, job: str) -> None:
    told = queuectl("explain", job).lines
    assert told[1].startswith("- it is frozen since 2")
    assert told[2] == f"  queuectl thaw {job}"
    [reason] = queuectl("explain", job, "--json").json["reasons"]
    assert (reason["reason"], reason["hint"]) == ("frozen", f"queuectl thaw {job}")
    rows = queuectl("list").lines[1:]
    assert sum("processing (frozen)" in row for row in rows) == 1
    [frozen] = [one for one in queuectl("list", "--json").json if one["frozen_at"]]
    assert (frozen["id"], frozen["state"]) == (job, "processing")
    assert f"{job} (frozen)" in queuectl("worker", "list").out
    [worker] = queuectl("worker", "list", "--json").json
    since = {one["id"]: one["frozen_at"] for one in worker["running"]}
    assert since == {"a": frozen["frozen_at"], "b": None}
    queuectl("freeze", job)
    assert queuectl("show", job, "--json").json["frozen_at"] == frozen["frozen_at"]


def start_job(queuectl: Program, folder: Path, name: str, command: str = "exec sleep 300") -> None:
    queuectl("enqueue", "--id", name, "--max-retries", "0", f"touch {name}; {command}")
    wait_until((folder / name).exists)


def test_waiting_jobs_are_cancelled_with_a_reason(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "--delay", "1h", "--", "true")

    done = queuectl("cancel", "a", "--reason", "not needed")

    assert (done.out, done.err) == ("a\n", "note: 1 job cancelled\n")
    shown = queuectl("show", "a")
    assert "cancelled" in shown.out
    assert "not needed" in shown.out
    refused = queuectl("cancel", "a", code=4)
    assert "job 'a' is cancelled, and cannot be cancelled" in refused.err
    assert "no job 'b'" in queuectl("cancel", "b", code=3).err


@pytest.mark.usefixtures("worker")
def test_a_running_job_is_cancelled_killed_frozen_and_thawed(
    queuectl: Program, tmp_path: Path
) -> None:
    start_job(queuectl, tmp_path, "a")
    start_job(queuectl, tmp_path, "b")

    frozen = queuectl("freeze", "a")
    assert (frozen.out, frozen.err) == ("a\n", "note: 1 job frozen\n")
    assert "frozen" in queuectl("show", "a").out
    refused = queuectl("thaw", "a", "b", code=4)
    assert "job 'b' runs and is not frozen, and cannot be thawed" in refused.err
    assert queuectl("thaw", "--all", "--dry-run").lines == ["a"]
    assert_told_as_frozen(queuectl, "a")
    assert queuectl("thaw", "a").err == "note: 1 job thawed\n"

    assert queuectl("kill", "-s", "int", "b").err == "note: 1 job sent SIGINT\n"
    wait_until(lambda: state(queuectl, "b") == "dead")
    assert queuectl("show", "b", "--json").json["history"][0]["signal"] == signal.SIGINT

    queuectl("enqueue", "--id", "needs-a", "--after", "a", "true")
    queuectl("enqueue", "--id", "needs-that", "--after", "needs-a", "true")
    assert "and 2 that need it" in queuectl("cancel", "a", "-n").err
    [told] = queuectl("cancel", "a", "-n", "--json").json
    assert (told["cancel_requested_at"], told["dependents"]) == (None, ["needs-a", "needs-that"])
    done = queuectl("cancel", "a")
    assert "note: 1 job cancelled, and 2 that need it\n" in done.err
    assert "1 of them still runs: its worker ends it now" in done.err
    wait_until(lambda: state(queuectl, "a") == "cancelled")
    assert state(queuectl, "needs-that") == "cancelled"


def test_bulk_changes_tell_how_many_and_ask_on_a_terminal(queuectl: Program) -> None:
    for number in range(3):
        queuectl("enqueue", "--queue", "q", "--tag", "x", "--id", f"job-{number}", "true")

    dry = queuectl("cancel", "--tag", "x", "--dry-run")
    assert dry.lines == ["job-0", "job-1", "job-2"]
    assert dry.err == "note: 3 jobs would be cancelled\n"

    terminal = queuectl.on_terminal("cancel", "--queue", "q")
    terminal.expect("3 jobs will be cancelled; go on?")
    terminal.sendline("n")
    terminal.expect("nothing was changed")
    terminal.wait()
    assert state(queuectl, "job-0") == "pending"

    terminal = queuectl.on_terminal("cancel", "--state", "pending")
    terminal.sendline("y")
    terminal.expect("3 jobs cancelled")
    terminal.wait()
    again = queuectl("cancel", "--all", "--yes")
    assert (again.out, again.err) == ("", "note: 0 jobs cancelled\n")


def test_ended_jobs_of_any_kind_are_queued_again(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "good", "true")
    queuectl("enqueue", "--id", "bad", "--max-retries", "0", "false")
    queuectl.drain()

    done = queuectl("retry", "good", "bad")

    assert done.lines == ["good", "bad"]
    assert "2 jobs queued again" in done.err
    assert "no worker is running" in done.err
    assert queuectl("dlq", "list", "-q").out == ""
    assert "is pending, and cannot be queued again" in queuectl("retry", "good", code=4).err
    queuectl.drain()
    assert len(queuectl("show", "good", "--json").json["history"]) == 2
    assert queuectl("audit").code == 0


def test_a_held_job_waits_for_its_release(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "--hold", "true")
    queuectl("enqueue", "--id", "later", "--hold", "--delay", "1h", "true")
    queuectl.drain()
    assert state(queuectl, "a") == "held"
    assert queuectl("status", "--json").json["states"]["held"] == 2

    assert queuectl("release", "--state", "held", "--yes").lines == ["a", "later"]

    queuectl.drain()
    assert (state(queuectl, "a"), state(queuectl, "later")) == ("completed", "scheduled")


def test_waiting_jobs_are_held_until_their_release(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "--tag", "x", "true")
    queuectl("enqueue", "--id", "b", "--tag", "x", "--delay", "1h", "true")
    queuectl("enqueue", "--id", "c", "--after", "a", "true")
    queuectl("enqueue", "--id", "free", "true")

    dry = queuectl("hold", "a", "--dry-run")
    told = "note: 1 job would be held, and 1 that needs it waits longer\n"
    assert (dry.out, dry.err, state(queuectl, "a")) == ("a\n", told, "pending")
    terminal = queuectl.on_terminal("hold", "--tag", "x")
    terminal.expect("2 jobs will be held; go on?")
    terminal.sendline("y")
    terminal.expect("2 jobs held, and 1 that needs them waits longer")
    terminal.wait()
    queuectl.drain()
    assert [state(queuectl, name) for name in ("a", "b", "c", "free")] == [
        "held",
        "held",
        "blocked",
        "completed",
    ]
    assert "it is held until somebody releases it" in queuectl("explain", "a").out
    held = queuectl("hold", "a", code=4).err
    assert "job 'a' is held, and cannot be held" in held
    assert "queuectl release a" in held
    assert "queuectl show free" in queuectl("hold", "free", code=4).err
    [one] = queuectl("hold", "c", "--json").json
    assert (one["id"], one["state"], one["dependents"]) == ("c", "held", [])

    assert queuectl("release", "--tag", "x", "--yes").err == "note: 2 jobs released\n"
    queuectl.drain()
    assert [state(queuectl, name) for name in ("a", "b", "c")] == ["completed", "scheduled", "held"]
    assert queuectl("hold", "--tag", "x", "--json", "--yes").json[0]["id"] == "b"
    assert queuectl("audit").code == 0


def test_a_release_tells_what_can_no_longer_start_and_who_is_cancelled_for_that(
    queuectl: Program,
) -> None:
    queuectl("enqueue", "--id", "bad", "--max-retries", "0", "false")
    queuectl("enqueue", "--id", "a", "--hold", "--after", "bad", "true")
    queuectl("enqueue", "--id", "b", "--after", "a", "true")
    queuectl("enqueue", "--id", "other", "--hold", "true")
    queuectl.drain()

    dry = queuectl("release", "a", "--dry-run")
    done = queuectl("release", "--all", "--yes", "--json")

    told = "1 of them can no longer start, and is cancelled: what it needs has ended otherwise"
    assert dry.err.splitlines() == [
        "note: 1 job would be released, and 1 that needs it is cancelled",
        f"note: {told}",
    ]
    assert done.err.splitlines()[0] == "note: 2 jobs released, and 1 that needs them is cancelled"
    assert {job["id"]: (job["state"], job["dependents"]) for job in done.json} == {
        "a": ("cancelled", ["b"]),
        "other": ("pending", []),
    }
    assert state(queuectl, "b") == "cancelled"


@pytest.mark.usefixtures("worker")
def test_a_job_that_runs_is_frozen_and_not_held(queuectl: Program, tmp_path: Path) -> None:
    start_job(queuectl, tmp_path, "a")

    assert "queuectl freeze a" in queuectl("hold", "a", code=4).err
    assert queuectl("hold", "--all", "--yes").err == "note: 0 jobs held\n"
    queuectl("cancel", "a")


def test_the_same_unique_key_answers_with_the_job_that_is_there(queuectl: Program) -> None:
    first = queuectl("enqueue", "--unique", "k", "true").out

    again = queuectl("enqueue", "--unique", "k", "--", "echo", "other")

    assert again.out == first
    assert "has that unique key and has not ended; nothing was added" in again.err
    queuectl.drain()
    assert queuectl("enqueue", "--unique", "k", "true").out != first


@pytest.mark.usefixtures("worker")
def test_wait_ends_with_the_jobs_and_their_exit_code(queuectl: Program, tmp_path: Path) -> None:
    start_job(queuectl, tmp_path, "a", "until [ -e go ]; do sleep 0.02; done; exit 5")
    waiting = queuectl.start("wait", "a")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.communicate(timeout=1)

    (tmp_path / "go").touch()

    waiting.communicate(timeout=30)
    assert waiting.returncode == 5
    assert queuectl("wait", "a", code=5).err == "note: 0 jobs completed, 1 failed or cancelled\n"
    queuectl("enqueue", "--tag", "t", "true")
    queuectl("enqueue", "--tag", "t", "true")
    queuectl("wait", "--tag", "t")
    assert queuectl("wait", "--all").err == "note: nothing to wait for\n"
    assert queuectl("wait", "a", "last", "--json", code=1).json == {
        "jobs": 2,
        "completed": 1,
        "failed": 1,
    }


def test_wait_for_queues_is_for_all_that_wait_there(queuectl: Program) -> None:
    queuectl("enqueue", "--queue", "q", "--max-retries", "0", "exit 3")
    queuectl("enqueue", "--queue", "r", "true")
    queuectl("enqueue", "--queue", "other", "--delay", "1h", "true")
    one, both = ("--queue", "r"), ("--queue", "q", "--queue", "r", "--json")
    waiting = [queuectl.start("wait", *one), queuectl.start("wait", *both)]
    for process in waiting:  # it has counted the jobs when it says that nobody runs them
        assert process.stderr is not None
        assert "no worker is running" in process.stderr.readline()

    queuectl.drain()

    told = [process.communicate(timeout=30)[0] for process in waiting]
    assert [process.returncode for process in waiting] == [0, 1]
    assert json.loads(told[1]) == {"jobs": 2, "completed": 1, "failed": 1}


def test_wait_gives_up_in_time_and_says_that_no_worker_runs(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "true")

    done = queuectl("wait", "a", "--timeout", "100ms", code=124)

    assert "no worker is running" in done.err
    assert "error: 1 job of 1 had not ended in time" in done.err
    assert state(queuectl, "a") == "pending"


@pytest.mark.usefixtures("worker")
def test_enqueue_waits_or_follows_on_request(queuectl: Program) -> None:
    assert len(queuectl("enqueue", "--wait", "true").lines) == 1
    queuectl("enqueue", "--wait", "--max-retries", "0", "exit 3", code=3)
    followed = queuectl("enqueue", "--follow", "--max-retries", "0", "echo hello; exit 4", code=4)
    assert followed.out == "hello\n"
    jobs = '{"command": "true"}\n{"command": "exit 3", "max_retries": 0}\n'
    assert len(queuectl("enqueue", "--wait", "--file", "-", given=jobs, code=1).lines) == 2


@pytest.mark.usefixtures("worker")
def test_enqueue_waits_and_prints_the_job_with_its_end(queuectl: Program) -> None:
    words = ("enqueue", "--wait", "--json", "--max-retries", "0")

    one = queuectl(*words, "exit 3", code=3).json
    many = queuectl("enqueue", "--wait", "--json", "--each", "-", "true", given="a\nb\n").json

    assert (one["state"], one["attempts"], one["last_error"]) == ("dead", 1, "exit code 3")
    assert [job["state"] for job in many] == ["completed", "completed"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["wait", "a"], "job a goes on; end it with: queuectl cancel a"),
        (["wait", "--all"], "the 2 jobs go on, as far as they have not ended; end them with:"),
        (["enqueue", "--wait", "--id", "c", "true"], "job c goes on; end it with: queuectl cancel"),
        (["enqueue", "--follow", "--id", "c", "true"], "job c goes on; end it with: queuectl canc"),
        (["enqueue", "--wait", "--file", "jobs"], "the 2 jobs go on, as far as they have not"),
    ],
    ids=" ".join,
)
def test_ctrl_c_ends_the_waiting_and_says_that_the_jobs_go_on(
    queuectl: Program, words: list[str], told: str
) -> None:
    (queuectl.folder / "jobs").write_text('{"command": "true"}\n{"command": "true"}\n')
    queuectl("enqueue", "--id", "a", "true")
    queuectl("enqueue", "--id", "b", "true")
    with queuectl.start(*words) as waiting:
        assert waiting.stderr is not None
        assert "no worker is running" in waiting.stderr.readline()
        if "--follow" in words:
            assert "waiting for a worker" in waiting.stderr.readline()

        waiting.send_signal(signal.SIGINT)
        said = waiting.stderr.read()

    assert said.startswith(f"note: {told}")
    assert said.count("\n") == 1
    assert waiting.returncode == 130
    assert state(queuectl, "a") == "pending"


def test_a_bar_shows_how_far_many_jobs_are(queuectl: Program) -> None:
    for _ in range(3):
        queuectl("enqueue", "true")
    terminal = queuectl.on_terminal("wait", "--all")
    terminal.expect("0/3")
    queuectl.drain()
    terminal.expect("3 jobs completed")
    terminal.wait()
    assert terminal.exitstatus == 0


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["cancel"], 2, "no jobs were named"),
        (["cancel", "a", "--all"], 2, "either by id or by what they have in common"),
        (["cancel", "--state", "nowhere"], 2, "no state 'nowhere'"),
        (["cancel", "--state", "completed"], 2, "completed jobs cannot be cancelled"),
        (["cancel", "--since", "banana"], 2, "--since: 'banana'"),
        (["kill", "-s", "NOPE", "a"], 2, "no signal 'NOPE'"),
        (["kill", "-s", "STOP", "a"], 2, "use: queuectl freeze"),
        (["kill", "a"], 4, "is pending, and cannot be sent SIGTERM"),
        (["wait", "--timeout", "soon", "a"], 2, "--timeout: 'soon'"),
        (["release", "a"], 4, "cannot be released"),
        (["enqueue", "--follow", "--file", "-"], 2, "--follow is for one job"),
        (["enqueue", "--follow", "--json", "true"], 2, "--follow and --json exclude each other"),
        (["enqueue", "--tag", "no spaces", "true"], 2, "--tag"),
        (["enqueue", "--unique", "", "true"], 2, "--unique"),
        (["enqueue", "--at", "banana", "true"], 2, "--at: 'banana' names no time"),
        (["enqueue", "--at", "yesterday", "true"], 2, "is over"),
    ],
)
def test_wrong_input_is_refused(queuectl: Program, words: list[str], code: int, named: str) -> None:
    queuectl("enqueue", "--id", "a", "true")

    assert named in queuectl(*words, code=code).err


def test_a_refusal_names_the_way_out(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "done", "true")
    queuectl("cancel", "done")
    queuectl("enqueue", "--id", "held", "--hold", "true")
    queuectl("enqueue", "--id", "a", "true")

    for words, way_out in (
        ("kill a", "queuectl explain a"),
        ("thaw done", "queuectl show done"),
        ("cancel done", "nothing is left to cancel; see its end with: queuectl show done"),
        ("retry a", "queuectl explain a"),
        ("retry held", "queuectl release held"),
        ("release a", "queuectl explain a"),
        ("release done", "queuectl retry done"),
    ):
        assert way_out in queuectl(*words.split(), code=4).err.splitlines()[1]


def test_a_date_in_words_is_said_back(queuectl: Program) -> None:
    done = queuectl("enqueue", "--at", "tomorrow 9:00", "true", variables={"TZ": "Europe/Berlin"})

    assert "09:00:00 CE" in done.err
    assert "note: due" in done.err
    shown = queuectl("show", "last", "--json").json
    assert shown["state"] == "scheduled"
    assert shown["run_at"][11:16] in ("07:00", "08:00")


def test_a_bare_hour_behind_a_day_is_that_hour_and_a_bare_number_is_refused(
    queuectl: Program,
) -> None:
    done = queuectl("enqueue", "--at", "tomorrow 15", "true")
    typed = queuectl("enqueue", "--at", "5", "true", code=2)
    other = queuectl("enqueue", "--run-at=tomorrow 15h", "true", code=2)
    skipped = queuectl(
        *("enqueue", "--at", "2030-03-31 02:30", "true"),
        code=2,
        variables={"TZ": "Europe/Berlin"},
    )

    assert " 15:00:00 " in done.err
    assert "--at: '5' names no time\nhint: write 18:00, tomorrow 15:00" in typed.err
    assert "--run-at: 'tomorrow 15h' names no time\nhint: write 18:00" in other.err
    assert "'2030-03-31 02:30' names no time: the clocks are put forward" in skipped.err
    assert len(queuectl("list", "-q").lines) == 1


def test_a_delay_and_a_deadline_are_said_back_as_instants(queuectl: Program) -> None:
    done = queuectl("enqueue", "--id", "a", "--in", "3h", "--deadline", "5h", "--hold", "true")
    again = queuectl("enqueue", "--id", "a", "--in", "3h", "--deadline", "5h", "--hold", "true")
    asked = queuectl("enqueue", "--json", "--in", "2h", "--deadline", "tomorrow 23:59", "true")
    many = queuectl("enqueue", "--in", "1h", "--each", "-", "echo", given="x\ny\n")

    job = queuectl("show", "a", "--json").json
    asked_for = {
        name: datetime.fromisoformat(asked.json[name]).astimezone()
        for name in ("run_at", "deadline")
    }
    for name, word in (("run_at", "due"), ("deadline", "deadline")):
        local = datetime.fromisoformat(job[name]).astimezone()
        assert f"note: {word} {local:%a %Y-%m-%d %H:%M:%S %Z} (in " in done.err
        assert f"{word:<11} {job[name]}" in queuectl("show", "a").out
        assert f"note: {word} {asked_for[name]:%a %Y-%m-%d %H:%M:}" in asked.err
    assert "note: due" not in again.err
    assert many.err.count("note: due ") == 1
    queuectl("enqueue", "--id", "b", "--hold", "true")
    assert "\ndue " not in queuectl("show", "b").out
