"""Export and import: everything goes round between both kinds of store, and comes in whole."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from queuectl.db import schema
from queuectl.db.engine import Store, open_store
from queuectl.db.models import JobRow
from queuectl.domain.job import State
from queuectl.domain.selection import Selection
from queuectl.errors import Conflict, InvalidInput
from queuectl.service import audit, config, exporting, importing, jobs, records, rescues, schedules
from queuectl.service.exporting import Part
from queuectl.service.importing import Imported
from queuectl.settings import ServerLocation, StoreLocation, locate_store
from tests import servers
from tests.actors import Actor, Hire
from tests.db.population import populate
from tests.jobs import add, attempts_of, state_of

Lines = list[str]


@pytest.fixture
def other(location: StoreLocation, tmp_path: Path) -> Iterator[Store]:
    """An empty store of the other kind."""
    if isinstance(location, ServerLocation):
        with closing(open_store(StoreLocation(tmp_path / "other" / "queue.db", "test"))) as store:
            yield store
        return
    with servers.new_database("queuectl_test_other") as url:
        found = locate_store(url, {})
        schema.upgrade(found)
        with closing(open_store(found)) as store:
            yield store


@pytest.fixture
def full(store: Store) -> Store:
    """A store with rows of every kind, none of which runs."""
    populate(store)
    rescues.rescue(store, ["w1"])
    add(store, "printf 'ä\u202e\x7f\\n'", id="odd", env={"B": "ö\t\\", "A": "\\N"}, priority=-3)
    add(store, id="precise", timeout=0.1, backoff_base=1.7, run_at="2036-11-24T18:00:00.123456Z")
    return store


def lines_of(store: Store, part: Part | None = None) -> Lines:
    lines: Lines = []
    exporting.export(store, lines.append, part)
    return lines


def take_in(store: Store, lines: Lines, *, dry_run: bool = False) -> Imported:
    return importing.import_(store, lambda: lines, "FILE", dry_run=dry_run)


def changed(lines: Lines, kind: str, **fields: Any) -> Lines:
    """Return the lines, of which the first of this kind has other fields."""
    found = [json.loads(line) for line in lines]
    next(line for line in found if line["kind"] == kind).update(fields)
    return [records.dump(line) for line in found]


def rows_of(store: Store) -> list[Any]:
    def work(connection: Connection) -> list[Any]:
        return [
            [tuple(row) for row in connection.execute(select(table))]
            for table in records.TABLES.values()
        ]

    return store.read(work)


def test_what_goes_into_a_store_of_the_other_kind_comes_out_the_same(
    full: Store, other: Store
) -> None:
    lines = lines_of(full)

    done = take_in(other, lines)

    assert lines_of(other) == lines
    assert done.new == {
        "options": 1,
        "queues": 2,
        "schedules": 1,
        "jobs": 11,
        "attempts": 4,
        "output_chunks": 2,
        "dead_letters": 1,
        "tags": 3,
        "dependencies": 2,
        "inputs": 1,
    }
    assert all(check.ok for check in audit.audit(other))
    assert all(line.isascii() and "\x7f" not in line for line in lines)


def test_a_schedule_comes_in_as_it_is_and_is_refused_where_it_is_another(
    full: Store, other: Store
) -> None:
    lines = lines_of(full)
    take_in(other, lines)
    [known] = schedules.show(full, ["nightly"])

    assert schedules.show(other, ["nightly"]) == [known]
    assert take_in(other, lines).existing["schedules"] == 1
    with pytest.raises(Conflict, match="schedule 'nightly' is there with another definition"):
        take_in(other, changed(lines, "schedule", cron="0 3 * * *"))
    for fields, message in (
        ({"cron": "61 * * * *"}, "cron: .* wrong minute"),
        ({"timezone": "Nowhere"}, "timezone: 'Nowhere' is no time zone"),
        ({"request": {"command": ""}}, "request: .*command"),
        ({"name": "new", "cron": None}, "either cron or every_seconds"),
    ):
        with pytest.raises(InvalidInput, match=message):
            take_in(other, changed(lines, "schedule", **fields))


def test_every_column_is_exported(full: Store) -> None:
    kinds = {}
    for line in lines_of(full)[1:-1]:
        fields = json.loads(line)
        kinds[fields["kind"]] = set(fields) - {"kind"}

    for kind, table in records.TABLES.items():
        of_job = {"job"} if "job_seq" in table.columns else set()
        assert kinds[kind] == {c.name for c in table.columns} - {"seq", "job_seq"} | of_job


def test_a_part_is_its_jobs_and_what_belongs_to_them(full: Store, other: Store) -> None:
    take_in(
        other,
        lines_of(full, Part(Selection(states=(State.DEAD, State.PENDING), queues=("default",)))),
    )

    found = {job.id for job in jobs.list_jobs(other, limit=None)}
    assert found == {"dead", "processing", "odd"}  # that one was rescued
    assert len(attempts_of(other, "dead")) == 1
    assert config.get_option(other, "max-retries").source == "default"
    assert all(check.ok for check in audit.audit(other))


def test_outputs_in_the_store_can_be_left_out(full: Store) -> None:
    lines = lines_of(full, Part(with_output=False))

    assert '"output"' not in "".join(lines)
    assert json.loads(lines[-1])["output_chunks"] == 0


def test_an_export_is_of_one_moment(store: Store) -> None:
    for number in range(3):
        add(store, id=f"j{number}")
    lines: Lines = []

    def write(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:  # the first that was read: a queue
            with closing(open_store(store.location)) as another:
                add(another, id="later")

    exporting.export(store, write)

    assert "later" not in "".join(lines)
    assert json.loads(lines[-1])["jobs"] == 3
    assert len(jobs.list_jobs(store)) == 4


def test_the_same_import_may_be_repeated_also_when_its_jobs_have_run(
    store: Store, other: Store
) -> None:
    config.set_option(store, "lease", "1m")
    for name in ("a", "b"):
        add(store, id=name)
    lines = lines_of(store)
    take_in(other, lines)
    run_one(other)
    config.set_option(other, "lease", "5m")
    before = rows_of(other)

    done = take_in(other, lines)

    assert rows_of(other) == before
    assert sum(done.new.values()) == 0
    assert done.existing["jobs"] == 2
    assert done.kept_options == ["lease"]
    assert state_of(other, "a") == "completed"


def run_one(store: Store) -> None:
    """Run the next job, as a worker of that store does."""
    actor = Actor(store.location)
    actor.settle(actor.claim_one())
    actor.die()


def test_jobs_come_in_beside_those_that_are_there(store: Store, other: Store) -> None:
    add(store, id="a", queue="new")
    add(other, id="b")

    take_in(other, lines_of(store))

    assert [job.id for job in jobs.list_jobs(other)] == ["a", "b"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("command", "false"), ("queue", "else"), ("priority", 7), ("env", {"A": "1"}), ("cwd", "/")],
)
def test_a_job_that_is_there_with_another_content_refuses_it_all(
    full: Store, field: str, value: object
) -> None:
    lines = changed(lines_of(full), "job", **{field: value})
    before = rows_of(full)

    with pytest.raises(Conflict, match=rf"FILE, line 6: job 'completed' .* another {field}"):
        take_in(full, lines)

    assert rows_of(full) == before


def test_a_dry_run_changes_nothing(full: Store, other: Store) -> None:
    done = take_in(other, lines_of(full), dry_run=True)

    assert done.new["jobs"] == 11
    assert rows_of(other) == [[] for _ in records.TABLES]


def test_a_job_that_ran_comes_in_as_pending_and_its_attempt_as_lost(
    store: Store, other: Store, hire: Hire
) -> None:
    add(store, id="a")
    hire().claim_one()

    done = take_in(other, lines_of(store))

    assert done.lost == 1
    job = jobs.find(other, "a")
    assert (job.state, job.worker_id, job.claimed_at, job.runs) == ("pending", None, None, 1)
    [attempt] = attempts_of(other, "a")
    assert (attempt.outcome, attempt.error) == ("lost", importing.LOST_ERROR)
    assert all(check.ok for check in audit.audit(other))
    run_one(other)
    assert state_of(other, "a") == "completed"


def _without_head(lines: Lines) -> Lines:
    return lines[1:]


def _cut_off(lines: Lines) -> Lines:
    return lines[:-1]


def _one_missing(lines: Lines) -> Lines:
    return [line for line in lines if '"kind":"dead_letter"' not in line]


def _twice(lines: Lines) -> Lines:
    return [*lines, *lines]


def _newer(lines: Lines) -> Lines:
    return changed(lines, "queuectl", format=2)


def _job_twice(lines: Lines) -> Lines:
    job = next(line for line in lines if '"kind":"job"' in line)
    at = lines.index(job)
    end = json.loads(lines[-1])
    return [*lines[:at], job, *lines[at:-1], records.dump({**end, "jobs": end["jobs"] + 1})]


def _stray(lines: Lines) -> Lines:
    return changed(lines, "attempt", job="nobody")


def _undead(lines: Lines) -> Lines:
    return changed(lines, "dead_letter", job="completed")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_head, "line 1: this is no export"),
        (_cut_off, "FILE is cut off"),
        (_one_missing, r"it counts .*\"dead_letters\": 1"),
        (_twice, "the export had ended"),
        (_newer, "format 2, and this program reads 1"),
        (_job_twice, "job 'completed' stands in it twice"),
        (_stray, "there is no job 'nobody'"),
        (_undead, "is dead without a dead letter"),
        (lambda lines: [], "FILE is empty"),
        (lambda lines: [lines[0], "{", *lines[2:]], "line 2: not valid JSON"),
        (lambda lines: [lines[0], "[]", *lines[2:]], "line 2: must be a JSON object"),
        (lambda lines: [lines[0], '{"kind":"worker"}'], "'worker' is no kind of line"),
        (lambda lines: changed(lines, "job", colour="red"), "colour: unknown field"),
        (lambda lines: changed(lines, "job", state="asleep"), "state: 'asleep' must be one of"),
        (lambda lines: changed(lines, "job", runs="1"), "runs: '1' must be a valid integer"),
        (lambda lines: changed(lines, "job", id="last"), "id: 'last' is taken"),
        (lambda lines: changed(lines, "job", id="../x"), "id: '../x' must begin"),
        (lambda lines: changed(lines, "job", command=" "), "command: must not be empty"),
        (lambda lines: changed(lines, "job", cwd="here"), "cwd: 'here' must be an absolute path"),
        (lambda lines: changed(lines, "job", created_at=None), "created_at: "),
        (lambda lines: changed(lines, "job", run_at="soon"), "run_at: 'soon' must be an RFC 3339"),
        (
            lambda lines: changed(lines, "attempt", output_tail="?"),
            "output_tail: '\\?' is not base",
        ),
        (lambda lines: changed(lines, "attempt", run=0), "run: 0 must be greater"),
        (lambda lines: changed(lines, "queue", name="a b"), "name: 'a b' must begin"),
        (lambda lines: changed(lines, "option", value="-1"), "max-retries: '-1'"),
        (lambda lines: changed(lines, "queue", rate_starts="[[0]]"), "rate_starts: .* moments"),
        (lambda lines: changed(lines, "queue", rate_count=0), "rate_count: 0 must be greater"),
        (lambda lines: changed(lines, "option", value="{"), "value: .* is not JSON"),
        (lambda lines: changed(lines, "option", key="colour"), "no option 'colour'"),
    ],
)
@pytest.mark.sqlite
def test_what_is_no_whole_export_is_refused_and_nothing_comes_in(
    full: Store, tmp_path: Path, spoil: Callable[[Lines], Lines], message: str
) -> None:
    lines = spoil(lines_of(full))

    with closing(open_store(StoreLocation(tmp_path / "empty" / "queue.db", "test"))) as empty:
        with pytest.raises(InvalidInput, match=message):
            take_in(empty, lines)

        assert rows_of(empty) == [[] for _ in records.TABLES]


def test_two_imports_of_the_same_file_at_once_store_it_once(full: Store, other: Store) -> None:
    lines = lines_of(full)
    refused: list[Conflict] = []

    def import_once() -> None:
        with closing(open_store(other.location)) as own:
            try:
                take_in(own, lines)
            except Conflict as error:
                refused.append(error)

    threads = [threading.Thread(target=import_once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused) < 4
    assert lines_of(other) == lines
    assert take_in(other, lines).existing["jobs"] == 11


def test_the_next_job_comes_behind_those_that_came_in(full: Store, other: Store) -> None:
    take_in(other, lines_of(full))

    assert add(other, id="next").seq == max(job.seq for job in jobs.list_jobs(other, limit=None))
    query = select(JobRow.id).order_by(JobRow.seq)
    order = [store.read(lambda c: c.execute(query).scalars().all()) for store in (full, other)]
    assert order[1] == [*order[0], "next"]
