"""The supervisor: starts workers, watches them, ends what a dead one left, and replaces it.

The protocol between the processes of one ``worker start``:

    supervisor   never opens the store (a short-lived child checks, creates or upgrades it first).
                 Imports everything once, freezes the collector's generations and forks, so that
                 workers share its pages. It is a subreaper: what a dead worker leaves becomes its
                 child, marked or not, and is killed before the replacement starts.
    worker       has a process group of its own, so that one Ctrl-C is one signal, to the
                 supervisor alone. Reports to it every second, and when its lease is spent.

    a worker dies                     its processes are killed; a replacement rescues its jobs
    a worker is silent                for two thirds of its lease, or when that is spent, where
                                      another machine could start its jobs: killed, then as above
    the supervisor dies               its workers see the end of the socket, drain and leave
    the supervisor is suspended       its workers go on; awake again, it starts its count anew
    both die in one blow              their jobs run on until another supervisor of this machine
                                      looks, or is started; it ends them whether or not it reaches
                                      the store. The one window in which another machine could
                                      start one twice
    a stop by signal                  first drain, then now; handed to each worker as TERM
    a stop by the store               each worker reads it; a replacement inherits it by supervisor
    another number of workers         stands in the workers' rows; each reads it and reports it, and
                                      the newest counts. More are forked; those too many, of the
                                      least busy, are told by their socket to leave
    a worker that leaves alone dies   its replacement only takes its jobs back, and leaves too
"""

from __future__ import annotations

import gc
import os
import secrets
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from queuectl.db.engine import Store
from queuectl.errors import QueuectlError
from queuectl.service import workers
from queuectl.settings import ServerLocation, StoreLocation
from queuectl.worker import processes
from queuectl.worker.events import EventLog
from queuectl.worker.forking import check_store, fork
from queuectl.worker.reports import Report, boottime
from queuectl.worker.rescue import end_left
from queuectl.worker.worker import EXIT_LEFT, Worker, WorkerPlan, _drain

__all__ = ["WorkerPlan", "run_supervisor"]

#: The one process that adopts orphans which are not its own descendants.
_FIRST_PROCESS = 1
#: A loop that took longer than this was suspended: nobody's silence can be judged by it.
_SUSPENDED_SECONDS = 3.0
_TICK_SECONDS = 1.0
#: A worker that dies within this time of its start is replaced after a pause, which doubles.
_QUICK_DEATH_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 30.0
#: What stands for the lease of a worker that has not reported yet.
_FIRST_LEASE_SECONDS = 60.0
_MAX_REPORT_BYTES = 1 << 20
#: What a worker is told that is to leave; it is never told anything else.
_LEAVE = b"leave\n"


@dataclass(slots=True)
class _Child:
    """A worker as its supervisor sees it."""

    pid: int
    worker_id: str
    socket: socket.socket
    #: By the monotonic clock.
    started: float
    last: Report
    #: When it was heard, or its supervisor began to listen again; by `boottime`.
    heard_at: float
    ready: bool = False
    #: Whether it was asked to leave, by whomever; no other takes its place.
    leaves: bool = False

    @property
    def silent_at(self) -> float:
        """When it is to be ended unless it reports; by `boottime`."""
        return self.last.silent_at(self.heard_at)


@dataclass(slots=True)
class _Vacancy:
    """A place without a worker; it is filled at ``due``, by the monotonic clock."""

    due: float
    #: Whether whoever fills it is to take a dead worker's jobs back, and leave.
    leaves: bool = False


@dataclass(slots=True)
class Supervisor:
    """The parent of the workers of one ``worker start``."""

    location: StoreLocation
    plan: WorkerPlan
    #: Called once, when all workers have reported.
    on_ready: Callable[[], None] = lambda: None
    _id: str = field(default_factory=lambda: secrets.token_hex(8))
    _children: dict[int, _Child] = field(default_factory=dict)
    _vacancies: list[_Vacancy] = field(default_factory=list)
    _foreign: set[int] = field(default_factory=set)
    #: The dead workers of this machine of whom nothing is left.
    _ended: set[str] = field(default_factory=set)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    #: Never opened here; each worker opens its own copy. If the file vanished, none is made anew.
    _store: Store = field(init=False)
    _signals: int = 0
    _was_suspended: bool = False
    _stop_mode: str | None = None
    _announced: bool = False
    #: The number of the newest scaling, and the workers wanted; None: they are on the way.
    _scaling: int = 0
    _wanted: int | None = None
    #: When that was heard, by `boottime`.
    _asked_at: float = 0.0

    def run(self) -> int:
        """Supervise until every worker has left; return the exit code of ``worker start``."""
        self._end_left()
        check_store(self.location)
        self._store = Store(self.location)
        self._store.prepare_statements()
        processes.become_subreaper()
        self._listen()
        gc.collect()
        gc.freeze()
        for _ in range(self.plan.count):
            self._hire()
        last, looked = boottime(), time.monotonic()
        while self._children or self._vacancies:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            awake = boottime()
            if self._was_suspended or awake - last > _SUSPENDED_SECONDS:
                self._start_count_anew()
            last = awake
            now = time.monotonic()
            self._obey_signals()
            self._scale(now)
            self._bury(now)
            # By the time before: whoever is suspended in between has not listened since.
            self._judge_silence(awake)
            if now - looked > _TICK_SECONDS:
                looked = now
                self._end_left()
            self._fill_vacancies(now)
        self._end_left()  # there may be nobody else to do it
        return 0

    def _patience(self) -> float:
        now, awake = time.monotonic(), boottime()
        waits = [vacancy.due - now for vacancy in self._vacancies]
        waits += [child.silent_at - awake for child in self._children.values()]
        return max(0.0, min([_TICK_SECONDS, *waits]))

    @property
    def _log(self) -> EventLog:
        return EventLog(self.plan.log_format, "supervisor")

    def _listen(self) -> None:
        wake, wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        self._selector.register(wake, selectors.EVENT_READ, lambda: _drain(wake))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._count_signal)
        signal.signal(signal.SIGHUP, self._count_signal)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGCONT, self._note_suspension)

    def _count_signal(self, number: int, frame: object) -> None:
        self._signals += 1

    def _note_suspension(self, number: int, frame: object) -> None:
        self._was_suspended = True

    def _hire(self, *, leaves: bool = False) -> None:
        ours, theirs = socket.socketpair()
        worker_id = secrets.token_hex(8)
        try:
            pid = fork()
        except QueuectlError as error:
            ours.close()
            theirs.close()
            self._log.emit("worker-not-started", f"{error.message}; tries again")
            self._vacancies.append(_Vacancy(time.monotonic() + _TICK_SECONDS, leaves))
            return
        if pid == 0:
            _become_worker(self, worker_id, ours, theirs, leaves=leaves)
        theirs.close()
        ours.setblocking(False)
        now = boottime()
        last = Report(now, _FIRST_LEASE_SECONDS)
        child = _Child(pid, worker_id, ours, time.monotonic(), last, heard_at=now, leaves=leaves)
        self._children[pid] = child
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(child))

    def _hear(self, child: _Child) -> None:
        try:
            lines = child.socket.recv(_MAX_REPORT_BYTES)
        except (BlockingIOError, ConnectionResetError):
            return
        if not lines:
            with suppress(KeyError):
                self._selector.unregister(child.socket)  # it is ending; its burial tells how
            return
        child.last = said = Report.decode(lines) or child.last
        child.heard_at = boottime()
        child.ready = True
        child.leaves = child.leaves or said.leaves
        if said.scaling > self._scaling:
            self._scaling, self._wanted, self._asked_at = said.scaling, said.wanted, boottime()
        everybody = not self._vacancies and all(c.ready for c in self._children.values())
        if everybody and not self._announced:
            self._announced = True
            self.on_ready()

    # Deaths

    def _bury(self, now: float) -> None:
        """Reap workers that ended; kill what the dead ones left, and arrange for others."""
        present = set(processes.children())
        dead = self._reap()
        if dead or os.getpid() != _FIRST_PROCESS:
            # A supervisor's children are its workers. Whatever else turns up was left by a dead
            # one, even if that is not reaped yet: a worker of two threads hands its orphans on
            # before it can be waited for.
            if not processes.end_children(self._is_spared):
                self._log.emit("stray", "a dead worker left a process that cannot be ended")
        elif not self._vacancies and all(map(processes.is_alive, self._children)):
            # Process 1 of a container adopts strangers: what was there while every worker lived.
            self._foreign = present.difference(self._children)
            processes.reap_zombies(lambda pid: pid in self._children)
        for child, code in dead:
            self._arrange_successor(child, code, now)

    def _end_left(self) -> None:
        """End what dead neighbours left, whose jobs another machine may soon start."""
        if isinstance(self.location, ServerLocation):
            end_left(self.location, self._ended)

    def _reap(self) -> list[tuple[_Child, int]]:
        """Take the workers that ended out of the list; return those that died, with their codes."""
        dead = []
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._forget(child)
                if (code := os.waitstatus_to_exitcode(status)) != EXIT_LEFT:
                    dead.append((child, code))
        return dead

    def _is_spared(self, pid: int) -> bool:
        if pid in self._children:
            return True
        return pid in self._foreign and processes.read_mark(pid) is None

    def _forget(self, child: _Child) -> None:
        del self._children[child.pid]
        with suppress(KeyError):
            self._selector.unregister(child.socket)
        child.socket.close()

    def _arrange_successor(self, child: _Child, code: int, now: float) -> None:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._log.emit("worker-died", f"worker {child.worker_id[:6]} {how}", worker=child.worker_id)
        if not child.ready and (child.leaves or self._stop_mode is not None):
            return  # nobody waits for one that cannot begin, only to leave
        if not child.ready:
            # It could not even begin: the store is away or spoilt, and trying on is all there is.
            pause = min(max(1.0, 2 * (now - child.started)), _LONGEST_PAUSE_SECONDS)
        else:
            pause = 0.0 if now - child.started > _QUICK_DEATH_SECONDS else 0.2
        self._vacancies.append(_Vacancy(now + pause, child.leaves))

    def _fill_vacancies(self, now: float) -> None:
        due = [vacancy for vacancy in self._vacancies if vacancy.due <= now]
        for vacancy in due:
            self._vacancies.remove(vacancy)
            self._hire(leaves=vacancy.leaves)

    def _judge_silence(self, now: float) -> None:
        for child in self._children.values():
            if now > child.silent_at:
                self._log.emit(
                    "worker-silent",
                    f"worker {child.worker_id[:6]} has not reported for"
                    f" {now - child.heard_at:.0f} s; ends it",
                    worker=child.worker_id,
                )
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
                # Its burial comes with the next round.
                child.last, child.heard_at = Report(now, _FIRST_LEASE_SECONDS), now

    def _start_count_anew(self) -> None:
        """Take what was told while nobody listened, and give every worker time to speak.

        A socket that nobody reads is full after some minutes: the last word in it may be old.
        """
        self._was_suspended = False
        for child in self._children.values():
            self._hear(child)
            child.heard_at = now = boottime()
            spent_at = max(child.last.spent_at, now + 2 * _TICK_SECONDS)
            child.last = replace(child.last, spent_at=spent_at)

    # Scaling

    def _scale(self, now: float) -> None:
        """Have as many workers as were asked for last: make room for more, or let some leave."""
        wanted = self._wanted
        if wanted is None or self._stop_mode is not None or self.plan.only is not None:
            return
        staying = [child for child in self._children.values() if not child.leaves]
        vacant = [vacancy for vacancy in self._vacancies if not vacancy.leaves]
        surplus = len(staying) + len(vacant) - wanted
        if surplus > 0 and not self._has_heard(staying):
            return  # who is idle is known in a moment
        self._wanted = None
        if surplus:
            before = len(staying) + len(vacant)
            self._log.emit("scaling", f"goes from {before} to {wanted} workers", workers=wanted)
        self._vacancies += [_Vacancy(now) for _ in range(-surplus)]
        for vacancy in vacant[: max(surplus, 0)]:
            self._vacancies.remove(vacancy)
        # The newest of the idlest: what runs is not waited for where somebody has nothing to do.
        staying.sort(key=lambda child: (child.last.busy, -child.started))
        for child in staying[: max(surplus - len(vacant), 0)]:
            child.leaves = True
            with suppress(OSError):  # it has died: its replacement is told
                child.socket.send(_LEAVE)

    def _has_heard(self, staying: list[_Child]) -> bool:
        """Whether all of them have reported since the newest scaling, or have had the time to."""
        late = boottime() - self._asked_at > _TICK_SECONDS
        return late or all(child.last.scaling == self._scaling for child in staying)

    # Stopping

    def _obey_signals(self) -> None:
        count, self._signals = self._signals, 0
        for _ in range(count):
            self._stop_mode = "drain" if self._stop_mode is None else "now"
            self._log.emit(
                "stopping",
                "stops; running jobs may end (once more: ends them now)"
                if self._stop_mode == "drain"
                else "stops now; running jobs are put back",
            )
            for pid in self._children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)


def run_supervisor(location: StoreLocation, plan: WorkerPlan) -> int:
    """Run workers in the foreground until they have left; return the exit code.

    Raises StoreError when the store cannot be used.
    """
    return Supervisor(location, plan).run()


def _become_worker(
    supervisor: Supervisor,
    worker_id: str,
    ours: socket.socket,
    theirs: socket.socket,
    *,
    leaves: bool,
) -> None:
    """Turn a fresh fork into a worker; never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)
        # Handlers that do nothing, not SIG_IGN: that would be passed on to every command.
        signal.signal(signal.SIGHUP, lambda number, frame: None)
        signal.signal(signal.SIGTTOU, lambda number, frame: None)
        os.setpgid(0, 0)
        ours.close()
        for child in supervisor._children.values():
            child.socket.close()
        plan = supervisor.plan
        registration = workers.Registration(
            worker_id=worker_id,
            supervisor_id=supervisor._id,
            host=socket.gethostname(),
            boot_id=processes.boot_id(),
            pid=os.getpid(),
            slots=plan.concurrency,
            queues=plan.queues,
            count=plan.count if plan.only is None else None,
        )
        stop_mode = supervisor._stop_mode or (workers.LEAVE if leaves else None)
        code = Worker(supervisor._store, plan, registration, theirs, stop_mode).run()
    except QueuectlError as error:
        EventLog(supervisor.plan.log_format, f"worker {worker_id[:6]}").emit(
            "failed", f"error: {error.message}"
        )
    except BaseException:  # a worker's traceback must not become the supervisor's
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)
