"""Whether a command that ended with 0 did what it was to do: its file is there, its output right.

A pattern is looked for in the kept output line by line, as ``grep`` does it, and by the same
matcher. Some patterns take for ever on some lines, and Python cannot be interrupted in one: so the
search runs in a process of its own (``examiner.py``), in the slot of the command, and is killed
after LIMIT_SECONDS. The worker goes on meanwhile. The process bears the marks of the claim, so
whoever ends what a dead worker left ends it too.
"""

from __future__ import annotations

import json
import os
import resource
import time
from dataclasses import replace
from pathlib import Path

from queuectl.domain.durations import format_duration
from queuectl.domain.job import Claim, Ending, Outcome
from queuectl.domain.terms import Terms
from queuectl.worker.output import OutputCapture
from queuectl.worker.runner import GRACE_SECONDS, Launcher, last_line, open_input
from queuectl.worker.running import Running

#: How long an output is searched, in seconds: 10 MiB take half of one.
LIMIT_SECONDS = 30.0
#: Where this package is, for a Python that looks at nothing else: neither at the folder that it
#: starts in, nor at the environment, nor at what is installed besides.
_ROOT = str(Path(__file__).resolve().parents[2])
_PROGRAM = (
    f"import sys; sys.path.append({_ROOT!a}); from queuectl.worker.examiner import main; main()"
)
_LONGEST_ANSWER_BYTES = 1 << 16
#: The option of each pattern.
_OPTIONS = {"expect": "--expect", "fail_if": "--fail-if"}


class Examination(Running):
    """The search through the output of a command that has ended well so far."""

    def __init__(self, claim: Claim, pid: int, outcome: Outcome, answer: int) -> None:
        """``answer``: the descriptor of the file into which the process writes."""
        super().__init__(claim, pid)
        self._outcome = outcome
        self._answer = answer
        self.deadline = time.monotonic() + LIMIT_SECONDS

    def expire(self, now: float) -> None:
        """It takes too long, or the time is over that was left to it."""
        self.deadline = None
        self.kill(self._ending or Ending.FAILED)

    def terminate(self, ending: Ending, now: float) -> None:
        """Give it a grace: the command has ended, and what it did need not be done again."""
        if self._ending is None:
            self._ending = ending
            self.deadline = min(self.deadline or now, now + GRACE_SECONDS)

    def conclude(self, code: int, usage: resource.struct_rusage) -> Outcome:
        """Return what became of the attempt; call it once."""
        facts = _read_facts(self._answer)
        os.close(self._answer)
        if code == 0:
            error = _describe(self.claim.terms, facts, _last(self._outcome))
            return self._outcome if error is None else failed(self._outcome, error)
        if self._ending in (Ending.CANCELLED, Ending.STOPPED, Ending.LOST):
            error = f"{self._ending} while its output was searched"
            return replace(self._outcome, ending=self._ending, error=error)
        return failed(self._outcome, _describe_failure(self.claim.terms, facts, self._ending))


def begin(
    claim: Claim, outcome: Outcome, capture: OutputCapture, launcher: Launcher
) -> Examination | Outcome:
    """Return the outcome, or the search that decides about it; the capture has been finished."""
    terms = claim.terms
    if outcome.ending is not Ending.COMPLETED:
        return outcome
    if terms.expect_file is not None and (reason := _missing(claim, terms.expect_file)):
        return failed(outcome, f"exit code 0, but {reason} (--expect-file): {_last(outcome)}")
    if not terms.searches_output:
        return outcome
    patterns = [(name, text) for name in _OPTIONS if (text := getattr(terms, name)) is not None]
    asked = json.dumps({"patterns": patterns, "stretches": capture.stretches()})
    answer = open_input(b"")
    given = open_input(asked.encode())
    try:
        pid = launcher.spawn_python(claim, _PROGRAM, given, answer)
    except OSError as error:
        os.close(answer)
        return failed(outcome, f"exit code 0, but its output was not searched: {error.strerror}")
    finally:
        os.close(given)
    return Examination(claim, pid, outcome, answer)


def failed(outcome: Outcome, error: str) -> Outcome:
    """Return the outcome of an attempt that exited with 0 and failed all the same."""
    parts = [error.removesuffix(": "), outcome.error]  # that some of its output was not kept
    return replace(outcome, ending=Ending.FAILED, error=": ".join(filter(None, parts)))


def _missing(claim: Claim, file: str) -> str | None:
    """Return why a file is not there; None: it is."""
    try:
        os.stat(os.path.join(claim.cwd or "", file))  # noqa: PTH116, PTH118  # as it is written
    except FileNotFoundError:
        return f"there is no file {file}"
    except OSError as error:
        return f"the file {file} cannot be seen: {error.strerror}"
    return None


def _last(outcome: Outcome) -> str:
    return last_line(outcome.output_tail or b"")


def _read_facts(answer: int) -> list[dict[str, str | None]]:
    lines = os.pread(answer, _LONGEST_ANSWER_BYTES, 0).splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def _describe(terms: Terms, facts: list[dict[str, str | None]], last: str) -> str | None:
    """Return why the attempt failed, given what was found; None: it did not."""
    found = {fact["searched"]: fact["line"] for fact in facts if "searched" in fact}
    if terms.expect is not None and found["expect"] is None:
        return f"exit code 0, but no line of its output matches --expect '{terms.expect}': {last}"
    if terms.fail_if is not None and (line := found["fail_if"]) is not None:
        told = line.strip().replace("\\0", "")
        return f"exit code 0, but a line of its output matches --fail-if '{terms.fail_if}': {told}"
    return None


def _describe_failure(
    terms: Terms, facts: list[dict[str, str | None]], ending: Ending | None
) -> str:
    """Return why the search itself came to nothing."""
    name = str(facts[-1].get("searches", "expect")) if facts else "expect"
    pattern = getattr(terms, name)
    what = f"exit code 0, but the search for {_OPTIONS[name]} '{pattern}' in its output"
    if ending is None:
        return f"{what} broke off"
    return f"{what} took longer than {format_duration(LIMIT_SECONDS)}"
