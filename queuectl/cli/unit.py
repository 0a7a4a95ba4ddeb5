"""The systemd unit that ``queuectl worker unit`` prints."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence

from queuectl.settings import PATH_VARIABLE, URL_VARIABLE, ServerLocation, StoreLocation

#: The supervisor is the main process, and its workers have process groups of their own; so one TERM
#: to it alone is what a drain is, and KILL to the whole group what leaves nothing behind.
_UNIT = """\
# /etc/systemd/system/queuectl.service
[Unit]
Description=queuectl workers
{network}\
StartLimitIntervalSec=0

[Service]
# With a home folder{secret}.
User={user}
Environment={environment}
ExecStart={command}
# TERM to the supervisor alone: claim nothing more, let what runs end. Past the time limit all is
# killed, and runs again.
KillMode=mixed
TimeoutStopSec=10min
# Not always: after `queuectl worker stop` they stay stopped.
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""
_NETWORK = "Wants=network-online.target\nAfter=network-online.target\n"
_SECRET = "; the password is in its ~/.pgpass (mode 0600)"  # noqa: S105  # where one belongs


def unit(location: StoreLocation, user: str, words: Sequence[str]) -> str:
    """Return a unit that runs ``worker start`` with these options; no password is in it."""
    served = isinstance(location, ServerLocation)
    variable, place = (URL_VARIABLE if served else PATH_VARIABLE), address(location)
    command = [_program(), "worker", "start", *words, "--log-format", "json"]
    return _UNIT.format(
        network=_NETWORK if served else "",
        secret=_SECRET if served else "",
        user=user,
        environment=_quote(f"{variable}={place}"),
        command=" ".join(_quote(word).replace("$", "$$") for word in command),
    )


def address(location: StoreLocation) -> str:
    """Return what names the store, without a password."""
    if isinstance(location, ServerLocation) and not re.search("password", location.url, re.I):
        return location.url if location.password is None else str(location)
    return str(location)


def _program() -> str:
    """Return where this program is, as systemd wants it: it looks along no path."""
    return os.path.abspath(shutil.which(sys.argv[0]) or sys.argv[0])  # noqa: PTH100  # links stay


def _quote(word: str) -> str:
    """Quote for a unit's file, in which a percent sign begins a specifier."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", word) or not word else escaped
