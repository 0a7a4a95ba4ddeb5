"""Enqueueing: all or nothing, and the same request twice is the same job."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from queuectl.db.engine import Store, open_store
from queuectl.domain.request import JobRequest, validate_request
from queuectl.errors import Conflict, InvalidJob
from queuectl.service import config, counts, jobs, queues
from queuectl.service.spool import CHUNK_SIZE
from tests.jobs import add
from tests.waiting import wait_until


def enqueue(store: Store, *fields: dict[str, object], cwd: str | None = "/") -> jobs.Receipt:
    requests = [validate_request({"command": "true", **each}) for each in fields]
    return jobs.enqueue(store, requests, cwd=cwd)


def ids(store: Store) -> list[str]:
    """Return all ids, oldest first."""
    return [job.id for job in reversed(jobs.list_jobs(store, limit=None))]


def test_a_job_has_what_was_asked_for_and_defaults_for_the_rest(store: Store) -> None:
    before = datetime.now(UTC)

    job = add(store, "echo hi", id="a", env={"A": "b"}, priority=3, backoff_base=1.5, timeout="1m")

    assert (job.command, job.env, job.priority) == ("echo hi", {"A": "b"}, 3)
    assert (job.state, job.queue, job.cwd) == ("pending", "default", str(store.location.folder))
    assert (job.max_retries, job.timeout_seconds, job.backoff_base) == (3, 60.0, 1.5)
    assert (job.attempts, job.runs, job.crashes, job.version) == (0, 0, 0, 1)
    assert before <= job.created_at <= datetime.now(UTC)
    assert job.run_at == job.created_at == job.updated_at
    assert (job.worker_id, job.claimed_at, job.finished_at, job.last_error) == (None,) * 4


def test_a_program_that_goes_on_enqueueing_sees_an_option_that_another_has_changed(
    store: Store,
) -> None:
    assert add(store).max_retries == 3

    with closing(open_store(store.location)) as other:
        config.set_option(other, "max-retries", 7)

    wait_until(lambda: add(store).max_retries == 7, limit=5)


def test_a_program_sees_the_option_that_it_has_changed_itself_at_once(store: Store) -> None:
    assert add(store).max_retries == 3

    config.set_option(store, "max-retries", 7)
    assert add(store).max_retries == 7

    config.unset_option(store, "max-retries")
    assert add(store).max_retries == 3


def test_queues_are_noted_once_and_never_missed(store: Store) -> None:
    for queue in ("a", "b", "a"):
        add(store, queue=queue)
    with closing(open_store(store.location)) as other:
        add(other, queue="c")
    add(store, queue="c")

    assert {queue.name for queue in counts.list_queues(store)} >= {"a", "b", "c"}


def test_retries_and_timeout_are_frozen_when_it_is_enqueued(store: Store) -> None:
    config.set_option(store, "max-retries", 7)
    config.set_option(store, "timeout", "90s")
    before = add(store, id="before")

    config.set_option(store, "max-retries", 1)
    config.unset_option(store, "timeout")

    assert jobs.find(store, "before") == before
    assert (before.max_retries, before.timeout_seconds) == (7, 90.0)
    assert add(store, id="after").max_retries == 1
    assert add(store, id="own", max_retries=0).max_retries == 0


def test_a_job_for_later_is_scheduled(store: Store) -> None:
    soon = add(store, delay="1h")
    dated = add(store, run_at="2199-01-01T00:00:00Z")
    past = add(store, run_at="2001-01-01T00:00:00Z")

    assert soon.state == dated.state == "scheduled"
    assert soon.run_at - soon.created_at == timedelta(hours=1)
    assert dated.run_at == datetime(2199, 1, 1, tzinfo=UTC)
    assert (past.state, past.run_at) == ("pending", datetime(2001, 1, 1, tzinfo=UTC))


def test_the_ids_come_in_the_order_of_the_requests(store: Store) -> None:
    receipt = enqueue(store, {"id": "b"}, {}, {"id": "a"})

    assert receipt.existing == []
    assert receipt.ids == ids(store)
    assert (receipt.ids[0], receipt.ids[2]) == ("b", "a")


def test_a_generated_id_is_ten_characters_that_nobody_confuses(store: Store) -> None:
    made = enqueue(store, *({} for _ in range(500))).ids

    assert len(set(made)) == 500
    assert all(len(job_id) == 10 for job_id in made)
    assert set("".join(made)) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_each_queue_has_a_row_from_its_first_job_on(store: Store) -> None:
    enqueue(store, {"queue": "b"}, {"queue": "a"}, {"queue": "b"})
    enqueue(store, {"queue": "a"}, {"queue": "c"})

    assert list(store.read(queues.ask_open)()) == ["a", "b", "c"]


def test_the_same_request_twice_is_one_job(store: Store) -> None:
    first = enqueue(store, {"id": "a", "priority": 1})
    job = jobs.find(store, "a")

    second = enqueue(store, {"id": "a", "priority": 1})

    assert (first.ids, first.existing) == (["a"], [])
    assert (second.ids, second.existing) == (["a"], ["a"])
    assert jobs.list_jobs(store) == [job]


def test_the_same_request_is_the_same_though_options_and_folder_have_changed(store: Store) -> None:
    enqueue(store, {"id": "a"}, cwd="/")
    config.set_option(store, "max-retries", 9)

    receipt = enqueue(store, {"id": "a"}, cwd="/tmp")  # noqa: S108  # only a name

    assert receipt.existing == ["a"]


def test_another_request_of_the_same_id_is_a_conflict(store: Store) -> None:
    enqueue(store, {"id": "a"})

    with pytest.raises(Conflict, match="job 'a' is already there") as caught:
        enqueue(store, {"id": "new"}, {"id": "a", "priority": 1})

    assert caught.value.exit_code == 4
    assert ids(store) == ["a"]


def test_within_a_batch_the_same_rules_hold(store: Store) -> None:
    receipt = enqueue(store, {"id": "a"}, {"id": "b"}, {"id": "a"})

    assert (receipt.ids, receipt.existing) == (["a", "b", "a"], ["a"])
    with pytest.raises(Conflict):
        enqueue(store, {"id": "c"}, {"id": "c", "priority": 1})
    assert ids(store) == ["a", "b"]


def test_an_id_that_was_generated_cannot_be_repeated(store: Store) -> None:
    [made] = enqueue(store, {}).ids

    with pytest.raises(Conflict):
        enqueue(store, {"id": made})


def test_a_batch_of_many_chunks_is_stored_whole_and_in_order(store: Store) -> None:
    count = 3 * CHUNK_SIZE + 500
    own = [f"job-{number}" for number in range(0, count, 2)]
    requests: list[dict[str, object]] = [
        {"id": f"job-{number}", "env": {"N": str(number)}} if number % 2 == 0 else {"priority": 1}
        for number in range(count)
    ]

    receipt = enqueue(store, *requests)

    assert len(receipt.ids) == count
    assert receipt.ids[::2] == own
    assert receipt.ids == ids(store)
    assert jobs.find(store, own[-1]).env == {"N": str(count - 2)}


def requests_until(count: int, last: object) -> Iterator[JobRequest]:
    """Yield jobs as a file of them does: validated one by one."""
    for number in range(count):
        yield validate_request({"command": "true", "id": f"job-{number}"})
    yield validate_request(last, where=f"line {count + 1}")


def test_an_invalid_job_after_3500_others_stores_nothing(store: Store) -> None:
    with pytest.raises(InvalidJob, match=r"^line 3501: command: must not be empty$"):
        jobs.enqueue(store, requests_until(3500, {"command": ""}), cwd=None)

    assert ids(store) == []
    assert store.read(queues.ask_open)() == {}


def test_a_conflict_after_3500_others_stores_nothing(store: Store) -> None:
    add(store, id="taken")

    with pytest.raises(Conflict):
        jobs.enqueue(store, requests_until(3500, {"command": "false", "id": "taken"}), cwd=None)

    assert ids(store) == ["taken"]


def test_an_id_of_an_earlier_chunk_is_known_in_a_later_one(store: Store) -> None:
    receipt = jobs.enqueue(
        store, requests_until(2500, {"command": "true", "id": "job-0"}), cwd=None
    )

    assert receipt.existing == ["job-0"]
    assert len(ids(store)) == 2500


def test_what_was_acknowledged_is_in_the_file(store: Store) -> None:
    add(store, id="a")

    with closing(open_store(store.location)) as other:
        assert jobs.find(other, "a").id == "a"


def test_every_acceptable_value_comes_back_as_it_was(store: Store) -> None:
    command = "printf '%s' \"äöü 漢字 🎬\" \x1b[31m ' \\ \" $x `y` \n\t"
    env = {"EMPTY": "", "ODD NAME": "a=b\n", "ü": "ö"}

    job = add(store, command, id="x" * 128, env=env, cwd="/ä b\n", priority=-1_000_000_000)

    assert (job.command, job.env, job.cwd) == (command, env, "/ä b\n")
    assert (job.id, job.priority) == ("x" * 128, -1_000_000_000)


def test_an_empty_batch_stores_nothing(store: Store) -> None:
    assert jobs.enqueue(store, [], cwd=None).ids == []
    assert ids(store) == []


def test_fifty_who_race_with_one_unique_key_make_one_job(store: Store) -> None:
    barrier = threading.Barrier(50)
    receipts: list[jobs.Receipt] = []

    def race() -> None:
        with closing(open_store(store.location)) as own:
            own.read(lambda connection: None)
            barrier.wait()
            receipts.append(enqueue(own, {"unique": "key"}))

    threads = [threading.Thread(target=race) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    [job_id] = ids(store)
    assert [receipt.ids for receipt in receipts] == [[job_id]] * 50
    assert sum(receipt.new for receipt in receipts) == 1
    assert sum(receipt.unique == [job_id] for receipt in receipts) == 49
