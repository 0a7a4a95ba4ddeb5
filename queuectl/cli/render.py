"""What reaches the terminal: results on stdout, everything else on stderr.

The only user of rich, but for the screen of ``cli/top``. Whatever came from a job, a command, an
output, an error, is escaped here, so that no control sequence in it ever acts on the terminal.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import NamedTuple, TextIO

from queuectl.domain import durations
from queuectl.domain.text import escape_line

#: What a cell of a table may hold; None is shown as a dash.
Cell = str | int | datetime | None

#: What json.dumps leaves as it is, and a terminal or its reader should not get: DEL, C1, other line
#: ends, zero-width characters, and what turns the direction of text (CVE-2021-42574).
_UNSAFE_IN_JSON = (
    "[\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)

#: So many jobs are worth a progress bar.
_WORTH_A_BAR = 2
#: By state, in rich's words.
STATE_COLOURS = {
    "held": "blue",
    "blocked": "blue",
    "completed": "green",
    "processing": "cyan",
    "scheduled": "blue",
    "failed": "yellow",
    "dead": "red",
    "cancelled": "bright_black",
    "alive": "green",
    "stopping": "yellow",
}


class OutputError(Exception):
    """The results could not be written."""


def prepare_streams() -> None:
    """Never fail on a character that the terminal's encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Hand everything to the kernel; raises OutputError when it does not take it."""
    with _writing():
        if sys.stdout is not None:
            sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # no error of anybody's: the reader has seen enough
    except OSError as error:
        abandon_output()
        raise OutputError(f"the output cannot be written: {error.strerror}") from error


def abandon_output() -> None:
    """Drop what is still buffered."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


def out(text: str = "", *, end: str = "\n") -> None:
    """Print a line of results, as it stands."""
    with _writing():
        print(text, end=end)


def out_lines(lines: Iterable[str]) -> None:
    """Print many lines of results, as they stand."""
    if text := "\n".join(lines):
        out(text)


def out_bytes(data: bytes) -> None:
    """Print bytes as they are, at once."""
    with _writing():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def out_text(text: str) -> None:
    """Print a part of a line, at once."""
    out(text, end="")
    flush()


def aside_bytes(data: bytes) -> None:
    """Print bytes as they are on stderr, at once: what a job prints, where stdout is for JSON."""
    if sys.stderr is not None:
        with suppress(OSError):  # whoever closed it wants the result alone
            sys.stderr.flush()
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()


def aside_text(text: str) -> None:
    """Print a part of a line on stderr, at once."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, end="", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Tell something on stderr that is no result."""
    _tell("note", "36", text)


def hint(text: str) -> None:
    """Tell on stderr what to do next."""
    _tell("hint", "36", text)


def usage(text: str) -> None:
    """Tell on stderr how something is used, in lines of our own."""
    if sys.stderr is not None:
        print(text.rstrip("\n"), file=sys.stderr, flush=True)


def error(message: str, advice: str | None) -> None:
    """Tell on stderr what went wrong, and what to do."""
    _tell("error", "1;31", message)
    if advice:
        hint(advice)


def _tell(kind: str, colour: str, text: str) -> None:
    if sys.stderr is None:  # closed: print would take stdout for it
        return
    if sys.stdout is not None and not sys.stdout.closed:
        with suppress(OSError):
            sys.stdout.flush()  # so that both come in order on a terminal
    print(
        f"{paint(kind + ':', colour, sys.stderr)} {escape_line(text)}", file=sys.stderr, flush=True
    )


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Colour a text of ours for a terminal; unchanged for anything else, or with NO_COLOR."""
    return f"\x1b[{colour}m{text}\x1b[0m" if has_colours(stream or sys.stdout) else text


def has_colours(stream: TextIO) -> bool:
    """Whether colours are wanted there."""
    return (
        is_terminal(stream)
        and not os.environ.get("NO_COLOR")
        and (os.environ.get("TERM", "dumb") != "dumb")
    )


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether somebody reads it, stdout if none is named."""
    stream = stream or sys.stdout
    return stream is not None and not stream.closed and stream.isatty()


def confirm(question: str) -> bool:
    """Ask on a terminal; the default is no."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def count(number: int, thing: str = "job") -> str:
    """Return ``1 job``, ``2 jobs``."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def json_value(value: object) -> None:
    """Print one JSON value: indented for a reader, on one line for a program."""
    out(_dump(value, indent=2 if is_terminal() else None))


def json_array(values: Iterable[object]) -> None:
    """Print a JSON array element by element, so that a million of them need no room."""
    out("[", end="")
    separator = ""
    for value in values:
        out(f"{separator}\n{_dump(value, indent=None)}", end="")
        separator = ","
    out("\n]" if separator else "]")


def _dump(value: object, *, indent: int | None) -> str:
    ascii_only = (sys.stdout.encoding or "").lower().replace("_", "-") != "utf-8"
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, default=_to_json)
    return re.sub(_UNSAFE_IN_JSON, lambda match: f"\\u{ord(match[0]):04x}", text)


def _to_json(value: object) -> str:
    if isinstance(value, datetime):
        return instant(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def instant(value: datetime) -> str:
    """Return an instant as RFC 3339 in UTC, with ``Z``."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def relative(value: datetime) -> str:
    """Return how far away an instant is: ``3s ago``, ``in 1h30m``."""
    seconds = (value - datetime.now(UTC)).total_seconds()
    text = durations.format_duration(abs(round(seconds)))
    return f"in {text}" if seconds > 0 else f"{text} ago"


class Column(NamedTuple):
    """A column of a table. Of one row, ``fills`` takes what the line has left, and is cut there."""

    title: str
    right: bool = False
    fills: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
    """Print rows: a table that fits for a terminal, plain aligned columns for anything else."""
    if is_terminal():
        cells = [[_cell(cell, relative) for cell in row] for row in rows]
        _draw(columns, cells)
    else:
        cells = [[_cell(cell, instant) for cell in row] for row in rows]
        out_lines(align([[column.title for column in columns], *cells], columns))


def aligned(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> list[str]:
    """Return the lines of a table for somebody who reads it, however wide they are."""
    cells = [[_cell(cell, relative) for cell in row] for row in rows]
    return align([[column.title for column in columns], *cells], columns)


def _cell(value: Cell, show_instant: Callable[[datetime], str]) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return show_instant(value)
    return escape_line(str(value))


def align(rows: Sequence[Sequence[str]], columns: Sequence[Column]) -> list[str]:
    """Return the rows as lines whose columns stand below each other."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _draw(columns: Sequence[Column], rows: list[list[str]]) -> None:
    # Only here: importing rich takes as long as a whole short command.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if column.fills else None,
            min_width=None if column.fills else max(len(column.title), 1),
        )
    drawn.expand = any(column.fills for column in columns)
    for row in rows:
        drawn.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    with _writing():
        Console(file=sys.stdout, highlight=False).print(drawn)


def _style(cell: str) -> str:
    """Return the colour of a state, also of ``processing (frozen)``."""
    return STATE_COLOURS.get(cell.removesuffix(" (frozen)"), "")


#: Eighths of a character's height and width, and what stands for them where they cannot be shown.
_HEIGHTS = (" ▁▂▃▄▅▆▇█", " ..::=+*#")
_WIDTHS = (" ▏▎▍▌▋▊▉█", "        #")


def _signs(signs: tuple[str, str]) -> str:
    return signs["utf" not in (sys.stdout.encoding or "").lower()]


def branches() -> tuple[str, str, str, str]:
    """Return what a tree is drawn with: before a branch, the last one, below each of them."""
    if "utf" in (sys.stdout.encoding or "").lower():
        return "├── ", "└── ", "│   ", "    "
    return "|-- ", "`-- ", "|   ", "    "


def sparkline(amounts: Sequence[int]) -> str:
    """Return a row of columns, one character each; what is more than nothing is seen."""
    most = max(amounts, default=0)
    signs = _signs(_HEIGHTS)
    return "".join(signs[-(-amount * 8 // most) if most else 0] for amount in amounts)


def bar(amount: int, most: int, width: int) -> str:
    """Return a bar of at most ``width`` characters; what is more than nothing is seen."""
    signs = _signs(_WIDTHS)
    eighths = -(-amount * width * 8 // most) if most else 0
    whole, rest = divmod(eighths, 8)
    return signs[8] * whole + (signs[rest] if rest else "")


def _can_redraw(stream: TextIO | None) -> bool:
    """Whether a line can be drawn again there; rich leaves an empty one where it cannot."""
    able = os.environ.get("TERM", "dumb") != "dumb"
    return stream is not None and is_terminal(stream) and able


@contextmanager
def progress(amounts: Mapping[str, int]) -> Iterator[Callable[[str, int], None]]:
    """Show how far each step is, on stderr and on a terminal only; yields what is to be told."""
    if not _can_redraw(sys.stderr):
        yield lambda step, number: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # It goes when it is done: what it came to is told after it.
    with Progress(console=Console(file=sys.stderr), transient=True) as bars:
        shown = {step: bars.add_task(step, total=total) for step, total in amounts.items()}
        yield lambda step, number: bars.advance(shown[step], number)


@contextmanager
def counting(total: int) -> Iterator[Callable[[int, int], None]]:
    """Show how many of some jobs have ended and failed, on stderr and on a terminal only.

    Yields what is to be told both numbers.
    """
    if not _can_redraw(sys.stderr) or total < _WORTH_A_BAR:
        yield lambda ended, failed: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bars:
        bar = bars.add_task("", total=total, failed=0, rate="")

        def show(ended: int, failed: int) -> None:
            rate = f"{ended / max(time.monotonic() - began, 0.001):.3g}/s" if ended else ""
            bars.update(bar, completed=ended, failed=failed, rate=rate)

        yield show


def state(text: str) -> str:
    """Colour the name of a state."""
    codes = {"green": "32", "cyan": "36", "blue": "34", "yellow": "33", "red": "31"}
    colour = codes.get(STATE_COLOURS.get(text, ""), "")
    return paint(text, colour) if colour else text
