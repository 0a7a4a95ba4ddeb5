"""A real terminal to look at: a program runs in tmux, which shows what stands on the screen."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.waiting import wait_until

#: Each look at the screen starts a process, which takes time from what is looked at; in seconds.
_PAUSE_SECONDS = 0.05
#: Tells how the program left, and whether the terminal is as it was; then stays.
_AROUND = """
before=$(stty -g)
{program}
code=$?
[ "$before" = "$(stty -g)" ] && state=restored || state=spoilt
echo "left with $code, terminal $state"
exec sleep 600
"""


class Terminal:
    """One window of a tmux server of its own."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-u", "-S", str(self._socket), "-f", "/dev/null", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout

    @property
    def text(self) -> str:
        """What stands on the screen."""
        return self._tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names: ``p``, ``Enter``, ``C-c``, ``Escape``."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def signal(self, number: int) -> None:
        """Send a signal to what runs there."""
        [program] = psutil.Process(int(self.fact("pane_pid"))).children()
        program.send_signal(number)

    def fact(self, name: str) -> str:
        """Return what tmux knows of the terminal: ``alternate_on``, ``cursor_flag``."""
        return self._tmux("display-message", "-p", f"#{{{name}}}").strip()

    def wait_for(self, *parts: str) -> str:
        """Wait until all of this stands on the screen; return the screen."""

        def look() -> str:
            text = self.text
            return text if all(part in text for part in parts) else ""

        try:
            return wait_until(look, pause=_PAUSE_SECONDS)
        except AssertionError as error:
            error.add_note(f"waited for {parts} on:\n{self.text}")
            raise

    def wait_until_gone(self, part: str) -> str:
        """Wait until this no longer stands on the screen; return the screen."""
        return wait_until(
            lambda: text if part not in (text := self.text) else "", pause=_PAUSE_SECONDS
        )


_SIZES = ("COLUMNS", "LINES")


@contextmanager
def terminal(
    program: list[str], environment: Mapping[str, str], folder: Path, *, columns: int, rows: int
) -> Iterator[Terminal]:
    """Run a program in a terminal of this size, and end it."""
    with tempfile.TemporaryDirectory(prefix="tmux-") as place:  # a socket's name must be short
        socket = Path(place) / "socket"
        script = _AROUND.format(program=shlex.join(program))
        tmux = ["tmux", "-u", "-S", str(socket), "-f", "/dev/null"]
        size = ["-x", str(columns), "-y", str(rows)]
        # A size in the environment counts for more than the terminal's own, for ever.
        sizeless = {name: environment[name] for name in environment if name not in _SIZES}
        subprocess.run(
            [*tmux, "new-session", "-d", *size, "sh", "-c", script],
            env={**sizeless, "TERM": "xterm-256color"},
            cwd=folder,
            check=True,
            timeout=30,
        )
        try:
            yield Terminal(socket)
        finally:
            subprocess.run([*tmux, "kill-server"], check=False, timeout=30)
