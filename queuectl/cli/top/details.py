"""All that is known of a job, as text: what ``show`` tells, and why it does not run."""

from __future__ import annotations

from queuectl.cli import jobs, render
from queuectl.db import engine
from queuectl.domain.text import escape_line
from queuectl.service import explanation
from queuectl.service import jobs as service


def describe(store: engine.Store, job_id: str) -> str:
    """Return the lines; raises NotFound and StoreError. Nothing in them acts on a terminal."""
    history = service.history(store, job_id)
    lines = [f"{name:<11} {text}" for name, text in jobs.facts(store.location, history)]
    for reason in explanation.explain(store, job_id).reasons:
        hint = f" ({reason.hint})" if reason.hint else ""
        lines.append(f"{'why':<11} {reason.text}{hint}")
    if history.attempts:
        lines += ["", *render.aligned(jobs.ATTEMPT_COLUMNS, jobs.attempt_rows(history))]
    return "\n".join(map(escape_line, lines))
