"""The primary dies under load and its synchronous standby takes over: nothing acknowledged is lost.

A home folder of its own stands for a host, as workers know each other by the locks there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from queuectl.db.engine import Store, open_store
from queuectl.domain.job import State
from queuectl.domain.request import validate_request
from queuectl.errors import StoreUnavailable
from queuectl.service import config, counts, jobs
from tests.cli.conftest import Program
from tests.jobs import until
from tests.replicas import Pair
from tests.scripts import start_script
from tests.supervision import Supervisor, Supervisors
from tests.waiting import wait_until

# Two servers are made and one copied; that alone takes half a minute on a busy machine.
pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(300)]

_HOSTS = ("host-a", "host-b")
_WORKERS = 2
#: Enqueues one job after the other, and writes down which were acknowledged. One that was refused
#: is not tried again: whether it is there is nobody's knowledge.
_CLIENT = """
name, folder = sys.argv[2], Path(sys.argv[3])
command = (folder / "command").read_text()
acknowledged, refused = (open(folder / f"{name}.{end}", "a", 1) for end in ("ids", "refused"))
store, number = open_store(location), 0
while not (folder / "enough").exists():
    number += 1
    request = JobRequest(id=f"{name}-{number}", command=command)
    try:
        jobs.enqueue(store, [request], cwd="/")
        print(request.id, file=acknowledged)
    except QueuectlError as error:
        print(request.id, error.message, file=refused)
    time.sleep(0.02)  # the load, not a wait
"""


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as both:
        yield both


@pytest.fixture
def store(pair: Pair) -> Iterator[Store]:
    with closing(open_store(pair.location)) as opened:
        yield opened


class Load:
    """Two clients, and two workers on each of two hosts; every job tells when two runs meet."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self._pair = pair
        self._folder = folder
        self._journal = folder / "journal"
        self._journal.touch()
        # The lock is held until the last process of the run has ended.
        self.prologue = (
            f'exec 9>>"{folder}/lock-$QUEUECTL_JOB_ID"; flock -n 9 && said=run || said=overlap;'
            f' echo "$said $QUEUECTL_JOB_ID" >>{self._journal}; '
        )
        (folder / "command").write_text(f"{self.prologue} sleep 0.02")
        self._clients: dict[str, subprocess.Popen[str]] = {}
        self._hosts: list[Supervisors] = []
        self.supervisors: list[Supervisor] = []

    def __enter__(self) -> Load:
        return self

    def start(self) -> None:
        for name in _HOSTS:
            home = self._folder / name
            home.mkdir()
            self._hosts.append(Supervisors(self._pair.location, home))
            self.supervisors.append(self._hosts[-1].start(count=_WORKERS, concurrency=2))
        for name in ("c1", "c2"):
            self._clients[name] = start_script(
                self._folder, self._pair.location.url, _CLIENT, words=[name, str(self._folder)]
            )

    def __exit__(self, *exception: object) -> None:
        with ExitStack() as ended:
            for host in self._hosts:
                ended.callback(host.end)
            ended.callback(self.enough)  # first

    def enough(self) -> None:
        """Let the clients end; they must not have failed."""
        (self._folder / "enough").touch()
        for client in self._clients.values():
            printed, complaint = client.communicate(timeout=60)
            assert (client.returncode, printed, complaint) == (0, "", "")

    def lines(self, name: str, end: str) -> list[str]:
        return (self._folder / f"{name}.{end}").read_text().split("\n")[:-1]

    def acknowledged(self) -> list[str]:
        """Return the ids of all jobs whose enqueueing was acknowledged."""
        return [line for name in self._clients for line in self.lines(name, "ids")]

    def await_more(self, count: int) -> None:
        """Wait until each client has had that many more jobs acknowledged."""
        for name in self._clients:
            path = self._folder / f"{name}.ids"
            wait_until(path.exists)
            goal = len(self.lines(name, "ids")) + count
            wait_until(lambda name=name, goal=goal: len(self.lines(name, "ids")) >= goal)  # type: ignore[misc]

    def await_event(self, event: str) -> None:
        """Wait until each worker of each host has told of it."""
        for supervisor in self.supervisors:
            wait_until(
                lambda told=supervisor: len({e["source"] for e in told.events(event)}) == _WORKERS  # type: ignore[misc]
            )

    def crew(self) -> list[set[int]]:
        """Return the workers of each host, by their process numbers."""
        return [set(supervisor.worker_pids()) for supervisor in self.supervisors]

    def add_long(self, store: Store, go: Path) -> None:
        """Add the job ``long``, which runs until that file is there."""
        long = validate_request({"id": "long", "command": self.prologue + until(go)})
        jobs.enqueue(store, [long], cwd="/")

    def await_runs(self, job: str) -> None:
        """Wait until a job has begun, and each host has completed some others."""
        wait_until(lambda: job in self.runs())
        for supervisor in self.supervisors:
            supervisor.wait_for("job-completed", 5)

    def runs(self) -> dict[str, list[str]]:
        """Return what each job has said of its runs: ``run``, or ``overlap`` where two met."""
        found: dict[str, list[str]] = {}
        for line in self._journal.read_text().splitlines():
            said, job = line.split()
            found.setdefault(job, []).append(said)
        return found


def states_of(store: Store) -> set[str]:
    return {state for state, count in counts.read_status(store).states.items() if count}


def test_nothing_acknowledged_is_lost_when_the_primary_dies_under_load(
    pair: Pair, store: Store, queuectl: Program, tmp_path: Path
) -> None:
    config.set_option(store, "lease", 600)  # no job ends for the time that the test takes
    go = tmp_path / "go"
    with Load(pair, tmp_path) as load:
        load.start()
        load.add_long(store, go)
        load.await_more(15)
        load.await_runs("long")

        crew = load.crew()
        pair.kill_primary()
        load.await_event("store-away")
        refused = queuectl("--db", pair.location.url, "enqueue", "--", "true", code=5)
        before = load.acknowledged()  # all of it by the primary; nobody takes writes now
        pair.promote_standby()
        standing = {job.id for job in jobs.list_jobs(store, limit=None)}
        load.await_event("store-back")
        load.await_more(15)
        load.enough()
        go.touch()

        wait_until(lambda: states_of(store) == {State.COMPLETED}, limit=60)
        stored = {job.id: job for job in jobs.list_jobs(store, limit=None)}
        assert set(load.acknowledged()) <= stored.keys()
        # The lease is longer than the failover: what ran went on, and nothing ran twice.
        assert {job.runs for job in stored.values()} == {1}
        assert load.runs() == {job: ["run"] for job in stored}
        audit = queuectl("--db", pair.location.url, "audit")
        assert audit.lines[0] == f"{len(stored)} attempts, 0 overlaps"
        # What the primary had acknowledged, by id, was on the standby; then that took more.
        assert {"c1-15", "c2-15"} <= set(before) <= standing
        assert len(set(load.acknowledged())) >= len(before) + 2 * 15
        assert load.crew() == crew  # the same workers are back
    assert refused.err.startswith("error: ")
    assert load.lines("c1", "refused") + load.lines("c2", "refused") != []


def test_what_the_standby_has_not_confirmed_is_not_acknowledged(pair: Pair, store: Store) -> None:
    first, second = (validate_request({"id": name, "command": "true"}) for name in "ab")
    jobs.enqueue(store, [first], cwd="/")
    store.patience_seconds = 0.5

    pair.freeze_standby()
    with pytest.raises(StoreUnavailable):
        jobs.enqueue(store, [second], cwd="/")
    pair.thaw_standby()

    store.patience_seconds = 30
    jobs.enqueue(store, [second], cwd="/")
    assert sorted(job.id for job in jobs.list_jobs(store)) == ["a", "b"]
