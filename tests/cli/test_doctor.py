"""``queuectl doctor``."""

from __future__ import annotations

import subprocess

from queuectl.worker.processes import MARK_CLAIM, MARK_WORKER
from tests.cli.conftest import Program


def test_what_is_well_has_a_line_each(queuectl: Program) -> None:
    told = queuectl("doctor")

    assert [line.split()[:2] for line in told.lines] == [
        ["ok", name]
        for name in (
            "library",
            "place",
            "space",
            "schema",
            "permissions",
            "journal",
            "readers",
            "workers",
            "schedules",
            "clock",
            "processes",
        )
    ]
    assert told.err == ""


def test_what_is_not_well_has_a_hint_and_fails(queuectl: Program) -> None:
    queuectl.location.path.chmod(0o644)

    told = queuectl("doctor", code=1)

    [problem] = [n for n, line in enumerate(told.lines) if line.startswith("problem")]
    assert told.lines[problem].split()[1] == "permissions"
    assert told.lines[problem + 1].split() == ["hint:", "chmod", "600", str(queuectl.location)]
    assert "error: not well: permissions" in told.err


def test_json_has_every_finding(queuectl: Program) -> None:
    good = queuectl("doctor", "--json").json
    queuectl.location.path.chmod(0o644)

    bad = queuectl("doctor", "--json", code=1).json

    assert (good["ok"], bad["ok"]) == (True, False)
    assert all(finding["hint"] is None for finding in good["findings"])
    [problem] = [finding for finding in bad["findings"] if not finding["ok"]]
    assert (problem["name"], problem["hint"]) == (
        "permissions",
        f"chmod 600 {queuectl.location}",
    )


def test_a_store_that_cannot_be_opened_is_a_finding(queuectl: Program) -> None:
    queuectl.location.path.write_bytes(b"")

    told = queuectl("doctor", code=1)

    assert any(line.startswith("problem  store") for line in told.lines)


def test_a_process_that_bears_the_mark_of_a_worker_that_is_gone_is_found(
    queuectl: Program,
) -> None:
    (queuectl.location.workers / "gone").touch(0o600)
    marks = {MARK_WORKER: "gone", MARK_CLAIM: "1-2"}
    with subprocess.Popen(["sleep", "60"], env={**queuectl.environment, **marks}) as orphan:
        told = queuectl("doctor", code=1)
        orphan.kill()

    assert f"process {orphan.pid} (sleep 60) belongs to worker gone, which is gone" in told.out


def test_a_schedule_that_nobody_makes_jobs_of_is_found(queuectl: Program) -> None:
    queuectl("schedule", "add", "nightly", "--cron", "30 2 * * *", "--", "true")

    told = queuectl("doctor", code=1)

    [problem] = [n for n, line in enumerate(told.lines) if line.startswith("problem")]
    assert "nobody makes the jobs of 1 schedule" in told.lines[problem]
    assert told.lines[problem + 1].endswith("start one: queuectl worker start")
