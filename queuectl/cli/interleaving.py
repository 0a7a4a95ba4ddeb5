"""The outputs of several jobs at once, line by line, each line behind its job's id in a colour."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterable

from queuectl.cli import render
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain.text import escape_line
from queuectl.service import chunks, jobs, logs

#: One after the other for the jobs; the last comes before the first again.
_COLOURS = ("36", "33", "35", "32", "34", "31")
#: A line without an end is cut here, so that memory stays flat.
_LONGEST_LINE = 16_384
#: How often growing outputs are looked at, and the jobs without the bell, in seconds.
_LOOK_SECONDS = 0.1
_ASK_SECONDS = 1.0


def follow(store: engine.Store, found: Iterable[domain.Job]) -> None:
    """Print what jobs print as it comes, over all their attempts, until all have ended."""
    shown = list(found)
    width = max(len(job.id) for job in shown)
    streams = [_Stream(store, job, _Prefixed(job.id, width, i)) for i, job in enumerate(shown)]
    asked_at = 0.0
    with store.doorbell() as bell:
        while streams:
            rang = bell.wait(0 if not asked_at else _LOOK_SECONDS)
            if rang or time.monotonic() - asked_at >= _ASK_SECONDS:
                asked_at = time.monotonic()
                # First the states, then the outputs: what came before an end is there after it.
                _ask(store, streams)
            for stream in streams:
                stream.print_new()
            streams = [stream for stream in streams if not stream.is_over]


def print_all(store: engine.Store, found: Iterable[domain.Job], lines: int | None) -> None:
    """Print what the last attempts of jobs printed, one job after the other."""
    shown = list(found)
    width = max(len(job.id) for job in shown)
    for number, job in enumerate(shown):
        prefixed = _Prefixed(job.id, width, number)
        blocks = chunks.OutputReader(store, job.seq, job.runs).read_all() if job.runs else ()
        for block in blocks if lines is None else [logs.last_lines(blocks, lines)]:
            prefixed.write(block)
        prefixed.end()


def _ask(store: engine.Store, streams: list[_Stream]) -> None:
    now = {job.id: job for job in jobs.find_by_ids(store, [s.job.id for s in streams])}
    for stream in streams:
        stream.take(now.get(stream.job.id))


class _Prefixed:
    """Prints whole lines behind a job's id; nothing in them acts on a terminal."""

    def __init__(self, job_id: str, width: int, number: int) -> None:
        self._prefix = render.paint(f"{job_id:<{width}} |", _COLOURS[number % len(_COLOURS)])
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._rest = ""

    def write(self, block: bytes) -> None:
        *whole, self._rest = (self._rest + self._decoder.decode(block)).split("\n")
        while len(self._rest) > _LONGEST_LINE:
            whole.append(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]
        render.out_lines(f"{self._prefix} {escape_line(line.rstrip(chr(13)))}" for line in whole)
        render.flush()

    def end(self) -> None:
        """Print what has no line end."""
        rest = self._rest + self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._rest = ""
        if rest:
            render.out(f"{self._prefix} {escape_line(rest)}")
            render.flush()


class _Stream:
    """One job, from the attempt that runs now, or its last one, to its end."""

    def __init__(self, store: engine.Store, job: domain.Job, prefixed: _Prefixed) -> None:
        self._store = store
        self.job = job
        self._prefixed = prefixed
        self._run = max(job.runs, 1)
        self._reader: chunks.OutputReader | None = None
        self.is_over = False

    def take(self, job: domain.Job | None) -> None:
        """Take in how the job stands now; None: it is gone."""
        if job is None:
            self.is_over = True
        else:
            self.job = job

    def print_new(self) -> None:
        """Print what has come, and go on to the next attempt if this one is over."""
        job = self.job
        if job.runs >= self._run:
            if self._reader is None:
                self._reader = chunks.OutputReader(self._store, job.seq, self._run)
            while block := self._reader.read_new():
                self._prefixed.write(block)
        if job.runs > self._run or (job.runs == self._run and job.state != domain.State.PROCESSING):
            self._end_attempt()
        if job.state in domain.FINISHED and job.runs < self._run:
            self.is_over = True
            render.note(f"job {job.id} is {job.state}")

    def _end_attempt(self) -> None:
        self._prefixed.end()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._run += 1
