"""What counts as failure: outputs, files and silence, judged by real workers."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import State
from queuectl.domain.selection import Chosen, Selection
from queuectl.service import cancelling, config, jobs, orders, requeueing
from queuectl.service.selection import choose
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisors
from tests.waiting import wait_until

#: On this line that pattern takes longer than anybody waits.
_ENDLESS = "^(a|aa)+$"
_LINE = "a" * 60 + "b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "jobs"
    made.mkdir()
    return made


def chosen(store: Store, *references: str) -> list[Chosen]:
    return choose(store, Selection(references), among=State, verb="meant")


def examiners(folder: Path) -> list[psutil.Process]:
    """Return the processes of this test that search an output."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        if "examiner" in " ".join(process.info["cmdline"] or ()):
            variables = process.info["environ"] or {}
            if variables.get("TEST_FOLDER") == str(folder):
                found.append(process)
    return found


def test_exit_code_0_is_not_enough_where_more_is_expected(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    wanted = "exit code 0, but no line of its output matches --expect"
    cases: list[tuple[dict[str, str], str, str | None]] = [
        ({"expect": "done$"}, "echo undone", None),
        ({"expect": "^done$"}, "echo undone; echo done >&2", None),
        ({"expect": "^done$"}, "echo undone", f"{wanted} '^done$': undone"),
        ({"expect": "."}, "true", f"{wanted} '.'"),
        ({"expect": "do\\s+ne"}, "echo do; echo ne", f"{wanted} 'do\\s+ne': ne"),
        ({"fail_if": "ERROR"}, "echo all is well", None),
        (
            {"fail_if": "ERROR"},
            "echo ' ERROR: disk'; echo bye",
            "exit code 0, but a line of its output matches --fail-if 'ERROR': ERROR: disk",
        ),
        ({"expect": "ok", "fail_if": "bad"}, "echo ok", None),
        (
            {"expect": "ok", "fail_if": "bad"},
            "echo ok; echo bad",
            "exit code 0, but a line of its output matches --fail-if 'bad': bad",
        ),
        ({"expect_file": "out/a"}, "mkdir out; touch out/a", None),
        (
            {"expect_file": "out/b"},
            "echo wrote b",
            "exit code 0, but there is no file out/b (--expect-file): wrote b",
        ),
        ({"expect_file": str(folder / "c"), "expect": "c"}, "echo c > c; cat c", None),
        ({"expect": "done"}, "echo done; exit 3", "exit code 3: done"),
    ]
    for number, (fields, command, _) in enumerate(cases):
        add(store, command, id=f"job{number}", cwd=str(folder), max_retries=0, **fields)

    supervisors.run_drained(concurrency=4)

    ends = [jobs.find(store, f"job{number}") for number in range(len(cases))]
    assert [job.last_error for job in ends] == [error for *_, error in cases]
    for job, (*_, error) in zip(ends, cases, strict=True):
        assert job.state == ("completed" if error is None else "dead")
    [attempt] = attempts_of(store, "job2")
    assert (attempt.outcome, attempt.exit_code) == ("failed", 0)
    assert attempt.output_tail == b"undone\n"


@pytest.mark.parametrize("output_store", ["files", "database"])
def test_the_whole_output_that_is_kept_is_searched_and_no_note_of_ours(
    store: Store, supervisors: Supervisors, output_store: str
) -> None:
    config.set_option(store, "output-store", output_store)
    config.set_option(store, "output-limit", "64KiB")
    prints = "echo head; seq 100000; echo tail"
    for name, command, fields in (
        ("head", prints, {"expect": "^head$"}),
        ("tail", prints, {"expect": "^tail$"}),
        ("dropped", prints, {"expect": "^50000$"}),
        ("note", prints, {"fail_if": "bytes dropped"}),
        # Behind the half of the limit, with nothing dropped: a line that two files share.
        ("whole", "yes x | head -c 32766; echo; echo across; seq 1000", {"expect": "^across$"}),
    ):
        add(store, command, id=name, max_retries=0, **fields)

    supervisors.run_drained(concurrency=2)

    states = {name: state_of(store, name) for name in ("head", "tail", "dropped", "note", "whole")}
    assert states.pop("dropped") == "dead"
    assert set(states.values()) == {"completed"}, states


def test_a_pattern_that_takes_for_ever_fails_the_attempt_and_holds_up_nobody(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    brought = tmp_path / "brought in"
    brought.mkdir()
    (brought / "sitecustomize.py").write_text(
        "import queuectl.worker.examination as e; e.LIMIT_SECONDS = 3.0"
    )
    add(store, f"echo {_LINE}", id="a", expect=_ENDLESS, max_retries=0)
    supervisor = supervisors.start(concurrency=2, environment={"PYTHONPATH": str(brought)})
    wait_until(lambda: examiners(tmp_path))

    add(store, "true", id="b")
    wait_until(lambda: state_of(store, "b") == "completed")
    assert state_of(store, "a") == "processing"
    wait_until(lambda: state_of(store, "a") == "dead")

    assert jobs.find(store, "a").last_error == (
        f"exit code 0, but the search for --expect '{_ENDLESS}' in its output took longer than 3s"
    )
    assert supervisor.events("job-failed")[0]["exit_code"] == 0
    assert examiners(tmp_path) == []


#: Its first attempt prints what cannot be searched.
_ONCE_ENDLESS = f"[ $QUEUECTL_ATTEMPT = 1 ] && echo {_LINE} || echo ok"


def test_a_worker_that_dies_while_it_searches_leaves_nothing_and_the_job_runs_again(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    add(store, _ONCE_ENDLESS, id="a", fail_if=_ENDLESS)
    supervisor = supervisors.start()
    [examiner] = wait_until(lambda: examiners(tmp_path))

    [worker] = supervisor.worker_pids()
    psutil.Process(worker).kill()
    wait_until(lambda: state_of(store, "a") == "completed")

    assert [attempt.outcome for attempt in attempts_of(store, "a")] == ["lost", "completed"]
    assert not examiner.is_running()


def test_a_job_is_cancelled_while_its_output_is_searched(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    add(store, f"echo {_LINE}", id="a", fail_if=_ENDLESS)
    supervisors.start()
    wait_until(lambda: examiners(tmp_path))

    cancelling.cancel(store, chosen(store, "a"))
    wait_until(lambda: state_of(store, "a") == "cancelled")

    [attempt] = attempts_of(store, "a")
    assert (attempt.outcome, attempt.exit_code) == ("cancelled", 0)
    assert attempt.error == "cancelled while its output was searched"


def test_a_silent_attempt_is_killed_with_its_tree_and_tried_again(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    command = "(sleep 300; touch late) & echo at 7 %; sleep 300"
    fields = {"max_retries": 1, "backoff": "fixed", "backoff_base": 0, "retry_on": [75]}
    add(store, command, id="a", cwd=str(folder), stall="1s", **fields)
    supervisor = supervisors.start()

    supervisor.wait_for("job-stalled", 2)
    wait_until(lambda: state_of(store, "a") == "dead")

    history = jobs.history(store, "a")
    assert history.dead_reason == "retries exhausted"
    assert history.job.last_error == "stalled: printed nothing for 1s: at 7 %"
    for attempt in history.attempts:
        assert (attempt.outcome, attempt.signal) == ("stalled", 15)
        assert 1 <= (attempt.finished_at - attempt.started_at).total_seconds() < 15


def test_a_job_that_prints_now_and_then_does_not_stall_nor_one_that_is_frozen(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    add(store, "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.6; done", id="a", stall=4)
    add(store, f"touch b; {until(folder / 'go')}", id="b", cwd=str(folder), stall=4)
    # It measures the time in the meantime, by the same clock.
    add(store, "sleep 6; touch later", id="c", cwd=str(folder))
    supervisors.start(concurrency=3)
    wait_until((folder / "b").exists)

    orders.freeze(store, chosen(store, "b"))
    wait_until((folder / "later").exists)
    assert state_of(store, "b") == "processing"
    (folder / "go").touch()
    orders.thaw(store, chosen(store, "b"))
    wait_until(lambda: state_of(store, "b") == state_of(store, "a") == "completed")

    assert len(attempts_of(store, "a")) == len(attempts_of(store, "b")) == 1


def reason(store: Store, reference: str) -> tuple[str | None, int]:
    history = jobs.history(store, reference)
    return history.dead_reason, len(history.attempts)


def test_exit_codes_decide_what_is_tried_again(store: Store, supervisors: Supervisors) -> None:
    at_once: dict[str, object] = {"max_retries": 1, "backoff": "fixed", "backoff_base": 0}
    add(store, "exit 75", id="again", retry_on=[75, 124], **at_once)
    add(store, "exit 3", id="other", retry_on=[75, 124], **at_once)
    add(store, "sleep 300", id="late", retry_on=[75, 124], timeout=0.3, **at_once)
    add(store, "exit 2", id="never", no_retry_on="2", **at_once)
    add(store, "kill -9 $$", id="killed", no_retry_on="137", **at_once)
    add(store, "true", id="unmet", retry_on=[75], expect="done", **at_once)

    supervisors.start(concurrency=2)
    wait_until(lambda: all(job.state == "dead" for job in jobs.list_jobs(store)))

    exhausted = ("retries exhausted", 2)
    assert reason(store, "again") == reason(store, "late") == reason(store, "unmet") == exhausted
    assert reason(store, "other") == ("exit code 3 is not among those retried (75,124)", 1)
    assert reason(store, "never") == ("exit code 2 is among those not retried (2)", 1)
    assert reason(store, "killed") == ("exit code 137 is among those not retried (137)", 1)


def test_a_requeued_job_has_its_terms_still(store: Store, supervisors: Supervisors) -> None:
    add(store, "exit 2", id="a", no_retry_on=[2])
    supervisors.run_drained()

    requeueing.retry(store, chosen(store, "a"))
    supervisors.run_drained()

    assert reason(store, "a") == ("exit code 2 is among those not retried (2)", 2)
