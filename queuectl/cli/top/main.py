"""The first screen: header, jobs, queues, and what the keys do there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import DataTable, Footer, HelpPanel, Input, Static

from queuectl.cli import render
from queuectl.cli.top import acts, details, keys, snapshot
from queuectl.cli.top.desk import Desk
from queuectl.cli.top.follow import Follow
from queuectl.cli.top.screens import Details, Question
from queuectl.cli.top.tables import Rows
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain.text import escape_line
from queuectl.errors import QueuectlError

#: Jobs of a kind among which a filter looks.
_FILTERED = 1000
#: An answer that takes longer than that is told to be missing, in seconds.
_SOON_SECONDS = 2.0


class Main(Screen[None]):
    """Looks at the store again and again."""

    BINDINGS = keys.MAIN
    AUTO_FOCUS = "#jobs"

    def __init__(self, desk: Desk, queues: tuple[str, ...], interval_seconds: float) -> None:
        super().__init__()
        self._desk = desk
        self._queues = queues
        self._interval = interval_seconds
        self._seen: snapshot.Snapshot | None = None
        self._nudge = asyncio.Event()
        self._told = ""
        self._trouble = ""
        self._shown_header = Text()

    def compose(self) -> ComposeResult:
        yield Static(id="header")
        yield Rows(snapshot.JOB_COLUMNS, "ID", id="jobs")
        yield Rows(snapshot.QUEUE_COLUMNS, "QUEUE", id="queues")
        yield Static(id="line")
        yield Input(placeholder="what to look for in id, name, command, queue, state", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        self.run_worker(self._keep_looking())

    @property
    def has_drawn(self) -> bool:
        """Whether it has shown the store once."""
        return self._seen is not None

    @property
    def _jobs_table(self) -> Rows:
        return self.query_one("#jobs", Rows)

    @property
    def _queues_table(self) -> Rows:
        return self.query_one("#queues", Rows)

    @property
    def _needle(self) -> str:
        return self.query_one("#filter", Input).value

    async def _keep_looking(self) -> None:
        while True:
            await self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._desk.pause_seconds(self._interval)):
                    await self._nudge.wait()
            self._nudge.clear()

    async def _look(self) -> None:
        limit = _FILTERED if self._needle else snapshot.MOST_ROWS
        look = asyncio.ensure_future(self._desk.look(limit))
        await self._await(look)
        try:
            self._seen = look.result()
        except QueuectlError as error:
            self._trouble = _describe(error)
        else:
            self._trouble = ""
        self._draw_line()
        self._draw()

    async def _await(self, look: asyncio.Future[snapshot.Snapshot]) -> None:
        """Wait for an answer, and tell if it is long in coming."""
        begun = asyncio.get_running_loop().time()
        while not (await asyncio.wait([look], timeout=_SOON_SECONDS))[0]:
            waited = asyncio.get_running_loop().time() - begun
            self._trouble = f"the store has not answered for {waited:.0f}s"
            self._draw_line()

    def _draw(self) -> None:
        if self._seen is None:
            return
        header = Text("\n").join(
            Text.assemble(*((text, render.STATE_COLOURS.get(state, "")) for text, state in line))
            for line in snapshot.header(self._desk.store.location, self._seen, self._queues)
        )
        if header != self._shown_header:
            self._shown_header = header
            self.query_one("#header", Static).update(header, layout=False)
        now = datetime.now(UTC)
        self._jobs_table.show_rows(snapshot.job_rows(self._seen, now, self._needle))
        self._queues_table.show_rows(snapshot.queue_rows(self._seen, self._queues))

    def _tell(self, text: str) -> None:
        self._told = text
        self._draw_line()

    def _draw_line(self) -> None:
        text = self._trouble or self._told
        drawn = Text(escape_line(text), style="bold red" if self._trouble else "", no_wrap=True)
        line = self.query_one("#line", Static)
        if drawn != line.content:
            line.update(drawn, layout=False)

    def _chosen_job(self) -> domain.Job | None:
        chosen = self._jobs_table.chosen
        job = None if chosen is None or self._seen is None else self._seen.find_job(chosen)
        if job is None:
            self._tell("no job is chosen")
        return job

    async def _act(self, deed: Callable[[engine.Store], str]) -> None:
        try:
            self._tell(await self._desk.act(deed))
        except QueuectlError as error:
            self._tell(_describe(error))
        self._nudge.set()

    def _start(self, deed: Callable[[engine.Store], str]) -> None:
        self.run_worker(self._act(deed))

    @on(DataTable.RowSelected, "#jobs")
    def _show_details(self) -> None:
        if (job := self._chosen_job()) is not None:
            self.run_worker(self._push_details(job.id))

    async def _push_details(self, job_id: str) -> None:
        try:
            text = await self._desk.ask(lambda store: details.describe(store, job_id))
        except QueuectlError as error:
            self._tell(_describe(error))
            return
        await self.app.push_screen(Details(text))

    def action_follow(self) -> None:
        if (job := self._chosen_job()) is not None:
            self.app.push_screen(Follow(self._desk, job.id))

    def action_pause(self) -> None:
        if (name := self._chosen_queue()) is None or self._seen is None:
            return
        queue = self._seen.find_queue(name)
        # What is seen is turned round, whatever somebody else has done to it meanwhile.
        deed = acts.resume if queue is not None and queue.paused_at is not None else acts.pause
        self._start(lambda store: deed(store, name))

    def _chosen_queue(self) -> str | None:
        if self.focused is self._queues_table:
            return self._queues_table.chosen
        job = self._chosen_job()
        return None if job is None else job.queue

    def action_cancel(self) -> None:
        job = self._chosen_job()
        if job is None:
            return
        if job.state in domain.FINISHED:
            self._tell(f"job {job.id} is {job.state} already")
            return
        job_id = job.id
        command = escape_line(job.name or job.command)[:60]

        def answered(yes: bool | None) -> None:
            if yes:
                self._start(lambda store: acts.cancel(store, job_id))
            else:
                self._tell("nothing was changed")

        question = f"cancel job {job_id}, {job.state}: {command} ?"
        self.app.push_screen(Question(question), answered)

    def action_retry(self) -> None:
        if (job := self._chosen_job()) is not None:
            job_id = job.id
            self._start(lambda store: acts.retry(store, job_id))

    def action_freeze(self) -> None:
        if (job := self._chosen_job()) is not None:
            job_id, deed = job.id, acts.freeze if job.frozen_at is None else acts.thaw
            self._start(lambda store: deed(store, job_id))

    def action_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.display = True
        self.set_focus(field)  # at once: the next key may be there already

    def action_show_all(self) -> None:
        field = self.query_one("#filter", Input)
        field.value = ""
        field.display = False
        self._jobs_table.focus()

    @on(Input.Changed, "#filter")
    def _filter(self) -> None:
        self._draw()  # what is there at once, the rest with the next look
        self._nudge.set()

    @on(Input.Submitted, "#filter")
    def _keep_filter(self) -> None:
        self.query_one("#filter", Input).display = bool(self._needle)
        self._jobs_table.focus()

    def action_help(self) -> None:
        if self.query(HelpPanel):
            self.app.action_hide_help_panel()
        else:
            self.app.action_show_help_panel()


def _describe(error: QueuectlError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
