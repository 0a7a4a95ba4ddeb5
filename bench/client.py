"""A client that enqueues one job after the other for some seconds, over one connection."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from pathlib import Path

from queuectl.db.engine import open_store
from queuectl.domain.request import JobRequest
from queuectl.service import jobs
from queuectl.settings import StoreLocation


def main(path: str, seconds: str) -> None:
    """Print what each enqueue took, in milliseconds, as JSON."""
    waits = []
    request = JobRequest(command="true")
    with closing(open_store(StoreLocation(Path(path), "bench"))) as store:
        end = time.perf_counter() + float(seconds)
        while (began := time.perf_counter()) < end:
            jobs.enqueue(store, [request], cwd="/")
            waits.append(round((time.perf_counter() - began) * 1000, 3))
    print(json.dumps(waits))


if __name__ == "__main__":
    main(*sys.argv[1:])
