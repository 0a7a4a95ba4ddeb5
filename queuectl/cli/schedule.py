"""``queuectl schedule``: add, list, show, pause, resume, run and remove schedules."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from queuectl.cli import completion, dates, job_options, objects, options, render, terms
from queuectl.cli import stdin as stdin_option
from queuectl.cli.store import open_if_there, open_store
from queuectl.db import engine
from queuectl.domain import durations, request
from queuectl.domain import schedule as domain
from queuectl.domain.terms import read_terms
from queuectl.domain.text import escape_line
from queuectl.errors import InvalidInput, StoreError
from queuectl.service import headcount, jobs, schedules

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

#: How many of the next times ``show`` tells.
_SHOWN_TICKS = 5
#: What a schedule keeps of a standard input, in bytes: it is read with each list of them.
_LONGEST_STDIN_BYTES = 64 * 1024

NewName = Annotated[
    str, typer.Argument(metavar="NAME", help="What to call it.", show_default=False)
]
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The schedule.",
        autocompletion=completion.complete_schedule,
        show_default=False,
    ),
]
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME",
        help="Schedules.",
        autocompletion=completion.complete_schedule,
        show_default=False,
    ),
]
NamesOnly = Annotated[bool, typer.Option("--quiet", "-q", help="Print names only.")]


@app.callback()
def schedule() -> None:
    """Add, list, pause, run and remove schedules: jobs that come again and again."""


@app.command("add", context_settings={"allow_interspersed_args": True}, options_metavar="[OPTIONS]")
def add(
    ctx: typer.Context,
    title: NewName,
    words: job_options.Words = None,
    cron: Annotated[
        str | None,
        typer.Option(
            "--cron", metavar="EXPR", help="Minute, hour, day, month, weekday; or @daily, ..."
        ),
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", metavar="TIME", help="Every 90s, 15m, 1h30m from now.")
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            "--timezone",
            metavar="ZONE",
            help="Where --cron's times are, like Europe/Berlin.  [default: this machine's]",
            autocompletion=completion.complete_timezone,
        ),
    ] = None,
    catch_up: Annotated[
        domain.CatchUp,
        typer.Option("--catch-up", help="What is made up for of what no worker was there for."),
    ] = domain.CatchUp.LAST,
    overlap: Annotated[
        domain.Overlap,
        typer.Option("--overlap", help="What a tick does while an earlier job waits or runs."),
    ] = domain.Overlap.QUEUE,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of another of that name.")
    ] = False,
    queue: job_options.Queue = None,
    priority: job_options.Priority = None,
    max_retries: job_options.MaxRetries = None,
    timeout: job_options.Timeout = None,
    backoff: job_options.Backoff = None,
    backoff_base: job_options.BackoffBase = None,
    jitter: job_options.Jitter = None,
    retry_on: job_options.RetryOn = None,
    no_retry_on: job_options.NoRetryOn = None,
    expect: job_options.Expect = None,
    fail_if: job_options.FailIf = None,
    expect_file: job_options.ExpectFile = None,
    stall: job_options.Stall = None,
    cwd: job_options.Cwd = None,
    env: job_options.Env = None,
    name: job_options.Name = None,
    tag: job_options.Tag = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="TIME",
            help="A job not started so long after its tick (15m): dead letter, expired.",
        ),
    ] = None,
    unique: Annotated[
        str | None,
        typer.Option(
            "--unique",
            metavar="KEY",
            help="A tick makes no job while any with this key waits or runs.",
        ),
    ] = None,
    stdin: Annotated[
        bool,
        typer.Option(
            "--stdin", help="Keep this standard input, up to 64 KiB of text, for each job."
        ),
    ] = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Add a schedule: a job at each of its ticks, exactly one, however many workers there are.

    Adding the same again changes nothing. The job is told its tick in QUEUECTL_SCHEDULED_FOR.
    Of the options of enqueue it takes those that can be said of each job alike.

    \b
    queuectl schedule add nightly --cron '30 2 * * *' --timezone Europe/Berlin -- ./backup.sh
    queuectl schedule add poll --every 90s --overlap skip -- ./poll.sh
    """
    _check_name(title)
    if not words:
        raise InvalidInput(
            "there is no command to schedule",
            hint=f"write: queuectl schedule add {title} --every 1h -- COMMAND ARGUMENT...",
        )
    if unique is not None and overlap is domain.Overlap.CANCEL_OLD:
        raise InvalidInput(
            "--unique and --overlap cancel-old exclude each other: what runs keeps its key to its"
            " end",
            hint="leave one of them out",
        )
    fields = {
        "queue": queue,
        "priority": priority,
        "max_retries": max_retries,
        "timeout": timeout,
        "backoff_base": backoff_base,
        **job_options.terms_given(ctx),
        "cwd": job_options.current_folder() if cwd is None else cwd,
        "env": env,
        "name": name,
        "tags": tag,
        "deadline": None if deadline is None else _checked("--deadline", deadline, _lateness),
        "unique": unique,
        "stdin": _read_stdin() if stdin else None,
    }
    job = job_options.plain_request(words, fields)
    seconds, zone = _timing(cron, every, timezone)
    definition = schedules.Definition(cron, seconds, zone, catch_up, overlap, job)
    if dry_run:
        planned = schedules.rehearse(open_if_there(ctx), title, definition, replace=replace)
        _tell_planned(*planned, as_json=json)
        return
    store = open_store(ctx)
    found, added = schedules.add(store, title, definition, replace=replace)
    if json:
        render.json_value(_schedule_object(schedules.Known(found, None, 0), short=True))
    else:
        render.out(found.name)
    _tell_added(store, found, added)


def _read_stdin() -> bytes:
    """Return what each job is to be given; raises InvalidInput."""
    content = stdin_option.read("schedule add", _LONGEST_STDIN_BYTES)
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            "stdin is not UTF-8, and a schedule keeps text alone",
            hint="put it into a file, and let the command read that",
        ) from error
    return content


def _check_name(name: str) -> None:
    try:
        request.check_name(name)
    except ValueError as error:
        raise InvalidInput(f"schedule {name[:60]!r} {error}") from error


def _timing(cron: str | None, every: str | None, timezone: str | None) -> tuple[float | None, str]:
    """Return the seconds of an interval and the time zone; raises InvalidInput."""
    if (cron is None) == (every is None):
        message = "give either --cron or --every, not both" if cron else "when is it due?"
        raise InvalidInput(message, hint="write --cron '*/5 * * * *', or --every 90s")
    if every is not None:
        if timezone is not None:
            raise InvalidInput(
                "--timezone is for --cron; an interval is as long everywhere",
                hint="leave it out, or write a --cron expression",
            )
        return _checked("--every", every, domain.parse_interval), "UTC"
    if cron is not None:
        _checked("--cron", cron, domain.check_cron)
    if timezone is None:
        return None, _own_timezone()
    return None, _checked("--timezone", timezone, domain.check_timezone)


def _checked(option: str, text: str, check: Callable[[str], Any]) -> Any:
    try:
        return check(text)
    except ValueError as error:
        raise InvalidInput(f"{option} {text[:60]!r} {error}", hint="nothing was stored") from error


def _lateness(text: str) -> float:
    seconds = durations.parse_duration(text)
    if seconds <= 0:
        raise ValueError("must be more than 0 seconds")
    return seconds


def _own_timezone() -> str:
    """Return the name of this machine's time zone; UTC if it has none that others know."""
    named = os.environ.get("TZ") or str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2]
    try:
        return domain.check_timezone(named.removeprefix(":"))
    except ValueError:
        return "UTC"


def _tell_planned(found: domain.Schedule, added: schedules.Added, *, as_json: bool) -> None:
    known = schedules.Known(found, None, 0)
    if as_json:
        render.json_value(_schedule_object(known, short=False))
    else:
        _show_one(known)
    if added is schedules.Added.SAME:
        render.note(f"schedule {found.name} is there already, with the same definition")
    else:
        render.note(f"schedule {found.name} would be {added}; nothing was stored")


def _tell_added(store: engine.Store, found: domain.Schedule, added: schedules.Added) -> None:
    if added is schedules.Added.SAME:
        render.note(f"schedule {found.name} was there already, with the same definition")
    if found.paused_at is not None:
        render.note(f"it is paused; go on with: queuectl schedule resume {found.name}")
    elif found.next_at is not None:
        render.note(f"{_words(found)}; next {dates.tell(found.next_at)}")
    with suppress(StoreError):  # it is stored, whether or not this can be told
        if not headcount.count_alive(store):
            render.note("no worker is running; start one with: queuectl worker start")


def _words(found: domain.Schedule) -> str:
    if found.cron is None:
        return f"every {durations.format_duration(found.every_seconds or 0.0)}"
    return f"{found.cron} in {found.timezone}"


@app.command("list")
def list_(ctx: typer.Context, quiet: NamesOnly = False, json: options.Json = False) -> None:
    """List the schedules: when each is due next, and what became of its newest job."""
    found = schedules.list_schedules(open_store(ctx))
    if json:
        render.json_array(_schedule_object(known, short=True) for known in found)
    elif quiet:
        render.out_lines(known.schedule.name for known in found)
    elif found:
        _show_list(found)
    else:
        render.note("no schedule yet; see: queuectl schedule add --help")


def _show_list(found: Sequence[schedules.Known]) -> None:
    columns = [
        render.Column("NAME"),
        render.Column("WHEN"),
        render.Column("NEXT"),
        render.Column("PAUSED"),
        render.Column("LAST"),
        render.Column("LAST JOB"),
        render.Column("STATE"),
        render.Column("COMMAND", fills=True),
    ]
    rows: list[list[render.Cell]] = [
        [
            known.schedule.name,
            _words(known.schedule),
            known.schedule.next_at,
            known.schedule.paused_at,
            known.schedule.last_at,
            None if known.last_job is None else known.last_job.id,
            None if known.last_job is None else known.last_job.state,
            known.schedule.request["command"],
        ]
        for known in found
    ]
    render.table(columns, rows)


@app.command("show")
def show(ctx: typer.Context, name: Name, json: options.Json = False) -> None:
    """Show a schedule, and the next five times at which it is due."""
    [known] = schedules.show(open_store(ctx), [name])
    if json:
        render.json_value(_schedule_object(known, short=False))
    else:
        _show_one(known)


def _show_one(known: schedules.Known) -> None:
    found, job = known.schedule, known.last_job
    fields = found.request
    facts = [
        ("schedule", found.name),
        ("when", _words(found)),
        ("command", escape_line(fields["command"])),
        ("queue", fields.get("queue", "default")),
        ("folder", escape_line(fields.get("cwd", ""))),
        ("variables", ", ".join(escape_line(name) for name in sorted(fields.get("env") or ()))),
        ("unique", escape_line(fields.get("unique") or "")),
        ("stdin", "" if (size := _stdin_bytes(fields)) is None else f"{size} bytes"),
        *terms.facts(read_terms(fields), fields.get("backoff_base")),
        ("deadline", _deadline(fields.get("deadline"))),
        ("catch-up", found.catch_up),
        ("overlap", found.overlap),
        ("paused", "" if found.paused_at is None else render.instant(found.paused_at)),
        ("problem", escape_line(found.problem or "")),
        ("last tick", "" if found.last_at is None else render.instant(found.last_at)),
        ("newest job", "" if job is None else f"{job.id}, {render.state(job.state)}"),
        ("live jobs", str(known.live or "")),
    ]
    for title, text in facts:
        if text:
            render.out(f"{title:<11} {text}")
    title = "if resumed" if found.paused_at else "next"
    for tick in _ticks(found):
        local = tick.astimezone(ZoneInfo(found.timezone))
        shown = f"{local:%a %Y-%m-%d %H:%M:%S %Z}"
        render.out(f"{title:<11} {shown} ({render.relative(tick)})")
        title = ""


def _stdin_bytes(fields: Mapping[str, Any]) -> int | None:
    return None if fields.get("stdin") is None else len(fields["stdin"].encode())


def _deadline(seconds: float | None) -> str:
    return "" if seconds is None else f"{durations.format_duration(seconds)} after the tick"


def _ticks(found: domain.Schedule) -> list[datetime]:
    with suppress(ValueError):  # it can no longer be read, and says so as its problem
        return found.next_ticks(datetime.now(UTC), _SHOWN_TICKS)
    return []


def _schedule_object(known: schedules.Known, *, short: bool) -> dict[str, Any]:
    """Return a schedule. Of its jobs' environment only the names: the values may be secrets.

    For the same reason only the size of what its jobs read.
    """
    found = known.schedule
    fields = {name: value for name, value in found.request.items() if name != "stdin"}
    if (size := _stdin_bytes(found.request)) is not None:
        fields["stdin_bytes"] = size
    values: dict[str, Any] = {
        "name": found.name,
        "cron": found.cron,
        "every_seconds": found.every_seconds,
        "timezone": found.timezone,
        "catch_up": found.catch_up,
        "overlap": found.overlap,
        "next_at": found.next_at,
        "last_at": found.last_at,
        "paused": found.paused_at is not None,
        "paused_at": found.paused_at,
        "problem": found.problem,
        "job": {**fields, "env": sorted(fields.get("env") or ())},
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }
    if short:
        last_id = None if known.last_job is None else known.last_job.id
        return {**values, "last_job": last_id, "live": known.live}
    last = None if known.last_job is None else objects.job_object(known.last_job)
    return {**values, "last_job": last, "live": known.live, "next": _ticks(found)}


@app.command("pause")
def pause(
    ctx: typer.Context,
    names: Names,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Let schedules make no more jobs; what waits or runs goes on."""
    changes = schedules.pause(open_store(ctx), names, dry_run=dry_run)
    _tell_changes(changes, "would be paused" if dry_run else "paused", as_json=json)
    for change in changes:
        if not change.changed:
            render.note(f"{change.schedule.name} was paused before")


@app.command("resume")
def resume(
    ctx: typer.Context,
    names: Names,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Let paused schedules go on; what was due during the pause is not made up for."""
    changes = schedules.resume(open_store(ctx), names, dry_run=dry_run)
    _tell_changes(changes, "would be resumed" if dry_run else "resumed", as_json=json)
    for change in changes:
        if not change.changed:
            render.note(f"{change.schedule.name} was not paused")


@app.command("run-now")
def run_now(
    ctx: typer.Context,
    names: Names,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Add a job of schedules now, besides those of their ticks, and print the ids."""
    store = open_store(ctx)
    done = schedules.run_now(store, names, dry_run=dry_run)
    if json:
        render.json_array(objects.job_object(job) for job in jobs.find_by_ids(store, done.ids))
    else:
        render.out_lines(done.ids)
    for job_id in done.unique:
        render.note(f"job {job_id} has that unique key and has not ended; nothing was added")
    if dry_run:
        render.note(f"{render.count(len(set(names)), 'schedule')} would be run now")


@app.command("remove")
def remove(
    ctx: typer.Context,
    names: Names,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Delete schedules; their jobs stay, and what waits or runs goes on."""
    store = open_store(ctx)
    changes = schedules.remove(store, names, dry_run=True)
    if not dry_run:
        if not yes:
            options.require_consent(f"delete {render.count(len(changes), 'schedule')}?")
        changes = schedules.remove(store, names)
    _tell_changes(changes, "would be deleted" if dry_run else "deleted", as_json=json)
    if live := sum(change.live for change in changes):
        goes = "1 job of theirs goes" if live == 1 else f"{live} jobs of theirs go"
        render.note(f"{goes} on; see them with: queuectl list")


def _tell_changes(changes: Sequence[schedules.Change], done: str, *, as_json: bool) -> None:
    changed = [change.schedule.name for change in changes if change.changed]
    if as_json:
        render.json_array(_change_object(change) for change in changes)
    else:
        render.out_lines(changed)
    render.note(f"{render.count(len(changed), 'schedule')} {done}")


def _change_object(change: schedules.Change) -> dict[str, Any]:
    found = change.schedule
    return {
        "name": found.name,
        "paused": found.paused_at is not None,
        "paused_at": found.paused_at,
        "next_at": found.next_at,
        "changed": change.changed,
        "live": change.live,
    }
