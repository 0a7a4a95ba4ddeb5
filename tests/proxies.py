"""A proxy before a PostgreSQL server: a network that can be cut, or a pooler's number."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

import psycopg

from queuectl.settings import ServerLocation, locate_store

#: The message with which a server tells a new session its number; its length is 12.
_BACKEND_KEY = b"K\x00\x00\x00\x0c"


class Proxy:
    """Passes bytes on between a socket of its own and the server's, until it is cut."""

    def __init__(self, location: ServerLocation, folder: Path, *, renumbers: bool = False) -> None:
        given = psycopg.conninfo.conninfo_to_dict(location.url)
        self._target = f"{given['host']}/.s.PGSQL.{given.get('port') or 5432}"
        self._renumbers = renumbers
        self._open = threading.Event()
        self._open.set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(folder / ".s.PGSQL.5432"))
        self._socket.listen()
        self._ends: list[socket.socket] = []
        self._pumps: list[threading.Thread] = []
        found = locate_store(f"postgresql://{given['user']}@/{given['dbname']}?host={folder}", {})
        assert isinstance(found, ServerLocation)
        self.location = found
        self._doorman = threading.Thread(target=self._accept, daemon=True)
        self._doorman.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.set()
        for end in [self._socket, *self._ends]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for pump in [self._doorman, *self._pumps]:
            pump.join()
        for end in [self._socket, *self._ends]:
            end.close()

    def cut(self) -> None:
        """Swallow what comes, as a network does that has lost its way: nobody is told."""
        self._open.clear()

    def heal(self) -> None:
        """Pass on what comes again; what was held back arrives late."""
        self._open.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._ends += [client, server]
                server.connect(self._target)
                for source, drain in ((client, server), (server, client)):
                    pump = threading.Thread(
                        target=self._pump, args=(source, drain, source is server), daemon=True
                    )
                    self._pumps.append(pump)
                    pump.start()

    def _pump(self, source: socket.socket, drain: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while block := source.recv(1 << 16):
                self._open.wait()
                drain.sendall(self._renumber(block) if answers and self._renumbers else block)
        with suppress(OSError):
            drain.shutdown(socket.SHUT_RDWR)

    def _renumber(self, block: bytes) -> bytes:
        at = block.find(_BACKEND_KEY)
        if at < 0:
            return block
        place = at + len(_BACKEND_KEY)
        [number] = struct.unpack_from("!I", block, place)
        return block[:place] + struct.pack("!I", number ^ 0x40000000) + block[place + 4 :]
