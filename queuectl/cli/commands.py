"""The table of commands: in the order in which ``queuectl --help`` lists them."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command or group: its name, the module whose ``app`` holds it, and one line of help."""

    name: str
    module: str
    summary: str


COMMANDS = (
    Entry("enqueue", "queuectl.cli.enqueue", "Add jobs: a command, a JSON job, or a file of them."),
    Entry("status", "queuectl.cli.status", "Count the jobs by state and queue, and the workers."),
    Entry("list", "queuectl.cli.jobs", "List jobs, the newest first."),
    Entry("show", "queuectl.cli.jobs", "Show a job and each of its attempts."),
    Entry("logs", "queuectl.cli.logs", "Print what a job printed; follow it while it runs."),
    Entry("grep", "queuectl.cli.grep", "Search what all jobs printed."),
    Entry("stats", "queuectl.cli.stats", "Tell throughput, waiting and running times, failures."),
    Entry("worker", "queuectl.cli.worker", "Start, stop and list workers."),
    Entry("dlq", "queuectl.cli.dlq", "See, retry and purge the jobs whose retries are exhausted."),
    Entry("config", "queuectl.cli.config", "See and change the stored settings."),
    Entry("db", "queuectl.cli.db", "Upgrade, check, locate and copy the store."),
    Entry("audit", "queuectl.cli.audit", "Hold the store's history against what is promised."),
    Entry("doctor", "queuectl.cli.doctor", "Look for what is not well with the store or machine."),
)
