"""dramatiq: argument 2 is the URL of a Redis."""

import json
import os
import sys
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker

ADDRESS = os.environ.get("DRAMATIQ_APP_ADDRESS") or sys.argv[2]
dramatiq.set_broker(RedisBroker(url=ADDRESS))


@dramatiq.actor
def run(command):
    """Stand for a job."""


def serve(workers):
    """Become its program, with so many processes of one thread each."""
    print(json.dumps("ready"), flush=True)
    os.environ["DRAMATIQ_APP_ADDRESS"] = ADDRESS
    options = ["--processes", workers, "--threads", "1", "--path", str(Path(__file__).parent)]
    command = [sys.executable, "-m", "dramatiq", "dramatiq_app", *options]
    os.execv(sys.executable, command)  # noqa: S606  # it becomes the program, and needs no shell


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[3:])))
