"""``python -m bench [WORKLOAD ...]``: measure, print a table, write results, draw the chart."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from bench import chart, machine, report
from bench.contest import tell
from bench.peers import Peers
from bench.postgresql import PostgreSQL
from bench.redis import Redis
from bench.stage import Stage

#: Each workload, and the module that runs it.
WORKLOADS = {
    "W1": "submit",
    "W2": "drain",
    "W2b": "drain_kept",
    "W3": "statements",
    "W4": "claims",
    "W5": "wakeup",
    "W6": "memory",
    "W7": "reading",
    "W8": "crowd",
    "W9": "scaling",
    "W10": "fleet",
    "W11": "fleet_idle",
    "W12": "closed_queues",
    "W13": "completion",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the workloads that were named, or all."""
    options = _parse(arguments)
    folder = options.cache / f"run-{os.getpid()}"
    folder.mkdir(parents=True)
    peers = Peers(options.cache)
    if not options.quick and not options.no_install:
        peers.install()
    peers.look()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end with it
    postgresql, redis = PostgreSQL(folder / "postgresql"), Redis(folder / "redis")
    try:
        for name in options.workloads or WORKLOADS:
            (folder / name).mkdir()
            stage = Stage(folder / name, peers, postgresql, redis, quick=options.quick)
            _run(name, stage, options.results)
            shutil.rmtree(folder / name)
    finally:
        redis.stop()
        postgresql.stop()
        shutil.rmtree(folder, ignore_errors=True)
    chart.write(report.load_all(options.results), options.results / "chart.svg")
    return 0


def _parse(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"{', '.join(WORKLOADS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round, no installing")
    parser.add_argument("--no-install", action="store_true", help="only the peers that are there")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="where results go")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument(
        "--cache", type=Path, default=home / "queuectl-bench", help="peers and stores; a real disk"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.workloads if name not in WORKLOADS]:
        parser.error(f"no such workload: {', '.join(unknown)}")
    return options


def _run(name: str, stage: Stage, results: Path) -> None:
    load = machine.load()
    tell(f"{name}, {WORKLOADS[name]} (load {load:.1f})")
    found: report.Report = import_module(f"bench.workloads.{WORKLOADS[name]}").run(stage)
    found.missing.update(stage.peers.missing)
    print(report.table(found), end="\n\n", flush=True)
    versions = machine.own_versions() | stage.peers.versions | stage.postgresql.versions
    report.save(results, found, versions, load)


if __name__ == "__main__":
    sys.exit(main())
