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
    Entry("run", "queuectl.cli.run", "Run a job here and now, with its output and exit code."),
    Entry("wait", "queuectl.cli.wait", "Wait until jobs have ended; leave as they did."),
    Entry("status", "queuectl.cli.status", "Count the jobs by state and queue, and the workers."),
    Entry("top", "queuectl.cli.top.command", "Watch it live, and act on it with keys."),
    Entry("list", "queuectl.cli.jobs", "List jobs, the newest first."),
    Entry("show", "queuectl.cli.jobs", "Show a job and each of its attempts."),
    Entry("logs", "queuectl.cli.logs", "Print what a job printed; follow it while it runs."),
    Entry("cancel", "queuectl.cli.control", "Cancel jobs, waiting or running."),
    Entry("retry", "queuectl.cli.control", "Queue ended jobs again."),
    Entry("hold", "queuectl.cli.control", "Hold jobs that wait until they are released."),
    Entry("release", "queuectl.cli.control", "Let go of jobs that are held."),
    Entry("set", "queuectl.cli.set", "Change jobs that wait: priority=5 queue=slow."),
    Entry("edit", "queuectl.cli.edit", "Change a job that waits in an editor."),
    Entry("kill", "queuectl.cli.control", "Send a signal to running jobs."),
    Entry("freeze", "queuectl.cli.control", "Stop running jobs, and their timeouts, for a while."),
    Entry("thaw", "queuectl.cli.control", "Let frozen jobs go on."),
    Entry("explain", "queuectl.cli.explain", "Tell why a job does not run, and what to do."),
    Entry("tree", "queuectl.cli.tree", "Draw what a job needs, and what needs it."),
    Entry("queue", "queuectl.cli.queue", "List, pause, resume, limit, rate and purge queues."),
    Entry("schedule", "queuectl.cli.schedule", "Add, list, pause, run and remove schedules."),
    Entry("grep", "queuectl.cli.grep", "Search what all jobs printed."),
    Entry("stats", "queuectl.cli.stats", "Tell throughput, waiting and running times, failures."),
    Entry("worker", "queuectl.cli.worker", "Start, stop, scale and list workers."),
    Entry("dlq", "queuectl.cli.dlq", "See, retry and purge the jobs whose retries are exhausted."),
    Entry("prune", "queuectl.cli.prune", "Delete jobs that ended long ago, with their output."),
    Entry("config", "queuectl.cli.config", "See and change the stored settings."),
    Entry("db", "queuectl.cli.db", "Upgrade, check, locate, copy and back up the store."),
    Entry("export", "queuectl.cli.archive", "Write everything in the store as lines of JSON."),
    Entry("import", "queuectl.cli.archive", "Read what export wrote; all of it or nothing."),
    Entry("audit", "queuectl.cli.audit", "Hold the store's history against what is promised."),
    Entry("doctor", "queuectl.cli.doctor", "Look for what is not well with the store or machine."),
)
