"""Every error that queuectl raises on purpose, with its exit code and a way out.

QueuectlError            1  refused or failed
├── InvalidInput         2  a wrong value: an option, a job, a stored setting
│   └── InvalidJob       2  a job that was not accepted, by field and reason
├── NotFound             3  no job, worker or setting of that name
├── Conflict             4  the store already holds something else under that name
├── StoreError           5  the store is out of reach, unreadable or of another version
│   ├── StoreUnavailable 5  busy, full or failing: the same call may succeed later
│   │   └── OutcomeUnknown 5  the connection broke during a commit: it may stand, or not
│   └── SchemaMismatch   5  the store and this program do not fit each other
├── WaitedTooLong      124  what was waited for did not happen in time
└── WorkerDeclaredDead   1  this worker lost its place; its claims belong to others now
"""

from __future__ import annotations


class QueuectlError(Exception):
    """What went wrong, in one line, and optionally a hint that says what to do."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInput(QueuectlError):
    """A value that cannot be used; nothing was stored."""

    exit_code = 2


class InvalidJob(InvalidInput):
    """A job that was refused before anything was stored; ``problems`` names field and reason."""

    def __init__(
        self, problems: list[str], *, where: str | None = None, hint: str | None = None
    ) -> None:
        self.problems = problems
        self.where = where
        prefix = f"{where}: " if where else ""
        super().__init__(prefix + "; ".join(problems), hint=hint)


class NotFound(QueuectlError):
    """Nothing has that name."""

    exit_code = 3


class Conflict(QueuectlError):
    """Something else has that name, or is in a state that does not allow it."""

    exit_code = 4


class StoreError(QueuectlError):
    """The store cannot be used."""

    exit_code = 5


class StoreUnavailable(StoreError):
    """The store is busy, full or failing; nothing was changed, and a later try may succeed."""


class OutcomeUnknown(StoreUnavailable):
    """The reply to a commit was lost: it may stand in the store, or not. Look before repeating."""


class SchemaMismatch(StoreError):
    """The store's tables are of another version than this program."""


class WaitedTooLong(QueuectlError):
    """The time is over, and what was waited for has not happened; timeout(1) leaves so too."""

    exit_code = 124


class WorkerDeclaredDead(QueuectlError):
    """Another process took this worker for dead: it must end what it runs and leave."""
