"""Keep the tour true: type its commands in a real terminal, and paste what a new user would see.

    python docs/make_tour.py          rewrite docs/tour.md
    python docs/make_tour.py --check  exit 1 if it is no longer true

The blocks behind ``<!-- typed -->`` are one session: a bash in a pseudo-terminal of 140 columns and
a new home folder, in which each command is typed when the one before has ended. What is asked there
is answered with ``y``. What differs from one run to the next (ids, instants, durations, process
numbers) stands as it came, and is not compared.
"""

from __future__ import annotations

import re
import socket
import sys
import tempfile
from pathlib import Path

import pexpect
from make_readme import TYPED, environment, normalize, report_changes

TOUR = Path(__file__).resolve().parent / "tour.md"
_PROMPT = "ann@laptop> "
_QUESTION = " [y/N] "
#: The longest that one command may take, in seconds.
_PATIENCE_SECONDS = 30
_ROWS, _COLUMNS = 40, 140
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x07")
#: What differs here besides what differs in the README.
_VARYING = (
    (re.compile(r"\b(worker|supervisor) [0-9a-f]{8}\b"), r"\1 ID"),
    (re.compile(r"^[a-z2-7]{10}\b", re.MULTILINE), "ID"),
    (re.compile(r"^[a-z2-7]{4,9}… ", re.MULTILINE), "ID "),
    (re.compile(r"\blaptop +\d+"), "laptop PID"),
    (re.compile(r"\b(job|retry) [a-z2-7]{10}\b"), r"\1 ID"),
    (re.compile(r"\bnext \w{3} [\d-]+ [\d:]+ UTC"), "next INSTANT"),
    # Whether it was seen to run still.
    (re.compile(r"^note: 1 of them still runs.*\n", re.MULTILINE), ""),
    # How long the tour took decides where its numbers fall.
    (re.compile(r"^throughput .*\n.*\n", re.MULTILINE), ""),
    (re.compile(r"^(under \S+|longer) +\d+.*\n", re.MULTILINE), ""),
)


class Terminal:
    """A bash in a pseudo-terminal, in a home folder of its own."""

    def __init__(self, home: str) -> None:
        self._home = home
        own = {"PS1": _PROMPT, "TERM": "dumb", "LANG": "C.UTF-8", "COLUMNS": str(_COLUMNS)}
        own["LINES"] = str(_ROWS)  # Rich takes the one only with the other, where TERM is dumb
        self._shell = pexpect.spawn(
            "bash",
            # Without line editing: what is typed is echoed by the terminal, and as it is.
            ["--norc", "--noprofile", "--noediting", "-i"],
            cwd=home,
            env={**environment(home), **own},
            dimensions=(_ROWS, _COLUMNS),
            timeout=_PATIENCE_SECONDS,
            encoding="utf-8",
        )
        self._shell.expect_exact(_PROMPT)

    def type(self, command: str) -> list[str]:
        """Type a command; return the lines that it printed until the next prompt."""
        self._shell.sendline(command)
        shown = ""
        while self._shell.expect_exact([_PROMPT, _QUESTION]):
            shown += f"{self._shell.before}{_QUESTION}"
            self._shell.sendline("y")
        shown += self._shell.before
        shown = _CONTROL.sub("", shown).replace("\r", "")
        typed, _, printed = shown.partition("\n")
        if typed != command:
            raise ValueError(f"{command!r} was typed, and the terminal shows {typed!r}")
        printed = printed.replace(self._home, "/home/ann").replace(socket.gethostname(), "laptop")
        return [line.rstrip() for line in printed.rstrip().splitlines()]

    def close(self) -> None:
        """End the workers that still run, at once, and leave."""
        self._shell.sendline("queuectl worker stop --now")
        self._shell.expect_exact(_PROMPT)
        self._shell.close()


def retype(tour: str) -> str:
    """Return the tour with what its commands print today."""
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(home)
        try:
            return TYPED.sub(lambda block: _retype_block(terminal, block[0]), tour)
        finally:
            terminal.close()


def _retype_block(terminal: Terminal, block: str) -> str:
    lines: list[str] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            lines += [line, *terminal.type(line.removeprefix("$ "))]
    return "".join(f"{line}\n" for line in lines)


def stable(text: str) -> str:
    """Return the tour without what differs from one run to the next."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return normalize(text)


def main() -> int:
    """Rewrite the tour, or with ``--check`` tell whether it would change in substance."""
    old = TOUR.read_text()
    new = retype(old)
    if "--check" in sys.argv[1:]:
        return report_changes(stable(old), stable(new), "docs/tour.md")
    TOUR.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
