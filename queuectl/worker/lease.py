"""A worker's lease: until when it may run jobs, as the worker itself and its supervisor know it.

On a store that machines share, a worker that holds no claim has a longer one: nobody waits for a
job of its, and a thousand idle workers renew theirs a third as often. It must be short again before
the worker holds anything. So the turn that claims cuts it, in its own transaction, and the worker
counts from before that turn was sent, whether it hears of the commit or not.
"""

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
#: How many times as long the lease of a worker is that holds no claim. It is renewed when a third
#: of it is over, as any.
IDLE_FACTOR = 3


class Lease:
    """What the last heartbeat renewed, told to the supervisor at once."""

    def __init__(self, supervisor: socket.socket, tell: Callable[[Report], Report]) -> None:
        """``tell`` adds to a report what the worker has to tell besides."""
        self._supervisor = supervisor
        self._tell = tell
        #: In seconds; that of a worker which holds claims.
        self._length = 0.0
        #: Whether the store may still have the longer one of an idle worker.
        self._is_long = False
        #: When what runs must end unless the lease is renewed, by `boottime`; infinite where nobody
        #: else would start it.
        self._spent_at = inf

    def renew(self, store: Store, seconds: float, begun: float, *, factor: int = 1) -> None:
        """A heartbeat arrived, which was sent at ``begun`` and renews for so many seconds.

        ``factor`` is how many times as long that is for an idle worker.
        """
        self._length = seconds
        self._is_long = factor > 1
        if store.is_shared:
            store.patience_seconds = store.reading_seconds = seconds * LEASE_CALL
            self._spend_at(begun + seconds * factor * LEASE_SPENT)
        self.report()  # else the supervisor would judge by the lease before this one

    def expect_long(self) -> None:
        """A heartbeat of an idle worker is sent: it may stand though nobody hears of it."""
        self._is_long = True

    def expect_cut(self, begun: float) -> float | None:
        """A turn is sent that may claim; return to how many seconds it must cut the lease then.

        None: that is not longer. The worker must beat again as one that is busy, even if nothing is
        claimed.
        """
        if not self._is_long:
            return None
        self._spend_at(min(self._spent_at, begun + self._length * LEASE_SPENT))
        return self._length

    def _spend_at(self, instant: float) -> None:
        self._spent_at = instant
        # Even a call of the store that hangs is interrupted by it.
        signal.setitimer(signal.ITIMER_REAL, max(0.0, instant - boottime()) + 0.001)

    @property
    def is_spent(self) -> bool:
        """Whether another machine may soon take this worker for dead, and start its jobs."""
        return boottime() >= self._spent_at

    def report(self) -> None:
        """Tell the supervisor that this worker lives, and until when it may."""
        report = self._tell(Report(boottime(), self._length, self._spent_at))
        with suppress(OSError):  # the supervisor is suspended, or gone
            self._supervisor.send(report.encode(), socket.MSG_DONTWAIT)
