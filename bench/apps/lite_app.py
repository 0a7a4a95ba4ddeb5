"""litequeue and persist-queue on SQLite: no commands, only rows."""

import json
import sys
import time

import litequeue
import persistqueue


def _rate(count, act):
    began = time.perf_counter()
    for _ in range(count):
        act()
    return count / (time.perf_counter() - began)


def litequeue_single(jobs):
    """Enqueue one by one; return jobs a second."""
    queue = litequeue.LiteQueue(sys.argv[2])
    return _rate(int(jobs), lambda: queue.put("true"))


def litequeue_claim(jobs):
    """Take jobs and mark them done; return jobs a second."""
    queue = litequeue.LiteQueue(sys.argv[2])
    for _ in range(int(jobs)):
        queue.put("true")
    return _rate(int(jobs), lambda: queue.done(queue.pop().message_id))


def persistqueue_single(jobs):
    """Enqueue one by one; return jobs a second."""
    queue = persistqueue.SQLiteAckQueue(sys.argv[2], auto_commit=True)
    return _rate(int(jobs), lambda: queue.put("true"))


def persistqueue_claim(jobs):
    """Take jobs and acknowledge them; return jobs a second."""
    queue = persistqueue.SQLiteAckQueue(sys.argv[2], auto_commit=True)
    for _ in range(int(jobs)):
        queue.put("true")
    return _rate(int(jobs), lambda: queue.ack(queue.get(block=False)))


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[3:])))
