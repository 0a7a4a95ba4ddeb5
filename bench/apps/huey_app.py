"""huey on SQLite, with its default durability (WAL, synchronous=FULL)."""

import json
import subprocess
import sys
import time
from pathlib import Path

from huey import SqliteHuey

queue = SqliteHuey(filename=sys.argv[2])


def _run(command, keep):
    started = time.time()
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=keep, check=True)
    return started, time.time(), done.stdout


def _note(path):
    with Path(path).open("w") as fifo:
        fifo.write("x\n")


run = queue.task()(_run)
note = queue.task()(_note)


def drain(jobs, command, kind, keep):
    """Run all jobs with two workers; return jobs a second, from the first start to the last end."""
    results = [run(command, keep == "keep") for _ in range(int(jobs))]
    consumer = queue.create_consumer(workers=2, worker_type=kind, periodic=False)
    consumer.start()
    while queue.result_count() < len(results):
        time.sleep(0.02)
    consumer.stop()
    spans = [result.get() for result in results]
    return len(spans) / (max(span[1] for span in spans) - min(span[0] for span in spans))


def single(jobs):
    """Enqueue one by one; return jobs a second."""
    count = int(jobs)
    began = time.perf_counter()
    for _ in range(count):
        run("true", False)
    return count / (time.perf_counter() - began)


def claim(jobs):
    """Take jobs and store a result for each, running nothing; return jobs a second."""
    count = int(jobs)
    for _ in range(count):
        run("true", False)
    began = time.perf_counter()
    for _ in range(count):
        task = queue.dequeue()
        queue.put_result(task.id, 0)
    return count / (time.perf_counter() - began)


def depth(jobs, samples):
    """Return the median time of taking one job, in milliseconds, with so many waiting."""
    blob = queue.serialize_task(run.s("true", False))
    with queue.storage.db(commit=True) as cursor:
        rows = ((queue.name, blob, 0) for _ in range(int(jobs)))
        cursor.executemany("insert into task (queue, data, priority) values (?, ?, ?)", rows)
    times = []
    for _ in range(int(samples)):
        began = time.perf_counter()
        queue.dequeue()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2] * 1000


def serve(kind, workers):
    """Run a consumer until it is ended."""
    consumer = queue.create_consumer(workers=int(workers), worker_type=kind, periodic=False)
    consumer.start()
    print(json.dumps("ready"), flush=True)
    while True:
        time.sleep(60)


def submit_note(fifo):
    """Enqueue a task for each line of stdin; tell the instant at which it was stored."""
    for _ in sys.stdin:
        note(fifo)
        print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), flush=True)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[3:])))
