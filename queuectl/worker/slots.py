"""The slots of one worker: the commands that run in it, from their start to their end.

A command whose output tells whether it did well keeps its slot while that is searched.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from queuectl.db.presence import Presence
from queuectl.domain.job import Claim, Ending, Outcome
from queuectl.worker import examination, processes, runner
from queuectl.worker.events import EventLog
from queuectl.worker.examination import Examination
from queuectl.worker.output import OutputCapture
from queuectl.worker.runner import Execution
from queuectl.worker.running import Running
from queuectl.worker.watch import Watch


class Slots:
    """Room for so many commands."""

    def __init__(
        self,
        launcher: runner.Launcher,
        count: int,
        watch: Watch,
        log: EventLog,
        on_end: Callable[[Claim, Outcome], None],
    ) -> None:
        """``on_end`` is told what became of each attempt."""
        self._launcher = launcher
        self._count = count
        self._watch = watch
        self._log = log
        self._on_end = on_end
        self._running: dict[int, Running] = {}  # by the shell's process id
        #: Whether what starts from now on is put back at once.
        self._puts_back = False

    def take_place(self, presence: Presence) -> None:
        """Say where to note what has been started."""
        self._presence = presence
        self.settled(set())

    @property
    def worker_id(self) -> str:
        """Whose slots they are."""
        return self._launcher.worker_id

    @property
    def busy(self) -> int:
        """How many commands run."""
        return len(self._running)

    @property
    def free(self) -> int:
        """How many more could."""
        return self._count - len(self._running)

    def marks(self) -> set[str]:
        """Return the marks of the claims that run."""
        return {run.claim.mark for run in self._running.values()}

    def find(self, mark: str) -> Running | None:
        """Return the command that runs by this claim, if it does."""
        return next((run for run in self._running.values() if run.claim.mark == mark), None)

    def deadlines(self) -> list[float]:
        """Return when something is due to be ended, by the monotonic clock."""
        return [run.deadline for run in self._running.values() if run.deadline is not None]

    def settled(self, unsettled: set[str]) -> None:
        """All that had ended is in the store, but for these marks.

        They and what runs must be known if this worker dies: the others count as never started.
        """
        self._presence.note(self.marks() | unsettled)

    def start(self, claim: Claim, capture: OutputCapture) -> None:
        """Start the command of a claim; whatever becomes of it is told to ``on_end``."""
        retries = claim.max_retries + 1
        self._log.emit(
            "job-started",
            f"job {claim.id} started, attempt {claim.attempts + 1} of {retries}: {claim.command}",
            job=claim.id,
            run=claim.run,
            queue=claim.queue,
        )
        self._presence.note_more(claim.mark)  # else it counts as never claimed if this worker dies
        started = runner.start(claim, capture, self._launcher)
        if isinstance(started, Outcome):
            self._on_end(claim, started)
            return
        self._running[started.pid] = started
        self._watch.add(started.pidfd, lambda: self._end(started))
        self._watch.add(capture.pipe, lambda: self._pump(started.capture))
        if self._puts_back:
            started.terminate(Ending.STOPPED, time.monotonic())

    def _pump(self, capture: OutputCapture) -> None:
        if not capture.pump():
            self._watch.drop(capture.pipe)

    def _end(self, run: Execution) -> None:
        self._watch.drop(run.pidfd)
        self._watch.drop(run.capture.pipe)
        code, usage = run.reap()
        del self._running[run.pid]
        self._end_children(run.claim)
        outcome = run.outcome(code, usage)
        if not run.claim.terms.has_expectations:
            self._on_end(run.claim, outcome)
            return
        found = examination.begin(run.claim, outcome, run.capture, self._launcher)
        if isinstance(found, Examination):
            self._running[found.pid] = found
            self._watch.add(found.pidfd, lambda: self._conclude(found))
        else:
            self._on_end(run.claim, found)

    def _end_children(self, claim: Claim) -> None:
        if not processes.end_children(self._spare()):
            self._log.emit("stray", f"job {claim.id} left a process that cannot be ended")

    def _conclude(self, search: Examination) -> None:
        self._watch.drop(search.pidfd)
        code, usage = search.reap()
        del self._running[search.pid]
        self._end_children(search.claim)  # what another job left meanwhile, and hides its mark
        self._on_end(search.claim, search.conclude(code, usage))

    def _spare(self) -> Callable[[int], bool]:
        """Return what tells whether a child of this worker belongs to a job that still runs."""
        marks = {(self._launcher.worker_id, mark) for mark in self.marks()}

        def spare(pid: int) -> bool:
            if pid in self._running:
                return True
            if not marks:
                return False
            mark = processes.read_mark(pid)
            return mark in marks or (mark is None and processes.is_running(pid))

        return spare

    def expire(self, now: float) -> None:
        """End the commands whose time, or whose grace, is over."""
        for run in list(self._running.values()):
            if run.deadline is not None and run.deadline <= now:
                run.expire(now)

    def put_back(self) -> None:
        """Ask all commands to end, and those that may still start, so that they run elsewhere."""
        self._puts_back = True
        for run in self._running.values():
            run.terminate(Ending.STOPPED, time.monotonic())

    def kill_all(self, ending: Ending) -> None:
        """End all commands at once; each is told to ``on_end`` as it ends."""
        for run in self._running.values():
            run.kill(ending)

    def end_strays(self) -> None:
        """End what the killed commands left as well, and leave only them to be reaped."""
        for run in list(self._running.values()):
            run.wait()
        processes.end_children(lambda pid: pid in self._running)

    def end_everything(self) -> None:
        """End all commands and what they left, and tell nobody: the claims are lost."""
        self.kill_all(Ending.LOST)
        processes.end_children(lambda pid: False)
        self._running.clear()

    def reap_zombies(self) -> None:
        """Reap what has come to this worker and ended."""
        processes.reap_zombies(lambda pid: pid in self._running)
