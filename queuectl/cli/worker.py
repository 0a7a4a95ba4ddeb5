"""``queuectl worker``: start, stop, drain, scale, list, unit."""

from __future__ import annotations

import getpass
from enum import StrEnum
from typing import Annotated

import typer

from queuectl.cli import completion, lazy, leaving, objects, options, render, scaling
from queuectl.cli import unit as units
from queuectl.cli.store import location, open_store
from queuectl.domain import options as domain_options
from queuectl.service import workers
from queuectl.settings import ServerLocation
from queuectl.worker import detaching, supervisor

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

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
    """Start, stop, scale and list workers."""


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


app.command("stop")(leaving.stop)
app.command("drain")(leaving.drain)
app.command("scale")(scaling.scale)


@app.command("list")
def list_(ctx: typer.Context, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """List the workers and what they run."""
    found = workers.list_workers(open_store(ctx))
    if json:
        render.json_array(objects.worker_object(worker) for worker in found)
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
            ", ".join(f"{job.id} (frozen)" if job.frozen_at else job.id for job in worker.running),
        ]
        for worker in found
    ]
    render.table(columns, rows)


def _state(worker: workers.Worker) -> str:
    stopping = worker.state == "alive" and worker.stop_requested_at is not None
    return "stopping" if stopping else worker.state


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
