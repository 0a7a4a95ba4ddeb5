"""A screen with what a job prints, as it comes."""

from __future__ import annotations

import asyncio

from rich.text import Text
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer, Log, Static

from queuectl.cli import render
from queuectl.cli.top import keys
from queuectl.cli.top.desk import Desk
from queuectl.cli.top.output import Output, Piece
from queuectl.errors import QueuectlError

#: Lines that can be scrolled back.
_MOST_LINES = 10_000
#: How often is looked, in seconds.
_LOOK_SECONDS = 0.2


class Follow(Screen[None]):
    """Follows one job until it has ended, over all its attempts."""

    BINDINGS = keys.ABOVE

    def __init__(self, desk: Desk, job_id: str) -> None:
        super().__init__()
        self._desk = desk
        self._job_id = job_id
        self._output = Output(desk.store, job_id)

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        yield Log(max_lines=_MOST_LINES)
        yield Footer()

    def on_mount(self) -> None:
        self._tell("", "")
        self.run_worker(self._follow())

    async def action_dismiss(self, result: None = None) -> None:
        # Textual takes away what is on a screen before it ends the screen's workers.
        self.workers.cancel_node(self)
        await super().action_dismiss(result)

    def on_unmount(self) -> None:
        self._desk.close_output(self._output)

    async def _follow(self) -> None:
        while True:
            try:
                piece = await self._desk.read(self._output)
            except (QueuectlError, OSError) as error:
                self._tell(f"cannot be read now: {error}", "dead")
            else:
                self._show(piece)
                if piece.is_over:
                    break
                if piece.is_behind:
                    continue
            await asyncio.sleep(_LOOK_SECONDS)

    def _show(self, piece: Piece) -> None:
        self._tell(piece.state, piece.state)
        log = self.query_one(Log)
        # Who has scrolled back reads; the end is kept in sight for whoever looks at it.
        log.write(_last_lines(piece.text), scroll_end=log.is_vertical_scroll_end)

    def _tell(self, told: str, state: str) -> None:
        title = Text.assemble(
            f"output of job {self._job_id}  ", (told, render.STATE_COLOURS.get(state, ""))
        )
        self.query_one("#title", Static).update(title, layout=False)


def _last_lines(text: str) -> str:
    """Return no more than can be scrolled back: a log takes long for what it forgets at once."""
    if text.count("\n") <= _MOST_LINES:
        return text
    return "\n".join(text.split("\n")[-_MOST_LINES:])
