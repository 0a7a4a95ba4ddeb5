"""``queuectl stats``: what was done, how long it waited and ran, and what fails."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from queuectl.cli import options, render
from queuectl.cli.store import open_store
from queuectl.domain import durations, statistics
from queuectl.service import stats as service

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_BAR_WIDTH = 30
#: Queues and programs that are shown; ``--json`` has all of them.
_SHOWN_ROWS = 10


@app.command("stats")
def stats(
    ctx: typer.Context,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="What ended within 24h, 90m, 7d.")
    ] = "24h",
    queue: options.Queue = None,
    json: options.Json = False,
) -> None:
    """Tell throughput, waiting and running times, and what fails, of the attempts that ended.

    Percentiles are exact: times that occurred. Waiting is the time from when a job was due to the
    start of its last attempt, of jobs that have completed or died; running times are those of
    attempts that ended by themselves or by their timeout.
    """
    begins = options.parse_since(since)
    seen = service.read_stats(open_store(ctx), since=begins, queue=queue)
    if json:
        render.json_value(_stats_object(seen, queue))
    elif not any(seen.outcomes.values()):
        where = f" in the queue {queue}" if queue else ""
        render.note(f"no attempt has ended{where} since {render.instant(begins)}")
    else:
        _show(seen)


def _show(seen: service.Stats) -> None:
    total = sum(seen.outcomes.values())
    hourly = statistics.per_hour(total, (seen.ends - seen.begins).total_seconds())
    by_outcome = ", ".join(f"{count} {name}" for name, count in seen.outcomes.items() if count)
    render.out(f"since       {render.instant(seen.begins)}")
    render.out(f"attempts    {total}: {by_outcome}")
    span = durations.format_duration(seen.span_seconds)
    render.out(f"throughput  {hourly:.1f} an hour; at most {max(seen.ended)} in {span}")
    render.out(f"            {render.sparkline(seen.ended)}  {span} each, until now")
    render.out()
    _show_times(seen)
    _show_histogram(seen.running)
    _show_failures(seen)


def _show_times(seen: service.Stats) -> None:
    columns = [
        render.Column("TIMES"),
        *(
            render.Column(title, right=True)
            for title in ("COUNT", "MEAN", "MEDIAN", "95%", "99%", "LONGEST")
        ),
    ]
    render.table(
        columns, [_times_row("waiting", seen.waiting), _times_row("running", seen.running)]
    )


def _times_row(name: str, times: statistics.Times) -> list[render.Cell]:
    amounts = (times.mean, times.median, times.percentile_95, times.percentile_99, times.longest)
    return [name, times.count, *map(_amount, amounts)]


def _amount(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 1:
        return f"{seconds * 1000:.1f}ms"
    return f"{seconds:.2f}s" if seconds < 10 else durations.format_duration(seconds)


def _show_histogram(running: statistics.Times) -> None:
    bounds = [
        durations.format_duration(b) if b >= 1 else f"{b * 1000:.0f}ms"
        for b in statistics.BOUNDS_SECONDS
    ]
    names = [*(f"under {bound}" for bound in bounds), "longer"]
    filled = [number for number, count in enumerate(running.histogram) if count]
    if not filled:
        return
    most = max(running.histogram)
    render.out()
    render.out("RUNNING")
    for number in range(filled[0], filled[-1] + 1):
        count = running.histogram[number]
        shown = f"{names[number]:<11} {count:>9}  {render.bar(count, most, _BAR_WIDTH)}"
        render.out(shown.rstrip())


def _show_failures(seen: service.Stats) -> None:
    render.out()
    columns = [
        render.Column("QUEUE"),
        render.Column("ATTEMPTS", right=True),
        render.Column("FAILURES", right=True),
    ]
    rows: list[list[render.Cell]] = [
        [one.name, one.attempts, one.failures] for one in seen.queues[:_SHOWN_ROWS]
    ]
    render.table(columns, rows)
    if not seen.programs:
        return
    render.out()
    columns = [render.Column("FAILURES", right=True), render.Column("OF")]
    render.table(columns, [[count, name] for name, count in seen.programs[:_SHOWN_ROWS]])
    hidden = len(seen.programs) - _SHOWN_ROWS
    if hidden > 0:
        render.note(f"{hidden} more programs have failed; --json has all of them")


def _stats_object(seen: service.Stats, queue: str | None) -> dict[str, Any]:
    total = sum(seen.outcomes.values())
    return {
        "since": seen.begins,
        "until": seen.ends,
        "queue": queue,
        "attempts": total,
        "outcomes": {name.value: count for name, count in seen.outcomes.items()},
        "per_hour": statistics.per_hour(total, (seen.ends - seen.begins).total_seconds()),
        "waiting": _times_object(seen.waiting),
        "running": _times_object(seen.running),
        "throughput": {
            "first_at": seen.first_span_at,
            "span_seconds": seen.span_seconds,
            "ended": list(seen.ended),
            "completed": list(seen.completed),
        },
        "queues": [
            {
                "name": one.name,
                "attempts": one.attempts,
                "failures": one.failures,
                "outcomes": {name.value: count for name, count in one.outcomes.items()},
            }
            for one in seen.queues
        ],
        "failures": [{"program": name, "count": count} for name, count in seen.programs],
    }


def _times_object(times: statistics.Times) -> dict[str, Any]:
    bounds = (*statistics.BOUNDS_SECONDS, None)
    return {
        "count": times.count,
        "mean_seconds": times.mean,
        "median_seconds": times.median,
        "p95_seconds": times.percentile_95,
        "p99_seconds": times.percentile_99,
        "longest_seconds": times.longest,
        "histogram": [
            {"below_seconds": bound, "count": count}
            for bound, count in zip(bounds, times.histogram, strict=True)
        ],
    }
