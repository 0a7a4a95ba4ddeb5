"""Machines that one machine stands for: each has files of its own, and a network that can be cut.

Who lives on another machine is told by the lease alone: the lock of a worker there cannot be tried.
A host here has a home of its own, so its workers' locks are where the others do not look, and it
reaches the server through a proxy of its own. All hosts read the same clock.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from queuectl.settings import ServerLocation
from tests.campaign.strays import die_with_parent
from tests.proxies import Proxy

_CUT, _HEAL, _END, _DONE = b"c", b"h", b"e", b"."


@dataclass(slots=True)
class Host:
    """One of them; ``url`` is the store's as it is seen from there."""

    name: str
    home: Path
    url: str
    _control: socket.socket
    _network: tempfile.TemporaryDirectory[str]
    is_cut_off: bool = False

    def cut_off(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self._order(_CUT)
        self.is_cut_off = True

    def heal(self) -> None:
        """Let everything through again, late as it may be."""
        self._order(_HEAL)
        self.is_cut_off = False

    def close(self) -> None:
        """End its network."""
        with suppress(OSError):
            self._control.sendall(_END)
        self._control.close()
        self._network.cleanup()

    def _order(self, what: bytes) -> None:
        self._control.sendall(what)
        if self._control.recv(1) != _DONE:
            raise RuntimeError(f"the network of host {self.name} has ended")


def make_host(name: str, folder: Path, location: ServerLocation) -> Host:
    """Return a new host; call it while the process has no threads."""
    home = folder / name
    home.mkdir()
    network = tempfile.TemporaryDirectory(prefix="net-")  # a socket's path must be short
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _serve(lambda: Proxy(location, Path(network.name)), theirs)
    theirs.close()
    url = ours.recv(4096).decode()
    return Host(name, home, url, ours, network)


def _serve(build: Callable[[], Proxy], control: socket.socket) -> None:
    """Be the network until the campaign's end; never returns."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # it ends with the driver, not before
        die_with_parent(signal.SIGKILL)
        proxy = build()
        control.sendall(proxy.location.url.encode())
        with suppress(OSError):
            while (order := control.recv(1)) in (_CUT, _HEAL):
                {_CUT: proxy.cut, _HEAL: proxy.heal}[order]()
                control.sendall(_DONE)
    finally:
        os._exit(0)
