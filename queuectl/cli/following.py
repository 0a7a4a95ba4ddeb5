"""Follow a job: print what it prints as it comes, over all its attempts, until it has ended."""

from __future__ import annotations

import codecs
import time
from collections import deque
from collections.abc import Callable

from queuectl.cli import render
from queuectl.db import engine, wakeup
from queuectl.domain import durations
from queuectl.domain import job as domain
from queuectl.domain.text import escape_block
from queuectl.service import chunks, jobs

Write = Callable[[bytes], None]

#: How often a growing output is looked at, in seconds; nothing rings when a job prints.
_LOOK_SECONDS = 0.05
#: The same where the database must be asked; a worker ships what a job prints once a second.
_FAR_LOOK_SECONDS = 0.25
#: How often the job is looked at even if the bell was not heard, in seconds.
_ASK_SECONDS = 1.0


def follow(
    store: engine.Store,
    job: domain.Job,
    *,
    lines: int | None = None,
    write: Write | None = None,
    watch: Callable[[], None] | None = None,
) -> None:
    """Print a job's output until it has ended; of what is there, only the last ``lines``.

    ``write`` gets it piece by piece, and b"" at the end of an attempt; stdout, escaped, if None.
    With ``watch``, which is called at each look, only retries are told of: somebody else tells the
    rest.
    """
    _Follower(store, job, write or Escaped().write, watch).follow(lines)


class Escaped:
    """Makes text of bytes in which no control sequence acts; b"" ends an output."""

    def __init__(self, put: Callable[[str], None] = render.out_text) -> None:
        self._put = put
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._held = ""

    def write(self, block: bytes) -> None:
        """Print it."""
        self._put(self.escape(block))

    def escape(self, block: bytes) -> str:
        """Return what can be shown of it by now."""
        text = self._held + self._decoder.decode(block, final=not block)
        # A carriage return may be half of a line end whose other half comes next.
        self._held = "\r" if block and text.endswith("\r") else ""
        return escape_block(text.removesuffix(self._held))


class _Follower:
    """Prints one attempt after another until the job stands where nothing leaves by itself."""

    def __init__(
        self,
        store: engine.Store,
        job: domain.Job,
        write: Write,
        watch: Callable[[], None] | None,
    ) -> None:
        self._watch = watch
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
        if self._watch is None:
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
            state = self._job.state
            held = state == domain.State.HELD and run > 1  # the first it is held for its worker
            news = self._watch is None or state == domain.State.FAILED or held
            if told != (told := (self._job.state, self._job.run_at)) and news:
                render.note(self._describe_wait(run))
            self._wait(bell, _ASK_SECONDS)
        return run

    def _describe_wait(self, run: int) -> str:
        if self._job.state in (domain.State.FAILED, domain.State.SCHEDULED):
            seconds = self._job.run_at.timestamp() - time.time()
            when = f"in {durations.format_duration(seconds)}" if seconds > 0 else "now"
            failed = f"attempt {run - 1} failed ({self._job.last_error}); " if run > 1 else ""
            return f"{failed}attempt {run} is due {when}"
        or_let_go = ""
        if self._job.state == domain.State.HELD:
            or_let_go = f", or for: queuectl release {self._job.id}"
        return f"job {self._job.id} is {self._job.state}; waiting for a worker{or_let_go}"

    def _wait(self, bell: wakeup.Bell, seconds: float) -> None:
        if self._watch is not None:
            self._watch()
        rang = bell.wait(seconds)
        if rang or time.monotonic() - self._asked_at >= _ASK_SECONDS:
            self._asked_at = time.monotonic()
            self._job = jobs.find(self._store, self._job.id)
