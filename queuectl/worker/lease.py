"""A worker's lease: until when it may run jobs, as the worker itself and its supervisor know it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from math import inf

from queuectl.db.engine import Store
from queuectl.worker.reports import Report, boottime

#: On a store that machines share, jobs are killed when this part of the lease is over unrenewed,
#: and no call of the store may take longer than that one.
LEASE_SPENT = 5 / 6
LEASE_CALL = 1 / 8


class Lease:
    """What the last heartbeat renewed, told to the supervisor at once."""

    def __init__(self, supervisor: socket.socket, tell: Callable[[Report], Report]) -> None:
        """``tell`` adds to a report what the worker has to tell besides."""
        self._supervisor = supervisor
        self._tell = tell
        #: In seconds.
        self._length = 0.0
        #: When what runs must end unless the lease is renewed, by `boottime`; infinite where nobody
        #: else would start it.
        self._spent_at = inf

    def renew(self, store: Store, seconds: float, begun: float) -> None:
        """A heartbeat arrived, which was sent at ``begun`` and renews for so many seconds."""
        self._length = seconds
        if store.is_shared:
            self._spent_at = begun + seconds * LEASE_SPENT
            store.patience_seconds = store.reading_seconds = seconds * LEASE_CALL
            # Even a call of the store that hangs is interrupted by it.
            signal.setitimer(signal.ITIMER_REAL, max(0.0, self._spent_at - boottime()) + 0.001)
        self.report()  # else the supervisor would judge by the lease before this one

    @property
    def is_spent(self) -> bool:
        """Whether another machine may soon take this worker for dead, and start its jobs."""
        return boottime() >= self._spent_at

    def report(self) -> None:
        """Tell the supervisor that this worker lives, and until when it may."""
        report = self._tell(Report(boottime(), self._length, self._spent_at))
        with suppress(OSError):  # the supervisor is suspended, or gone
            self._supervisor.send(report.encode(), socket.MSG_DONTWAIT)
