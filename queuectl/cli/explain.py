"""``queuectl explain``: why a job does not run."""

from __future__ import annotations

import typer

from queuectl.cli import options, render
from queuectl.cli.store import open_store
from queuectl.domain.text import escape_line
from queuectl.service import explanation

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("explain")
def explain(ctx: typer.Context, id: options.JobId, json: options.Json = False) -> None:
    """Tell why a job does not run, and what to do."""
    told = explanation.explain(open_store(ctx), id)
    job = told.job
    if json:
        reasons = [
            {"reason": reason.name, "text": reason.text, "hint": reason.hint}
            for reason in told.reasons
        ]
        render.json_value(
            {"id": job.id, "state": job.state, "queue": job.queue, "reasons": reasons}
        )
        return
    render.out(f"job {job.id} is {render.state(job.state)}, in queue {job.queue}")
    for reason in told.reasons:
        render.out(f"- {escape_line(reason.text)}")
        if reason.hint:
            render.out(f"  {reason.hint}")
