"""``queuectl top``, in a real terminal."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from queuectl.db.engine import Store, open_store
from queuectl.service import counts
from tests import servers
from tests.cli.conftest import PROGRAM, Program
from tests.jobs import add, state_of, until
from tests.proxies import Proxy
from tests.supervision import find_marked
from tests.terminals import Terminal, terminal
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("tmux")

Top = Callable[..., AbstractContextManager[Terminal]]


@pytest.fixture
def top(queuectl: Program) -> Top:
    """Starts it in a terminal, and waits until it has drawn the store."""

    @contextmanager
    def start(*words: str, store: str | None = None, columns: int = 110) -> Iterator[Terminal]:
        where = [] if store is None else ["--db", store]
        command = [PROGRAM, *where, "top", "--interval", "200ms", *words]
        with terminal(
            command, queuectl.environment, queuectl.folder, columns=columns, rows=30
        ) as shown:
            shown.wait_for("STATE", "jobs/s", "Quit")
            yield shown

    return start


@pytest.fixture
def store(queuectl: Program) -> Iterator[Store]:
    """The program's store: a command of its own for each job would take a third of a second."""
    with closing(open_store(queuectl.location)) as opened:
        yield opened


def test_it_shows_what_runs_waits_and_has_ended(queuectl: Program, store: Store, top: Top) -> None:
    add(store, "printf '\\033[2J'", id="well", name="[red]first[/red]")
    add(store, "printf '\033]2;owned\007'; sleep 60", id="now", queue="video")
    add(store, "make nightly", id="later", delay="2h")
    queuectl("worker", "start", "--detach")
    with top() as shown:
        seen = shown.wait_for("1 processing", "1 completed", "now", "later", "well")

        lines = {line.split()[1]: line for line in seen.splitlines() if len(line.split()) > 4}
        assert "processing" in lines["now"]
        assert "\\x1b]2;owned\\x07" in lines["now"]
        assert "scheduled" in lines["later"]
        assert "in 1h" in lines["later"] or "in 2h" in lines["later"]
        assert "completed" in lines["well"]
        assert "[red]first[/red]: printf" in lines["well"]
        assert "workers 1 alive, 1 busy, 1 of 1 slots" in seen
        assert shown.fact("pane_title") != "owned"


def paused(store: Store) -> list[str]:
    return [queue.name for queue in counts.list_queues(store) if queue.paused_at]


def test_a_queue_is_paused_and_resumed_by_a_key(store: Store, top: Top) -> None:
    add(store, queue="mail")
    add(store, queue="video")
    with top() as shown:
        shown.press("p")
        shown.wait_for("queue mail is paused")
        assert paused(store) == ["mail"]

        shown.wait_for("      paused")
        shown.press("p")
        shown.wait_for("queue mail is resumed")
        shown.press("Tab", "j", "p")  # in the pane of the queues

        shown.wait_for("queue video is paused")
        assert paused(store) == ["video"]


def test_a_job_is_cancelled_by_a_key_after_a_yes_and_retried_by_another(
    store: Store, top: Top
) -> None:
    add(store, id="other", priority=-1)
    add(store, "sleep 60", id="long")
    with top() as shown:
        shown.press("c")
        shown.wait_for("cancel job long, pending: sleep 60 ? [y/n]")
        shown.press("n")
        shown.wait_for("nothing was changed")
        assert state_of(store, "long") == "pending"

        shown.press("c")
        shown.wait_for("[y/n]")
        shown.press("y")
        shown.wait_for("job long is cancelled", "1 cancelled")
        assert state_of(store, "long") == "cancelled"

        shown.press("j", "r")
        shown.wait_for("job long is queued again; no worker is running", "2 pending")
        shown.press("r")
        shown.wait_for("job 'long' is pending, and cannot be queued again")


def test_a_running_job_is_followed_frozen_and_cancelled(
    queuectl: Program, store: Store, top: Top, tmp_path: Path
) -> None:
    command = f"printf 'one\\033[2J[b]\\n'; {until(tmp_path / 'go')}; echo two; sleep 60"
    add(store, command, id="talks")
    queuectl("worker", "start", "--detach")
    with top() as shown:
        shown.wait_for("1 processing")
        shown.press("f")
        shown.wait_for("output of job talks  processing", "one\\x1b[2J[b]")
        (tmp_path / "go").touch()
        shown.wait_for("two")

        shown.press("Escape")
        shown.wait_for("STATE")
        shown.press("F")
        shown.wait_for("job talks is frozen", "frozen ")
        shown.press("F")
        shown.wait_for("job talks goes on")
        shown.press("c")
        shown.wait_for("[y/n]")
        shown.press("y")

        shown.wait_for("1 cancelled")
        assert state_of(store, "talks") == "cancelled"


def test_details_are_what_show_tells_and_a_filter_leaves_what_it_says(
    queuectl: Program, store: Store, top: Top
) -> None:
    add(store, "echo no; exit 7", id="fails", max_retries=0)
    add(store, "make film", id="waits", queue="video")
    queuectl.drain("--queue", "default")
    with top() as shown:
        shown.press("/")
        shown.wait_for("what to look for")
        shown.press("e", "x", "i", "t", "Enter")
        shown.wait_until_gone("make film")
        shown.press("Enter")
        shown.wait_for("last error  exit code 7: no", "why ", "ATTEMPT")
        shown.press("q")

        shown.wait_for("STATE")
        shown.press("Escape")
        shown.wait_for("make film")
        shown.press("?")
        shown.wait_for("Focus Next", "Show what", "asks first")


#: Of a terminal that somebody has given back.
RESTORED = {"alternate_on": "0", "cursor_flag": "1", "mouse_any_flag": "0"}


def terminal_modes(shown: Terminal) -> dict[str, str]:
    return {name: shown.fact(name) for name in RESTORED}


@pytest.mark.parametrize(("key", "code"), [("q", 0), ("C-c", 130), ("SIGTERM", 143)])
def test_it_gives_the_terminal_back(store: Store, top: Top, key: str, code: int) -> None:
    add(store, "make film", id="waits")
    with top() as shown:
        shown.resize(30, 12)
        shown.wait_until_gone("make film")
        shown.resize(140, 40)
        shown.wait_for("make film", "Quit")

        if key == "SIGTERM":
            shown.signal(signal.SIGTERM)
        else:
            shown.press(key)
        seen = shown.wait_for("left with")

        assert f"left with {code}, terminal restored" in seen
        assert "STATE" not in seen
        assert terminal_modes(shown) == RESTORED


def test_ctrl_z_gives_the_terminal_to_the_shell_until_fg(queuectl: Program, store: Store) -> None:
    # With what it was started by: the shell waits for that.
    words = ["bash", "--norc", "--noprofile", "-i"]
    environment = {**queuectl.environment, "PS1": "$ "}
    with terminal(words, environment, queuectl.folder, columns=110, rows=30) as shown:
        shown.press("set -b; a=$(stty -g); sh -c 'queuectl top; echo left'", "Enter")
        shown.wait_for("STATE", "Quit")
        shown.press("C-z")
        seen = shown.wait_for("Stopped")
        assert "STATE" not in seen
        assert terminal_modes(shown) == RESTORED

        shown.press("bg; [ $a = $(stty -g) ] && echo the 'same'", "Enter")
        wait_until(lambda: "the same" in shown.text and shown.text.count("Stopped") == 2)
        add(store, id="meanwhile")
        shown.press("fg", "Enter")
        shown.wait_for("STATE", "meanwhile", "Quit")
        shown.press("q")

        shown.wait_for("left")
        assert terminal_modes(shown) == RESTORED


def test_a_stop_that_nobody_told_of_or_nobody_ends_leaves_it_usable(store: Store, top: Top) -> None:
    with top() as shown:
        shown.signal(signal.SIGSTOP)
        shown.signal(signal.SIGCONT)
        shown.press("C-z")  # no shell is there
        add(store, id="meanwhile")
        shown.wait_for("STATE", "meanwhile")

        def leave() -> bool:
            shown.press("q")  # dropped while the terminal is being taken anew
            return "left with" in shown.text

        wait_until(leave, pause=0.2)
        assert "left with 0, terminal restored" in shown.text
        assert terminal_modes(shown) == RESTORED


@pytest.mark.parametrize("is_stopped", [False, True])
def test_it_ends_with_its_terminal(queuectl: Program, is_stopped: bool) -> None:
    process = queuectl.on_terminal("top")
    process.expect("Quit")
    if is_stopped:
        process.kill(signal.SIGSTOP)

    process.ptyproc.fileobj.close()

    wait_until(lambda: not process.ptyproc.isalive())
    assert process.ptyproc.exitstatus == 128 + signal.SIGHUP
    assert find_marked(queuectl.folder) == []


def test_a_store_that_is_away_is_told_and_it_goes_on(top: Top, tmp_path: Path) -> None:
    server = servers.empty_store()
    with Proxy(server, tmp_path) as proxy, top(store=proxy.location.url) as shown:
        shown.wait_for("no jobs yet")

        proxy.cut()
        shown.wait_for("the store has not answered for")
        proxy.heal()
        with closing(open_store(server)) as direct:
            add(direct, id="new")

        shown.wait_for("1 pending", "new")
        shown.wait_until_gone("has not answered")


def test_only_some_queues_are_shown(store: Store, top: Top) -> None:
    add(store, id="letter", queue="mail")
    add(store, id="film", queue="video")
    with top("-Q", "video") as shown:
        seen = shown.wait_for("queues: video", "film", "1 pending")

        assert "letter" not in seen
        assert "mail" not in seen


def test_what_is_no_terminal_is_refused(queuectl: Program) -> None:
    refused = queuectl("top", code=2)

    assert "top draws on a terminal, and this is none" in refused.err
    assert "queuectl status, queuectl list" in refused.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--interval", "0"], "--interval: '0' must lie between 100ms and 1h"),
        (["--interval", "soon"], "--interval: 'soon' is not a duration"),
        (["--queue", "a b"], "--queue: 'a b'"),
    ],
)
def test_what_it_cannot_do_is_refused(queuectl: Program, words: list[str], told: str) -> None:
    assert told in queuectl("top", *words, code=2).err


_WITHOUT_TEXTUAL = """
import sys
sys.modules["textual"] = None
from queuectl.cli import program, render
render.is_terminal = lambda stream=None: True
sys.exit(program.run(["top"]))
"""


def test_without_the_extra_it_is_said_how_to_get_it(queuectl: Program) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TEXTUAL],
        env=queuectl.environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "top needs the package textual, which is not installed" in done.stderr
    assert "pip install -e '.[top]'" in done.stderr


_AT_FAULT = """
import sys
from queuectl.cli import program
from queuectl.cli.top import snapshot
snapshot.header = lambda *arguments: 1 / 0
sys.exit(program.run(["top"]))
"""


def test_a_fault_of_ours_gives_the_terminal_back_and_shows_no_secret(
    queuectl: Program, store: Store
) -> None:
    add(store, env={"TOKEN": "s3cret"})
    command = [sys.executable, "-c", _AT_FAULT]

    with terminal(command, queuectl.environment, queuectl.folder, columns=100, rows=30) as shown:
        seen = shown.wait_for("left with")

    assert "left with 1, terminal restored" in seen
    assert "this should not have happened: ZeroDivisionError" in seen
    assert "s3cret" not in seen
