"""Where the store is: the flag, else the environment, else ``~/.queuectl/queue.db``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from queuectl.errors import InvalidInput

URL_VARIABLE = "QUEUECTL_DATABASE_URL"
PATH_VARIABLE = "QUEUECTL_DB_PATH"
DEFAULT_PATH = "~/.queuectl/queue.db"
#: Where this machine keeps its own files of a store that is on a server.
SERVER_FOLDERS = "~/.queuectl"
_SERVER_SCHEMES = ("postgresql", "postgres")
#: What libpq takes besides a URL, and a URL without its slashes: no name of a file.
_LIKE_A_SERVER = re.compile(
    r"(postgres|postgresql):(?!//)|(host|hostaddr|port|dbname|user|password|service)\s*="
)
#: What is shown of a URL's query: nothing of it can be a secret.
_SHOWN_PARAMETERS = frozenset(
    {"host", "hostaddr", "port", "dbname", "user", "service", "sslmode", "target_session_attrs"}
)
#: What libpq takes from the environment where the URL is silent, and what tells stores apart.
_PLACE_VARIABLES = (
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
)


@lru_cache(maxsize=256)  # asked for at every turn and every output file; a lookup takes 40 us
def _sibling(path: Path, suffix: str) -> Path:
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + suffix)


def forget_siblings() -> None:
    """Look again where files stand: a folder has become a link."""
    _sibling.cache_clear()


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """An SQLite file and its siblings, which bear its name: two stores may share a folder."""

    path: Path
    #: Who named it: ``--db``, a variable's name, or ``default``.
    source: str

    @property
    def real_path(self) -> Path:
        """The file itself: whoever comes through a link must find the same locks beside it."""
        return Path(os.path.realpath(self.path))

    def _sibling(self, suffix: str) -> Path:
        return _sibling(self.path, suffix)

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def lock(self) -> Path:
        """The file whose ``flock`` queues the writers."""
        return self._sibling(".lock")

    @property
    def bell(self) -> Path:
        """The file that is touched after each commit that changed something."""
        return self._sibling(".bell")

    @property
    def logs(self) -> Path:
        """The folder of the jobs' output files."""
        return self._sibling(".logs")

    @property
    def workers(self) -> Path:
        """The folder of the workers' lock files."""
        return self._sibling(".workers")

    @property
    def worker_log(self) -> Path:
        """Where a detached ``worker start`` writes its events."""
        return self._sibling(".worker.log")

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class ServerLocation(StoreLocation):
    """A PostgreSQL database, and the folder of this machine's own files of it.

    ``path`` is the beginning of those files' names: the outputs of what ran here, the locks of the
    workers that run here. Its folder is named after the URL, and a link to the one that is named
    after the database's own id, once that is known (``db/files.adopt_folder``). The URL goes to
    libpq as it is, and is never shown: it may hold a password.
    """

    url: str = field(repr=False)

    @property
    def password(self) -> str | None:
        """The password that stands in the URL, as it stands there."""
        _, userinfo, _, query = _take_apart(self.url)
        if found := re.search(r"(?:^|&)password=([^&]+)", query):
            return found[1]
        return userinfo.partition(":")[2] or None

    def scrub(self, text: str) -> str:
        """Return a message of the database's without the password."""
        for secret in filter(None, (self.password, unquote(self.password or ""))):
            text = text.replace(secret, "***")
        return text.replace(self.url, str(self))

    def __str__(self) -> str:
        return _without_secrets(self.url)


def _take_apart(url: str) -> tuple[str, str, str, str]:
    """Return scheme, user with password, hosts with database, and query, each as it stands."""
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    userinfo, _, hosts = rest.rpartition("@")
    return scheme, userinfo, hosts, query


def _without_secrets(url: str) -> str:
    scheme, userinfo, hosts, query = _take_apart(url)
    user = userinfo.partition(":")[0]
    if "[" not in hosts:  # whoever forgot the host has written the password in the port's place
        hosts = re.sub(r":(?!\d+(?:[,/]|$))[^,/]*", ":***", hosts)
    shown = [item for item in query.split("&") if item.partition("=")[0] in _SHOWN_PARAMETERS]
    return f"{scheme}://{user}{'@' * bool(user)}{hosts}{'?' * bool(shown)}{'&'.join(shown)}"


def locate_store(
    flag: str | None, environ: Mapping[str, str] = os.environ, *, option: str = "--db"
) -> StoreLocation:
    """Return the store that this call is about; ``option`` is what the flag is called.

    Raises InvalidInput for a URL of a database that this version cannot use.
    """
    if flag:
        return _parse(flag, option, environ)
    if url := environ.get(URL_VARIABLE):
        return _parse(url, URL_VARIABLE, environ)
    if path := environ.get(PATH_VARIABLE):
        return _from_path(path, PATH_VARIABLE)
    return _from_path(DEFAULT_PATH, "default")


def _parse(text: str, source: str, environ: Mapping[str, str]) -> StoreLocation:
    if _LIKE_A_SERVER.match(text):
        raise InvalidInput(
            f"{source} looks like a database on a server, but is no URL",
            hint="write postgresql://user@host/database",
        )
    if "://" not in text:
        return _from_path(text, source)
    scheme = text.partition("://")[0]
    if scheme in _SERVER_SCHEMES:
        return _from_url(text, source, environ)
    if scheme != "sqlite":
        raise InvalidInput(
            f"{source} names a {scheme!r} database, which this version cannot use",
            hint="give the path of an SQLite file, sqlite:////absolute/path.db or"
            " postgresql://host/database",
        )
    rest = unquote(text.split("://", 1)[1].split("?", 1)[0])
    if rest and not rest.startswith("/"):
        raise InvalidInput(
            f"{source} names a host, and an SQLite store is a file of this machine",
            hint="write sqlite:////absolute/path.db, with four slashes",
        )
    path = rest.removeprefix("/")
    if not path:
        raise InvalidInput(
            f"{source} names no file: {text!r}", hint="write sqlite:////absolute/path.db"
        )
    return _from_path(path, source)


def _from_url(url: str, source: str, environ: Mapping[str, str]) -> ServerLocation:
    if "\0" in url:
        raise InvalidInput(f"{source} holds a NUL character, which no URL can")
    import hashlib  # only here: it costs 2 ms

    shown = _without_secrets(url)
    place = [shown, *(environ.get(name, "") for name in _PLACE_VARIABLES)]
    digest = hashlib.sha256("\0".join(place).encode(errors="surrogateescape")).hexdigest()
    readable = re.sub(r"[^a-z0-9]+", "-", shown.partition("://")[2].partition("?")[0].lower())
    name = "-".join(filter(None, ("postgresql", readable.strip("-")[:40].strip("-"), digest[:12])))
    folder = _from_path(f"{SERVER_FOLDERS}/{name}/store", source).path
    return ServerLocation(folder, source, url)


def _from_path(text: str, source: str) -> StoreLocation:
    if "\0" in text:
        raise InvalidInput(f"{source} holds a NUL character, which no path can")
    try:
        expanded = Path(text).expanduser()
    except RuntimeError as error:
        raise InvalidInput(
            f"{source}: no home folder is known for {text!r}",
            hint="set HOME, or name the store with --db PATH",
        ) from error
    try:
        # abspath, not resolve: a symbolic link that the user put there stays the store's name.
        absolute = os.path.abspath(expanded)  # noqa: PTH100  # see above
    except OSError as error:
        raise InvalidInput(
            f"{source} is a relative path, and the current folder is gone: {text!r}",
            hint="go to one that exists, or give the whole path",
        ) from error
    return StoreLocation(Path(absolute), source)
