"""``queuectl enqueue --dry-run``: the jobs as they would be stored, and when they are tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import typer

from queuectl.cli import objects, render, terms
from queuectl.cli.store import open_if_there
from queuectl.domain import durations, request
from queuectl.domain.dependency import FIELDS, Condition
from queuectl.domain.text import escape_line
from queuectl.service import rehearsal

#: How a needed job is to end, in words.
_ENDS = {
    Condition.SUCCESS: "completed",
    Condition.ANY: "ended",
    Condition.FAILURE: "failed",
}
#: Pauses that are told of one job; with a base near 1 there may be a million different ones.
_TOLD_PAUSES = 20


def show_one(
    ctx: typer.Context, job: request.JobRequest, cwd: str | None, *, as_json: bool
) -> None:
    """Print one job, as an object of its own with ``as_json``."""
    with rehearsal.rehearse(open_if_there(ctx), [job], cwd=cwd) as planned:
        if as_json:
            render.json_value(_planned_object(next(planned)))
            _note(1)
        else:
            _show(planned)


def show_many(
    ctx: typer.Context,
    requests: Iterable[request.JobRequest],
    cwd: str | None,
    *,
    as_json: bool,
) -> None:
    """Print the jobs of a file one by one, after all of them have been read and found valid."""
    with rehearsal.rehearse(open_if_there(ctx), requests, cwd=cwd) as planned:
        if as_json:
            with _counted(planned) as counted:
                render.json_array(_planned_object(job) for job in counted)
        else:
            _show(planned)


def _show(planned: Iterator[rehearsal.PlannedJob]) -> None:
    with _counted(planned) as counted:
        for job in counted:
            render.out(escape_line(job.command))
            render.out(f"    {_describe(job)}")
            render.out(f"    {_timetable(job)}")


@contextmanager
def _counted(
    planned: Iterator[rehearsal.PlannedJob],
) -> Iterator[Iterator[rehearsal.PlannedJob]]:
    """Count what is taken, and tell it in the end."""
    new = there = 0

    def count() -> Iterator[rehearsal.PlannedJob]:
        nonlocal new, there
        for job in planned:
            new += not job.is_there
            there += job.is_there
            yield job

    yield count()
    _note(new, there)


def _note(new: int, there: int = 0) -> None:
    jobs = "1 job" if new == 1 else f"{new} jobs"
    already = f"; {there} there already, with the same request" if there else ""
    render.note(f"{jobs} would be enqueued{already}; nothing was stored")


def _describe(job: rehearsal.PlannedJob) -> str:
    facts = [
        f"id {job.id}" if job.id else "",
        f"unique {escape_line(job.unique)}" if job.unique else "",
        "there already" if job.is_there else "",
        f"name {escape_line(job.name)}" if job.name else "",
        f"tags {' '.join(job.tags)}" if job.tags else "",
        f"queue {job.queue}",
        f"priority {job.priority}" if job.priority else "",
        f"folder {escape_line(job.cwd)}" if job.cwd else "",
        "variables " + " ".join(escape_line(name) for name in sorted(job.env)) if job.env else "",
        *(f"{name.replace('_', ' ')} {', '.join(refs)}" for name, refs in job.needs.items()),
        f"stdin of {job.stdin_bytes} bytes" if job.stdin_bytes is not None else "",
        f"timeout {durations.format_duration(job.timeout_seconds)}" if job.timeout_seconds else "",
        *(f"{title} {text}" for title, text in _facts(job) if text),
    ]
    return ", ".join(filter(None, facts))


def _facts(job: rehearsal.PlannedJob) -> list[tuple[str, str]]:
    """Return what the job brings of its own, but for the backoff: the timetable tells that."""
    return terms.facts(job.terms, job.backoff_base)[1:]


def _timetable(job: rehearsal.PlannedJob) -> str:
    """Return when it is tried: ``attempt 1 at once; after failure 1: +2s, 2: +4s; then dead``."""
    if job.doomed is not None:
        return f"cannot start: {job.doomed}"
    start = _start(job)
    pauses = list(islice(job.pauses(), _TOLD_PAUSES + 1))
    told = [
        f"{pause.first if pause.first == pause.last else f'{pause.first} to {pause.last}'}:"
        f" +{durations.format_duration(pause.seconds)}"
        for pause in pauses[:_TOLD_PAUSES]
    ]
    if len(pauses) > _TOLD_PAUSES:
        told.append(f"... {job.max_retries}")
    if told and job.terms.jitter:
        told.append(f"give or take {terms.describe_jitter(job.terms)}")
    after = f"after failure {', '.join(told)}; " if told else ""
    if job.deadline is not None:
        start += f", by {render.instant(job.deadline)}"
    return f"attempt 1 {start}; {after}after failure {job.max_retries + 1}: dead"


def _start(job: rehearsal.PlannedJob) -> str:
    """Return what the first attempt waits for."""
    starts = ["held until: queuectl release"] if job.hold else []
    starts += [f"after {ids} {how}" for ids, how in _awaited(job)]
    if job.run_at is not None:
        starts.append(f"{'not before' if starts else 'at'} {render.instant(job.run_at)}")
    return ", ".join(starts) or "at once"


def _awaited(job: rehearsal.PlannedJob) -> Iterator[tuple[str, str]]:
    """Yield the jobs that have not ended and which it waits for, and how they are to end."""
    for condition, words in _ENDS.items():
        ids = [need.id for need in job.awaited if need.condition is condition]
        if ids:
            joint = " or " if condition is Condition.FAILURE else " and "
            several = len(ids) > 1 and condition is not Condition.FAILURE
            yield joint.join(ids), f"{'have' if several else 'has'} {words}"


def _planned_object(job: rehearsal.PlannedJob) -> dict[str, Any]:
    pauses = list(islice(job.pauses(), _TOLD_PAUSES + 1))
    return {
        "id": job.id,
        "there_already": job.is_there,
        "command": job.command,
        "name": job.name,
        "tags": job.tags,
        "unique": job.unique,
        "hold": job.hold,
        "queue": job.queue,
        "priority": job.priority,
        "run_at": job.run_at,
        "deadline": job.deadline,
        "stdin_bytes": job.stdin_bytes,
        "max_retries": job.max_retries,
        "timeout_seconds": job.timeout_seconds,
        **objects.terms_object(job.terms),
        "backoff_base": job.backoff_base,
        "backoff_max_seconds": job.backoff_max_seconds,
        "cwd": job.cwd,
        "env": sorted(job.env or ()),
        **{name: job.needs.get(name, []) for name in FIELDS},
        "cannot_start": job.doomed,
        "pauses": [
            {
                "first_failure": pause.first,
                "last_failure": pause.last,
                "seconds": round(pause.seconds, 3),
            }
            for pause in pauses[:_TOLD_PAUSES]
        ],
        "more_pauses": len(pauses) > _TOLD_PAUSES,
    }
