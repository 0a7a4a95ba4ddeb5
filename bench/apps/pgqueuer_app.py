"""PgQueuer over psycopg: argument 2 is the URL of a PostgreSQL database."""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import uvloop
from pgqueuer import PgQueuer, PsycopgDriver, Queries
from pgqueuer.db import SyncPsycopgDriver
from pgqueuer.queries import EntrypointExecutionParameter, SyncQueries

#: How many jobs its workers take at once unless they are told otherwise.
BATCH = 10


def _client():
    return SyncQueries(SyncPsycopgDriver(psycopg.connect(sys.argv[2], autocommit=True)))


async def _connection():
    return await psycopg.AsyncConnection.connect(sys.argv[2], autocommit=True)


def _fill(count):
    _client().enqueue(["run"] * count, [b"true"] * count, [0] * count)


def install():
    """Make its tables."""

    async def act():
        async with await _connection() as connection:
            await Queries(PsycopgDriver(connection)).install()

    uvloop.run(act())


def bulk(jobs):
    """Enqueue all at once; return jobs a second."""
    count = int(jobs)
    client = _client()
    client.enqueue("run", b"true")
    began = time.perf_counter()
    client.enqueue(["run"] * count, [b"true"] * count, [0] * count)
    return count / (time.perf_counter() - began)


def single(jobs):
    """Enqueue one by one over a kept connection; return jobs a second."""
    count = int(jobs)
    client = _client()
    client.enqueue("run", b"true")
    began = time.perf_counter()
    for _ in range(count):
        client.enqueue("run", b"true")
    return count / (time.perf_counter() - began)


def claim(jobs):
    """Take jobs in batches and settle them, running nothing; return jobs a second."""
    _fill(int(jobs))

    async def act():
        async with await _connection() as connection:
            await connection.execute("VACUUM ANALYZE")  # as autovacuum does in time
            queries = Queries(PsycopgDriver(connection))
            entrypoints = {"run": EntrypointExecutionParameter(concurrency_limit=0)}
            words = (BATCH, entrypoints, uuid4(), None, timedelta(seconds=30))
            settled = 0
            began = time.perf_counter()
            while found := await queries.dequeue(*words):
                await queries.log_jobs([(job, "successful", None) for job in found])
                settled += len(found)
            return settled / (time.perf_counter() - began) if settled == int(jobs) else None

    return uvloop.run(act())


def serve():
    """Run a worker until it is ended."""

    async def act():
        async with await _connection() as connection:
            worker = PgQueuer.from_psycopg_connection(connection)

            @worker.entrypoint("note")
            async def note(job):
                with Path(job.payload.decode()).open("w") as fifo:
                    fifo.write("x\n")

            print(json.dumps("ready"), flush=True)
            await worker.run()

    uvloop.run(act())


def submit_note(fifo):
    """Enqueue a job for each line of stdin; tell the instant at which it was stored."""
    client = _client()
    for _ in sys.stdin:
        client.enqueue("note", fifo.encode())
        print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), flush=True)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[3:])))
