"""What a worker tells its supervisor, a line a second: that it lives, and until when it may.

And what it has read in the store that is meant for the supervisor, which never opens it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
#: The part of its lease that a worker may be silent.
_SILENCE = 2 / 3
#: The part of it in which a worker whose lease is spent must say that it ended what it ran; a
#: quarter of what is left of the lease then.
_ANSWER = 1 / 24


def boottime() -> float:
    """Return a time that nobody sets and that goes on while the machine sleeps, in seconds."""
    return time.clock_gettime(_BOOT_CLOCK)


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's word. Instants are by `boottime`, ``lease`` is in seconds."""

    sent_at: float
    lease: float
    #: When it ends what it runs unless its lease is renewed; infinite where nobody else would
    #: start that.
    spent_at: float = inf
    #: How many commands it runs.
    busy: int = 0
    #: Whether it leaves when they have ended.
    leaves: bool = False
    #: The number of the newest scaling that it knows of, and the workers wanted; 0: of none.
    scaling: int = 0
    wanted: int = 0

    def encode(self) -> bytes:
        """Return it as a line."""
        times = f"{self.sent_at} {self.lease} {self.spent_at}"
        return f"{times} {self.busy} {self.leaves:d} {self.scaling} {self.wanted}\n".encode()

    @classmethod
    def decode(cls, lines: bytes) -> Report | None:
        """Return the last of some lines; None where there is no whole one."""
        whole = lines.rpartition(b"\n")[0].rpartition(b"\n")[2].split()
        if len(whole) != 7:
            return None
        sent_at, lease, spent_at = map(float, whole[:3])
        busy, leaves, scaling, wanted = map(int, whole[3:])
        return cls(sent_at, lease, spent_at, busy, bool(leaves), scaling, wanted)

    def silent_at(self, heard_at: float) -> float:
        """Return when the worker is to be ended if this stays its last word.

        ``heard_at`` is when its supervisor heard it, or began to listen again. A worker that
        told its supervisor after its lease was spent has ended what it ran: it only waits for
        its store.
        """
        silent_at = heard_at + self.lease * _SILENCE
        if self.sent_at >= self.spent_at:
            return silent_at
        return min(silent_at, self.spent_at + self.lease * _ANSWER)
