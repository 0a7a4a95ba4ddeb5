"""How each kind of fault is brought about on a stage."""

from __future__ import annotations

import heapq
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from tests.campaign import failpoints, plan, strays
from tests.campaign.facts import Freeze, Strike, Trouble
from tests.campaign.failpoints import Order, boottime
from tests.campaign.plan import Fault
from tests.campaign.stage import CLIENTS, Client, Crew, Stage
from tests.campaign.window import Obscured

#: An order that nobody came by to take is withdrawn.
_ORDER_SECONDS = 5.0
#: The longest that a client is let run before it is killed, and that a disk is full.
_CLIENT_SECONDS = 0.04
_WEATHER_SECONDS = 1.0
#: Until a supervisor that goes on has ended what came to it meanwhile.
_AWAKENING_SECONDS = 1.0
#: What a worker that found the store away may wait before it tries again.
_AFTERMATH_SECONDS = 2.0
_STATEMENTS = 8
#: A file system of this size at most is filled really, with a file.
_SMALL_BYTES = 64 * 1024 * 1024
#: Jobs in a call of enqueue that is there to be struck, at most.
_STRUCK_BATCH = 12
#: The longest poll of an idle worker, with its jitter.
_POLL_SECONDS = 6.0


@dataclass(slots=True)
class Faults:
    """Brings faults about, ends those that last, and knows which of them struck."""

    stage: Stage
    struck: list[Strike] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    freezes: list[Freeze] = field(default_factory=list)
    missed: int = 0
    #: Orders that are out, and when they went out.
    _orders: dict[int, Order] = field(default_factory=dict)
    #: What is to be done later, by the time at which it is due.
    _later: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order_of_later: count[int] = field(default_factory=count)
    _read_bytes: int = 0

    def bring_about(self, fault: Fault) -> None:
        """Let one fault happen now, or find that there is nobody whom it could hit."""
        if not self._HOW[fault.kind](self, fault):
            self.missed += 1

    def tend(self) -> None:
        """Do what is due: thaw, end the bad weather, and note whom a failpoint hit."""
        while self._later and self._later[0][0] <= boottime():
            heapq.heappop(self._later)[2]()
        self._note_failpoints()

    def end(self) -> None:
        """End everything that lasts, at once."""
        while self._later:
            heapq.heappop(self._later)[2]()
        self._note_failpoints()

    def _do_later(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._later, (boottime() + seconds, next(self._order_of_later), what))

    def _strike(
        self, fault: Fault, at: float, pids: list[int], crew: str = "", detail: str = ""
    ) -> None:
        self.struck.append(Strike(fault.number, fault.kind, at, tuple(pids), crew, detail))

    # Whom

    def _crews(self, *, whole: bool = False) -> list[Crew]:
        crews = [crew for crew in self.stage.crews.values() if not (whole and crew.frozen)]
        return sorted(crews, key=lambda crew: crew.pid)

    def _pick_worker(self, pick: float) -> tuple[Crew, int] | None:
        found = [(crew, pid) for crew in self._crews() for pid in self.stage.workers(crew)]
        return found[int(pick * len(found))] if found else None

    def _pick_crew(self, pick: float) -> Crew | None:
        crews = [crew for crew in self._crews(whole=True) if self.stage.workers(crew)]
        return crews[int(pick * len(crews))] if crews else None

    # Kills

    def _kill_worker(self, fault: Fault) -> bool:
        found = self._pick_worker(fault.pick)
        if found is None:
            return False
        crew, pid = found
        at = boottime()
        if not send(pid, signal.SIGKILL, parent=crew.pid):
            return False
        self._strike(fault, at, [pid])
        return True

    def _kill_supervisor(self, fault: Fault) -> bool:
        crew = self._pick_crew(fault.pick)
        if crew is None:
            return False
        at = boottime()
        os.kill(crew.pid, signal.SIGKILL)  # a child of ours: its number is still its own
        self._strike(fault, at, [crew.pid], crew.name)
        return True

    def _kill_both(self, fault: Fault) -> bool:
        crew = self._pick_crew(fault.pick)
        if crew is None:
            return False
        workers = self.stage.workers(crew)
        at = boottime()
        # Stopped first, so that it cannot take its workers' death for one of theirs.
        os.kill(crew.pid, signal.SIGSTOP)
        hit = [pid for pid in workers if send(pid, signal.SIGKILL, parent=crew.pid)]
        os.kill(crew.pid, signal.SIGKILL)
        self._strike(fault, at, [crew.pid, *hit], crew.name)
        return True

    def _kill_client(self, fault: Fault) -> bool:
        if len(self.stage.clients) > CLIENTS:
            return False
        client = self.stage.enqueue(largest=_STRUCK_BATCH)
        time.sleep(fault.amount * _CLIENT_SECONDS)
        with suppress(ProcessLookupError):
            os.kill(client.pid, signal.SIGKILL)
        self._strike(fault, boottime(), [client.pid])
        return True

    # Freezes

    def _freeze_worker(self, fault: Fault) -> bool:
        found = self._pick_worker(fault.pick)
        if found is None or any(crew.frozen for crew in self._crews()):
            return False
        crew, pid = found
        at = boottime()
        if not send(pid, signal.SIGSTOP, parent=crew.pid):
            return False
        self._strike(fault, at, [pid])
        self._thaw_later(at, fault, [pid], crew)
        return True

    def _freeze_tree(self, fault: Fault) -> bool:
        crew = self._pick_crew(fault.pick)
        if crew is None or any(other.frozen for other in self._crews()):
            return False
        at = boottime()
        os.kill(crew.pid, signal.SIGSTOP)
        crew.frozen = True
        hit = [
            pid for pid in self.stage.workers(crew) if send(pid, signal.SIGSTOP, parent=crew.pid)
        ]
        self._strike(fault, at, [crew.pid, *hit], crew.name)
        self._thaw_later(at, fault, [*hit, crew.pid], crew)
        return True

    def _freeze_seconds(self, fault: Fault) -> float:
        terms = self.stage.terms
        return terms.lease_seconds * terms.freeze_leases + fault.amount

    def _thaw_later(self, at: float, fault: Fault, pids: list[int], crew: Crew) -> None:
        seconds = self._freeze_seconds(fault)
        births = [(pid, strays.command_line(pid)) for pid in pids]

        def thaw() -> None:
            for pid, command in births:
                if strays.command_line(pid) == command:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
            crew.has_frozen = False
            if crew.frozen:
                crew.frozen = False
                self.freezes.append(Freeze(crew.name, at, boottime() + _AWAKENING_SECONDS))

        crew.has_frozen = True
        self._do_later(seconds, thaw)
        time.sleep(0.002)  # until the signal has done its work
        self._note_frozen_lock(pids, at, seconds)

    def _note_frozen_lock(self, pids: list[int], at: float, seconds: float) -> None:
        if _holds_lock(pids, self.stage.location.lock):
            self.troubles.append(Trouble(at, at + seconds + 1.0, "the write lock was frozen"))

    # Failpoints and weather

    def _set_failpoint(self, fault: Fault) -> bool:
        statement = 1 + int(fault.amount * _STATEMENTS) if fault.stage == "within" else 0
        order = Order(fault.number, fault.stage, fault.transaction, statement)
        self._orders[fault.number] = order
        self._put(order)
        if fault.transaction == "request_stop":
            self._stop_workers(now=fault.pick < 0.5)
        elif fault.transaction == "enqueue" and len(self.stage.clients) <= CLIENTS:
            self.stage.enqueue(largest=_STRUCK_BATCH)
        elif fault.transaction == "_change":
            with suppress(Obscured):
                self.stage.requeue()
        self._do_later(_ORDER_SECONDS, lambda: self._withdraw(order))
        return True  # counted when it strikes

    def _put(self, order: Order) -> None:
        (self.stage.orders / order.file).touch()

    def _withdraw(self, order: Order) -> None:
        try:
            (self.stage.orders / order.file).unlink()
        except FileNotFoundError:
            return
        self.missed += 1
        self._orders.pop(order.number, None)

    def _note_failpoints(self) -> None:
        with self.stage.strikes.open("rb") as file:
            file.seek(self._read_bytes)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        self._read_bytes += len(new)
        for line in new.decode().splitlines():
            number, pid, at, detail = line.split(" ", 3)
            order = self._orders.pop(int(number))  # each is taken once
            if order.stage == "reply":
                self.struck.append(
                    Strike(order.number, plan.REPLY_LOST, float(at), (), detail=order.transaction)
                )
                # No bell was rung either, so that others come by only with their next poll.
                self.troubles.append(Trouble(float(at), float(at) + _POLL_SECONDS, "reply lost"))
            else:
                self.struck.append(
                    Strike(order.number, plan.FAILPOINT, float(at), (int(pid),), detail=detail)
                )

    def _lose_reply(self, fault: Fault) -> bool:
        order = Order(fault.number, "reply", fault.transaction, 0)
        self._orders[fault.number] = order
        self._put(order)
        self._do_later(_ORDER_SECONDS, lambda: self._withdraw(order))
        return True  # counted when it strikes

    def _fill_disk(self, fault: Fault) -> bool:
        if not _is_small(self.stage.location.folder):
            return self._let_fail(fault, failpoints.FULL)
        at = boottime()
        seconds = 0.1 + fault.amount * _WEATHER_SECONDS
        ballast = self.stage.location.folder / f"ballast-{fault.number}"
        _fill(ballast)
        self._do_later(seconds, ballast.unlink)
        self._strike(fault, at, [], detail="really")
        self.troubles.append(Trouble(at, at + seconds + _AFTERMATH_SECONDS, fault.kind))
        return True

    def _fail_sync(self, fault: Fault) -> bool:
        return self._let_fail(fault, failpoints.IOERR_FSYNC)

    def _let_fail(self, fault: Fault, code: int) -> bool:
        at = boottime()
        seconds = 0.1 + fault.amount * _WEATHER_SECONDS
        order = Order(fault.number, "weather", str(code), int((at + seconds) * 1000))
        self._put(order)
        self._do_later(seconds, (self.stage.orders / order.file).unlink)
        self._strike(fault, at, [])
        self.troubles.append(Trouble(at, at + seconds + _AFTERMATH_SECONDS, fault.kind))
        return True

    # Stops

    def _stop(self, fault: Fault) -> bool:
        if fault.stop.startswith("command"):
            at = boottime()
            if not self._stop_workers(now=fault.stop == "command now"):
                return False
            self._strike(fault, at, [], detail=fault.stop)
            return True
        crew = self._pick_crew(fault.pick)
        if crew is None:
            return False
        at = boottime()
        os.kill(crew.pid, signal.SIGTERM)
        if fault.stop == "signals":
            self._do_later(0.2, lambda: self._stop_at_once(crew))
        self._strike(fault, at, [crew.pid], detail=fault.stop)
        return True

    def _stop_at_once(self, crew: Crew) -> None:
        if crew.pid in self.stage.crews:
            os.kill(crew.pid, signal.SIGTERM)

    def _stop_workers(self, *, now: bool) -> bool:
        if any(client.name.startswith("stop") for client in self.stage.clients.values()):
            return False
        begin = boottime()
        arguments = ["worker", "stop", "--timeout", "30s", *(["--now"] if now else [])]
        client = self.stage.call(arguments, "stop", (0, 1, 5))
        noted = client.on_end

        def on_end(client: Client, code: int) -> None:
            noted(client, code)
            self.troubles.append(
                Trouble(begin, boottime() + _AFTERMATH_SECONDS, "workers were stopped")
            )

        client.on_end = on_end
        return True

    _HOW: ClassVar[dict[str, Callable[[Any, Fault], bool]]] = {
        plan.WORKER_KILLED: _kill_worker,
        plan.SUPERVISOR_KILLED: _kill_supervisor,
        plan.BOTH_KILLED: _kill_both,
        plan.CLIENT_KILLED: _kill_client,
        plan.WORKER_FROZEN: _freeze_worker,
        plan.TREE_FROZEN: _freeze_tree,
        plan.FAILPOINT: _set_failpoint,
        plan.DISK_FULL: _fill_disk,
        plan.SYNC_FAILED: _fail_sync,
        plan.REPLY_LOST: _lose_reply,
        plan.STOPPED: _stop,
    }


def _is_small(folder: Path) -> bool:
    """Whether this file system was made to be filled."""
    status = os.statvfs(folder)
    return status.f_blocks * status.f_frsize <= _SMALL_BYTES


def _fill(ballast: Path) -> None:
    """Write a file until there is no room for another byte."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * size)


def _holds_lock(pids: list[int], path: Path) -> bool:
    """Whether one of these processes holds the ``flock`` on a file."""
    inode = path.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if "->" not in fields and int(fields[4]) in pids and fields[5].endswith(f":{inode}"):
            return True
    return False


def send(pid: int, number: int, *, parent: int) -> bool:
    """Send a signal to a child of ``parent``; False if it is none any more."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if pid not in strays.children(parent):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True
