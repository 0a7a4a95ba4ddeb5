"""Celery with its filesystem broker and results, for it needs no server: argument 2 is a folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from celery import Celery

FOLDER = Path(os.environ.get("CELERY_APP_FOLDER") or sys.argv[2])
for name in ("queue", "control", "results", "processed"):
    (FOLDER / name).mkdir(exist_ok=True)
app = Celery("celery_app", broker="filesystem://", backend=(FOLDER / "results").as_uri())
app.conf.update(
    broker_transport_options={
        "data_folder_in": FOLDER / "queue",
        "data_folder_out": FOLDER / "queue",
        "processed_folder": FOLDER / "processed",
        "control_folder": FOLDER / "control",
    },
    worker_prefetch_multiplier=32,
    broker_connection_retry_on_startup=False,
)


def _run(command, keep):
    started = time.time()
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=keep, check=True)
    return started, time.time(), (done.stdout or b"").decode()


run = app.task(name="run")(_run)


def _worker(pool, workers):
    options = [f"--pool={pool}", f"--concurrency={workers}", "--loglevel=ERROR"]
    options += ["--without-mingle", "--without-gossip"]
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_app", "worker", *options],
        cwd=Path(__file__).parent,
        env={**os.environ, "CELERY_APP_FOLDER": str(FOLDER), "C_FORCE_ROOT": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def drain(jobs, command, kind, keep):
    """Run all jobs with two workers; return jobs a second, from the first start to the last end."""
    results = [run.delay(command, keep == "keep") for _ in range(int(jobs))]
    worker = _worker(kind, 2)
    limit = time.monotonic() + 60
    while len(list((FOLDER / "results").iterdir())) < len(results) and time.monotonic() < limit:
        time.sleep(0.02)
    worker.send_signal(signal.SIGTERM)
    worker.wait()
    spans = [result.get(timeout=1) for result in results]
    return len(spans) / (max(span[1] for span in spans) - min(span[0] for span in spans))


def submit():
    """Send one task."""
    run.delay("true", False)


def serve(kind, workers):
    """Run a worker until it is ended."""
    worker = _worker(kind, workers)
    print(json.dumps("ready"), flush=True)
    sys.stdin.read()
    worker.send_signal(signal.SIGTERM)
    worker.wait()


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[3:])))
