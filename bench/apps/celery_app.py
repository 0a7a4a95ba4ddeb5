"""Celery: argument 2 is a folder for its filesystem broker and results, or the URL of a Redis."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from celery import Celery

ADDRESS = os.environ.get("CELERY_APP_ADDRESS") or sys.argv[2]
FOLDER = Path(ADDRESS)


def _filesystem_app():
    for name in ("queue", "control", "results", "processed"):
        (FOLDER / name).mkdir(exist_ok=True)
    made = Celery("celery_app", broker="filesystem://", backend=(FOLDER / "results").as_uri())
    made.conf.broker_transport_options = {
        "data_folder_in": FOLDER / "queue",
        "data_folder_out": FOLDER / "queue",
        "processed_folder": FOLDER / "processed",
        "control_folder": FOLDER / "control",
    }
    return made


app = Celery("celery_app", broker=ADDRESS) if "://" in ADDRESS else _filesystem_app()
app.conf.update(worker_prefetch_multiplier=32, broker_connection_retry_on_startup=False)


def _run(command, keep):
    started = time.time()
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=keep, check=True)
    return started, time.time(), (done.stdout or b"").decode()


def _note(path):
    with Path(path).open("w") as fifo:
        fifo.write("x\n")


run = app.task(name="run")(_run)
note = app.task(name="note", ignore_result=True)(_note)


def _worker(pool, workers):
    options = [f"--pool={pool}", f"--concurrency={workers}", "--loglevel=ERROR"]
    options += ["--without-mingle", "--without-gossip"]
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_app", "worker", *options],
        cwd=Path(__file__).parent,
        env={**os.environ, "CELERY_APP_ADDRESS": ADDRESS, "C_FORCE_ROOT": "1"},
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


def submit_note(fifo):
    """Send a task for each line of stdin; tell the instant at which the broker had it."""
    for _ in sys.stdin:
        note.delay(fifo)
        print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), flush=True)


def serve(kind, workers):
    """Run a worker until it is ended."""
    worker = _worker(kind, workers)
    print(json.dumps("ready"), flush=True)
    sys.stdin.read()
    worker.send_signal(signal.SIGTERM)
    worker.wait()


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[3:])))
