"""A process that a worker runs for a claim, and how it is ended."""

from __future__ import annotations

import os
import resource
import select
import signal
from abc import ABC, abstractmethod

from queuectl.domain.job import Claim, Ending
from queuectl.worker import processes


class Running(ABC):
    """The leader of a session of its own. Times are by the monotonic clock."""

    def __init__(self, claim: Claim, pid: int) -> None:
        self.claim = claim
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        #: When ``expire`` is to be called; None: never.
        self.deadline: float | None = None
        #: Why it is being ended, if it is.
        self._ending: Ending | None = None

    @abstractmethod
    def expire(self, now: float) -> None:
        """The deadline has passed."""

    @abstractmethod
    def terminate(self, ending: Ending, now: float) -> None:
        """Have it end soon."""

    def freeze(self, worker_id: str) -> None:  # noqa: B027  # what reads an output goes on
        """Stop it, and its time."""

    def thaw(self, worker_id: str) -> None:  # noqa: B027  # it was not stopped
        """Let it go on."""

    def send(self, number: int) -> None:  # noqa: B027  # it is not the job
        """Hand on a signal that somebody sends to the job."""

    def kill(self, ending: Ending) -> None:
        """End it at once."""
        self._ending = self._ending or ending
        self.deadline = None
        processes.signal_group(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait until a process that was killed is dead, and what it left has been handed on.

        At most ``processes.BURIAL_SECONDS``: one that hangs in the kernel may never be.
        """
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        poll.poll(processes.BURIAL_SECONDS * 1000)

    def reap(self) -> tuple[int, resource.struct_rusage]:
        """Kill what is left of the group and take in the leader's status; call it once."""
        processes.signal_group(self.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(status), usage
