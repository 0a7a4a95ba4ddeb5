"""Bring what attempts print into the database, where ``output-store`` says so.

It goes to files of this machine first, as ever (``output.py``): memory stays flat, and the store
may be away. Once a second one short transaction ships what was added, 1 MiB at most. At the end of
an attempt a short rest goes with its settlement, in the same transaction; a longer one is shipped
before. The files are removed when the settlement is in the store. An attempt that lost its claim
ships nothing more, and its files stay, as those of a worker that was killed do.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from math import inf

from queuectl.db.engine import Store
from queuectl.domain.job import Claim
from queuectl.service import chunks
from queuectl.service.chunks import CHUNK_BYTES, Chunk, Shipment
from queuectl.service.claims import Settlement
from queuectl.settings import StoreLocation
from queuectl.worker.output import SpooledCapture

#: How often what runs is shipped; nothing is of an attempt that ends before.
SHIP_SECONDS = 1.0
#: How much one transaction ships, in bytes.
_SHIPMENT_BYTES = 1 << 20


class Delivery:
    """One attempt's output on its way."""

    def __init__(self, claim: Claim, capture: SpooledCapture) -> None:
        self.claim = claim
        self.capture = capture
        self.due_at = time.monotonic() + SHIP_SECONDS
        #: How far it has been shipped, or dropped; and how far it has been loaded.
        self._at = self._loaded_to = 0

    @property
    def rest_bytes(self) -> int:
        """How much there is to ship."""
        kept, half = self.capture.kept_bytes, self.capture.half_bytes
        head = max(0, min(kept, half) - self._at)
        return head + max(0, kept - max(self._at, self._tail_start))

    @property
    def _tail_start(self) -> int:
        half = self.capture.half_bytes
        return max(half, self.capture.kept_bytes - half)

    def load(self, room: int) -> Shipment:
        """Return what comes next, some ``room`` bytes at most."""
        kept, half = self.capture.kept_bytes, self.capture.half_bytes
        loaded: list[Chunk] = []
        at = self._at
        while room > 0:
            if half <= at < self._tail_start:
                at = self._tail_start
            size = min(CHUNK_BYTES, room, kept - at, half - at % half)
            if size <= 0:
                break
            if content := self.capture.read(at, size):
                loaded.append(Chunk(at, content))
            at, room = at + size, room - size
        self._loaded_to = at  # what cannot be read is passed over
        return Shipment(self.claim, self._at, loaded, half, self._tail_start)

    def shipped(self) -> None:
        """What was loaded last is in the store; go on behind it."""
        self._at = self._loaded_to


class Courier:
    """What is to be delivered of all attempts of one worker."""

    def __init__(self, location: StoreLocation) -> None:
        self._location = location
        #: By the mark of the claim: of attempts that run, and of those whose rest is settled with.
        self._running: dict[str, Delivery] = {}
        self._settling: dict[str, Delivery] = {}
        #: Attempts that have ended, with more left than a settlement carries.
        self._ended: list[tuple[Settlement, Delivery]] = []
        self._shipped_at = 0.0

    def __bool__(self) -> bool:
        """Whether an attempt that has ended cannot be settled yet."""
        return bool(self._ended)

    def marks(self) -> set[str]:
        """Return the marks of the attempts that have ended and cannot be settled yet."""
        return {settlement.claim.mark for settlement, _ in self._ended}

    def capture(self, claim: Claim, limit_bytes: int) -> SpooledCapture:
        """Return the capture of an attempt that is about to begin."""
        capture = SpooledCapture(self._location, claim.seq, claim.run, limit_bytes)
        self._running[claim.mark] = Delivery(claim, capture)
        return capture

    def take(self, settlement: Settlement) -> list[Settlement]:
        """Take in an attempt that has ended; return what can be settled now."""
        delivery = self._running.pop(settlement.claim.mark, None)
        if delivery is None:
            return [settlement]  # its output is kept in files, or its claim is lost
        if delivery.rest_bytes > CHUNK_BYTES:
            self._ended.append((settlement, delivery))
            return []
        return [self._loaded(settlement, delivery)]

    def _loaded(self, settlement: Settlement, delivery: Delivery) -> Settlement:
        self._settling[settlement.claim.mark] = delivery
        rest = delivery.load(CHUNK_BYTES)
        return replace(settlement, output=rest) if delivery.capture.total_bytes else settlement

    def due_at(self) -> float:
        """Return when something is to be shipped, by the monotonic clock; infinite: nothing is."""
        if self._ended:
            return 0.0
        waiting = [item.due_at for item in self._running.values() if item.rest_bytes]
        return max(min(waiting), self._shipped_at + SHIP_SECONDS) if waiting else inf

    def ship(self, store: Store) -> list[Settlement]:
        """Ship as much as one transaction takes; return what can be settled now.

        What has ended comes first, then what waits longest. Raises StoreError.
        """
        deliveries = [delivery for _, delivery in self._ended]
        now = time.monotonic()
        running = [item for item in self._running.values() if item.due_at <= now]
        deliveries += sorted(running, key=lambda item: item.due_at)
        room, loads = _SHIPMENT_BYTES, []
        for delivery in deliveries:
            if room > 0 and delivery.rest_bytes:
                shipment = delivery.load(room)
                room -= sum(len(chunk.content) for chunk in shipment.chunks)
                loads.append((delivery, shipment))
        lost = chunks.ship(store, [shipment for _, shipment in loads])
        self._shipped_at = time.monotonic()
        for delivery, _ in loads:
            delivery.shipped()
            delivery.due_at = self._shipped_at + SHIP_SECONDS
        return self._sort_out(lost)

    def _sort_out(self, lost: set[str]) -> list[Settlement]:
        for mark in lost:
            self._running.pop(mark, None)
        ended, self._ended = self._ended, []
        ready = []
        for settlement, delivery in ended:
            if settlement.claim.mark in lost:
                ready.append(settlement)
            elif delivery.rest_bytes > CHUNK_BYTES:
                self._ended.append((settlement, delivery))
            else:
                ready.append(self._loaded(settlement, delivery))
        return ready

    def settled(self, marks: Iterable[str]) -> None:
        """Remove the files of attempts that are in the store."""
        for mark in marks:
            if delivery := self._settling.pop(mark, None):
                delivery.capture.remove()

    def dropped(self, marks: Iterable[str]) -> None:
        """Leave the files of attempts whose claims were lost."""
        for mark in marks:
            self._settling.pop(mark, None)
