"""The one thread that talks to the store, so that the screen never waits for it.

A store has one connection, which one thread uses; reads and acts come one after the other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from queuectl.cli.top.output import Output, Piece
from queuectl.cli.top.snapshot import Snapshot
from queuectl.cli.top.watch import Watch
from queuectl.db import engine

Result = TypeVar("Result")

#: How long a statement that reads may take on a server, in seconds: who looks again soon gives up.
_READING_SECONDS = 10.0
#: How long is waited for what is being read or written, in seconds, before it is stopped amid it.
_RESTING_SECONDS = 2.0


class Desk:
    """Takes what is to be read and done, and answers when it is."""

    def __init__(self, store: engine.Store, queues: tuple[str, ...]) -> None:
        self.store = store
        store.reading_seconds = _READING_SECONDS
        self._watch = Watch(store, queues)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._acts: list[Future[str]] = []

    async def look(self, limit: int) -> Snapshot:
        """Return the store as it stands; raises StoreError."""
        return await self.ask(lambda store: self._watch.look(limit))

    async def ask(self, question: Callable[[engine.Store], Result]) -> Result:
        """Return what the store answers."""
        return await asyncio.wrap_future(self._thread.submit(question, self.store))

    async def act(self, deed: Callable[[engine.Store], str]) -> str:
        """Change something, and return what there is to say of it; it is done though nobody waits.

        Raises QueuectlError.
        """

        def act() -> str:
            try:
                return deed(self.store)
            finally:
                self._watch.look_anew()

        self._acts = [*(done for done in self._acts if not done.done()), self._thread.submit(act)]
        return await asyncio.shield(asyncio.wrap_future(self._acts[-1]))

    async def read(self, output: Output) -> Piece:
        """Return what a job has printed meanwhile."""
        return await self.ask(lambda store: output.read())

    def close_output(self, output: Output) -> None:
        """Close it once nobody reads it any more."""
        self._thread.submit(output.close)

    def pause_seconds(self, interval_seconds: float) -> float:
        """Return how long to wait before the next look."""
        return self._watch.pause_seconds(interval_seconds)

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Leave the store alone meanwhile: a process that is stopped amid a transaction locks it.

        One that does not end soon goes on; its store is out of reach.
        """
        rests, may_go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def rest() -> None:
            loop.call_soon_threadsafe(rests.set)
            may_go_on.wait()

        self._thread.submit(rest)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_RESTING_SECONDS):
                    await rests.wait()
            yield
        finally:
            may_go_on.set()

    def finish(self) -> None:
        """Wait until what was asked for is done, though not for ever."""
        wait(self._acts, timeout=_READING_SECONDS)

    def close(self) -> None:
        """Let what was asked for be done; what is only read is given up."""
        wait(self._acts)
        self._thread.shutdown(wait=False, cancel_futures=True)
