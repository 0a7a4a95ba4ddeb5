"""``queuectl export`` and ``queuectl import``, through the program."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Program


@pytest.fixture
def used(queuectl: Program) -> Program:
    """A store with a finished job, a dead one, a waiting one and an option."""
    queuectl("config", "set", "max-retries", "0")
    queuectl("enqueue", "--id", "a", "--env", "TOKEN=secret", "--", "echo", "hello")
    queuectl("enqueue", "--id", "b", "--", "false")
    queuectl.drain()
    queuectl("enqueue", "--id", "c", "--queue", "other", "--", "true")
    return queuectl


def test_a_store_goes_into_a_file_and_comes_out_of_it(used: Program, tmp_path: Path) -> None:
    new = str(tmp_path / "new" / "queue.db")
    before = used("list", "--json").json

    done = used("export", "all.jsonl")
    told = used("--db", new, "import", "all.jsonl")

    assert done.out == ""
    assert "3 jobs, 2 attempts" in done.err
    file = tmp_path / "all.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert told.out.split()[:4] == ["1", "options", "2", "queues"]
    assert "3 jobs" in " ".join(told.out.split())
    assert "jobs that wait there run there too" in told.err
    assert used("--db", new, "list", "--json").json == before
    assert used("--db", new, "logs", "a").out == "hello\n"
    assert used("--db", new, "export").out == file.read_text()
    used("--db", new, "audit")
    used("--db", new, "worker", "start", "--drain")
    assert used("--db", new, "show", "c", "--json").json["state"] == "completed"


def test_a_pipe_takes_a_part_from_one_store_to_another(used: Program, tmp_path: Path) -> None:
    new = str(tmp_path / "new" / "queue.db")
    lines = used("export", "-", "--state", "dead", "--without-output").out

    told = used("--db", new, "import", "-", "--json", given=lines).json

    assert (told["jobs"], told["attempts"], told["dead_letters"]) == (1, 1, 1)
    assert (told["options"], told["dry_run"], told["kept_options"]) == (0, False, [])
    assert used("--db", new, "dlq", "list", "-q").lines == ["b"]
    assert [json.loads(line)["kind"] for line in lines.splitlines()] == [
        "queuectl",
        "job",
        "attempt",
        "dead_letter",
        "end",
    ]


def test_importing_twice_is_harmless_and_says_so(used: Program, tmp_path: Path) -> None:
    used("export", "all.jsonl")
    before = used("export").out
    used("config", "set", "max-retries", "9")

    again = used("import", "all.jsonl")

    assert "3 jobs were there already" in again.err
    assert "the option max-retries has another value here" in again.err
    used("config", "set", "max-retries", "0")
    assert [line for line in used("export").out.splitlines() if '"option"' not in line] == [
        line for line in before.splitlines() if '"option"' not in line
    ]


def test_a_dry_run_tells_what_would_come_in(used: Program, tmp_path: Path) -> None:
    new = str(tmp_path / "new" / "queue.db")
    used("export", "all.jsonl")

    told = used("--db", new, "import", "all.jsonl", "-n")

    assert "3 jobs" in " ".join(told.out.split())
    assert "nothing was changed" in told.err
    assert used("--db", new, "list", "--json").json == []


def test_a_file_that_is_there_is_not_written_over(used: Program, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    file.write_text("mine")

    refused = used("export", "all.jsonl", code=4)

    assert "all.jsonl is there already" in refused.err
    assert "--force" in refused.err
    assert file.read_text() == "mine"
    assert used("export", "all.jsonl", "--force", "--json").json["jobs"] == 3
    assert file.read_text().startswith('{"kind":"queuectl","format":1}\n')
    assert [path.name for path in tmp_path.glob("all*")] == ["all.jsonl"]


def test_what_cannot_be_done_is_refused(used: Program, tmp_path: Path) -> None:
    used("export", "all.jsonl")
    (tmp_path / "half.jsonl").write_text((tmp_path / "all.jsonl").read_text()[:-40])
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\n")
    other = (tmp_path / "all.jsonl").read_text().replace('"command":"false"', '"command":"true"')

    assert "half.jsonl, line" in used("import", "half.jsonl", code=2).err
    assert "is not UTF-8" in used("import", "bytes.jsonl", code=2).err
    assert "cannot be read" in used("import", "nothing.jsonl", code=2).err
    assert "job 'b' is there with another command" in used("import", "-", given=other, code=4).err
    assert "no state 'odd'" in used("export", "--state", "odd", code=2).err
    assert "--json tells of a file" in used("export", "--json", code=2).err
    assert "cannot be written" in used("export", "no/such/folder", code=5).err
    assert "is a folder" in used("export", str(tmp_path / "store"), code=4).err
    assert "there is no store" in used("--db", "none.db", "export", code=5).err
    assert not (tmp_path / "none.db").exists()
