"""procrastinate over psycopg: argument 2 is the URL of a PostgreSQL database."""

import asyncio
import json
import sys
import time
from pathlib import Path

from procrastinate import App, PsycopgConnector
from procrastinate.jobs import Status

app = App(connector=PsycopgConnector(conninfo=sys.argv[2]))


@app.task(name="run")
def run(command):
    """Stand for a job that is only stored and settled."""


@app.task(name="note")
async def note(path):
    """Tell that it has begun."""
    with Path(path).open("w") as fifo:
        fifo.write("x\n")


def install():
    """Make its tables."""
    with app.open():
        app.schema_manager.apply_schema()


def bulk(jobs):
    """Enqueue all at once; return jobs a second."""
    count = int(jobs)
    with app.open():
        run.defer(command="true")
        began = time.perf_counter()
        run.batch_defer(*[{"command": "true"}] * count)
        return count / (time.perf_counter() - began)


def single(jobs):
    """Enqueue one by one over a kept connection; return jobs a second."""
    count = int(jobs)
    with app.open():
        run.defer(command="true")
        began = time.perf_counter()
        for _ in range(count):
            run.defer(command="true")
        return count / (time.perf_counter() - began)


async def _take(count, act):
    """Hand each of the jobs that wait to an action, with what takes the next one."""
    async with app.open_async():
        await run.batch_defer_async(*[{"command": "true"}] * count)
        await app.connector.execute_query_async("ANALYZE")  # as autovacuum does in time
        worker = await app.job_manager.register_worker()

        async def take():
            return await app.job_manager.fetch_job(queues=None, worker_id=worker)

        return await act(take)


def claim(jobs):
    """Take jobs one by one, as it does, and settle them, running nothing; return jobs a second."""

    async def act(take):
        settled = 0
        began = time.perf_counter()
        while job := await take():
            await app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
            settled += 1
        return settled / (time.perf_counter() - began) if settled == int(jobs) else None

    return asyncio.run(_take(int(jobs), act))


def depth(jobs, samples):
    """Return the median time of taking one job, in milliseconds, with so many waiting."""

    async def act(take):
        times = []
        for _ in range(int(samples)):
            began = time.perf_counter()
            await take()
            times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2] * 1000

    return asyncio.run(_take(int(jobs), act))


def serve(workers):
    """Run a worker until it is ended."""
    print(json.dumps("ready"), flush=True)
    app.run_worker(concurrency=int(workers))


def submit_note(fifo):
    """Enqueue a job for each line of stdin; tell the instant at which it was stored."""
    with app.open():
        for _ in sys.stdin:
            note.defer(path=fifo)
            print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), flush=True)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[3:])))
