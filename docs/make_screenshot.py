"""Draw the README's picture of `queuectl top` from the program itself.

    python docs/make_screenshot.py          rewrite docs/top.svg
    python docs/make_screenshot.py --check  exit 1 if the screen no longer shows that

The jobs are put into a throw-away store, by workers that run nothing; the screen is drawn without a
terminal.
"""

from __future__ import annotations

import asyncio
import difflib
import html
import os
import re
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import update

from queuectl.cli.top.app import Top
from queuectl.cli.top.desk import Desk
from queuectl.cli.top.main import Main
from queuectl.db import presence
from queuectl.db.engine import Store, open_store
from queuectl.db.models import JobRow
from queuectl.domain.job import Claim, Ending, Outcome
from queuectl.domain.request import validate_request
from queuectl.service import claims, jobs, queues, workers
from queuectl.settings import locate_store

PICTURE = Path(__file__).resolve().parent / "top.svg"
COLUMNS, ROWS = 100, 30
_HOSTS = ("studio", "attic")
#: Queue, id, command, and how it ended or how long it has run, in seconds.
_ENDED = (
    ("video", "film-01", "./encode.sh holiday-01.mkv", Ending.COMPLETED, 45),
    ("video", "film-02", "./encode.sh holiday-02.mkv", Ending.COMPLETED, 1500),
    ("mail", "letter-7", "./send.sh --to list", Ending.FAILED, 130),
    ("default", "backup", "restic backup /home", Ending.COMPLETED, 22_000),
    ("default", "report", "python report.py --week 47", Ending.FAILED, 300),
)
_RUNNING = (
    ("video", "film-03", "./encode.sh holiday-03.mkv", 1452),
    ("video", "film-04", "./encode.sh holiday-04.mkv", 318),
    ("default", "index", "./rebuild-index --all", 41),
)
_WAITING = (
    *(("video", f"film-{n:02}", f"./encode.sh holiday-{n:02}.mkv", {}) for n in range(5, 12)),
    ("mail", "digest", "./send.sh --digest", {"delay": "3h"}),
    ("default", "cleanup", "find /srv/tmp -mtime +7 -delete", {"hold": True}),
)
#: Textual's font is fetched from a host; a picture in a README shall fetch nothing.
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_TEXT = re.compile(r"<text[^>]* y=\"([\d.]+)\"[^>]*>(.*?)</text>", re.DOTALL)
#: What differs from one run to the next.
_VARYING = (
    (re.compile(r"\b\d+(\.\d+)?(ms|[smhd])(\d+[smh])?\b"), "AMOUNT"),
    (re.compile(r"[\d.]+ jobs/s"), "RATE"),
    (re.compile(r"\s+"), " "),
)


class _Crew:
    """Workers that claim and settle, and run nothing."""

    def __init__(self, store: Store) -> None:
        # Its own: a store does not look again for what it has changed itself.
        self._store = Store(store.location)
        self._claimants = []
        self._locks = [presence.take(store.location, host, create=True) for host in _HOSTS]
        for host in _HOSTS:
            workers.register(
                store,
                workers.Registration(host, host, host, presence.boot_id(), 1, 2, None),
            )
            self._claimants.append(claims.Claimant(host, host, 1, None))

    def claim(self, number: int) -> Claim:
        """Claim what comes next."""
        claimant = self._claimants[number % len(self._claimants)]
        [claim] = claims.take_turn(self._store, claimant, (), free=1, idle=True).claims
        return claim

    def settle(self, number: int, claim: Claim, ending: Ending) -> None:
        """End an attempt."""
        now = datetime.now(UTC)
        well = ending is Ending.COMPLETED
        outcome = Outcome(ending, now, now, exit_code=0 if well else 1, output_bytes=0)
        settlement = claims.Settlement(claim, outcome)
        claimant = self._claimants[number % len(self._claimants)]
        claims.take_turn(self._store, claimant, (settlement,), free=0, idle=True)


def fill(store: Store) -> None:
    """Put jobs of every kind into a store."""
    crew = _Crew(store)
    for number, (queue, job_id, command, ending, ago) in enumerate(_ENDED):
        _add(store, queue, job_id, command, max_retries=0)
        crew.settle(number, crew.claim(number), ending)
        _date(store, job_id, "finished_at", ago)
    for number, (queue, job_id, command, ago) in enumerate(_RUNNING):
        _add(store, queue, job_id, command)
        crew.claim(number)
        _date(store, job_id, "claimed_at", ago)
    for queue, job_id, command, fields in _WAITING:
        _add(store, queue, job_id, command, **fields)
    queues.limit(store, "video", 2)
    queues.pause(store, ["mail"])


def _add(store: Store, queue: str, job_id: str, command: str, **fields: object) -> None:
    request = validate_request({"queue": queue, "id": job_id, "command": command, **fields})
    jobs.enqueue(store, [request], cwd="/")


def _date(store: Store, job_id: str, column: str, seconds_ago: float) -> None:
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    store.write(
        lambda connection: connection.execute(
            update(JobRow).where(JobRow.id == job_id).values({column: at})
        )
    )


async def draw(store: Store) -> str:
    """Return the screen as a picture."""
    desk = Desk(store, ())
    screen = Top(desk, (), 1.0)
    async with screen.run_test(size=(COLUMNS, ROWS)) as pilot:
        while not (isinstance(screen.screen, Main) and screen.screen.has_drawn):
            await pilot.pause(0.05)
        await pilot.pause()
        picture = screen.export_screenshot(title="queuectl top")
    desk.close()
    return _FONT.sub("", picture)


def make() -> str:
    """Return the picture of a store that is as every time."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home  # the path on the screen begins with ~
        with closing(open_store(locate_store(None, {}))) as store:
            fill(store)
            return asyncio.run(draw(store))


def lines_of(picture: str) -> list[str]:
    """Return what can be read in a picture, line by line, without what differs each time."""
    lines: dict[float, str] = {}
    for y, text in _TEXT.findall(picture):
        lines[float(y)] = lines.get(float(y), "") + html.unescape(text)
    found = []
    for _, line in sorted(lines.items()):
        for pattern, word in _VARYING:
            line = pattern.sub(word, line)
        found.append(line.strip())
    return found


def main() -> int:
    """Rewrite the picture, or with ``--check`` tell whether it would say something else."""
    new = make()
    if "--check" in sys.argv[1:]:
        old = PICTURE.read_text()
        changes = difflib.unified_diff(
            lines_of(old), lines_of(new), PICTURE.name, "now", lineterm=""
        )
        text = "\n".join(changes)
        sys.stdout.write(text)
        return int(bool(text))
    PICTURE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
