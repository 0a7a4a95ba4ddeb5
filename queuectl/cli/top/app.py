"""The screen as a program: it takes the terminal, and gives it back however it ends."""

from __future__ import annotations

import asyncio
import os
import signal

from textual.app import App
from textual.screen import Screen

from queuectl.cli.top import keys
from queuectl.cli.top.desk import Desk
from queuectl.cli.top.main import Main
from queuectl.db import engine

_BY_SIGNAL = 128


class Top(App[int]):
    """Returns the exit code."""

    TITLE = "queuectl top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = keys.PROGRAM
    CSS = """
    #header { height: 3; padding: 0 1; background: $panel; }
    #jobs { height: 1fr; }
    #queues { height: auto; max-height: 30%; border-top: solid $primary; }
    #line { height: 1; padding: 0 1; }
    #filter { height: 1; border: none; display: none; }
    #title { height: 1; padding: 0 1; background: $panel; }
    #header, #line, #title { text-wrap: nowrap; text-overflow: ellipsis; }
    #details { width: auto; }
    Question { align: center middle; }
    #question {
        width: auto; max-width: 80%; height: auto; padding: 1 2;
        background: $panel; border: tall $warning;
    }
    """

    def __init__(self, desk: Desk, queues: tuple[str, ...], interval_seconds: float) -> None:
        super().__init__()
        self._desk = desk
        self._queues = queues
        self._interval = interval_seconds

    def get_default_screen(self) -> Screen[None]:
        return Main(self._desk, self._queues, self._interval)

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.exit, _BY_SIGNAL + number)
        loop.add_signal_handler(signal.SIGHUP, self._leave_at_once)

    def _leave_at_once(self) -> None:
        """Leave a terminal that is gone: nothing can be written to it, nor put in order."""
        self._desk.close()
        os._exit(_BY_SIGNAL + signal.SIGHUP)

    async def action_quit(self) -> None:
        self.exit(0)

    def action_interrupt(self) -> None:
        self.exit(_BY_SIGNAL + signal.SIGINT)

    @property
    def failure(self) -> BaseException | None:
        """What ended it, if that was a fault of ours."""
        return getattr(self._exception, "error", self._exception)

    def _fatal_error(self) -> None:
        # Textual would show the local variables of each frame, a job's environment among them.
        self._close_messages_no_wait()


def show(store: engine.Store, queues: tuple[str, ...], interval_seconds: float) -> int:
    """Show it until somebody has seen enough; return the exit code."""
    desk = Desk(store, queues)
    screen = Top(desk, queues, interval_seconds)
    try:
        code = screen.run()
    finally:
        desk.close()
    if screen.failure is not None:
        raise screen.failure
    return 1 if code is None else code
