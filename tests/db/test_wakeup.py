"""The bell wakes whoever sleeps until something was committed."""

from __future__ import annotations

import select
import threading

from sqlalchemy import Connection

from queuectl.db import sqlite
from queuectl.db.engine import Store
from queuectl.db.wakeup import Doorbell
from queuectl.service import queues
from queuectl.settings import StoreLocation
from tests.jobs import add
from tests.waiting import LIMIT_SECONDS


def test_a_ring_is_heard_once(store: Store) -> None:
    with Doorbell(store.location) as bell:
        sqlite.ring(store.location)
        sqlite.ring(store.location)

        assert bell.heard()
        assert not bell.heard()


def test_a_ring_before_it_listened_is_not_heard(store: Store) -> None:
    sqlite.ring(store.location)

    with Doorbell(store.location) as bell:
        assert not bell.heard()


def test_everybody_who_listens_hears_it(store: Store) -> None:
    with Doorbell(store.location) as bell, Doorbell(store.location) as other:
        sqlite.ring(store.location)

        assert bell.heard()
        assert other.heard()


def test_a_sleeper_is_woken_by_a_commit(store: Store) -> None:
    with Doorbell(store.location) as bell:
        heard: list[bool] = []
        sleeper = threading.Thread(target=lambda: heard.append(bell.wait(LIMIT_SECONDS)))
        sleeper.start()
        add(store)
        sleeper.join(LIMIT_SECONDS)

    assert heard == [True]


def test_its_descriptor_can_be_selected(store: Store) -> None:
    with Doorbell(store.location) as bell:
        assert bell.fileno is not None
        assert select.select([bell.fileno], [], [], 0)[0] == []

        sqlite.ring(store.location)

        assert select.select([bell.fileno], [], [], LIMIT_SECONDS)[0] == [bell.fileno]


def test_a_sleep_without_a_ring_ends(store: Store) -> None:
    with Doorbell(store.location) as bell:
        assert not bell.wait(0.01)


def test_a_bell_that_cannot_be_watched_is_polled(location: StoreLocation) -> None:
    location.folder.mkdir()
    with Doorbell(location) as bell:
        assert bell.fileno is None
        assert not bell.wait(0.01)

        location.bell.touch()

        assert bell.wait(LIMIT_SECONDS)
        assert not bell.heard()


def test_a_missing_bell_keeps_nobody_from_writing(store: Store) -> None:
    store.location.bell.unlink()

    assert add(store).state == "pending"


def test_a_hushed_ring_is_heard_by_whoever_waits_and_by_no_worker(store: Store) -> None:
    def hushed(connection: Connection) -> None:
        store.hush(connection)
        queues.add(connection, ["a"])

    with (
        store.doorbell(hushed=False) as worker,
        store.doorbell() as waiting,
    ):
        store.write(hushed)
        assert waiting.heard()
        assert not worker.heard()

        store.write(lambda connection: queues.add(connection, ["b"]))
        assert waiting.heard()
        assert worker.heard()
