"""The faults of a store on a server: its processes, its connections, and the network to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from tests.campaign import plan, strays
from tests.campaign.facts import Trouble
from tests.campaign.failpoints import boottime
from tests.campaign.faults import Faults, send
from tests.campaign.plan import Fault
from tests.campaign.stage import Crew

#: Until workers have noticed that the server is back, and have taken up their work again.
_AFTERMATH_SECONDS = 6.0
_LOOK_AFTER_SECONDS = 1.0
#: The parts of a lease that a machine may stand still with jobs that go on. Its last heartbeat is
#: a third of a lease old at most, and what is left must be enough.
_STANDSTILL = (0.1, 0.3)


@dataclass(slots=True)
class ServerFaults(Faults):
    """Brings about the faults of a store on a server, on several hosts."""

    _look_after_at: float = 0.0

    def tend(self) -> None:
        """Do what is due, and start a server again that could not by itself."""
        Faults.tend(self)
        now = boottime()
        if self.stage.server is not None and now >= self._look_after_at:
            self._look_after_at = now + _LOOK_AFTER_SECONDS
            if self.stage.server.keep_up():
                self._note_trouble(now, plan.SERVER_RESTARTED)

    def _pick_crew(self, pick: float) -> Crew | None:
        """Choose a supervisor none of whose workers is frozen: only it can end that one in time."""
        crews = [
            crew
            for crew in self._crews(whole=True)
            if self.stage.workers(crew) and not crew.has_frozen
        ]
        return crews[int(pick * len(crews))] if crews else None

    def _kill_supervisor(self, fault: Fault) -> bool:
        return self._has_neighbour(fault) and Faults._kill_supervisor(self, fault)

    def _kill_both(self, fault: Fault) -> bool:
        """Not on a host that is cut off: nobody keeps a lease there, and it may be over at once."""
        crew = self._pick_crew(fault.pick)
        if crew is None or crew.host is None or crew.host.is_cut_off:
            return False
        return self._has_neighbour(fault) and Faults._kill_both(self, fault)

    def _has_neighbour(self, fault: Fault) -> bool:
        """Whether the chosen one is not the last supervisor of its host.

        If it was, and the next one came later than the lease lasts, jobs would run on beside their
        next run: the window that is left, see ``worker.supervisor``.
        """
        chosen = self._pick_crew(fault.pick)
        return chosen is not None and any(
            crew is not chosen and crew.host is chosen.host and self.stage.workers(crew)
            for crew in self._crews(whole=True)
        )

    # Freezes

    def _freeze_seconds(self, fault: Fault) -> float:
        if fault.kind != plan.TREE_FROZEN:
            return Faults._freeze_seconds(self, fault)
        shortest, longest = _STANDSTILL
        return self.stage.terms.lease_seconds * (shortest + fault.amount * (longest - shortest))

    def _note_frozen_lock(self, pids: list[int], at: float, seconds: float) -> None:
        """Nobody waits for a row that a frozen worker has locked: it is skipped."""

    # The server

    def _kill_server_process(self, fault: Fault) -> bool:
        server = self.stage.server
        postmaster = None if server is None else server.postmaster
        if postmaster is None:
            return False
        found = strays.children(postmaster)
        at = boottime()
        if not found or self._recovers(found):
            return False
        pid = sorted(found)[int(fault.pick * len(found))]
        if not send(pid, signal.SIGKILL, parent=postmaster):
            return False
        self._strike(fault, at, [])
        self._note_trouble(at, fault.kind)
        return True

    def _recovers(self, pids: list[int]) -> bool:
        """Whether the server is starting: who kills it then ends it for good."""
        return not any(b"walwriter" in strays.command_line(pid) for pid in pids)

    def _kill_server(self, fault: Fault) -> bool:
        """Kill the process above all others; the look after it starts it again."""
        server = self.stage.server
        postmaster = None if server is None else server.postmaster
        if postmaster is None:
            return False
        at = boottime()
        os.kill(postmaster, signal.SIGKILL)
        self._strike(fault, at, [])
        self._note_trouble(at, fault.kind)
        return True

    def _restart_server(self, fault: Fault) -> bool:
        server = self.stage.server
        if server is None or server.postmaster is None:
            return False
        at = boottime()
        server.restart()
        self._strike(fault, at, [])
        self._note_trouble(at, fault.kind)
        self._look_after_at = at + 5 * _LOOK_AFTER_SECONDS  # it is ours to start it again
        return True

    def _end_connection(self, fault: Fault) -> bool:
        at = boottime()
        if not self.stage.window.end_connection(fault.pick):
            return False
        self._strike(fault, at, [])
        return True

    def _note_trouble(self, at: float, why: str) -> None:
        self.troubles.append(Trouble(at, at + _AFTERMATH_SECONDS, why))

    # The network

    def _cut_off(self, fault: Fault) -> bool:
        """Cut a host off for longer than a lease."""
        hosts = self.stage.hosts
        host = hosts[int(fault.pick * len(hosts))]
        crews = [crew for crew in self._crews() if crew.host is host]
        if any(other.is_cut_off for other in hosts) or not crews:
            return False
        if any(crew.frozen for crew in crews):
            return False
        at = boottime()
        host.cut_off()
        seconds = Faults._freeze_seconds(self, fault)
        self._do_later(seconds, host.heal)
        self._strike(fault, at, [pid for crew in crews for pid in self.stage.workers(crew)])
        self.troubles.append(Trouble(at, at + seconds + _AFTERMATH_SECONDS, fault.kind))
        return True

    _HOW: ClassVar[dict[str, Callable[[Any, Fault], bool]]] = {
        **{kind: how for kind, how in Faults._HOW.items() if kind in plan.SERVER_KINDS},
        plan.SUPERVISOR_KILLED: _kill_supervisor,
        plan.BOTH_KILLED: _kill_both,
        plan.SERVER_PROCESS_KILLED: _kill_server_process,
        plan.SERVER_RESTARTED: _restart_server,
        plan.SERVER_KILLED: _kill_server,
        plan.CONNECTION_ENDED: _end_connection,
        plan.PARTITIONED: _cut_off,
    }
