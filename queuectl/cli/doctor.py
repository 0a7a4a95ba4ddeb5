"""``queuectl doctor``: what is not well, and what to do about it."""

from __future__ import annotations

import typer

from queuectl.cli import options, render
from queuectl.cli.store import location
from queuectl.domain.text import escape_line
from queuectl.errors import QueuectlError
from queuectl.service import doctor as service
from queuectl.worker import processes

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("doctor")
def doctor(ctx: typer.Context, json: options.Json = False) -> None:
    """Look for what is not well with the store or this machine; exit code 1 if something is.

    The library and the journal, the file's place, permissions and space, who keeps it from being
    tidied, its schema, workers that are silent, the clock, and processes that were left behind.
    """
    findings = service.examine(location(ctx), processes.find_marked())
    problems = [finding for finding in findings if not finding.ok]
    if json:
        render.json_value(
            {
                "ok": not problems,
                "findings": [
                    {"name": found.name, "ok": found.ok, "message": found.message}
                    | {"hint": found.hint}
                    for found in findings
                ],
            }
        )
    else:
        for finding in findings:
            _show(finding)
    if problems:
        names = ", ".join(dict.fromkeys(problem.name for problem in problems))
        raise QueuectlError(f"not well: {names}", hint=problems[0].hint)


def _show(finding: service.Finding) -> None:
    verdict = render.paint("ok     ", "32") if finding.ok else render.paint("problem", "31")
    render.out(f"{verdict}  {finding.name:<12}{escape_line(finding.message)}")
    if finding.hint is not None:
        render.out(f"{'':<9}{'hint:':<12}{escape_line(finding.hint)}")
