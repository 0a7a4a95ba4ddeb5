"""The stage: the processes of one store's campaign, started and watched by one driver.

The driver is one thread that never has the store open, so it may fork: its children become real
supervisors and clients by running the command line themselves, which saves the half second of a
start; every few of them is started anew all the same, as a user would. Orphans come to the driver.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from queuectl.cli import program
from queuectl.settings import ServerLocation, StoreLocation, locate_store
from queuectl.worker import processes
from tests.campaign import failpoints, mutants, plan, server, strays
from tests.campaign.facts import Batch
from tests.campaign.failpoints import boottime
from tests.campaign.hosts import Host, make_host
from tests.campaign.strays import die_with_parent
from tests.campaign.terms import Terms
from tests.campaign.window import Window, open_window
from tests.supervision import address_of

_HERE = Path(__file__).parent
#: Every so many calls is a program of its own.
_ANEW = 25
_FRESH = "import sys; from queuectl.cli import main; sys.argv[0] = 'queuectl'; main()"
#: How a supervisor may end: stopped, killed, without a store, or by a TERM before it had workers.
_LEFT = (0, -signal.SIGKILL, 5, -signal.SIGTERM)
_REQUEUED_AT_ONCE = 10
#: Clients that enqueue at the same time.
CLIENTS = 3


@dataclass(slots=True)
class Client:
    """One call of the command line that ends by itself."""

    name: str
    pid: int
    own_ids: tuple[str, ...] = ()
    on_end: Callable[[Client, int], None] = lambda client, code: None


@dataclass(slots=True)
class Crew:
    """One supervisor, as the campaign knows it."""

    name: str
    pid: int
    #: The machine that it seems to run on; None where the store is a file.
    host: Host | None = None
    #: Whether all of it is stopped, or one of its workers.
    frozen: bool = False
    has_frozen: bool = False


@dataclass(slots=True)
class Stage:
    """The folder, the processes, and what has been seen of them."""

    terms: Terms
    crews: dict[int, Crew] = field(default_factory=dict)
    clients: dict[int, Client] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    requeues: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    asked_jobs: int = 0
    hosts: list[Host] = field(default_factory=list)
    server: server.OwnServer | None = None
    location: StoreLocation = field(init=False)
    folder: Path = field(init=False)
    window: Window = field(init=False)
    random: Random = field(init=False)
    _started: int = 0

    def __post_init__(self) -> None:
        store = self.terms.store
        if store == server.OWN:
            self.server = server.OwnServer()
            store = self.server.url
        self.location = locate_store(store)
        files = Path(self.terms.files) if self.terms.files else self.location.folder
        self.folder = files / f"{self._name}.campaign"
        self.window = open_window(self.location)
        self.random = plan.make_random(self.terms.seed ^ 0x5EED)

    @property
    def _name(self) -> str:
        if isinstance(self.location, ServerLocation):
            return f"postgresql-{self.terms.seed}"
        return self.location.path.name

    @property
    def orders(self) -> Path:
        return self.folder / "orders"

    @property
    def strikes(self) -> Path:
        return self.folder / "strikes"

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def set_up(self) -> None:
        """Make the folder and the store, and turn this process into a driver."""
        self.folder.mkdir(parents=True)
        self.orders.mkdir()
        self.journal.touch()
        self.strikes.touch()
        os.environ.update(
            {
                strays.MARK: str(self.folder),
                failpoints.ORDERS: str(self.orders),
                failpoints.STRIKES: str(self.strikes),
                "CAMPAIGN_JOURNAL": str(self.journal),
                "CAMPAIGN_JOB": str(_HERE / "job.sh"),
                "CAMPAIGN_CHILD": str(_HERE / "child.sh"),
                "CAMPAIGN_SUPERVISOR": "-",
                "HOME": str(self.folder),
                "PYTHONPATH": str(_HERE / "brought_in"),
            }
        )
        if self.terms.mutant:
            os.environ[mutants.VARIABLE] = self.terms.mutant
        processes.become_subreaper()
        _import_all(self.location)
        failpoints.install()
        mutants.install_named(self.terms.mutant)
        if isinstance(self.location, ServerLocation):
            self._set_up_server(self.location)
        self._settings()

    def _set_up_server(self, location: ServerLocation) -> None:
        if self.server is None:
            server.create_database(location.url)
        for number in range(1, self.terms.hosts + 1):
            self.hosts.append(make_host(f"h{number}", self.folder, location))
        self._require(["db", "upgrade"])

    def tear_down(self) -> None:
        """End what is not part of what is tried: networks, and the server if it is our own."""
        for host in self.hosts:
            host.close()
        if self.server is not None:
            self.server.stop()

    def _settings(self) -> None:
        for name, value in (
            ("lease", self.terms.lease_seconds),
            ("backoff-base", 1),
            ("max-crashes", 50),
            ("output-limit", "64KiB"),
        ):
            self._require(["config", "set", name, str(value)])

    def _require(self, arguments: list[str]) -> None:
        if (code := self.wait_for(arguments)) != 0:
            told = (self.folder / f"{arguments[0]}.err").read_text()
            raise RuntimeError(f"{' '.join(arguments)} ended with {code}: {told}")

    def wait_for(self, arguments: list[str]) -> int:
        """Run one call of the command line to its end; return its exit code."""
        pid = self.run(arguments, name=arguments[0])
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    # Processes

    def run(
        self,
        arguments: list[str],
        *,
        name: str,
        stdin: Path = Path(os.devnull),
        environment: Mapping[str, str] | None = None,
        address: str | None = None,
    ) -> int:
        """Start one call of the command line; return its process id.

        ``address`` is the store's where it is not reached in the ordinary way.
        """
        self._started += 1
        anew = self._started % _ANEW == 0
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        try:
            self._become(name, stdin, environment or {})
            words = ["--db", address or address_of(self.location), *arguments]
            if anew:
                os.execv(sys.executable, [sys.executable, "-c", _FRESH, *words])  # noqa: S606  # our own program
            os._exit(program.run(words))
        finally:
            os._exit(99)

    def _become(self, name: str, stdin: Path, environment: Mapping[str, str]) -> None:
        os.setsid()
        die_with_parent(signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        out = os.open(self.folder / f"{name}.out", appending, 0o600)
        err = os.open(self.folder / f"{name}.err", appending, 0o600)
        for target, source in ((0, os.open(stdin, os.O_RDONLY)), (1, out), (2, err)):
            os.dup2(source, target)
            os.close(source)
        os.chdir(self.folder)
        os.environ.update(environment)

    def start_crew(self) -> Crew:
        """Start one supervisor."""
        name = f"s{self._started}"
        size = ["--count", str(self.terms.workers), "--concurrency", str(self.terms.slots)]
        environment = {"CAMPAIGN_SUPERVISOR": name}
        host = self._emptiest_host()
        if host is not None:
            environment["HOME"] = str(host.home)
        pid = self.run(
            ["worker", "start", *size],
            name=name,
            environment=environment,
            address=None if host is None else host.url,
        )
        crew = self.crews[pid] = Crew(name, pid, host)
        return crew

    def _emptiest_host(self) -> Host | None:
        """Return the host with the fewest supervisors, if there are hosts."""
        crews = list(self.crews.values())
        return min(
            self.hosts, key=lambda host: sum(crew.host is host for crew in crews), default=None
        )

    def workers(self, crew: Crew) -> list[int]:
        """Return the workers of a supervisor: children that are forks of it."""
        own = strays.command_line(crew.pid)
        return [pid for pid in strays.children(crew.pid) if own and strays.command_line(pid) == own]

    # Clients

    def enqueue(self, *, largest: int | None = None) -> Client:
        """Start a client that enqueues some jobs, ``largest`` at most, in one call."""
        name = f"c{self._started}"
        count = 1 + int(self.random.random() ** 2 * (largest or self.terms.largest_batch))
        own = self.random.random() < 0.5
        jobs = [self._make_job(f"{name}.{i}" if own else None) for i in range(count)]
        (self.folder / f"{name}.in").write_text("".join(json.dumps(job) + "\n" for job in jobs))
        self.asked_jobs += count
        return self._enqueue(name, tuple(job["id"] for job in jobs) if own else ())

    def _enqueue(self, name: str, own_ids: tuple[str, ...]) -> Client:
        pid = self.run(["enqueue", "--file", "-"], name=name, stdin=self.folder / f"{name}.in")
        client = self.clients[pid] = Client(name, pid, own_ids, self._note_batch)
        return client

    def _make_job(self, job_id: str | None) -> dict[str, str]:
        what = plan.choose(self.random, self.terms.mix)
        job: dict[str, object] = {"command": f'set -- {what}; . "$CAMPAIGN_JOB"'}
        if job_id:
            job["id"] = job_id
        if what == "slow":
            job.update(timeout=0.4, max_retries=1)
        elif what == "fail 99":
            job["max_retries"] = 1
        return job  # type: ignore[return-value]  # ids are texts, and only they are read

    def _note_batch(self, client: Client, code: int) -> None:
        whole = self._printed(client)
        self.batches.append(
            Batch(
                client.name,
                client.own_ids,
                tuple(whole),
                boottime(),
                None if code < 0 else code,
            )
        )
        if code not in (0, 5) and code != -signal.SIGKILL:
            self.complaints.append(f"client {client.name} (enqueue) ended with {code}")
        if code != 0 and client.own_ids and self.random.random() < 0.7:
            # The same request with the same ids: it must succeed, whatever became of the first.
            self._enqueue(client.name, client.own_ids)

    def _printed(self, client: Client) -> list[str]:
        """Return the whole lines that a client printed; one that was killed early has no file."""
        try:
            text = (self.folder / f"{client.name}.out").read_text()
        except FileNotFoundError:
            return []
        return text[: text.rfind("\n") + 1].split()

    def call(self, arguments: list[str], name: str, expected: tuple[int, ...]) -> Client:
        """Start another command; complain if it ends with an exit code that is not expected."""
        name = f"{name}{self._started}"

        def on_end(client: Client, code: int) -> None:
            if code not in expected and code != -signal.SIGKILL:
                self.complaints.append(f"{' '.join(arguments)} ({name}) ended with {code}")

        client = Client(name, self.run(arguments, name=name), (), on_end)
        self.clients[client.pid] = client
        return client

    def requeue(self) -> None:
        """Requeue some of the dead jobs, and note which.

        All of them each time would be ever more: in the end nothing else would run.
        """
        dead = self.window.dead()
        if not dead:
            return
        chosen = self.random.sample(dead, min(len(dead), _REQUEUED_AT_ONCE))
        client = self.call(["dlq", "retry", *chosen], "requeue", (0, 4, 5))
        noted = client.on_end

        def on_end(client: Client, code: int) -> None:
            noted(client, code)
            # One that was killed, or whose reply was lost, may have done it all the same.
            for job in self._printed(client) if code == 0 else chosen:
                self.requeues[job] = self.requeues.get(job, 0) + 1

        client.on_end = on_end

    def reap(self) -> None:
        """Take in what has ended."""
        for pid, code in strays.reap():
            if client := self.clients.pop(pid, None):
                client.on_end(client, code)
            elif (crew := self.crews.pop(pid, None)) and code not in _LEFT:
                self.complaints.append(f"supervisor {crew.name} ended with {code}")


def _import_all(location: StoreLocation) -> None:
    """Import what the calls will need, so that no fork has to; then they share its pages."""
    for name in ("enqueue", "worker", "dlq", "config"):
        importlib.import_module(f"queuectl.cli.{name}")
    for name in ("postgresql", "listening") if isinstance(location, ServerLocation) else ():
        importlib.import_module(f"queuectl.db.{name}")
    gc.collect()
    gc.freeze()
