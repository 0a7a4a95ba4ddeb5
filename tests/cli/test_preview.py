"""``queuectl enqueue --dry-run``, through the program."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Program


def test_a_command_is_told_with_its_timetable(queuectl: Program) -> None:
    queuectl("config", "set", "timeout", "5m")

    done = queuectl("enqueue", "--dry-run", "-Q", "q", "--priority", "2", "--", "echo", "a b")

    assert done.lines == [
        "echo 'a b'",
        f"    queue q, priority 2, folder {queuectl.folder}, timeout 5m",
        "    attempt 1 at once; after failure 1: +2s, 2: +4s, 3: +8s; after failure 4: dead",
    ]
    assert done.err == "note: 1 job would be enqueued; nothing was stored\n"
    assert queuectl("list", "-q").lines == []


def test_the_stored_backoff_makes_the_timetable(queuectl: Program) -> None:
    queuectl("config", "set", "backoff-base", "10")
    queuectl("config", "set", "backoff-max", "1m")

    done = queuectl("enqueue", "-n", "--max-retries", "9", "--run-at", "2030-01-01T00:00:00Z", "x")

    assert done.lines[-1] == (
        "    attempt 1 at 2030-01-01T00:00:00.000Z; after failure 1: +10s, 2 to 9: +1m;"
        " after failure 10: dead"
    )
    own = queuectl("enqueue", "-n", "--max-retries", "1", "--backoff-base", "3", "x")
    assert "after failure 1: +3s; after" in own.out
    none = queuectl("enqueue", "-n", "--max-retries", "0", "x")
    assert none.lines[-1] == "    attempt 1 at once; after failure 1: dead"


def test_a_long_timetable_is_cut(queuectl: Program) -> None:
    done = queuectl("enqueue", "-n", "--max-retries", "1000000", "--backoff-base", "1.000001", "x")

    assert ", 20: +1.0s, ... 1000000; after failure 1000001: dead" in done.out


def test_json_is_an_object_or_an_array(queuectl: Program) -> None:
    job = '{"command": "true", "id": "a", "max_retries": 2, "env": {"SECRET": "hunter2"}}'

    one = queuectl("enqueue", "-n", "--json", job).json
    many = queuectl("enqueue", "-n", "--json", "--file", "-", given=job).json
    each = queuectl("enqueue", "-n", "--json", "--each", "-", "echo", given="a\nb\n").json

    assert (one["id"], one["there_already"], one["env"]) == ("a", False, ["SECRET"])
    assert one["pauses"] == [
        {"first_failure": 1, "last_failure": 1, "seconds": 2},
        {"first_failure": 2, "last_failure": 2, "seconds": 4},
    ]
    assert many == [one]
    assert [planned["command"] for planned in each] == ["echo a", "echo b"]
    assert queuectl("list", "-q").lines == []


def test_what_is_there_already_is_told_and_a_conflict_refused(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "a", "true")

    done = queuectl("enqueue", "-n", "--id", "a", "true")

    assert "id a, there already" in done.out
    assert "0 jobs would be enqueued; 1 there already, with the same request" in done.err
    refused = queuectl("enqueue", "-n", "--id", "a", "false", code=4)
    assert refused.out == ""
    assert "'a' is already there" in refused.err


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["--max-retries", "-1", "x"], ""),
        (['{"command": ""}'], ""),
        (["--file", "-"], '{"command": "true"}\n{"command": 1}\n'),
        (["--each", "-", "echo {}"], "a\nb\0\n"),
    ],
)
def test_what_would_be_refused_is_refused(queuectl: Program, words: list[str], given: str) -> None:
    done = queuectl("enqueue", "-n", *words, code=2, given=given)

    assert done.out == ""
    assert done.err.startswith("error: ")


def test_a_store_that_is_not_there_is_not_made(queuectl: Program) -> None:
    folder = queuectl.folder / "new"

    done = queuectl("--db", str(folder / "queue.db"), "enqueue", "-n", "true")

    assert "after failure 1: +2s" in done.out
    assert not folder.exists()


def test_a_command_is_harmless_on_a_terminal(queuectl: Program) -> None:
    done = queuectl("enqueue", "-n", "echo \x1b[31m\nred")

    assert done.lines[0] == "echo \\x1b[31m\\nred"


def test_what_a_job_is_called_and_waits_for_is_told(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "g1-build", "true")
    queuectl("enqueue", "--id", "g2", "--hold", "true")
    words = ("--name", "video", "--tag", "b", "--tag", "a", "--unique", "k", "--after", "g1")

    needing = queuectl("enqueue", "-n", *words, "--after-any", "g2", "true")
    held = queuectl("enqueue", "-n", "--hold", "--at", "2099-01-01T00:00:00Z", "true")
    told = queuectl("enqueue", "-n", "--json", *words, "--hold", "true").json

    assert needing.lines[1].startswith("    unique k, name video, tags a b, queue default, ")
    assert "after g1-build, after any g2" in needing.lines[1]
    assert needing.lines[2].startswith(
        "    attempt 1 after g1-build has completed, after g2 has ended; after failure 1: +2s"
    )
    assert held.lines[2].startswith(
        "    attempt 1 held until: queuectl release, not before 2099-01-01T00:00:00.000Z;"
    )
    assert (told["name"], told["tags"], told["unique"]) == ("video", ["a", "b"], "k")
    assert (told["hold"], told["after"], told["cannot_start"]) == (True, ["g1-build"], None)


def test_places_in_a_name_can_be_checked(queuectl: Program) -> None:
    words = ("--each", "-", "--name", "cut {/.}", "--unique", "k {}", "true {}")

    told = queuectl("enqueue", "-n", "--json", *words, given="in/a.png\nin/b.png\n").json

    assert [job["name"] for job in told] == ["cut a", "cut b"]
    assert [job["unique"] for job in told] == ["k in/a.png", "k in/b.png"]


@pytest.mark.parametrize("store", ["queue.db", "new/queue.db"])
@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--after", "nope", "true"], 3, "there is no job 'nope' to wait for"),
        (["--id", "me", "--after-any", "me", "true"], 2, "job 'me' cannot need itself"),
    ],
)
def test_a_need_that_enqueue_would_refuse_is_refused(
    queuectl: Program, store: str, words: list[str], code: int, named: str
) -> None:
    path = str(queuectl.folder / "store" / store)

    done = queuectl("--db", path, "enqueue", "-n", *words, code=code)
    real = queuectl("--db", path, "enqueue", *words, code=code)

    assert named in done.err
    assert (done.out, done.err) == (real.out, real.err)


def test_jobs_of_a_file_need_those_before_them(queuectl: Program) -> None:
    queuectl("enqueue", "--id", "gone", "true")
    queuectl("cancel", "gone")
    jobs = (
        '{"command": "one", "id": "a"}\n{"command": "two"}\n'
        '{"command": "three", "after": ["last"], "after_any": ["a"]}\n'
        '{"command": "four", "id": "lost", "after": ["gone"]}\n'
        '{"command": "five", "after_failure": ["lost", "a"]}\n'
    )

    told = queuectl("enqueue", "-n", "--file", "-", given=jobs).lines[2::3]

    assert told[2].startswith("    attempt 1 after job 2 has completed, after a has ended;")
    assert told[3] == "    cannot start: job gone was cancelled"
    assert told[4].startswith("    attempt 1 at once; ")
    behind = '{"command": "one", "after": ["b"]}\n{"command": "two", "id": "b"}\n'
    refused = queuectl("enqueue", "-n", "--file", "-", given=behind, code=3)
    assert "stands behind one that needs it" in refused.err
    assert refused.out == ""
