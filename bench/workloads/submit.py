"""W1: submit one job from the shell, from start to exit."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from bench.contest import Contender, Role, compete, median_of
from bench.report import Bar, Report, ratio
from bench.stage import Stage, plain_environment, queuectl

_FLOOR = "python -c 'import typer, pydantic, sqlalchemy.orm'"
_PGQUEUER = """\
import psycopg
from pgqueuer.adapters.drivers.psycopg import SyncPsycopgDriver
from pgqueuer.queries import SyncQueries
SyncQueries(SyncPsycopgDriver(psycopg.connect({!r}, autocommit=True))).enqueue("run", b"true")"""
_PROCRASTINATE = """\
from procrastinate import App, SyncPsycopgConnector
with App(connector=SyncPsycopgConnector(conninfo={!r})).open() as app:
    app.configure_task("run").defer(command="true")"""
_PGQUEUER_NAME = "PgQueuer, one-liner"
_HUEY = "from huey import SqliteHuey as S; q = S(filename={!r}); q.task()(print)('true')"


def run(stage: Stage) -> Report:
    """Time whole calls in milliseconds."""
    location = stage.new_store()
    contenders = [
        Contender("queuectl enqueue -- true", Role.OURS, _call(queuectl(location, *_SUBMIT))),
        Contender(_FLOOR, Role.LIMIT, _call([sys.executable, "-c", _FLOOR.split("'")[1]])),
        *_peers(stage),
    ]
    rounds = stage.size(15, 1)
    outcome = compete(contenders, rounds=rounds, warm_ups=stage.size(2, 1))
    ours = median_of(outcome.rows, contenders[0].name)
    pgqueuer = median_of(outcome.rows, _PGQUEUER_NAME)
    return Report(
        "W1",
        "submit one job from the shell, start to exit",
        "ms",
        "lower",
        outcome.rows,
        [
            Bar("times the floor", ratio(ours, median_of(outcome.rows, _FLOOR)), "at most", 1.1),
            Bar("times PgQueuer's one-liner", ratio(ours, pgqueuer), "at most", 1.0),
        ],
        outcome.missing,
        ["the floor imports our own stack and does nothing with it"],
    )


_SUBMIT = ("enqueue", "--", "true")


def _call(
    command: Sequence[object], variables: dict[str, str] | None = None
) -> Callable[[], float]:
    environment = plain_environment() | (variables or {})

    def call() -> float:
        began = time.perf_counter()
        subprocess.run(
            [os.fspath(str(word)) for word in command],
            check=True,
            capture_output=True,
            env=environment,
        )
        return (time.perf_counter() - began) * 1000

    return call


def _with_database(stage: Stage, app: str, program: str) -> Callable[[], float]:
    """Return a call whose database is made at its first run: if that fails, it is missing."""

    @functools.cache
    def call() -> Callable[[], float]:
        return _call([stage.peers.python, "-c", program.format(stage.new_database(app))])

    return lambda: call()()


def _peers(stage: Stage) -> list[Contender]:
    found: list[Contender] = []
    peers, folder = stage.peers, stage.new_folder()
    python = str(peers.python)

    def add(name: str, command: Sequence[object], **variables: str) -> None:
        found.append(Contender(name, Role.PEER, _call(command, variables)))

    if peers.has("huey"):
        add("huey, one-liner", [python, "-c", _HUEY.format(str(folder / "huey.db"))])
    for package, name, line in (
        ("pgqueuer", _PGQUEUER_NAME, _PGQUEUER),
        ("procrastinate", "procrastinate, one-liner", _PROCRASTINATE),
    ):
        if peers.has(package):
            run = _with_database(stage, f"{package}_app", line)
            found.append(Contender(name, Role.PEER, run))
    if peers.has("celery"):
        at = folder / "celery"
        at.mkdir()
        add("celery, filesystem broker", [python, peers.app("celery_app"), "submit", at])
    if peers.has("spoolctl"):
        program = peers.python.with_name("spoolctl")
        add("spoolctl add", [program, "add", "--db", folder / "spool.db", "--", "true"])
    return found
