"""Retention: to whom it falls, and how it finds what is past its time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import State
from queuectl.service import config, jobs, pruning, rescues, retention
from tests.actors import Actor, Hire
from tests.aging import age
from tests.jobs import add


def duty_of(store: Store, worker_id: str) -> retention.Duty:
    return retention.duty(store, worker_id, datetime.now(UTC), 0)


def complete(store: Store, actor: Actor, *names: str) -> None:
    for name in names:
        add(store, id=name)
        actor.settle(actor.claim_one())


def test_it_falls_to_one_worker_and_to_the_next_when_that_dies(store: Store, hire: Hire) -> None:
    first = hire("w2")
    hire("w1")

    assert (duty_of(store, "w2").prunes, duty_of(store, "w1").prunes) == (True, False)
    assert (duty_of(store, "w2").sweeps, duty_of(store, "w1").sweeps) == (True, False)
    first.die()
    rescues.rescue(store, ["w2"])
    assert duty_of(store, "w1").prunes
    assert duty_of(store, "w1").sweeps
    assert not duty_of(store, "w2").prunes


def test_the_stored_options_say_what_is_past_its_time(store: Store, hire: Hire) -> None:
    hire("w1")
    assert set(duty_of(store, "w1").horizons) == {State.COMPLETED, State.CANCELLED}

    config.set_option(store, "retention-completed", "never")
    config.set_option(store, "retention-dead", "2d")

    horizons = duty_of(store, "w1").horizons
    assert set(horizons) == {State.CANCELLED, State.DEAD}
    assert abs(datetime.now(UTC) - timedelta(days=2) - horizons[State.DEAD]) < timedelta(hours=1)


def test_the_newest_change_is_the_last_of_the_last_jobs(store: Store, hire: Hire) -> None:
    assert retention.newest_change(store) is None
    complete(store, hire("w1"), "a", "b")
    age(store, 40, "b")

    assert retention.newest_change(store) == jobs.find(store, "a").updated_at


def test_what_does_not_fit_into_a_transaction_comes_next(
    store: Store, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_WINDOW_JOBS", 2)
    monkeypatch.setattr(pruning, "BATCH_JOBS", 2)
    names = ("a", "b", "c", "d", "e")
    complete(store, hire("w1"), *names)
    age(store, 40, *names)
    horizons = duty_of(store, "w1").horizons
    walk = retention.Walk({State.COMPLETED: jobs.find(store, "b").seq})

    taken = []
    while found := retention.expired(store, horizons, walk):
        taken.append([job.id for job in found[State.COMPLETED]])
        retention.prune_expired(store, horizons, found)

    assert taken == [["a", "b"], ["c", "d"], ["e"]]


def test_a_look_finds_the_first_and_goes_on_behind_them(
    store: Store, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_WINDOW_JOBS", 2)
    complete(store, hire("w1"), "a", "b", "c", "d", "e")
    age(store, 40, "d")
    horizons = duty_of(store, "w1").horizons
    walk = retention.Walk()

    assert retention.expired(store, horizons, walk) == {}  # a, b
    found = retention.expired(store, horizons, walk)  # c, d behind them
    assert [job.id for job in found[State.COMPLETED]] == ["d"]
    assert retention.prune_expired(store, horizons, found) == 1
    assert retention.expired(store, horizons, walk) == {}  # e, and round
    age(store, 40, "a")
    found = retention.expired(store, horizons, walk)
    assert [job.id for job in found[State.COMPLETED]] == ["a"]
