"""One attempt: start the command, watch its time, see its end.

The command runs as ``/bin/sh -c COMMAND`` in a session of its own, so that it has no terminal, with
end of file as its input, or what was kept for it, and its output in a pipe that this worker reads.
Its end is the end of its shell. The order of what follows matters:

    1. the pidfd becomes readable: the shell is a zombie, and its number still belongs to it
    2. the process group is killed, by that number, which nobody else can have yet
    3. the shell is reaped (``wait4`` gives what it cost)
    4. what left the group has become a child of this worker by now, and is ended by the worker,
       but for what bears the mark of another job that still runs
    5. what is left in the pipe is read; nobody is waited for, however long they keep it open

A timeout, and a stop that does not wait, send TERM to the group, then KILL after a grace of 5 s.
Each crash of the worker in between leaves processes that bear the marks of ``processes.py``.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from queuectl.domain.durations import format_duration
from queuectl.domain.job import Claim, Ending, Outcome
from queuectl.worker import processes
from queuectl.worker.output import OutputCapture

#: From TERM to KILL, in seconds.
GRACE_SECONDS = 5.0
_LONGEST_QUOTE = 200
_STDERR = 2

_SHELL_REASONS = {126: "the command cannot be executed", 127: "the command was not found"}


class Execution:
    """A command that runs. Times are by the monotonic clock unless they say otherwise."""

    def __init__(self, claim: Claim, pid: int, capture: OutputCapture) -> None:
        self.claim = claim
        self.capture = capture
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._started_at = datetime.now(UTC)
        self._started = time.monotonic()
        #: When ``expire`` is to be called; None: never.
        self.deadline = (
            None if claim.timeout_seconds is None else self._started + claim.timeout_seconds
        )
        #: Why it is being ended, if it is.
        self._ending: Ending | None = None
        #: What was left of its time when it was frozen; None: it is not, or has no timeout.
        self._left: float | None = None

    def expire(self, now: float) -> None:
        """The deadline has passed: its time is over, or its grace is."""
        if self._ending is None:
            self.terminate(Ending.TIMED_OUT, now)
        else:
            self.kill(self._ending)

    def terminate(self, ending: Ending, now: float) -> None:
        """Ask the command to end; it is killed after the grace."""
        if self._ending is None:
            self._ending = ending
            self.deadline = now + GRACE_SECONDS
            processes.signal_group(self.pid, signal.SIGTERM)
            processes.signal_group(self.pid, signal.SIGCONT)  # a stopped one hears no TERM

    def freeze(self, worker_id: str) -> None:
        """Stop its processes, and its time; one that is being ended goes on ending."""
        if self._ending is not None:
            return
        if self.deadline is not None:
            self._left, self.deadline = self.deadline - time.monotonic(), None
        processes.signal_claim(self.pid, worker_id, self.claim.mark, signal.SIGSTOP)

    def thaw(self, worker_id: str) -> None:
        """Let its processes go on, and its time."""
        if self._left is not None and self._ending is None:
            self.deadline, self._left = time.monotonic() + self._left, None
        processes.signal_claim(self.pid, worker_id, self.claim.mark, signal.SIGCONT)

    def send(self, number: int) -> None:
        """Send a signal to the command's process group."""
        processes.signal_group(self.pid, number)

    def kill(self, ending: Ending) -> None:
        """End the command at once."""
        self._ending = self._ending or ending
        self.deadline = None
        processes.signal_group(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait until a command that was killed is dead, and what it left has been handed on.

        At most ``processes.BURIAL_SECONDS``: one that hangs in the kernel may never be.
        """
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        poll.poll(processes.BURIAL_SECONDS * 1000)

    def reap(self) -> tuple[int, resource.struct_rusage]:
        """Kill what is left of the group and take in the shell's status; call it once."""
        processes.signal_group(self.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(status), usage

    def outcome(self, code: int, usage: resource.struct_rusage) -> Outcome:
        """Return what became of the attempt; reads the rest of its output."""
        self.capture.finish()
        lasted = timedelta(seconds=time.monotonic() - self._started)
        ending = self._ending or (Ending.COMPLETED if code == 0 else Ending.FAILED)
        return Outcome(
            ending=ending,
            started_at=self._started_at,
            # Not the wall clock of the end: it may have jumped, and a duration must not.
            finished_at=self._started_at + lasted,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            cpu_user_seconds=usage.ru_utime,
            cpu_system_seconds=usage.ru_stime,
            max_rss_bytes=_own_peak_excluded(usage.ru_maxrss),
            output_bytes=self.capture.total_bytes,
            output_tail=self.capture.tail,
            error=self._error(ending, code),
        )

    def _error(self, ending: Ending, code: int) -> str | None:
        if ending is Ending.COMPLETED:
            return self.capture.error
        if ending is Ending.TIMED_OUT:
            reason = f"timed out after {format_duration(self.claim.timeout_seconds or 0)}"
        elif ending is Ending.STOPPED:
            reason = "stopped with its worker"
        elif ending is Ending.CANCELLED:
            reason = "cancelled while it ran"
        else:
            reason = _describe_exit(code)
        parts = [reason, _last_line(self.capture.tail), self.capture.error]
        return ": ".join(part for part in parts if part)


def _own_peak_excluded(peak_kib: int) -> int | None:
    """Return a command's peak memory in bytes; None where it is below this worker's.

    Between fork and exec a command is a copy of the worker, and Linux counts that peak too
    (``setmax_mm_hiwater_rss`` in ``exec_mmap``), so a smaller figure says nothing of the command.
    """
    own_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_kib * 1024 if peak_kib > own_kib else None


def _describe_exit(code: int) -> str:
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    reason = _SHELL_REASONS.get(code)
    return f"exit code {code} ({reason})" if reason else f"exit code {code}"


def _last_line(tail: bytes) -> str:
    lines = tail.decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:_LONGEST_QUOTE].replace("\0", "") if lines else ""


class Launcher:
    """Starts commands. Make it before anything else is open in a fresh worker.

    ``posix_spawn`` costs half of what ``subprocess.Popen`` does (85 microseconds of the worker's
    time against 150), but has no folder to start in and closes nothing. So the worker itself goes
    to the command's folder and back, and what it inherited is marked to be closed at an exec, as
    Python marks whatever it opens.
    """

    def __init__(self, environment: Mapping[str, str], worker_id: str) -> None:
        self._environment = encode_environment(environment)
        # A worker may itself have been started by a job of a schedule.
        self._environment.pop(processes.SCHEDULED_FOR.encode(), None)
        self.worker_id = worker_id
        self._ignored = _ignored_signals()
        _keep_descriptors()
        self._home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._null_input = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def spawn(self, claim: Claim, output: int) -> int:
        """Start the command, its output going to that descriptor; return its process id.

        Raises OSError and ValueError.
        """
        own = encode_environment(claim.env) if claim.env else {}
        environment = {**self._environment, **own, **self._marks(claim)}
        if claim.scheduled_for is not None:
            tick = claim.scheduled_for.astimezone(UTC).isoformat().replace("+00:00", "Z")
            environment[processes.SCHEDULED_FOR.encode()] = tick.encode()
        given = self._null_input if claim.stdin is None else _open_input(claim.stdin)
        try:
            if claim.cwd is not None:
                os.chdir(claim.cwd)
            return os.posix_spawn(
                "/bin/sh",
                ("/bin/sh", "-c", claim.command),
                environment,
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, given, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ),
                setsid=True,
                setsigdef=self._ignored,
            )
        finally:
            if claim.cwd is not None:
                os.fchdir(self._home)
            if given != self._null_input:
                os.close(given)

    def _marks(self, claim: Claim) -> dict[bytes, bytes]:
        return {
            processes.MARK_JOB.encode(): claim.id.encode(),
            processes.MARK_ATTEMPT.encode(): b"%d" % claim.run,
            processes.MARK_CLAIM.encode(): claim.mark.encode(),
            processes.MARK_WORKER.encode(): self.worker_id.encode(),
        }


def _open_input(content: bytes) -> int:
    """Return a descriptor of a file that has no name, at its beginning: no pipe to be fed."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    else:
        descriptor, name = tempfile.mkstemp()
        os.unlink(name)  # noqa: PTH108  # the descriptor keeps it
    try:
        with open(descriptor, "wb", closefd=False) as file:  # no path
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _ignored_signals() -> set[int]:
    """Return the signals that an exec would leave ignored; a handler ends with an exec by itself.

    Python ignores some, and so does who starts a worker in the background of a script; a command
    begins with none. Naming all signals would cost the command's start 60 system calls more.
    """
    settable = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    return {number for number in settable if signal.getsignal(number) is signal.SIG_IGN}


def _keep_descriptors() -> None:
    """Let no command have what this process inherited, and nothing of it be 0, 1 or 2."""
    while (spare := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= _STDERR:
        pass
    os.close(spare)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # numbers, not paths
        if int(name) > _STDERR:
            with suppress(OSError):  # the listing's own, closed by now
                os.set_inheritable(int(name), False)


def start(claim: Claim, capture: OutputCapture, launcher: Launcher) -> Execution | Outcome:
    """Start the command of a claim, or return the outcome of one that could not be started."""
    started_at = datetime.now(UTC)
    try:
        pid = launcher.spawn(claim, capture.write_end)
    except (OSError, ValueError) as error:
        capture.started()
        capture.finish()
        return Outcome(
            ending=Ending.FAILED,
            started_at=started_at,
            finished_at=datetime.now(UTC),
            output_bytes=0,
            output_tail=b"",
            error=_describe_refusal(claim, error),
        )
    capture.started()
    return Execution(claim, pid, capture)


def encode_environment(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return the variables as bytes, so that they are not encoded anew for each job."""
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}


def _describe_refusal(claim: Claim, error: Exception) -> str:
    if isinstance(error, OSError) and claim.cwd is not None and error.filename == claim.cwd:
        return f"could not be started in {claim.cwd}: {error.strerror}"
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"could not be started: {reason}"
