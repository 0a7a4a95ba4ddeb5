"""The outputs' files: whole, by their last lines, and never through a link."""

from __future__ import annotations

import pytest

from queuectl.db.engine import open_store
from queuectl.service import logs
from queuectl.settings import StoreLocation

#: Outputs are files beside whatever store it is.
pytestmark = pytest.mark.sqlite


@pytest.fixture
def location(location: StoreLocation) -> StoreLocation:
    open_store(location).close()
    return location


def write(location: StoreLocation, output: bytes, *segments: tuple[int, bytes]) -> None:
    """Write the files of attempt 1 of job 7."""
    logs.output_path(location, 7, 1).write_bytes(output)
    for number, content in segments:
        logs.segment_path(location, 7, 1, number).write_bytes(content)


def read(location: StoreLocation) -> bytes:
    return b"".join(logs.read_all(location, 7, 1))


def test_an_output_is_read_whole(location: StoreLocation) -> None:
    output = b"line\n" * 100_000
    write(location, output)

    assert read(location) == output


def test_an_attempt_that_printed_nothing_has_no_file_and_no_output(location: StoreLocation) -> None:
    assert read(location) == b""
    assert logs.tail(location, 7, 1, 10) == b""


def test_the_segments_of_one_that_runs_follow_the_head(location: StoreLocation) -> None:
    write(location, b"aaaa", (0, b"bbbb"), (1, b"cc"))

    assert read(location) == b"aaaabbbbcc"


def test_segments_that_were_dropped_are_counted(location: StoreLocation) -> None:
    write(location, b"aaaa", (9, b"yyyy"), (10, b"zz"))

    assert read(location) == b"aaaa\n[queuectl: 36 bytes dropped]\nyyyyzz"


def test_files_of_other_jobs_and_attempts_are_left_alone(location: StoreLocation) -> None:
    write(location, b"ours", (0, b"+"))
    logs.output_path(location, 77, 1).write_bytes(b"theirs")
    logs.output_path(location, 7, 11).write_bytes(b"later")
    logs.segment_path(location, 77, 1, 3).write_bytes(b"theirs")

    assert logs.segments(location, 7, 1) == [0]

    logs.remove(location, 7, 1)

    assert sorted(path.name for path in location.logs.iterdir()) == [
        "7-11.log",
        "77-1.3.log",
        "77-1.log",
    ]


@pytest.mark.parametrize(
    ("output", "lines", "tail"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb", 9, b"a\nb"),
        (b"a\n\n\n", 2, b"\n\n"),
        (b"a\nb\n", 0, b""),
        (b"a\nb", 0, b""),
        (b"x" * 200_000 + b"\nend", 1, b"end"),
    ],
)
def test_the_last_lines_are_told(
    location: StoreLocation, output: bytes, lines: int, tail: bytes
) -> None:
    write(location, output)

    assert logs.tail(location, 7, 1, lines) == tail


def test_a_link_in_place_of_an_output_is_not_followed(location: StoreLocation) -> None:
    secret = location.folder / "secret"
    secret.write_bytes(b"secret")
    logs.output_path(location, 7, 1).symlink_to(secret)

    with pytest.raises(OSError, match="symbolic"):
        read(location)


def test_paths_are_made_of_numbers_in_the_stores_own_folder(location: StoreLocation) -> None:
    assert logs.output_path(location, 7, 12) == location.logs / "7-12.log"
    assert logs.segment_path(location, 7, 12, 3) == location.logs / "7-12.3.log"
