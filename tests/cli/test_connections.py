"""What libpq takes besides a URL: service files, password files and TLS; no password is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.cli.conftest import Program
from tests.poolers import PASSWORD, Pooler, make_certificate, pooler


@pytest.fixture
def between() -> Iterator[Pooler]:
    """A door to a store that asks for a password."""
    with pooler(servers.empty_store()) as found:
        yield found


@pytest.fixture
def encrypted() -> Iterator[Pooler]:
    """A door to a store that takes TLS alone."""
    with pooler(servers.empty_store(), tls=True) as found:
        yield found


@pytest.mark.parametrize("place", ["PGSERVICEFILE", ".pg_service.conf"])
def test_a_service_file_says_where_the_store_is(
    queuectl: Program, between: Pooler, place: str
) -> None:
    file = queuectl.folder / ".pg_service.conf"
    if place == "PGSERVICEFILE":
        file = queuectl.folder / "services"
        queuectl.environment["PGSERVICEFILE"] = str(file)
    file.write_text(
        f"[queue]\nhost=localhost\nport={between.port}\ndbname={between.database}\n"
        f"user=postgres\npassword={PASSWORD}\n"
    )

    queuectl("--db", "postgresql:///?service=queue", "enqueue", "--id", "a", "--", "true")
    queuectl.environment["PGSERVICE"] = "queue"
    told = queuectl("--db", "postgresql://", "list", "--json")

    assert [job["id"] for job in told.json] == ["a"]
    unknown = queuectl("--db", "postgresql:///?service=none", "status", code=5)
    assert 'definition of service "none" not found' in unknown.err
    assert PASSWORD not in told.out + told.err + unknown.err


@pytest.mark.parametrize("way", ["PGPASSWORD", ".pgpass"])
def test_a_password_need_not_stand_in_the_url(queuectl: Program, between: Pooler, way: str) -> None:
    url = between.url(login="postgres")
    refused = queuectl("--db", url, "status", code=5)
    if way == "PGPASSWORD":
        queuectl.environment["PGPASSWORD"] = PASSWORD
    else:
        (queuectl.folder / way).write_text(f"localhost:{between.port}:*:postgres:{PASSWORD}\n")
        (queuectl.folder / way).chmod(0o600)

    queuectl("--db", url, "enqueue", "--", "true")

    assert "password" in refused.err


_SHOWING = [
    ("status",),
    ("status", "--json"),
    ("worker", "list", "--json"),
    ("worker", "start", "--drain", "--log-format", "json"),
    ("db", "path"),
    ("db", "check"),
    ("audit", "--json"),
    ("doctor",),
    ("doctor", "--json"),
]


def test_what_works_shows_no_password_either(queuectl: Program, between: Pooler) -> None:
    """X2: in the URL, where whoever reads the output could take it from."""
    queuectl.environment["QUEUECTL_DATABASE_URL"] = between.url()
    queuectl("enqueue", "--", "true")

    for words in _SHOWING:
        # The tests' server does not sync, which the doctor tells.
        told = queuectl(*words, code=1 if words[0] == "doctor" else 0)
        assert told.out + told.err
        assert PASSWORD not in told.out + told.err


def test_a_wrong_password_is_refused_and_not_shown(queuectl: Program, between: Pooler) -> None:
    queuectl.environment["QUEUECTL_DATABASE_URL"] = between.url(login="postgres:open%2Fbarley")

    for words in (*_SHOWING, ("--debug", "enqueue", "true")):
        if words != ("db", "path"):
            told = queuectl(*words, code=1 if words[0] == "doctor" else 5)
            assert "authentication failed" in told.out + told.err
            assert "barley" not in told.out + told.err


def test_a_certificate_is_checked_to_the_end(
    queuectl: Program, encrypted: Pooler, tmp_path: Path
) -> None:
    def verify(authority: Path, **place: str) -> tuple[str, ...]:
        query = f"sslmode=verify-full&sslrootcert={authority}"
        return ("--db", encrypted.url(query=query, **place))

    queuectl(*verify(encrypted.authority), "enqueue", "--id", "a", "--", "true")
    assert queuectl(*verify(encrypted.authority), "list", "-q").out == "a\n"

    another = queuectl(*verify(encrypted.authority, host="127.0.0.1"), "status", code=5)
    assert 'does not match host name "127.0.0.1"' in another.err
    make_certificate(tmp_path)
    stranger = queuectl(*verify(tmp_path / "authority.crt"), "status", code=5)
    assert "certificate verify failed" in stranger.err
    plain = queuectl("--db", encrypted.url(query="sslmode=disable"), "status", code=5)
    assert "SSL required" in plain.err
    assert PASSWORD not in another.err + stranger.err + plain.err
