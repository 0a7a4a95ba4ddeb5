"""``queuectl logs``: what a job printed, and what it prints while it runs."""

from __future__ import annotations

import codecs
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from queuectl.cli import lazy, options, render
from queuectl.cli.store import open_store
from queuectl.db import engine, wakeup
from queuectl.domain import durations
from queuectl.domain import job as domain
from queuectl.domain.text import escape_block
from queuectl.errors import InvalidInput, NotFound
from queuectl.service import chunks, jobs, logs

app = typer.Typer(rich_markup_mode=None, add_completion=False)

#: How often a growing output is looked at, in seconds; nothing rings when a job prints.
_LOOK_SECONDS = 0.05
#: The same where the database must be asked; a worker ships what a job prints once a second.
_FAR_LOOK_SECONDS = 0.25
#: How often the job is looked at even if the bell was not heard, in seconds.
_ASK_SECONDS = 1.0

Write = Callable[[bytes], None]


@app.command("logs")
def print_logs(
    ctx: typer.Context,
    id: options.JobId,
    attempt: Annotated[
        int | None,
        typer.Option(
            "--attempt", metavar="N", min=1, max=10**9, help="Of this attempt, not the last one."
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on, over all attempts, until the job has ended."),
    ] = False,
    lines: Annotated[
        int | None,
        typer.Option("--lines", "-n", metavar="N", min=0, max=10**9, help="Only the last N lines."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="The bytes as they are; control sequences act.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Print what a job printed; follow it while it runs."""
    if follow and (json or attempt is not None):
        other = "--json" if json else "--attempt"
        raise InvalidInput(f"--follow and {other} exclude each other", hint="leave one of them out")
    store = open_store(ctx)
    job = jobs.find(store, id)
    run = _choose(job, attempt)
    if json:
        _print_json(store, job, run, lines)
        return
    write: Write = render.out_bytes if raw else _Escaped().write
    if follow:
        lazy.finish_start()
        _Follower(store, job, write).follow(lines)
    else:
        _print(store, job, run, lines, write)


def _choose(job: domain.Job, attempt: int | None) -> int:
    if attempt is not None and attempt > job.runs:
        raise NotFound(
            f"job {job.id} has no attempt {attempt}", hint=f"it was started {job.runs} times"
        )
    return attempt or job.runs


def _print(store: engine.Store, job: domain.Job, run: int, lines: int | None, write: Write) -> None:
    if not run:
        render.note(f"job {job.id} has not run yet; it is {job.state}")
        return
    if (attempt := _find_elsewhere(store, job, run)) is not None:
        _print_elsewhere(store, job, attempt, lines, write)
        return
    printed = False
    for block in _read(store, job, run, lines):
        printed = printed or bool(block)
        write(block)
    write(b"")
    if not printed and store.is_shared and job.state == domain.State.PROCESSING:
        render.note(f"attempt {run} of job {job.id} has printed nothing yet, or runs elsewhere")
    elif not printed and lines != 0:
        render.note(f"attempt {run} of job {job.id} has printed nothing")


def _read(store: engine.Store, job: domain.Job, run: int, lines: int | None) -> Iterable[bytes]:
    blocks = chunks.OutputReader(store, job.seq, run).read_all()
    return blocks if lines is None else [logs.last_lines(blocks, lines)]


def _find_elsewhere(store: engine.Store, job: domain.Job, run: int) -> domain.Attempt | None:
    """Return an attempt that has ended and whose whole output is on another machine."""
    if logs.output_path(store.location, job.seq, run).exists():
        return None
    if chunks.are_there(store, job.seq, run):
        return None
    ended = jobs.history(store, job.id).attempts
    return next((a for a in ended if a.run == run and a.output_bytes), None)


def _print_elsewhere(
    store: engine.Store,
    job: domain.Job,
    attempt: domain.Attempt,
    lines: int | None,
    write: Write,
) -> None:
    tail = logs.last_lines([attempt.output_tail or b""], lines)
    write(tail)
    write(b"")
    shown = f"the last {len(attempt.output_tail or b'')} of {attempt.output_bytes} bytes"
    path = logs.output_path(store.location, job.seq, attempt.run)
    if not store.is_shared:  # the store was copied, and the file was not
        render.note(f"{shown}; it ran on {attempt.host}, and its file is not in {path.parent}")
        return
    folder = path.parent.parent.name
    render.note(
        f"{shown}; all of it is"
        f" on {attempt.host}: ~/.queuectl/{folder}/{path.parent.name}/{path.name}"
    )


def _print_json(store: engine.Store, job: domain.Job, run: int, lines: int | None) -> None:
    if not run:
        output = b""
    elif (attempt := _find_elsewhere(store, job, run)) is not None:
        output = logs.last_lines([attempt.output_tail or b""], lines)
    else:
        output = b"".join(_read(store, job, run, lines))
    text = output.decode(errors="backslashreplace")
    render.json_value({"id": job.id, "attempt": run or None, "state": job.state, "output": text})


class _Escaped:
    """Prints bytes so that no control sequence in them acts; b"" ends an output."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._held = ""

    def write(self, block: bytes) -> None:
        text = self._held + self._decoder.decode(block, final=not block)
        # A carriage return may be half of a line end whose other half comes next.
        self._held = "\r" if block and text.endswith("\r") else ""
        render.out_text(escape_block(text.removesuffix(self._held)))


class _Follower:
    """Prints one attempt after another until the job stands where nothing leaves by itself."""

    def __init__(self, store: engine.Store, job: domain.Job, write: Write) -> None:
        self._store = store
        self._job = job
        self._write = write
        self._asked_at = time.monotonic()

    def follow(self, lines: int | None) -> None:
        with self._store.doorbell() as bell:
            run = self._job.runs
            if not run:
                run = self._await_run(bell, 1)
            while run:
                reader = chunks.OutputReader(self._store, self._job.seq, run)
                if lines is not None:
                    self._skip(reader, lines)
                    lines = None
                self._follow_attempt(bell, reader, run)
                reader.close()
                run = self._await_run(bell, run + 1)
        render.note(f"job {self._job.id} is {self._job.state}")

    def _skip(self, reader: chunks.OutputReader, lines: int) -> None:
        """Read what is there, and print the last lines of it."""
        kept: deque[bytes] = deque(maxlen=lines + 1)
        rest = b""
        while block := reader.read_new():
            *whole, rest = (rest + block).split(b"\n")
            kept.extend(line + b"\n" for line in whole)
        shown = [*kept, rest] if rest else list(kept)
        self._write(b"".join(shown[len(shown) - lines :] if lines else []) or b"")

    def _follow_attempt(self, bell: wakeup.Bell, reader: chunks.OutputReader, run: int) -> None:
        while True:
            # First the state, then the output: what came before the end is there after it.
            over = self._job.runs > run or self._job.state != domain.State.PROCESSING
            while block := reader.read_new():
                self._write(block)
            if over:
                self._write(b"")
                return
            self._wait(bell, _LOOK_SECONDS if reader.is_here else _FAR_LOOK_SECONDS)

    def _await_run(self, bell: wakeup.Bell, run: int) -> int:
        """Wait until attempt ``run`` has begun, and return it; 0 if there will be none."""
        told = None
        while self._job.runs < run:
            if self._job.state in domain.FINISHED:
                return 0
            if told != (told := (self._job.state, self._job.run_at)):
                render.note(self._describe_wait(run))
            self._wait(bell, _ASK_SECONDS)
        return run

    def _describe_wait(self, run: int) -> str:
        if self._job.state in (domain.State.FAILED, domain.State.SCHEDULED):
            seconds = self._job.run_at.timestamp() - time.time()
            when = f"in {durations.format_duration(seconds)}" if seconds > 0 else "now"
            failed = f"attempt {run - 1} failed ({self._job.last_error}); " if run > 1 else ""
            return f"{failed}attempt {run} is due {when}"
        return f"job {self._job.id} is {self._job.state}; waiting for a worker"

    def _wait(self, bell: wakeup.Bell, seconds: float) -> None:
        rang = bell.wait(seconds)
        if rang or time.monotonic() - self._asked_at >= _ASK_SECONDS:
            self._asked_at = time.monotonic()
            self._job = jobs.find(self._store, self._job.id)
