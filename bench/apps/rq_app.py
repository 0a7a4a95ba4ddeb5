"""RQ: argument 2 is the URL of a Redis."""

import json
import sys
import time
from pathlib import Path

from redis import Redis
from rq import Queue, Worker
from rq.worker_pool import WorkerPool

queue = Queue(connection=Redis.from_url(sys.argv[2]))


def note(path):
    """Tell that it has begun."""
    with Path(path).open("w") as fifo:
        fifo.write("x\n")


def serve(workers):
    """Run a worker, or a pool of them, until it is ended."""
    print(json.dumps("ready"), flush=True)
    if int(workers) == 1:
        Worker([queue], connection=queue.connection).work(logging_level="ERROR")
    else:
        pool = WorkerPool([queue], connection=queue.connection, num_workers=int(workers))
        pool.start(logging_level="ERROR")


def submit_note(fifo):
    """Enqueue a job for each line of stdin; tell the instant at which it was stored."""
    for _ in sys.stdin:
        queue.enqueue("rq_app.note", fifo)
        print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), flush=True)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[3:])))
