"""The loop of one worker: settle what ended, claim what fits, run it.

One thread and one selector, over the commands' pidfds and output pipes, the supervisor's socket,
the bell, and a pipe into which signals are written. Handlers only set flags.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.db.wakeup import POLL_SECONDS, Bell
from queuectl.domain.job import Claim, Ending, Outcome
from queuectl.domain.options import OutputStore
from queuectl.errors import Conflict, StoreError, WorkerDeclaredDead
from queuectl.service import claims, config, orders, recall, supervisors, workers
from queuectl.service.claims import Claimant, Settlement, Turn
from queuectl.worker import ahead, processes, runner
from queuectl.worker.delivery import Courier
from queuectl.worker.events import EventLog
from queuectl.worker.keeping import Housekeeper
from queuectl.worker.lease import IDLE_FACTOR, Lease
from queuectl.worker.lookout import Lookout
from queuectl.worker.orders import obey
from queuectl.worker.output import OutputCapture
from queuectl.worker.patrol import Patrol
from queuectl.worker.reports import Report, boottime
from queuectl.worker.slots import Slots
from queuectl.worker.ticker import Ticker
from queuectl.worker.watch import Watch

#: How often a worker reports to its supervisor, buries strays and looks for dead neighbours.
TICK_SECONDS = 1.0
#: The poll where no notification of a server comes through.
POLL_DEAF_SECONDS = 1.0
#: The longest pause between two tries to reach a store that is away.
LONGEST_PAUSE_SECONDS = 5.0

EXIT_LEFT = 0
EXIT_DECLARED_DEAD = 3

#: What a worker can be asked for, the mildest first; it takes no milder one than it has.
_STOP_MODES = (None, workers.LEAVE, *workers.STOP_MODES)


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What ``worker start`` was asked for. ``queues`` None: all of them."""

    count: int = 1
    concurrency: int = 1
    queues: tuple[str, ...] | None = None
    drain: bool = False
    log_format: str = "text"
    #: The key of the one job that is run; None: whatever the queues hold.
    only: int | None = None
    #: Where outputs are kept; None: where the stored option says.
    output_store: OutputStore | None = None


class Worker:
    """A worker process, from its registration to its leaving."""

    def __init__(
        self,
        store: Store,
        plan: WorkerPlan,
        registration: workers.Registration,
        supervisor: socket.socket,
        stop_mode: str | None,
    ) -> None:
        self._store = store
        self._location = location = store.location
        self._plan = plan
        self._registration = registration
        self._id = registration.worker_id
        self._supervisor = supervisor
        self._stop_mode = stop_mode
        self._log = EventLog(plan.log_format, f"worker {self._id[:6]}")
        self._claimant = Claimant(
            self._id, registration.host, registration.pid, registration.queues, plan.only
        )
        launcher = runner.Launcher(os.environ, self._id)  # before anything is opened here
        self._watch = Watch()
        self._slots = Slots(launcher, plan.concurrency, self._watch, self._log, self._note)
        self._ended: list[Settlement] = []
        self._courier = Courier(location)
        self._ahead = ahead.Ahead(location, plan.concurrency)
        self._signals = 0
        #: Whether a turn may find something to claim.
        self._hungry = True
        self._lookout = Lookout(store.poll_seconds)
        #: Whether the next look is the one that follows a turn which claimed nothing beside what
        #: runs: it may find a job that crashed its worker due, which waits until nothing runs here.
        self._barred = False
        self._ticker = Ticker(store, self._log)
        #: Whether the reply to the last turn was lost: it may stand in the store, or not.
        self._unsure = False
        self._away_tries = 0
        self._retry_at = 0.0
        self._tick_at = 0.0
        self._beat_at = 0.0
        self._lease = Lease(supervisor, self._tell_besides)
        self._scaling: workers.Scaling | None = None
        #: How many orders were given when they were last read.
        self._orders_read = 0
        #: Whether a command may run that is not known yet.
        self._starting = False
        self._patrol = Patrol(store, self._log)

    def run(self) -> int:
        """Work until told to stop; return the exit code for the supervisor."""
        processes.become_subreaper()
        lock = presence.take(self._location, self._id, create=True)
        if lock is None:
            raise Conflict(f"the worker id {self._id} is taken")
        self._slots.take_place(lock)
        store = self._store
        begun = boottime()
        self._register(store)
        self._options = config.read_options(store)
        self._housekeeper = Housekeeper(store, self._id, self._log)
        self._rescue(store)
        self._log.emit("worker-started", self._describe(), worker=self._id)
        with store.doorbell(hushed=False) as bell:
            self._listen(bell)
            self._lease.renew(store, self._options.lease, begun)
            if bell.deafness is not None:
                self._lookout.poll_seconds = POLL_DEAF_SECONDS
                self._log.emit("deaf", f"looks every {POLL_DEAF_SECONDS:.0f} s: {bell.deafness}")
            try:
                self._loop(store, bell)
            except WorkerDeclaredDead as error:
                self._log.emit("worker-declared-dead", f"{error.message}; ends its jobs")
                self._slots.end_everything()
                return EXIT_DECLARED_DEAD
        self._leave(store)
        store.close()
        lock.release(remove=True)
        self._log.emit("worker-stopped", "stopped", worker=self._id)
        return EXIT_LEFT

    def _register(self, store: Store) -> None:
        self._scaling = workers.register(store, self._registration)
        if self._stop_mode == workers.LEAVE:
            workers.note_leaving(store, self._id)

    def _describe(self) -> str:
        queues = ", ".join(self._plan.queues) if self._plan.queues else "all queues"
        slots = self._plan.concurrency
        return f"started as process {os.getpid()}, {slots} slot{'s' * (slots != 1)}, {queues}"

    def _listen(self, bell: Bell) -> None:
        wake, wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._count_signal)
        signal.signal(signal.SIGALRM, self._end_running)
        self._watch.add(wake, lambda: _drain(wake))
        self._watch.add(self._supervisor.fileno(), self._hear_supervisor)
        if bell.fileno is not None:
            self._watch.add(bell.fileno, lambda: self._hear(bell))

    def _count_signal(self, number: int, frame: object) -> None:
        self._signals += 1

    def _hear_supervisor(self) -> None:
        """It says but one thing, that this worker is to leave; else it is the end of its life."""
        with suppress(ConnectionResetError):
            if self._supervisor.recv(64):
                self._ask_stop(workers.LEAVE)
                with suppress(StoreError):  # it is only for others to see
                    workers.note_leaving(self._store, self._id)
                return
        self._watch.drop(self._supervisor.fileno())
        self._log.emit("supervisor-lost", "its supervisor is gone; ends after its running jobs")
        self._ask_stop("drain")

    def _hear(self, bell: Bell) -> None:
        if bell.heard():
            self._lookout.rang(time.monotonic(), free=self._slots.free > 0)
            self._hungry = self._hungry or self._lookout.is_lucky
            self._barred = False

    # The loop

    def _loop(self, store: Store, bell: Bell) -> None:
        while True:
            self._obey_signals()
            now = time.monotonic()
            self._watch_time(store, now)
            self._start_ahead()  # first, so that no slot is idle while a turn waits for the disk
            if now >= self._retry_at:
                self._work(store, now)
            self._start_ahead()
            if self._is_done():
                self._keep_house()  # a drain may have been too short to come to it
                return
            if bell.must_be_asked:
                self._hear(bell)
            self._watch.wait(self._patience(bell))

    def _work(self, store: Store, now: float) -> None:
        try:
            # A standby that takes over may lag, and hold claims that have been settled.
            if self._unsure or (self._away_tries and store.is_shared):
                self._recall(store)
            if now >= self._courier.due_at():
                self._ship(store)
            if self._is_turn_due(now):
                self._take_turn(store)
            elif now >= self._lookout.at:
                self._look(store)
            if self._serves_schedules() and self._ticker.is_due():
                self._tick()
        except StoreError as error:
            self._store_is_away(error)

    def _serves_schedules(self) -> bool:
        return self._stop_mode is None and self._plan.only is None

    def _tick(self) -> None:
        """Make the jobs of schedules that are due."""
        if self._ticker.step():
            self._hungry = True
        self._lookout.soon()  # one look tells when the next tick is

    def _patience(self, bell: Bell) -> float:
        """Return how long the selector may sleep, in seconds."""
        at = [self._tick_at, max(self._beat_at, self._retry_at)]
        at += self._slots.deadlines()
        if self._hungry and self._may_claim() and not self._ahead:
            at.append(self._retry_at)
        else:
            at.append(max(self._lookout.at, self._retry_at))
        if self._ended or self._ahead:
            at.append(max(self._turn_by(), self._retry_at))
        if self._unsure:
            at.append(self._retry_at)
        at.append(max(self._courier.due_at(), self._retry_at))
        self._ahead.sign.hang_out(self._slots.free > 0 and not self._hungry)
        patience = max(0.0, min(at) - time.monotonic())
        return min(patience, POLL_SECONDS) if bell.fileno is None else patience

    def _may_claim(self) -> bool:
        return self._stop_mode is None and self._slots.free > 0

    def _is_turn_due(self, now: float) -> bool:
        if self._hungry and self._may_claim() and not self._ahead:
            return True
        if not self._ended and not self._ahead:
            return False
        return now >= self._turn_by() or self._ahead.is_awaited()

    def _turn_by(self) -> float:
        """Return when what has ended, or lies ahead, must be told to the store."""
        if self._ahead and self._stop_mode is None:
            return self._ahead.turn_by(ended=bool(self._ended))
        return 0.0

    def _may_hold_claims(self) -> bool:
        busy = self._slots.busy or self._ended or self._courier or self._ahead
        return bool(busy or self._unsure)

    def _is_done(self) -> bool:
        if self._may_hold_claims():
            # Told to leave at once while the store is away: the jobs are taken back by a rescue.
            return self._stop_mode == "now" and not self._slots.busy and self._away_tries > 0
        return self._stop_mode is not None or (self._plan.drain and not self._hungry)

    # Turns

    def _take_turn(self, store: Store) -> None:
        unstarted = self._ahead.surplus(stopping=self._stop_mode is not None)
        wanted = 0
        if self._stop_mode is None and not unstarted:
            wanted = max(0, self._slots.free + self._ahead.room())
        idle = not self._slots.busy and not self._ahead
        turn = self._send_turn(store, unstarted, wanted, idle=idle)
        self._options = turn.options
        self._ticker.told(turn.next_tick_at)
        self._log.tell_turn(self._ended, turn)
        settled, self._ended = bool(self._ended), []
        self._courier.settled(turn.decisions)
        self._courier.dropped(item.claim.mark for item in turn.lost)
        self._slots.settled(self._courier.marks())
        if unstarted:
            self._hungry = True
        elif wanted:
            self._hungry = len(turn.claims) >= wanted
            self._lookout.claimed(len(turn.claims), settled=settled)
            self._barred = not turn.claims and not idle
        if not self._hungry:
            self._lookout.soon()  # one look tells when the next job is due
        self._ahead.settled(turn.claims, unstarted)
        self._obey_orders(store, turn.orders)
        if turn.stop_mode is not None:
            self._ask_stop(turn.stop_mode)

    def _send_turn(
        self, store: Store, unstarted: Sequence[Claim], wanted: int, *, idle: bool
    ) -> Turn:
        """Take a turn, which cuts the longer lease of an idle worker if it claims."""
        begun = boottime()
        cut = self._claimant.cut_lease_seconds = self._lease.expect_cut(begun) if wanted else None
        if cut is not None:
            self._beat_at = min(self._beat_at, time.monotonic() + cut / 3)
        self._unsure = True
        turn = claims.take_turn(
            store, self._claimant, self._ended, free=wanted, idle=idle, unstarted=unstarted
        )
        self._unsure = False
        if cut is not None and turn.claims:
            self._lease.renew(store, cut, begun)
        self._store_is_back()
        return turn

    def _recall(self, store: Store) -> None:
        """Find out what stands of a turn whose reply was lost, or of a store that was away."""
        found = recall.recall(store, self._id, self._ended)
        self._unsure = False
        self._store_is_back()
        for item in found.settled:
            self._ended.remove(item)
            self._courier.settled([item.claim.mark])
            self._log.emit(
                "result-recalled",
                f"job {item.claim.id}: its result had been recorded",
                job=item.claim.id,
                run=item.claim.run,
            )
        busy = self._slots.marks() | self._courier.marks()
        busy.update(item.claim.mark for item in self._ended)
        self._ahead.recall([claim for claim in found.held if claim.mark not in busy])
        if found.held:
            self._beat_at = 0.0  # the longer lease of an idle worker may stand

    def _look(self, store: Store) -> None:
        outlook = claims.look(store, self._claimant)
        self._store_is_back()
        self._hungry = outlook.due and not self._barred
        self._barred = False
        self._ticker.told(outlook.next_tick_at)
        tick_at = self._ticker.wakes_at() if self._serves_schedules() else None
        next_at = min((at for at in (outlook.next_due_at, tick_at) if at), default=None)
        self._lookout.looked(time.monotonic(), due=outlook.due, next_due_at=next_at)
        self._obey_orders(store, outlook.orders)
        if outlook.stop_mode is not None:
            self._ask_stop(outlook.stop_mode)

    def _obey_orders(self, store: Store, given: int) -> None:
        """Do what this worker was told to do to its jobs, if it was told more since."""
        if given != self._orders_read:
            for order in orders.take(store, self._id):
                obey(order, self._slots, self._ahead, self._log)
            self._scaling = supervisors.read_scaling(store, self._id)
            self._lease.report()  # what is for the supervisor
            self._orders_read = given

    def _tell_besides(self, report: Report) -> Report:
        """Add what the supervisor is to know besides that this worker lives."""
        leaves = self._stop_mode is not None
        report = replace(report, busy=self._slots.busy, leaves=leaves)
        if self._scaling is None:
            return report
        return replace(report, scaling=self._scaling.number, wanted=self._scaling.wanted)

    def _ship(self, store: Store) -> None:
        self._ended += self._courier.ship(store)
        self._store_is_back()

    def _store_is_away(self, error: StoreError) -> None:
        if self._away_tries == 0:
            self._log.emit("store-away", f"claims nothing: {error.message}", error=error.message)
        pause = min(0.05 * 2**self._away_tries, LONGEST_PAUSE_SECONDS)
        self._retry_at = time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
        self._away_tries += 1

    def _store_is_back(self) -> None:
        if self._away_tries:
            self._log.emit("store-back", "the store is back")
            self._away_tries = 0

    # What lies ahead

    def _start_ahead(self) -> None:
        while self._may_start_ahead():
            claim = self._ahead.take()
            self._starting = True
            self._slots.start(claim, self._capture(claim))
            self._starting = False
            if self._lease.is_spent:
                self._end_running()

    def _may_start_ahead(self) -> bool:
        if not self._ahead or self._ahead.withdrawn or self._lease.is_spent:
            return False
        # While it is not known whether a claim was given back, another worker may have it.
        return self._may_claim() and not self._unsure

    def _capture(self, claim: Claim) -> OutputCapture:
        limit = self._options.output_limit
        if (self._plan.output_store or self._options.output_store) is OutputStore.DATABASE:
            return self._courier.capture(claim, limit)
        return OutputCapture(self._location, claim.seq, claim.run, limit)

    def _note(self, claim: Claim, outcome: Outcome) -> None:
        """Keep an ended attempt for the next turn, or until what it printed is in the store."""
        self._ended += self._courier.take(Settlement(claim, outcome))
        self._ahead.measure((outcome.finished_at - outcome.started_at).total_seconds())

    # Time

    def _watch_time(self, store: Store, now: float) -> None:
        self._slots.expire(now)
        if now >= self._tick_at:
            self._tick_at = now + TICK_SECONDS
            self._lease.report()
            self._slots.reap_zombies()
            if now >= self._retry_at and self._patrol.is_due(now):
                self._rescue(store)
            if now >= self._retry_at and boottime() >= self._housekeeper.due_at:
                self._keep_house()
            if now >= self._retry_at and self._serves_schedules():
                self._watch_clock()
        if self._slots.busy and self._lease.is_spent:
            self._end_running()
        if now >= self._beat_at and now >= self._retry_at:
            self._beat(store, now)

    def _beat(self, store: Store, now: float) -> None:
        is_long = store.is_shared and not self._may_hold_claims()
        factor = IDLE_FACTOR if is_long else 1
        seconds = self._options.lease * factor
        self._beat_at = now + seconds / 3
        if is_long:
            self._lease.expect_long()
        begun = boottime()
        try:
            if not workers.beat(store, self._id, seconds):
                raise WorkerDeclaredDead(f"worker {self._id} was declared dead")
            self._lease.renew(store, self._options.lease, begun, factor=factor)
        except StoreError as error:
            self._beat_at = now
            self._store_is_away(error)

    def _end_running(self, *signal_and_frame: object) -> None:
        """End what runs before its lease does: somebody else may start it then.

        All of it, now: this may have interrupted a call of the store that goes on for seconds.
        """
        if self._starting:
            return  # it is ended when it is known
        if count := self._slots.busy:
            self._log.emit("cut-off", f"its lease runs out; ends {count} jobs", jobs=count)
            self._slots.kill_all(Ending.STOPPED)
            self._slots.end_strays()
        self._lease.report()

    def _rescue(self, store: Store) -> None:
        try:
            rescued = self._patrol.go(self._options.lease)
        except StoreError as error:
            self._store_is_away(error)
            return
        for job_id in rescued:
            self._log.emit("job-rescued", f"job {job_id} taken back from a dead worker", job=job_id)
        if rescued:
            self._hungry = True

    def _keep_house(self) -> None:
        if self._stop_mode is None:
            try:
                self._housekeeper.step()
            except StoreError as error:
                self._store_is_away(error)

    def _watch_clock(self) -> None:
        try:
            self._ticker.watch_clock()
        except StoreError as error:
            self._store_is_away(error)

    # Stopping

    def _obey_signals(self) -> None:
        count, self._signals = self._signals, 0
        for _ in range(count):
            # For one that leaves alone, the first is what it is for its siblings.
            self._ask_stop("drain" if self._stop_mode in (None, workers.LEAVE) else "now")

    def _ask_stop(self, mode: str) -> None:
        if _STOP_MODES.index(mode) <= _STOP_MODES.index(self._stop_mode):
            return
        self._stop_mode = mode
        self._lease.report()
        count = self._slots.busy
        waits = f"{count} running job{'s' * (count != 1)}"
        if mode == "now":
            self._log.emit("stopping", f"stops now, ends {waits} and puts them back")
            self._slots.put_back()
        else:
            self._log.emit("stopping", f"stops, waits for {waits}" if count else "stops")

    def _leave(self, store: Store) -> None:
        with suppress(StoreError):  # a rescue will find that this worker is gone
            workers.leave(store, self._id)


def _drain(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 512):
            pass
