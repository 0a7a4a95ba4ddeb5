"""Keep the README true: retype its five minutes, and print the reference from the program itself.

    python docs/make_readme.py          rewrite README.md
    python docs/make_readme.py --check  exit 1 if it is no longer true

The commands of a block behind ``<!-- typed -->`` are run one after the other in a new home folder,
and what they print is pasted below them. The text between the ``reference`` marks is the help of
every command; the table between the ``bench`` marks is made from ``bench/results``.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
COMMANDS = (
    "enqueue", "run", "wait", "status", "top", "list", "show", "logs", "grep", "stats", "explain",
    "cancel", "retry", "hold", "release", "set", "edit", "kill", "freeze", "thaw", "tree",
    "queue list", "queue pause", "queue resume", "queue limit", "queue rate", "queue purge",
    "schedule add", "schedule list", "schedule show", "schedule pause", "schedule resume",
    "schedule run-now", "schedule remove", "worker start", "worker stop", "worker drain",
    "worker scale", "worker list", "worker unit", "dlq list", "dlq show", "dlq retry", "dlq purge",
    "config list", "config get", "config set", "config unset", "prune", "export", "import",
    "db upgrade", "db check", "db path", "db copy", "db backup", "audit", "doctor",
)  # fmt: skip
TYPED = re.compile(r"(?<=<!-- typed -->\n```console\n).*?(?=```\n)", re.DOTALL)
REFERENCE = re.compile(r"(?<=<!-- reference -->\n).*?(?=<!-- /reference -->)", re.DOTALL)
BENCH = re.compile(r"(?<=<!-- bench -->\n).*?(?=<!-- /bench -->)", re.DOTALL)
#: A generated id where `enqueue` prints it; one in eight has no digit and looks like a word.
_ENQUEUED = re.compile(r"^\$ queuectl enqueue .*\n([a-z2-7]{10})$", re.MULTILINE)
#: What differs from one run to the next: instants, process numbers, durations.
_VARYING = (
    (re.compile(r"^note: waiting for .*\n", re.MULTILINE), ""),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "INSTANT"),
    (re.compile(r"\bworker [0-9a-f]{6,8}\b"), "worker ID"),
    (re.compile(r"^[0-9a-f]{8} ", re.MULTILINE), "ID "),
    (re.compile(r"\bprocess \d+"), "process N"),
    (re.compile(r"\b\d+(\.\d+)?(ms|[smhdMK])(\d+(ms|[smhd]))*\b"), "AMOUNT"),
    (re.compile(r"^\d{2,}$", re.MULTILINE), "N"),
    (re.compile(r"[ -]{2,}|(?<=\S) +(?=\S)"), " "),
    (re.compile(r"(?<= \d{2} )\S+ \d+ "), "HOST PID "),
)


def environment(home: str) -> dict[str, str]:
    """Return what a new user has: this program on PATH, a home folder, and nothing of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QUEUECTL_")}
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    return {**kept, "HOME": home, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}


def retype(block: str) -> str:
    """Run the commands of a block in order, in a new home; return it with what they print."""
    with tempfile.TemporaryDirectory() as home:
        out = []
        for line in block.splitlines():
            if line.startswith("$ "):
                printed = _run(line.removeprefix("$ "), home)
                out += [line, *printed.replace(home, "/home/ann").rstrip().splitlines()]
        return "".join(f"{line}\n" for line in out)


def _run(command: str, home: str) -> str:
    done = subprocess.run(  # noqa: S603  # the README's own commands
        ["bash", "-c", command],  # noqa: S607  # as a user's shell finds it
        cwd=home,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def reference() -> str:
    """Return the help of every command, as Markdown."""
    with tempfile.TemporaryDirectory() as home:
        parts = [f"```text\n{_run('queuectl --help', home)}```\n"]
        for command in COMMANDS:
            text = _run(f"queuectl {command} --help", home)
            parts.append(f"### queuectl {command}\n\n```text\n{text}```\n")
    return "\n" + "\n".join(parts) + "\n"


def bench_table() -> str:
    """Return the table of what the benchmark has measured, as Markdown."""
    sys.path.insert(0, str(README.parent))
    from bench import report

    return f"\n{report.markdown(report.load_all(report.RESULTS))}\n\n"


def normalize(text: str) -> str:
    """Return the text without what differs from one run to the next."""
    for generated in set(_ENQUEUED.findall(text)):
        text = re.sub(rf"\b{generated}\b", "ID", text)
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return text


def report_changes(old: str, new: str, name: str) -> int:
    """Print how a page differs from what it would be now; return the exit code for that."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), name, "now", lineterm="")
    text = "\n".join(lines)
    sys.stdout.write(text)
    return int(bool(text))


def main() -> int:
    """Rewrite the README, or with ``--check`` tell whether it would change in substance."""
    old = README.read_text()
    new = TYPED.sub(lambda match: retype(match[0]), old)
    new = REFERENCE.sub(lambda match: reference(), new)
    new = BENCH.sub(lambda match: bench_table(), new)
    if "--check" in sys.argv[1:]:
        return report_changes(normalize(old), normalize(new), "README.md")
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
