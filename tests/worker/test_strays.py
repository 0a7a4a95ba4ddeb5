"""A supervisor that is not process 1 adopts nobody's orphans but its dead workers'."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.supervision import marked_environment

# The orphan is there while the worker still seems to live, as it is when a worker of two threads is
# killed: what it left is handed on before its death can be waited for.
_BURY = """
import json, os, socket, subprocess, sys, time
from pathlib import Path
from queuectl.settings import StoreLocation
from queuectl.worker import processes
from queuectl.worker.reports import Report
from queuectl.worker.supervisor import Supervisor, WorkerPlan, _Child

processes.become_subreaper()
worker = subprocess.Popen(["sleep", "300"])
subprocess.run(["sh", "-c", "env -i setsid sleep 300 >/dev/null 2>&1 & exit"], check=True)
while len(processes.children()) < 2:
    time.sleep(0.01)
[orphan] = set(processes.children()) - {worker.pid}
supervisor = Supervisor(StoreLocation(Path(sys.argv[1]), "test"), WorkerPlan())
now = time.monotonic()
ours, _ = socket.socketpair()
last = Report(now, 60.0)
supervisor._children[worker.pid] = _Child(worker.pid, "w", ours, now, last, heard_at=now)
supervisor._bury(now)
left = processes.children()
worker.kill()
worker.wait()
processes.end_children(lambda pid: False)
print(json.dumps([worker.pid in left, orphan in left]))
"""


def test_an_unmarked_orphan_is_ended_though_its_worker_still_seems_to_live(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BURY, str(tmp_path / "queue.db")],
        capture_output=True,
        text=True,
        env=marked_environment(tmp_path),
        check=True,
    )

    worker_lives, orphan_lives = json.loads(done.stdout)
    assert worker_lives
    assert not orphan_lives
