"""``queuectl audit``: the store's own history, held against what is promised."""

from __future__ import annotations

import re
from typing import Any

import typer

from queuectl.cli import options, render
from queuectl.cli.store import location, open_store
from queuectl.db import schema
from queuectl.domain.text import escape_line
from queuectl.errors import QueuectlError, StoreError
from queuectl.service import audit as service

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("audit")
def audit(ctx: typer.Context, json: options.Json = False) -> None:
    """Hold the store's history against what is promised; exit code 1 if something is broken.

    No two attempts of a job at once, none missing, none beyond its retries, one result for each
    completed job, every claim and every dead job accounted for, one job a tick of a schedule, and a
    file that is sound.
    """
    if not schema.is_there(location(ctx)):
        raise StoreError(
            f"there is no store at {location(ctx)}",
            hint="name the one that you mean with --db; the first job makes one",
        )
    checks = service.audit(open_store(ctx))
    broken = [check for check in checks if not check.ok]
    if json:
        render.json_value({"ok": not broken, "checks": [_object(check) for check in checks]})
    else:
        for check in checks:
            _show(check)
    if broken:
        names = ", ".join(check.name for check in broken)
        raise QueuectlError(
            f"{len(broken)} of {len(checks)} checks failed: {names}", hint=broken[0].hint
        )


def _show(check: service.Check) -> None:
    things = check.things
    if check.checked == 1:
        things = re.sub(r"\b(attempt|job|claim)s\b", r"\1", things)
    line = f"{check.checked:,} {things}, {check.broken:,} {check.fault}"
    render.out(line if check.ok else render.paint(line, "31"))
    for example in check.examples:
        render.out(f"  {escape_line(example)}")
    if (rest := check.broken - len(check.examples)) > 0 and check.examples:
        render.out(f"  and {rest:,} more")


def _object(check: service.Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "ok": check.ok,
        "checked": check.checked,
        "things": check.things,
        "broken": check.broken,
        "fault": check.fault,
        "examples": check.examples,
        "hint": None if check.ok else check.hint,
    }
