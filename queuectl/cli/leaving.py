"""``queuectl worker stop`` and ``drain``: let workers leave, and wait for it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from queuectl.cli import completion, lazy, objects, options, render
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import durations
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.service import supervisors, workers
from queuectl.worker import rescue

#: How often the workers are looked at while somebody waits, in seconds; the bell comes sooner.
_LOOK_SECONDS = 0.5
#: Characters of a worker's id that are shown to people.
_SHORT = 8

Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="Wait at most 90s, 5m.")
]


def stop(
    ctx: typer.Context,
    now: Annotated[
        bool, typer.Option("--now", help="End running jobs and put them back, uncharged.")
    ] = False,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue",
            "-Q",
            metavar="NAME",
            help="Only workers that were started for this queue.",
            autocompletion=completion.complete_queue,
        ),
    ] = None,
    timeout: Timeout = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Let workers end what they run, claim nothing more, and leave; wait for that."""
    seconds = None if timeout is None else options.parse_timeout(timeout)
    lazy.finish_start()
    store = open_store(ctx)
    rescue.rescue_dead(store)
    asked = workers.request_stop(store, queue=queue, now=now)
    if asked:
        concerned = {worker.supervisor_id for worker in asked}
        _await_end(
            store,
            lambda worker: worker.supervisor_id in concerned,
            seconds,
            hint="the stop stays asked for; --now ends their jobs and puts them back",
        )
    nobody = "no worker is running" + (f" for queue {queue} alone" if queue else "")
    _tell(store, asked, "stopped", nobody, quiet=quiet, json=json)


def drain(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID",
            help="Workers, or supervisors with all of theirs, by any unique beginning of the id.",
            autocompletion=completion.complete_worker,
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="The workers of this host.  [default: the one you are on]",
            autocompletion=completion.complete_host,
            show_default=False,
        ),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="The workers of all hosts.")] = False,
    timeout: Timeout = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Let the workers of this host end what they run, however long it takes, and leave.

    They claim nothing more, give back what they had claimed ahead, and are not replaced. No job is
    ended for it: --timeout, or Ctrl-C, ends the waiting alone. Then "worker stop --now" ends the
    jobs and puts them back, and so does TERM to the supervisor of workers that all drain.
    """
    if sum((bool(ids), host is not None, all)) > 1:
        raise InvalidInput(
            "workers are named by id, by --host, or by --all: by one of them alone",
            hint="leave out the others",
        )
    seconds = None if timeout is None else options.parse_timeout(timeout)
    lazy.finish_start()
    store = open_store(ctx)
    rescue.rescue_dead(store)
    place = None if all else host or socket.gethostname()
    chosen = supervisors.choose_workers(store, ids or (), place)
    if chosen:
        named = {worker.id for worker in chosen}
        whole = set(supervisors.drain(store, chosen))
        _await_end(
            store,
            lambda worker: worker.id in named or worker.supervisor_id in whole,
            seconds,
            hint="they go on draining; to end their jobs and put them back: worker stop --now",
        )
    nobody = "no worker is running" + (f" on {place}" if place else "")
    _tell(store, chosen, "drained", nobody, quiet=quiet, json=json)


def _await_end(
    store: engine.Store,
    is_awaited: Callable[[workers.Worker], bool],
    timeout: float | None,
    *,
    hint: str,
) -> None:
    """Wait until no such worker is left, telling for whom; raises QueuectlError."""
    deadline = None if timeout is None else time.monotonic() + timeout
    told = ""
    with store.doorbell() as bell:
        while True:
            # One that was killed leaves nothing by itself.
            rescue.rescue_dead(store)
            left = [worker for worker in workers.list_workers(store) if is_awaited(worker)]
            if not left:
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise QueuectlError(
                    f"still running after {durations.format_duration(timeout or 0)}: {name(left)}",
                    hint=hint,
                )
            if told != (told := name(left)):
                render.note(f"waiting for {told}")
            rest = _LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            bell.wait(min(_LOOK_SECONDS, max(rest, 0)))


def name(left: Sequence[workers.Worker]) -> str:
    """Return workers with what they run: ``worker 3f2a9c01 (runs a, b)``."""
    described = []
    for worker in left:
        running = [job.id for job in worker.running]
        does = f"runs {', '.join(running)}" if running else "runs nothing"
        described.append(f"worker {worker.id[:_SHORT]} ({does})")
    return ", ".join(described)


def _tell(
    store: engine.Store,
    asked: Sequence[workers.Worker],
    became: str,
    nobody: str,
    *,
    quiet: bool,
    json: bool,
) -> None:
    if json:
        left = workers.look_again(store, asked)
        render.json_array(objects.worker_object(worker) for worker in left)
    elif quiet:
        render.out_lines(worker.id for worker in asked)
    elif asked:
        render.out(f"{render.count(len(asked), 'worker')} {became}")
    else:
        render.note(nobody)
