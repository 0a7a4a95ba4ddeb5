"""When a worker takes its lease for spent: never later than the store lets others take its jobs."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from math import inf

import pytest

from queuectl.db.engine import Store
from queuectl.worker.lease import IDLE_FACTOR, Lease
from queuectl.worker.reports import Report

_SECONDS = 30.0
_SPENT = 25.0


@pytest.fixture(autouse=True)
def no_alarm() -> Iterator[None]:
    """A worker's own timer would end this process."""
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


class Told:
    """A lease, and what its supervisor hears of it."""

    def __init__(self, ends: tuple[socket.socket, socket.socket]) -> None:
        self._supervisor = ends[0]
        self.lease = Lease(ends[1], lambda report: report)

    def spent_at(self) -> float:
        self.lease.report()
        report = Report.decode(self._supervisor.recv(1 << 16))
        assert report is not None
        return report.spent_at


@pytest.mark.postgresql
def test_a_turn_that_may_claim_counts_from_before_it_was_sent(
    store: Store, ends: tuple[socket.socket, socket.socket]
) -> None:
    """It may stand though its reply is lost."""
    told = Told(ends)
    told.lease.renew(store, _SECONDS, 100.0, factor=IDLE_FACTOR)
    assert told.spent_at() == 100.0 + IDLE_FACTOR * _SPENT

    assert told.lease.expect_cut(130.0) == _SECONDS
    assert told.spent_at() == 130.0 + _SPENT
    assert told.lease.expect_cut(140.0) == _SECONDS
    assert told.spent_at() == 130.0 + _SPENT  # the first one may have claimed

    told.lease.renew(store, _SECONDS, 141.0)
    assert told.spent_at() == 141.0 + _SPENT
    assert told.lease.expect_cut(150.0) is None


@pytest.mark.postgresql
def test_a_longer_lease_that_may_stand_is_cut_by_the_next_claim(
    store: Store, ends: tuple[socket.socket, socket.socket]
) -> None:
    """The reply to an idle worker's heartbeat was lost: it must not keep what it does not know."""
    told = Told(ends)
    told.lease.renew(store, _SECONDS, 100.0)

    told.lease.expect_long()

    assert told.spent_at() == 100.0 + _SPENT
    assert told.lease.expect_cut(110.0) == _SECONDS


@pytest.mark.sqlite
def test_where_nobody_else_would_start_its_jobs_no_lease_is_spent(
    store: Store, ends: tuple[socket.socket, socket.socket]
) -> None:
    told = Told(ends)

    told.lease.renew(store, _SECONDS, 100.0)

    assert told.spent_at() == inf
    assert not told.lease.is_spent
