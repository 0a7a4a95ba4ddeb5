"""Servers of the bench's own: one that does not start leaves its peers out, with the reason."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from bench import postgresql
from bench.contest import Contender, Role, compete
from bench.peers import Peers
from bench.postgresql import PostgreSQL
from bench.redis import Redis
from bench.stage import Stage
from bench.workloads import claims, fleet_peers, memory, submit, wakeup


class _AllThere(Peers):
    """Peers of which each is said to be there."""

    def has(self, name: str) -> bool:
        return True


def _first_delay(stage: Stage, peer: wakeup._Peer) -> float:
    return wakeup._peer_delays(stage, peer)[0]


def test_a_postgresql_that_does_not_start_is_tried_once_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Path] = []

    def fail(folder: Path) -> NoReturn:
        starts.append(folder)
        raise OSError("no space")

    monkeypatch.setattr(postgresql, "_served", fail)
    server = PostgreSQL(tmp_path / "postgresql")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="PostgreSQL did not start: OSError: no space"):
            server.new_database()

    assert starts == [tmp_path / "postgresql"]
    server.stop()


def test_a_redis_that_is_not_installed_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    redis = Redis(tmp_path / "redis")

    with pytest.raises(RuntimeError, match="redis-tools"):
        redis.new_database()

    redis.stop()


def test_peers_whose_server_does_not_start_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> NoReturn:
        raise OSError("no space")

    monkeypatch.setattr(postgresql, "_served", fail)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    server, redis = PostgreSQL(tmp_path / "postgresql"), Redis(tmp_path / "redis")
    stage = Stage(tmp_path, _AllThere(tmp_path), server, redis, quick=True)
    found: list[Contender] = []
    for offer in (submit._peers, claims._peers, memory._peers, fleet_peers.contenders):
        found += offer(stage)
    found += [
        Contender(peer.name, Role.PEER, partial(_first_delay, stage, peer))
        for peer in wakeup._peers(stage)
    ]

    missing = compete(found, rounds=1).missing

    on_servers = {name: why for name, why in missing.items() if "PostgreSQL" in why}
    assert len([name for name in on_servers if "PgQueuer" in name]) >= 5
    assert len([name for name in on_servers if "procrastinate" in name]) >= 5
    assert all("redis-tools" in why for name, why in missing.items() if name.startswith("RQ"))
