"""A proxy before a PostgreSQL server: a network that can be cut, or a pooler's number."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg

from queuectl.settings import ServerLocation, locate_store

#: The message with which a server tells a new session its number; its length is 12.
_BACKEND_KEY = b"K\x00\x00\x00\x0c"


class _Line:
    """One connection on its way through: both ends are closed when nothing passes any more."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.ends = (client, server)
        self._pumps = 2
        self._lock = threading.Lock()

    def leave(self) -> bool:
        """A pump has ended; whether it was the last one."""
        with self._lock:
            self._pumps -= 1
            return self._pumps == 0

    def break_off(self) -> None:
        """Let both pumps come to their end."""
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for end in self.ends:
            end.close()


class Proxy:
    """Passes bytes on between a socket of its own and the server's, until it is cut."""

    def __init__(
        self, location: ServerLocation, folder: Path, *, renumbers: bool = False, tcp: bool = False
    ) -> None:
        """``renumbers``: it gives clients a number of its own; ``tcp``: it listens on a port."""
        given = {
            name: str(value)
            for name, value in psycopg.conninfo.conninfo_to_dict(location.url).items()
        }
        self._host, self._port = given["host"], given.get("port", "5432")
        self._renumbers = renumbers
        self._open = threading.Event()
        self._open.set()
        self._socket = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(("127.0.0.1", 0) if tcp else str(folder / ".s.PGSQL.5432"))
        self._socket.listen(128)
        place = f"host={folder}"
        if tcp:
            place = "host={}&port={}".format(*self._socket.getsockname())
        self._lines: dict[_Line, list[threading.Thread]] = {}
        password = f":{quote(given['password'], safe='')}" if "password" in given else ""
        user = quote(given["user"], safe="")
        found = locate_store(f"postgresql://{user}{password}@/{given['dbname']}?{place}", {})
        assert isinstance(found, ServerLocation)
        self.location = found
        self._doorman = threading.Thread(target=self._accept, daemon=True)
        self._doorman.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._doorman.join()
        self._socket.close()
        for line, pumps in list(self._lines.items()):
            line.break_off()
            for pump in pumps:
                pump.join()

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
                self._open.wait()
                try:
                    server = self._reach_server()
                except OSError:  # it is being started again
                    client.close()
                    continue
                line = _Line(client, server)
                pumps = [
                    threading.Thread(target=self._pump, args=(line, way), daemon=True)
                    for way in ((client, server), (server, client))
                ]
                self._lines[line] = pumps
                for pump in pumps:
                    pump.start()

    def _reach_server(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, int(self._port)))
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        except OSError:
            server.close()
            raise
        return server

    def _pump(self, line: _Line, way: tuple[socket.socket, socket.socket]) -> None:
        source, drain = way
        answers = source is line.ends[1]
        with suppress(OSError):
            while block := source.recv(1 << 16):
                self._open.wait()
                drain.sendall(self._renumber(block) if answers and self._renumbers else block)
        self._open.wait()  # nor does anybody hear that the other side has hung up
        with suppress(OSError):
            drain.shutdown(socket.SHUT_RDWR)
        if line.leave():
            line.close()
            self._lines.pop(line, None)

    def _renumber(self, block: bytes) -> bytes:
        at = block.find(_BACKEND_KEY)
        if at < 0:
            return block
        place = at + len(_BACKEND_KEY)
        [number] = struct.unpack_from("!I", block, place)
        return block[:place] + struct.pack("!I", number ^ 0x40000000) + block[place + 4 :]
