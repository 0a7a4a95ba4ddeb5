"""``queuectl worker``: start, stop, list."""

from __future__ import annotations

import getpass
import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from queuectl.cli import completion, lazy, options, render
from queuectl.cli import unit as units
from queuectl.cli.store import location, open_store
from queuectl.db import engine
from queuectl.domain import durations
from queuectl.domain import options as domain_options
from queuectl.errors import QueuectlError
from queuectl.service import workers
from queuectl.settings import ServerLocation
from queuectl.worker import detaching, rescue, supervisor

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

#: How often the workers are looked at while a stop waits, in seconds; the bell comes sooner.
_LOOK_SECONDS = 0.5
#: Characters of a worker's id that are shown to people.
_SHORT = 8


class LogFormat(StrEnum):
    """How events are written."""

    text = "text"
    json = "json"


Count = Annotated[
    int, typer.Option("--count", "-c", metavar="N", min=1, max=1000, help="Worker processes.")
]
Concurrency = Annotated[
    int,
    typer.Option("--concurrency", "-j", metavar="K", min=1, max=1000, help="Jobs at once in each."),
]
Served = Annotated[
    list[str] | None,
    typer.Option(
        "--queue",
        "-Q",
        metavar="NAME",
        help="Serve only this queue; repeatable.",
        autocompletion=completion.complete_queue,
    ),
]


@app.callback()
def worker() -> None:
    """Start, stop and list workers."""


@app.command("start")
def start(
    ctx: typer.Context,
    count: Count = 1,
    concurrency: Concurrency = 1,
    queue: Served = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", "-d", help="Leave the terminal; the log is beside the store."),
    ] = False,
    drain: Annotated[
        bool, typer.Option("--drain", help="Leave when nothing is due or running.")
    ] = False,
    output_store: Annotated[
        domain_options.OutputStore | None,
        typer.Option(
            "--output-store",
            help="Where outputs are kept; by default as the setting output-store says.",
            show_default=False,
        ),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help="A readable line an event, or JSON.")
    ] = LogFormat.text,
) -> None:
    """Run jobs until stopped: by Ctrl-C (twice: at once) or by queuectl worker stop."""
    for name in queue or ():
        options.check_queue(name, option="--queue")
    lazy.finish_start()  # before the fork, so that all workers share what was imported
    at = location(ctx)
    plan = supervisor.WorkerPlan(
        count=count,
        concurrency=concurrency,
        queues=tuple(queue) if queue else None,
        drain=drain,
        log_format=log_format.value,
        output_store=output_store,
    )
    if detach:
        pid = detaching.detach(at, plan)
        render.out(str(pid))
        render.note(f"{render.count(count, 'worker')} started; the log is {at.worker_log}")
        return
    raise typer.Exit(supervisor.run_supervisor(at, plan))


@app.command("stop")
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
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Wait at most 90s, 5m.")
    ] = None,
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
        _await_end(store, {worker.supervisor_id for worker in asked}, seconds)
    if json:
        render.json_array(_worker_object(worker) for worker in asked)
    elif quiet:
        render.out_lines(worker.id for worker in asked)
    elif asked:
        render.out(f"{render.count(len(asked), 'worker')} stopped")
    else:
        render.note("no worker is running" + (f" for queue {queue} alone" if queue else ""))


def _await_end(store: engine.Store, supervisors: set[str], timeout: float | None) -> None:
    """Wait until none of their workers is left, telling for whom; raises QueuectlError."""
    deadline = None if timeout is None else time.monotonic() + timeout
    told = ""
    with store.doorbell() as bell:
        while True:
            # One that was killed leaves nothing by itself.
            rescue.rescue_dead(store)
            left = [w for w in workers.list_workers(store) if w.supervisor_id in supervisors]
            if not left:
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise QueuectlError(
                    f"still running after {durations.format_duration(timeout or 0)}: {_name(left)}",
                    hint="the stop stays asked for; --now ends their jobs and puts them back",
                )
            if told != (told := _name(left)):
                render.note(f"waiting for {told}")
            rest = _LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            bell.wait(min(_LOOK_SECONDS, max(rest, 0)))


def _name(left: list[workers.Worker]) -> str:
    described = []
    for worker in left:
        running = [job.id for job in worker.running]
        does = f"runs {', '.join(running)}" if running else "runs nothing"
        described.append(f"worker {worker.id[:_SHORT]} ({does})")
    return ", ".join(described)


@app.command("list")
def list_(ctx: typer.Context, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """List the workers and what they run."""
    found = workers.list_workers(open_store(ctx))
    if json:
        render.json_array(_worker_object(worker) for worker in found)
    elif quiet:
        render.out_lines(worker.id for worker in found)
    elif found:
        _show(found)
    else:
        render.note("no worker is running; start one with: queuectl worker start")


def _show(found: list[workers.Worker]) -> None:
    columns = [
        render.Column("ID"),
        render.Column("STATE"),
        render.Column("HOST"),
        render.Column("PID", right=True),
        render.Column("SLOTS", right=True),
        render.Column("QUEUES"),
        render.Column("HEARTBEAT"),
        render.Column("RUNNING", fills=True),
    ]
    rows: list[list[render.Cell]] = [
        [
            worker.id[:_SHORT],
            _state(worker),
            worker.host,
            worker.pid,
            worker.slots,
            "all" if worker.queues is None else ",".join(worker.queues),
            worker.heartbeat_at,
            ", ".join(job.id for job in worker.running),
        ]
        for worker in found
    ]
    render.table(columns, rows)


def _state(worker: workers.Worker) -> str:
    stopping = worker.state == "alive" and worker.stop_requested_at is not None
    return "stopping" if stopping else worker.state


def _worker_object(worker: workers.Worker) -> dict[str, Any]:
    return {
        "id": worker.id,
        "state": worker.state,
        "host": worker.host,
        "pid": worker.pid,
        "slots": worker.slots,
        "queues": worker.queues,
        "running": [
            {"id": job.id, "attempt": job.run, "claimed_at": job.claimed_at}
            for job in worker.running
        ],
        "started_at": worker.started_at,
        "heartbeat_at": worker.heartbeat_at,
        "lease_expires_at": worker.lease_expires_at,
        "stop_requested_at": worker.stop_requested_at,
        "stop_mode": worker.stop_mode,
        "supervisor_id": worker.supervisor_id,
    }


@app.command("unit")
def unit(
    ctx: typer.Context, count: Count = 1, concurrency: Concurrency = 1, queue: Served = None
) -> None:
    """Print a systemd unit that runs such workers on this store, as the user who asks.

    queuectl worker unit --count 2 | sudo tee /etc/systemd/system/queuectl.service
    """
    for name in queue or ():
        options.check_queue(name, option="--queue")
    at = location(ctx)
    words = [f"--count={count}", f"--concurrency={concurrency}"]
    words += [f"--queue={name}" for name in queue or ()]
    render.out(units.unit(at, getpass.getuser(), words), end="")
    if isinstance(at, ServerLocation) and at.url != units.address(at):
        render.note("the password is left out; put it in ~/.pgpass of the user who runs it")
