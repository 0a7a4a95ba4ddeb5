"""What a command prints is captured up to the cap, and can be read while it grows (R3, X1)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queuectl.db.engine import open_store
from queuectl.service import logs
from queuectl.service.logs import OutputReader
from queuectl.settings import StoreLocation
from queuectl.worker.output import TAIL_BYTES, OutputCapture

#: Outputs are files beside whatever store it is.
pytestmark = pytest.mark.sqlite
_LIMIT = 100


@pytest.fixture
def location(location: StoreLocation) -> StoreLocation:
    open_store(location).close()
    return location


class Printer:
    """A command that prints what it is told, and its capture."""

    def __init__(self, location: StoreLocation, limit: int = _LIMIT) -> None:
        self.location = location
        self.capture = OutputCapture(location, 7, 1, limit)
        self._out = os.dup(self.capture.write_end)
        self.capture.started()

    def print(self, output: bytes) -> None:
        for start in range(0, len(output), 60_000):
            os.write(self._out, output[start : start + 60_000])
            self.capture.pump()

    def end(self) -> None:
        os.close(self._out)
        self.capture.finish()

    def kept(self) -> bytes:
        return b"".join(logs.read_all(self.location, 7, 1))


@pytest.fixture
def printer(location: StoreLocation) -> Printer:
    return Printer(location)


@pytest.fixture
def reader(location: StoreLocation) -> Iterator[OutputReader]:
    with closing(OutputReader(location, 7, 1)) as opened:
        yield opened


def read_to_end(reader: OutputReader) -> bytes:
    return b"".join(iter(reader.read_new, b""))


def numbered(count: int) -> bytes:
    return b"".join(b"%06d\n" % number for number in range(count))


def test_an_output_within_the_cap_is_kept_as_it_is(printer: Printer) -> None:
    output = bytes(range(100))

    printer.print(output)
    printer.end()

    assert printer.kept() == output
    assert printer.capture.total_bytes == 100
    assert [path.name for path in printer.location.logs.iterdir()] == ["7-1.log"]


@pytest.mark.parametrize("umask", [0, 0o777], ids=oct)
def test_its_file_is_private_whatever_the_umask(printer: Printer, umask: int) -> None:
    before = os.umask(umask)
    printer.print(b"secret")
    os.umask(before)
    printer.end()

    path = logs.output_path(printer.location, 7, 1)
    assert stat.filemode(path.stat().st_mode) == "-rw-------"


def test_no_output_makes_no_file(printer: Printer) -> None:
    printer.end()

    assert list(printer.location.logs.iterdir()) == []
    assert (printer.capture.total_bytes, printer.capture.tail) == (0, b"")


@pytest.mark.parametrize("size", [101, 149, 150, 151, 200, 1000, 100_000])
def test_past_the_cap_the_middle_is_dropped_and_counted(printer: Printer, size: int) -> None:
    """R3: the cap is kept, and every byte counted."""
    output = numbered(size // 7 + 1)[:size]

    printer.print(output)
    printer.end()

    dropped = b"\n[queuectl: %d bytes dropped]\n" % (size - _LIMIT)
    assert printer.kept() == output[:50] + dropped + output[-50:]
    assert printer.capture.total_bytes == size
    assert [path.name for path in printer.location.logs.iterdir()] == ["7-1.log"]


def test_while_it_runs_no_more_than_the_cap_and_half_is_on_the_disk(printer: Printer) -> None:
    printer.print(numbered(1000))

    sizes = [path.stat().st_size for path in printer.location.logs.iterdir()]
    assert sum(sizes) <= _LIMIT * 3 // 2
    assert printer.kept().startswith(b"000000\n")
    assert printer.kept().endswith(b"000999\n")
    printer.end()


def test_the_last_bytes_are_at_hand(location: StoreLocation) -> None:
    printer = Printer(location, limit=1 << 20)
    output = numbered(5000)

    printer.print(output)
    printer.end()

    assert printer.capture.tail == output[-TAIL_BYTES:]


def test_whoever_keeps_the_pipe_open_is_not_waited_for(location: StoreLocation) -> None:
    printer = Printer(location)
    printer.print(b"before")

    printer.capture.finish()

    assert printer.kept() == b"before"
    with pytest.raises(BrokenPipeError):
        printer.print(b"after")


def test_a_link_in_place_of_the_file_is_replaced_not_followed(printer: Printer) -> None:
    """X1: nor in place of a piece of a long output."""
    victim = printer.location.folder / "victim"
    victim.write_bytes(b"untouched")
    logs.output_path(printer.location, 7, 1).symlink_to(victim)
    for number in range(3):
        logs.segment_path(printer.location, 7, 1, number).symlink_to(victim)

    printer.print(numbered(40))
    printer.end()

    assert victim.read_bytes() == b"untouched"
    assert printer.kept().endswith(b"000039\n")
    assert not logs.output_path(printer.location, 7, 1).is_symlink()


def test_a_folder_that_is_gone_costs_the_output_and_not_the_command(printer: Printer) -> None:
    printer.location.logs.rmdir()

    printer.print(b"lost")
    printer.end()

    assert printer.capture.error == (
        "its output was not kept from byte 4 on: No such file or directory"
    )
    assert (printer.capture.total_bytes, printer.capture.tail) == (4, b"lost")


# Reading what grows


def test_a_reader_follows_an_output_from_before_its_first_byte(
    printer: Printer, reader: OutputReader
) -> None:
    assert reader.read_new() == b""

    printer.print(b"one\n")
    assert reader.read_new() == b"one\n"
    assert reader.read_new() == b""

    printer.print(b"two\n")
    printer.end()
    assert read_to_end(reader) == b"two\n"


def test_a_reader_that_keeps_up_misses_nothing_across_segments(
    printer: Printer, reader: OutputReader
) -> None:
    output = numbered(200)
    seen = b""

    for start in range(0, len(output), 30):
        printer.print(output[start : start + 30])
        seen += read_to_end(reader)
    printer.end()
    seen += read_to_end(reader)

    assert seen == output


def test_a_reader_that_falls_behind_is_told_what_it_missed(
    printer: Printer, reader: OutputReader
) -> None:
    printer.print(b"a" * 50)
    read_to_end(reader)

    printer.print(b"b" * 500)
    seen = read_to_end(reader)
    printer.end()
    seen += read_to_end(reader)

    assert seen == b"\n[queuectl: 400 bytes dropped]\n" + b"b" * 100


def test_a_reader_goes_on_in_the_finished_file_where_it_was(
    printer: Printer, reader: OutputReader
) -> None:
    output = numbered(100)
    printer.print(output[:75])
    seen = read_to_end(reader)

    printer.print(output[75:])
    printer.end()
    seen += read_to_end(reader)

    kept = printer.kept()
    assert seen[:75] == output[:75]
    assert seen.endswith(output[-50:])
    assert kept.endswith(output[-50:])


def test_a_segment_that_was_replaced_by_a_link_is_not_followed(location: StoreLocation) -> None:
    """X1: between the bytes of a running job somebody puts a link there."""
    secret = location.folder / "secret"
    secret.write_bytes(b"secret")
    printer = Printer(location)
    printer.print(numbered(150))
    [segment, *_] = location.logs.glob("7-1.*.log")
    segment.unlink()
    segment.symlink_to(secret)

    printer.end()

    assert "symbolic links" in (printer.capture.error or "")
    assert b"secret" not in logs.output_path(location, 7, 1).read_bytes()


def test_a_reader_never_follows_a_link(location: StoreLocation, reader: OutputReader) -> None:
    """X1: what reads an output does not follow one either."""
    secret = location.folder / "secret"
    secret.write_bytes(b"secret")
    logs.output_path(location, 7, 1).symlink_to(secret)

    with pytest.raises(OSError, match="symbolic"):
        reader.read_new()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 180), st.booleans()), max_size=12))
def test_a_reader_shows_each_byte_once_whenever_it_looks(
    location: StoreLocation, steps: list[tuple[int, bool]]
) -> None:
    logs.remove(location, 7, 1)
    printer = Printer(location)
    output = numbered(400)
    printed, seen = 0, b""
    with closing(OutputReader(location, 7, 1)) as reader:
        for size, looks in steps:
            printer.print(output[printed : printed + size])
            printed += size
            seen += read_to_end(reader) if looks else b""
        printer.end()
        seen += read_to_end(reader)

    restored = restore(seen, output)

    assert restored == output[:printed]


def restore(seen: bytes, output: bytes) -> bytes:
    """Put back what the notes in ``seen`` say was left out."""
    restored = b""
    while (at := seen.find(b"\n[queuectl: ")) >= 0:
        restored += seen[:at]
        note, _, seen = seen[at + 12 :].partition(b" bytes dropped]\n")
        restored += output[len(restored) : len(restored) + int(note)]
    return restored + seen
