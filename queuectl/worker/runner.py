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

A timeout, a silence that lasts too long (``--stall``), and a stop that does not wait, send TERM to
the group, then KILL after a grace of 5 s. What must be found in the output of a command that ended
well is looked for in ``examination.py``, after all of this.
Each crash of the worker in between leaves processes that bear the marks of ``processes.py``.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from queuectl.domain.durations import format_duration
from queuectl.domain.job import Claim, Ending, Outcome
from queuectl.worker import processes
from queuectl.worker.output import OutputCapture
from queuectl.worker.running import Running

#: From TERM to KILL, in seconds.
GRACE_SECONDS = 5.0
_LONGEST_QUOTE = 200
_STDERR = 2

_SHELL_REASONS = {126: "the command cannot be executed", 127: "the command was not found"}


class Execution(Running):
    """A command that runs. Times are by the monotonic clock unless they say otherwise."""

    def __init__(self, claim: Claim, pid: int, capture: OutputCapture) -> None:
        super().__init__(claim, pid)
        self.capture = capture
        self._started_at = datetime.now(UTC)
        self._started = time.monotonic()
        timeout = claim.timeout_seconds
        self._timeout_at = None if timeout is None else self._started + timeout
        #: Its silence counts from here, or from when it last printed something.
        self._silent_since = self._started
        self._frozen_at: float | None = None
        self._set_deadline()

    def _set_deadline(self) -> None:
        """Say when to look at it next: no output moves this, it is looked at once a stall."""
        stall = self.claim.terms.stall_seconds
        at = [] if self._timeout_at is None else [self._timeout_at]
        if stall is not None:
            at.append(self._heard_at() + stall)
        self.deadline = min(at, default=None)

    def _heard_at(self) -> float:
        return max(self.capture.grew_at, self._silent_since)

    def expire(self, now: float) -> None:
        """The deadline has passed: its time is over, or its grace is, or it may be silent."""
        if self._ending is not None:
            self.kill(self._ending)
        elif self._timeout_at is not None and self._timeout_at <= now:
            self.terminate(Ending.TIMED_OUT, now)
        elif self._is_silent(now):
            self.terminate(Ending.STALLED, now)
        else:
            self._set_deadline()

    def _is_silent(self, now: float) -> bool:
        stall = self.claim.terms.stall_seconds
        if stall is None or self._heard_at() + stall > now:
            return False
        self.capture.pump()  # a worker that was busy elsewhere has not heard it yet
        return self._heard_at() + stall <= now

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
        if self._frozen_at is None:
            self._frozen_at, self.deadline = time.monotonic(), None
        processes.signal_claim(self.pid, worker_id, self.claim.mark, signal.SIGSTOP)

    def thaw(self, worker_id: str) -> None:
        """Let its processes go on, and its time."""
        if self._frozen_at is not None and self._ending is None:
            now = time.monotonic()
            if self._timeout_at is not None:
                self._timeout_at += now - self._frozen_at
            self._silent_since = now - max(self._frozen_at - self._heard_at(), 0.0)
            self._frozen_at = None
            self._set_deadline()
        processes.signal_claim(self.pid, worker_id, self.claim.mark, signal.SIGCONT)

    def send(self, number: int) -> None:
        """Send a signal to the command's process group."""
        processes.signal_group(self.pid, number)

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
        elif ending is Ending.STALLED:
            silence = format_duration(self.claim.terms.stall_seconds or 0)
            reason = f"stalled: printed nothing for {silence}"
        elif ending is Ending.STOPPED:
            reason = "stopped with its worker"
        elif ending is Ending.CANCELLED:
            reason = "cancelled while it ran"
        else:
            reason = _describe_exit(code)
        parts = [reason, last_line(self.capture.tail), self.capture.error]
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


def last_line(tail: bytes) -> str:
    """Return the last line of what was printed, as far as it is quoted."""
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
        self._null_output = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def spawn(self, claim: Claim, output: int) -> int:
        """Start the command, its output going to that descriptor; return its process id.

        Raises OSError and ValueError.
        """
        own = encode_environment(claim.env) if claim.env else {}
        environment = {**self._environment, **own, **self._marks(claim)}
        if claim.scheduled_for is not None:
            tick = claim.scheduled_for.astimezone(UTC).isoformat().replace("+00:00", "Z")
            environment[processes.SCHEDULED_FOR.encode()] = tick.encode()
        given = self._null_input if claim.stdin is None else open_input(claim.stdin)
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

    def spawn_python(self, claim: Claim, program: str, given: int, answer: int) -> int:
        """Start a program of our own on behalf of a claim, between two open files.

        Return its process id; raises OSError.
        """
        return os.posix_spawn(
            sys.executable,
            (sys.executable, "-I", "-S", "-c", program),
            {**self._environment, **self._marks(claim)},
            file_actions=(
                (os.POSIX_SPAWN_DUP2, given, 0),
                (os.POSIX_SPAWN_DUP2, answer, 1),
                (os.POSIX_SPAWN_DUP2, self._null_output, 2),
            ),
            setsid=True,
            setsigdef=self._ignored,
        )

    def _marks(self, claim: Claim) -> dict[bytes, bytes]:
        return {
            processes.MARK_JOB.encode(): claim.id.encode(),
            processes.MARK_ATTEMPT.encode(): b"%d" % claim.run,
            processes.MARK_CLAIM.encode(): claim.mark.encode(),
            processes.MARK_WORKER.encode(): self.worker_id.encode(),
        }


def open_input(content: bytes) -> int:
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
