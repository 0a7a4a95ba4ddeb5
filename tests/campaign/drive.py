"""Drive one store's campaign: faults, drain, and the facts of it all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.campaign import plan, strays
from tests.campaign.facts import Facts, Stray, parse_sign
from tests.campaign.failpoints import boottime
from tests.campaign.faults import Faults
from tests.campaign.server_faults import ServerFaults
from tests.campaign.stage import CLIENTS, Stage
from tests.campaign.terms import Terms
from tests.campaign.window import Obscured

_PAUSE_SECONDS = 0.01
_LOOK_SECONDS = 0.25
_PATROL_SECONDS = 2.0
_REQUEUE_SECONDS = 40.0
_BEGINNING_SECONDS = 60.0
_FIRST_SIGNS_BYTES = 200


@dataclass(slots=True)
class Driver:
    """The loop of one store's campaign."""

    terms: Terms
    report: Callable[[str], None]
    stage: Stage = field(init=False)
    faults: Faults = field(init=False)
    strays: list[Stray] = field(default_factory=list)
    _backlog: int = 0
    _look_at: float = 0.0
    _patrol_at: float = 0.0
    _requeue_at: float = 0.0
    _restart_at: float = 0.0

    def run(self) -> Facts:
        """Run it all; no process of it is left when this returns or raises."""
        self.stage = Stage(self.terms)
        try:
            self.stage.set_up()
            self.faults = ServerFaults(self.stage) if self.stage.hosts else Faults(self.stage)
            try:
                self._strike_all()
                drained = self._drain()
                self._leave()
                self._look_for_survivors()
            finally:
                strays.end(self.stage.folder)
            return self._collect(drained)
        finally:
            self.stage.tear_down()

    def _strike_all(self) -> None:
        terms = self.terms
        faults = plan.make_plan(
            terms.seed, terms.faults_per_second, terms.kinds, terms.transactions, terms.stages
        )
        self._begin()
        began = told = time.monotonic()
        self._requeue_at = began + _REQUEUE_SECONDS / 3
        next_fault, due = next(faults), began
        while len(self.faults.struck) < terms.faults:
            now = time.monotonic()
            if now - began > terms.limit_seconds:
                break
            self._tend(now)
            self._feed()
            if now >= due:
                self.faults.bring_about(next_fault)
                next_fault = next(faults)
                due = max(due + next_fault.pause_seconds, now - 1.0)
            if now - told > 10:
                told = now
                self.report(self._progress(now - began))
            time.sleep(_PAUSE_SECONDS)

    def _begin(self) -> None:
        """Wait until jobs run: before, there is nothing to break."""
        deadline = time.monotonic() + _BEGINNING_SECONDS
        while self.stage.journal.stat().st_size < _FIRST_SIGNS_BYTES:
            self._tend(time.monotonic())
            self._feed()
            if time.monotonic() > deadline:
                raise RuntimeError("no job ever ran")
            time.sleep(_PAUSE_SECONDS)

    def _progress(self, seconds: float) -> str:
        return (
            f"{len(self.faults.struck)} of {self.terms.faults} faults in {seconds:.0f} s,"
            f" {self.stage.asked_jobs} jobs asked for, {self._backlog} wait"
        )

    def _tend(self, now: float) -> None:
        """What has to be done all the time: reap, thaw, restart, look around."""
        self.stage.reap()
        self.faults.tend()
        if len(self.stage.crews) < self.terms.supervisors and now >= self._restart_at:
            self.stage.start_crew()
            self._restart_at = now + self.stage.random.random() * 0.3
        with suppress(Obscured):  # somebody is frozen with the lock; the next look will show
            if now >= self._look_at:
                self._look_at = now + _LOOK_SECONDS
                self._backlog = sum(self.stage.window.unsettled().values())
            if now >= self._patrol_at:
                self._patrol_at = now + _PATROL_SECONDS
                self._patrol()

    def _feed(self) -> None:
        stage = self.stage
        progress = min(1.0, (len(self.faults.struck) + 20) / self.terms.faults)
        if (
            self._backlog < self.terms.backlog
            and len(stage.clients) < CLIENTS
            and stage.asked_jobs < self.terms.jobs * progress
        ):
            stage.enqueue()
        now = time.monotonic()
        if now >= self._requeue_at:
            self._requeue_at = now + _REQUEUE_SECONDS
            with suppress(Obscured):
                stage.requeue()

    # Strays

    def _patrol(self) -> None:
        """Look for processes of attempts that have been recorded as ended."""
        found = [
            (process, process.attempt)
            for process in strays.find(self.stage.folder)
            if process.attempt is not None
        ]
        recorded = self.stage.window.recorded(attempt for _, attempt in found)
        for process, attempt in found:
            # Alive now, and recorded before: in this order it is no race.
            if attempt in recorded and process.is_alive():
                self.strays.append(
                    Stray(
                        process.pid,
                        process.command,
                        boottime(),
                        self.stage.window.job_id(attempt[0]),
                        attempt[1],
                        process.marks.get("CAMPAIGN_SUPERVISOR", ""),
                    )
                )

    def _look_for_survivors(self) -> None:
        """After the last worker left, nothing may be there; a hidden one is known by its words."""
        for process in strays.find(self.stage.folder):
            words = process.command.split()
            hidden = "hidden" in words
            if not hidden and not process.marks and words[:1] == ["sleep"]:
                continue  # of a hidden one, which is found itself
            place = words.index("hidden") if hidden else 0
            job, run = (words[place + 2], int(words[place + 3])) if hidden else ("", 0)
            supervisor = words[place + 6] if hidden else ""
            self.strays.append(
                Stray(process.pid, process.command, boottime(), job, run, supervisor, hidden)
            )

    # The end

    def _drain(self) -> bool:
        """Let everything be settled; False if nothing moves any more."""
        self.faults.end()
        last, since = (0, 0), time.monotonic()
        while True:
            now = time.monotonic()
            self._tend(now)
            with suppress(Obscured):
                if not self.stage.clients and not self.stage.window.unsettled():
                    return True
                if (change := self.stage.window.last_change()) != last:
                    last, since = change, now
            if now - since > self.terms.stuck_seconds:
                return False
            time.sleep(0.02)

    def _leave(self) -> None:
        """Stop the workers as a user would, and see all processes end by themselves."""
        patience = f"{self.terms.leaving_seconds / 2}s"
        deadline = time.monotonic() + self.terms.leaving_seconds
        while self.stage.clients or self.stage.crews:
            self.stage.reap()
            if self.stage.crews and not self.stage.clients:
                # Again, if need be: a supervisor that was still starting was not asked.
                self.stage.call(["worker", "stop", "--timeout", patience], "stop", (0,))
            if time.monotonic() > deadline:
                names = [crew.name for crew in self.stage.crews.values()]
                self.stage.complaints.append(f"did not leave when stopped: {names}")
                return
            time.sleep(_PAUSE_SECONDS)

    def _collect(self, drained: bool) -> Facts:
        stage, window = self.stage, self.stage.window
        signs = map(parse_sign, stage.journal.read_text().splitlines())
        notes = [f"{self.faults.missed} planned faults found nobody whom they could hit"]
        if not drained:
            notes.append(f"the drain stood still for {self.terms.stuck_seconds:.0f} s")
        return Facts(
            store=str(stage.location),
            signs=tuple(sign for sign in signs if sign is not None),
            batches=tuple(stage.batches),
            jobs=window.jobs(stage.requeues),
            attempts=window.attempts(time.time() - boottime()),
            strikes=tuple(self.faults.struck),
            troubles=tuple(self.faults.troubles),
            freezes=tuple(self.faults.freezes),
            strays=tuple(self.strays),
            damage=(*window.damage(), *self._examine()),
            complaints=(*stage.complaints, *self._tracebacks()),
            notes=tuple(notes),
        )

    def _examine(self) -> list[str]:
        """Return what the program's own checks and the server's say of a store on a server."""
        found: list[str] = []
        if not self.stage.hosts:
            return found  # whoever ran the campaign has the file, and can do the same
        if self.stage.server is not None:
            self.stage.server.go_into_service()
        if (code := self.stage.wait_for(["audit"])) != 0:
            found.append(f"queuectl audit ended with {code}: {self._told('audit')}")
        code = self.stage.wait_for(["doctor", "--json"])
        if code not in (0, 1):
            return [*found, f"queuectl doctor ended with {code}: {self._told('doctor')}"]
        for finding in json.loads(self._told("doctor"))["findings"]:
            # Whether somebody else's server writes to its disk is for them to say.
            spared = self.stage.server is None and finding["name"] == "durability"
            if not finding["ok"] and not spared:
                found.append(f"queuectl doctor: {finding}")
        return found + (self.stage.server.damage() if self.stage.server is not None else [])

    def _told(self, command: str) -> str:
        return (self.stage.folder / f"{command}.out").read_text()

    def _tracebacks(self) -> list[str]:
        found = []
        for path in sorted(self.stage.folder.iterdir()):
            if path.suffix in (".err", ".out"):
                text = path.read_text(errors="replace")
                if "Traceback" in text or "should not have happened" in text:
                    last = text.strip().splitlines()[-1]
                    found.append(f"{path.name}: {last}")
        return found
