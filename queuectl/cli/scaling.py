"""``queuectl worker scale``: another number of workers for a supervisor that runs."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from typing import Annotated

import typer

from queuectl.cli import completion, lazy, leaving, objects, options, render
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import durations
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.service import supervisors

#: As many as ``worker start --count`` takes.
_MOST = 1000
#: How often the workers are looked at while somebody waits, in seconds; the bell comes sooner.
_LOOK_SECONDS = 0.5
#: Whoever has no worker for so long has ended, in seconds: all may die at once, and be replaced.
_GONE_SECONDS = 5.0
#: Characters of an id that are shown to people.
_SHORT = 8


def scale(
    ctx: typer.Context,
    count: Annotated[int, typer.Argument(metavar="N", help="How many workers it is to have.")],
    supervisor: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="The supervisor, or one of its workers, by any unique beginning of the id; it"
            " need not be named where only one runs on this host.",
            autocompletion=completion.complete_worker,
            show_default=False,
        ),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait until there are so many.")
    ] = False,
    timeout: leaving.Timeout = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Give the workers that run on this host another number: N in all.

    More are started at once. Those too many, the idle ones first, end what they run, give back what
    they had claimed ahead, and leave; no job is ended for it. One that dies is replaced, up to N.
    """
    _check(count, waits=not no_wait, timeout=timeout)
    seconds = None if timeout is None else options.parse_timeout(timeout)
    lazy.finish_start()
    store = open_store(ctx)
    found = supervisors.find(store, supervisor, socket.gethostname())
    before = len(found.staying)
    supervisors.scale(store, found.id, count)
    if not quiet:
        verb = "goes" if before != count else "stays"
        which = f"supervisor {found.id[:_SHORT]} on {found.host}"
        change = f"from {before} to" if before != count else "at"
        render.note(f"{which} {verb} {change} {render.count(count, 'worker')}")
    reached = found if no_wait else _await_number(store, found, count, seconds)
    if json:
        render.json_value(_object(reached, before, count))
    elif quiet:
        render.out_lines(worker.id for worker in reached.staying)
    elif not no_wait:
        render.out(f"{render.count(count, 'worker')} running")


def _check(count: int, *, waits: bool, timeout: str | None) -> None:
    if count < 1:
        raise InvalidInput(
            f"{count} workers would be no scaling: the last one would leave as well",
            hint="let them finish and leave with: queuectl worker drain (or worker stop)",
        )
    if count > _MOST:
        raise InvalidInput(
            f"{count} workers are too many: a supervisor has at most {_MOST}",
            hint="more jobs at once in each worker: queuectl worker start --concurrency K",
        )
    if timeout is not None and not waits:
        raise InvalidInput("--timeout limits a wait, and --no-wait has none", hint="give one")


def _await_number(
    store: engine.Store, found: supervisors.Supervisor, count: int, timeout: float | None
) -> supervisors.Supervisor:
    """Wait until it has so many workers and no others; raises QueuectlError."""
    seen_at = time.monotonic()
    deadline = None if timeout is None else seen_at + timeout
    told = ""
    with store.doorbell() as bell:
        while True:
            if (standing := _look(store, found.id, count)) is not None:
                seen_at = time.monotonic()
            elif time.monotonic() - seen_at > _GONE_SECONDS:
                raise QueuectlError(
                    f"the workers of supervisor {found.id[:_SHORT]} have left meanwhile",
                    hint="start others with: queuectl worker start --count N",
                )
            found = standing or replace(found, workers=[])
            missing = count - len(found.staying)
            if not missing and not found.leaving:
                return found
            if deadline is not None and time.monotonic() >= deadline:
                raise QueuectlError(
                    f"not reached after {durations.format_duration(timeout or 0)}:"
                    f" {_describe(found, missing)}",
                    hint="it stays asked for; see: queuectl worker list",
                )
            if told != (told := _describe(found, missing)):
                render.note(f"waiting for {told}")
            rest = _LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            bell.wait(min(_LOOK_SECONDS, max(rest, 0)))


def _look(store: engine.Store, supervisor_id: str, count: int) -> supervisors.Supervisor | None:
    """Return the supervisor as it stands, None while it has no worker.

    Raises QueuectlError if it cannot come to the number.
    """
    short = supervisor_id[:_SHORT]
    standing = supervisors.list_supervisors(store)
    found = next((one for one in standing if one.id == supervisor_id), None)
    if found is None:
        return None
    if found.is_stopping:
        raise QueuectlError(f"supervisor {short} was asked to stop meanwhile")
    if found.wanted != count:
        raise QueuectlError(
            f"supervisor {short} was scaled to {found.wanted} by somebody else meanwhile"
        )
    return found


def _describe(found: supervisors.Supervisor, missing: int) -> str:
    parts = []
    if missing > 0:
        parts.append(f"{render.count(missing, 'worker')} to start")
    if found.leaving:
        parts.append(leaving.name(found.leaving))
    if missing < 0:
        parts.append(f"{render.count(-missing, 'worker')} to leave")
    return ", ".join(parts)


def _object(found: supervisors.Supervisor, before: int, count: int) -> dict[str, object]:
    return {
        "supervisor_id": found.id,
        "host": found.host,
        "before": before,
        "wanted": count,
        "reached": len(found.staying) == count and not found.leaving,
        "workers": [objects.worker_object(worker) for worker in found.workers],
    }
