"""Says at the very end of a run which rows of the table of faults this machine did not try.

A test that is marked ``needs("strace")`` fails where that program is missing; one that may be
skipped, as it needs rights that not every machine gives, says why. Either is named once more below
everything else, by its row where its docstring begins with one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

_ROWS = re.compile(r"[A-Z]\d(?:, [A-Z]\d)*(?=: )")
_REASON = re.compile(r"^.*\b(?:was|were) not run: .*$", re.MULTILINE)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let a test fail before it begins if a program that it needs is not on this machine."""
    needed = {program for mark in item.iter_markers("needs") for program in mark.args}
    missing = sorted(program for program in needed if shutil.which(program) is None)
    if missing:
        reason = f"not run: no {' and no '.join(missing)} here (see tests/install-tools.sh)"
        pytest.fail(f"{_name_of(item)} {reason}", pytrace=False)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Name what was not run, below the line with which pytest ends."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or hasattr(config, "workerinput"):
        return
    reports = [report for kind in ("skipped", "error") for report in terminal.stats.get(kind, [])]
    reasons = sorted({reason for report in reports for reason in _reasons(report)})
    if reasons:
        terminal.write_sep("!", "NOT RUN ON THIS MACHINE", red=True, bold=True)
        for reason in reasons:
            terminal.write_line(reason, red=True)


def _name_of(item: pytest.Item) -> str:
    """Return the rows that its docstring begins with, or else its name, with the verb."""
    function = getattr(item, "function", None)
    rows = _ROWS.match(function.__doc__ or "")
    if rows is None:
        return f"{item.nodeid.partition('[')[0]} was"
    return f"rows {rows[0]} were" if "," in rows[0] else f"row {rows[0]} was"


def _reasons(report: pytest.TestReport | pytest.CollectReport) -> Iterator[str]:
    if not isinstance(report.longrepr, tuple):
        yield from _REASON.findall(report.longreprtext)
        return
    reason = report.longrepr[2].removeprefix("Skipped: ")  # after the file and the line
    yield reason if _REASON.match(reason) else f"{report.nodeid} was not run: {reason}"
