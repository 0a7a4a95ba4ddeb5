"""What workers and supervisors tell while they work: a readable line an event, or an object."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from queuectl.domain.durations import format_duration
from queuectl.domain.job import Outcome, State
from queuectl.domain.retry import Decision
from queuectl.domain.text import escape_line
from queuectl.service.claims import Settlement, Turn

#: Where events go: the standard output of ``worker start``.
_STDOUT = 1


@dataclass(frozen=True, slots=True)
class EventLog:
    """Writes events; a write is whole lines, so that those of several processes never mix."""

    #: ``text`` or ``json``.
    style: str
    #: Who speaks: ``supervisor``, or the beginning of a worker's id.
    name: str

    def emit(self, event: str, message: str, **fields: object) -> None:
        """Write one event; ``message`` is for people, ``event`` and ``fields`` for programs."""
        _write(self._line(event, message, **fields))

    def _line(self, event: str, message: str, **fields: object) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
        if self.style == "json":
            line = json.dumps(
                {"at": now, "source": self.name, "event": event, "message": message, **fields}
            )
        else:
            line = f"{now} {self.name}: {escape_line(message)}"
        return (line + "\n").encode(errors="backslashreplace")

    def tell_turn(self, ended: Sequence[Settlement], turn: Turn) -> None:
        """Write what became of the attempts that a turn has settled."""
        lines = [
            self._settled_line(item, decision)
            for item in ended
            if (decision := turn.decisions.get(item.claim.mark)) is not None
        ]
        lines += [
            self._line(
                "result-dropped",
                f"job {item.claim.id}: its claim was lost, the result is dropped",
                job=item.claim.id,
                run=item.claim.run,
            )
            for item in turn.lost
        ]
        block = b""
        for line in lines:
            if len(block) + len(line) > select.PIPE_BUF:
                _write(block)
                block = b""
            block += line
        _write(block)

    def _settled_line(self, item: Settlement, decision: Decision) -> bytes:
        outcome, claim = item.outcome, item.claim
        lasted = (outcome.finished_at - outcome.started_at).total_seconds()
        return self._line(
            f"job-{outcome.ending.replace(' ', '-')}",
            f"job {claim.id} {_describe(outcome, decision, lasted)}",
            job=claim.id,
            run=claim.run,
            state=decision.state,
            exit_code=outcome.exit_code,
            signal=outcome.signal,
            seconds=round(lasted, 3),
            error=outcome.error,
        )


def _write(lines: bytes) -> None:
    """Write lines that fit into a pipe at once."""
    if lines:
        with suppress(OSError):  # nobody reads any more; the work goes on
            os.write(_STDOUT, lines)


def _describe(outcome: Outcome, decision: Decision, lasted_seconds: float) -> str:
    if decision.state is State.COMPLETED:
        return f"completed in {format_duration(lasted_seconds)}"
    if decision.state is State.CANCELLED:
        return f"was cancelled after {format_duration(lasted_seconds)}"
    if decision.state is State.DEAD:
        return f"is dead, {decision.dead_reason}: {outcome.error}"
    if decision.state is State.FAILED and decision.run_at is not None:
        pause = max(0.0, (decision.run_at - datetime.now(UTC)).total_seconds())
        return f"failed: {outcome.error}; tries again in {format_duration(round(pause))}"
    return "put back"
