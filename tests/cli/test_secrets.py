"""A password in a database's URL is in nothing that queuectl prints (X2)."""

from __future__ import annotations

from urllib.parse import urlsplit

import psutil
import pytest

from tests import servers
from tests.cli.conftest import Program
from tests.waiting import wait_until

#: Nobody listens on that port.
_URL = "postgresql://me:open-sesame@127.0.0.1:1/queue?sslpassword=open-sesame"
_CALLS = [
    ("status",),
    ("status", "--json"),
    ("--debug", "enqueue", "true"),
    ("--debug", "list", "--json"),
    ("worker", "start"),
    ("worker", "start", "--detach"),
    ("doctor", "--json"),
    ("audit", "--json"),
    ("db", "upgrade"),
]


@pytest.mark.parametrize("words", _CALLS, ids=" ".join)
def test_no_call_repeats_it(queuectl: Program, words: tuple[str, ...]) -> None:
    """X2: neither a refusal, nor a traceback, nor ``--json``."""
    variables = {"QUEUECTL_DATABASE_URL": _URL}

    code = 1 if words[0] == "doctor" else 5
    told = queuectl(*words, code=code, variables=variables)
    typed = queuectl("--db", _URL, *words, code=code)

    assert told.err.splitlines()[-2].startswith("error: ")
    assert "postgresql" in told.out + told.err
    assert "open-sesame" not in told.out + told.err + typed.out + typed.err


def test_no_process_and_no_log_shows_it(queuectl: Program) -> None:
    """X2: neither the command lines of a supervisor and its workers, nor their log."""
    location = servers.empty_store()
    split = urlsplit(location.url)
    url = split._replace(netloc=f"{split.username}:open-sesame@").geturl()

    supervisor = psutil.Process(int(queuectl("--db", url, "worker", "start", "--detach").out))
    queuectl("--db", url, "enqueue", "--id", "a", "--max-retries", "0", "exit 3")
    wait_until(lambda: queuectl("--db", url, "show", "a", "--json").json["state"] == "dead")
    lines = [process.cmdline() for process in [supervisor, *supervisor.children(recursive=True)]]
    stopped = queuectl("--db", url, "worker", "stop")

    assert all("worker" in line and "start" in line for line in lines)
    assert "open-sesame" not in str(lines)
    [log] = queuectl.folder.rglob("*.worker.log")
    assert "job a is dead" in log.read_text()
    assert "open-sesame" not in log.read_text() + stopped.out + stopped.err
