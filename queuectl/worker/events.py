"""What workers and supervisors tell while they work: a readable line an event, or an object."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from queuectl.domain.text import escape_line

#: Where events go: the standard output of ``worker start``.
_STDOUT = 1


@dataclass(frozen=True, slots=True)
class EventLog:
    """Writes events; each is one write, so that lines of several processes never mix."""

    #: ``text`` or ``json``.
    style: str
    #: Who speaks: ``supervisor``, or the beginning of a worker's id.
    name: str

    def emit(self, event: str, message: str, **fields: object) -> None:
        """Write one event; ``message`` is for people, ``event`` and ``fields`` for programs."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
        if self.style == "json":
            line = json.dumps(
                {"at": now, "source": self.name, "event": event, "message": message, **fields}
            )
        else:
            line = f"{now} {self.name}: {escape_line(message)}"
        with suppress(OSError):  # nobody reads any more; the work goes on
            os.write(_STDOUT, (line + "\n").encode(errors="backslashreplace"))
