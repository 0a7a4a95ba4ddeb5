"""The screen as a program: it takes the terminal, and gives it back however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
from contextlib import suppress

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
        self._is_suspended = False

    def get_default_screen(self) -> Screen[None]:
        return Main(self._desk, self._queues, self._interval)

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.exit, _BY_SIGNAL + number)
        loop.add_signal_handler(signal.SIGTSTP, self.call_later, self.action_suspend_group)
        # Not through the loop: that may wait to write to the terminal, and would do so for ever.
        signal.signal(signal.SIGHUP, self._leave_at_once)
        signal.signal(signal.SIGCONT, self._go_on)

    def _leave_at_once(self, *_: object) -> None:
        """Leave a terminal that is gone: nothing can be written to it, nor put in order."""
        self._desk.finish()
        os._exit(_BY_SIGNAL + signal.SIGHUP)

    def _go_on(self, *_: object) -> None:
        """Take the terminal anew after a stop that nobody told of: a shell has used it since."""
        if not self._is_suspended:
            self.call_later(self._take_terminal_anew)

    def _take_terminal_anew(self) -> None:
        with self.suspend():
            _wait_for_foreground()

    async def action_suspend_group(self) -> None:
        self._is_suspended = True
        async with self._desk.at_rest():
            with self.suspend():
                _stop_group()
                _wait_for_foreground()
        self._is_suspended = False

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


def _stop_group() -> None:
    """Stop as the terminal would for Ctrl-Z: with what started it, and not where nobody waits."""
    before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.killpg(0, signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, before)


def _wait_for_foreground() -> None:
    """Return when the terminal may be changed: in the background this stops the process."""
    with suppress(termios.error):
        number = sys.stdin.fileno()
        termios.tcsetattr(number, termios.TCSANOW, termios.tcgetattr(number))


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
