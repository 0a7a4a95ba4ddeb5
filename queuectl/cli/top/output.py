"""What a job prints, piece by piece as it comes, over all its attempts; harmless for a terminal."""

from __future__ import annotations

from dataclasses import dataclass

from queuectl.cli import following, logs
from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain.text import escape_line
from queuectl.service import chunks, jobs

#: Blocks of 64 KiB that one call takes at most, so that nobody waits long for it.
_MOST_BLOCKS = 16
#: A line without an end is cut here, in characters, so that memory and time stay flat.
_LONGEST_LINE = 4096


@dataclass(frozen=True, slots=True)
class Piece:
    """What came since the last call. ``is_over``: nothing more will come."""

    text: str
    state: str
    is_over: bool
    #: There is more already.
    is_behind: bool = False


class Output:
    """Follows one job, from the attempt that runs now, or its last one, to its end."""

    def __init__(self, store: engine.Store, job_id: str) -> None:
        self._store = store
        self._id = job_id
        self._run = 0
        self._reader: chunks.OutputReader | None = None
        self._escaped = following.Escaped()
        self._column = 0

    def close(self) -> None:
        """Close the files."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def read(self) -> Piece:
        """Return what has come; raises StoreError, or OSError where a file cannot be read."""
        # First the state, then the output: what came before the end is there after it.
        job = next(iter(jobs.find_by_ids(self._store, [self._id])), None)
        if job is None:
            return Piece(self._line("the job is gone"), "gone", is_over=True)
        self._run = self._run or max(job.runs, 1)
        if job.runs < self._run:
            return Piece("", job.state, is_over=job.state in domain.FINISHED)
        if self._reader is None:
            self._reader = chunks.OutputReader(self._store, job.seq, self._run)
        blocks = self._read_blocks(self._reader)
        text = self._break(self._escaped.escape(b"".join(blocks)) if blocks else "")
        if len(blocks) == _MOST_BLOCKS:
            return Piece(text, job.state, is_over=False, is_behind=True)
        if job.runs == self._run and job.state is domain.State.PROCESSING:
            return Piece(text, job.state, is_over=False)
        text += self._end_attempt(job)
        return Piece(text, job.state, is_over=job.state in domain.FINISHED and job.runs < self._run)

    def _read_blocks(self, reader: chunks.OutputReader) -> list[bytes]:
        blocks: list[bytes] = []
        while len(blocks) < _MOST_BLOCKS and (block := reader.read_new()):
            blocks.append(block)
        return blocks

    def _end_attempt(self, job: domain.Job) -> str:
        """Return the rest of an attempt that is over, and how it ended."""
        text = self._break(self._escaped.escape(b""))
        elsewhere = logs.find_elsewhere(self._store, job, self._run)
        if elsewhere is not None:
            tail = self._escaped.escape(elsewhere.output_tail or b"") + self._escaped.escape(b"")
            text += self._break(tail)
            text += self._line(f"the last of {elsewhere.output_bytes} bytes on {elsewhere.host}")
        ended = jobs.history(self._store, job.id).attempts
        how = next((attempt for attempt in ended if attempt.run == self._run), None)
        if how is not None:
            error = f": {how.error}" if how.error else ""
            text += self._line(f"attempt {self._run} {how.outcome}{error}")
        self.close()
        self._run += 1
        return text

    def _line(self, told: str) -> str:
        """Return a line of ours, on a line of its own."""
        begun, self._column = self._column > 0, 0
        return f"{chr(10) if begun else ''}-- {escape_line(told)}\n"

    def _break(self, text: str) -> str:
        """Return the text with line ends where a line is too long."""
        lines = text.split("\n")
        lines[0] = " " * self._column + lines[0]
        cut = "\n".join(
            "\n".join(
                line[start : start + _LONGEST_LINE]
                for start in range(0, max(1, len(line)), _LONGEST_LINE)
            )
            for line in lines
        )
        shown = cut[self._column :]
        self._column = len(cut) - cut.rfind("\n") - 1
        return shown
