"""A process that has imported the program once, and forks a process for each call of it.

Nine tenths of a short command's time are imports, on which no test of what it does depends. Each
call is a process of its own, with its arguments, folder, environment and three pipes, and runs
``main`` from its first line; only the imports are shared, as workers share their supervisor's.
What a start itself does (imports, terminals, signals, marks) is tested with the program executed.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from signal import SIGKILL
from typing import NoReturn

_NUMBER = struct.Struct("i")
#: Needs an extra, or is slow to import and seldom used.
_LEFT_OUT = ("queuectl.cli.top", "queuectl.migrations")


class WarmProgram:
    """Runs the program in a fork of a process that has imported it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.warm", str(theirs.fileno())],
            cwd=Path(__file__).parents[2],
            # Its streams are what those of each call will be: pipes, in the same locale.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"]},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def close(self) -> None:
        """Let the process go."""
        self._socket.close()
        self._process.communicate()

    def run(
        self,
        words: Sequence[str],
        given: bytes,
        *,
        folder: Path,
        environment: Mapping[str, str],
        timeout_seconds: float = 60.0,
    ) -> subprocess.CompletedProcess[bytes]:
        """Do as ``subprocess.run`` with pipes; a call that takes too long is killed."""
        request = {"argv": words, "cwd": str(folder), "env": {**environment}}
        memory = os.memfd_create("request")
        os.write(memory, json.dumps(request).encode())
        in_, write_in = os.pipe()
        read_out, out = os.pipe()
        read_err, err = os.pipe()
        answer, tell = os.pipe()
        socket.send_fds(self._socket, [b"."], [memory, in_, out, err, tell])
        for descriptor in (memory, in_, out, err, tell):
            os.close(descriptor)
        [pid] = _NUMBER.unpack(os.read(answer, _NUMBER.size))
        with ThreadPoolExecutor(3) as threads:
            threads.submit(_feed, write_in, given)
            printed = [threads.submit(_read, each) for each in (read_out, read_err)]
            selector = selectors.DefaultSelector()
            selector.register(answer, selectors.EVENT_READ)
            if not selector.select(timeout_seconds):
                os.kill(pid, SIGKILL)
            selector.close()
            [code] = _NUMBER.unpack(os.read(answer, _NUMBER.size))
            os.close(answer)
            return subprocess.CompletedProcess(words, code, *(each.result() for each in printed))


def _feed(descriptor: int, given: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file, suppress(BrokenPipeError):
        file.write(given)


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _import_everything() -> None:
    import queuectl

    for module in pkgutil.walk_packages(queuectl.__path__, "queuectl."):
        if not module.name.startswith(_LEFT_OUT):
            import_module(module.name)
    gc.collect()
    gc.freeze()


def _serve(control: socket.socket) -> None:
    """Fork for each request, and tell its number and then its exit code, until nobody asks."""
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    running: dict[int, tuple[int, int]] = {}
    while True:
        for key, _ in selector.select():
            if key.fd in running:
                pid, tell = running.pop(key.fd)
                selector.unregister(key.fd)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                os.write(tell, _NUMBER.pack(code))
                os.close(tell)
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 1, 5)
            if not message:
                return
            *theirs, tell = descriptors
            if (pid := os.fork()) == 0:
                _become(*theirs)
            for descriptor in theirs:
                os.close(descriptor)
            os.write(tell, _NUMBER.pack(pid))
            ended = os.pidfd_open(pid)
            running[ended] = pid, tell
            selector.register(ended, selectors.EVENT_READ)


def _become(memory: int, *streams: int) -> NoReturn:
    try:
        request = json.loads(os.pread(memory, os.fstat(memory).st_size, 0))
        for target, source in enumerate(streams):
            os.dup2(source, target)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        os.chdir(request["cwd"])
        sys.argv[:] = request["argv"]
        from queuectl.cli import main

        main()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(70)


if __name__ == "__main__":
    control = socket.socket(fileno=int(sys.argv[1]))
    _import_everything()
    _serve(control)
