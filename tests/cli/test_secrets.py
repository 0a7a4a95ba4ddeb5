"""A password in a database's URL is in nothing that queuectl prints (X2)."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Program

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
