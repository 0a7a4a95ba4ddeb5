"""``queuectl edit``: change a job that waits in an editor; no worker starts it meanwhile."""

from __future__ import annotations

import json as jsons
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from queuectl.cli import objects, options, render
from queuectl.cli.selection import selects
from queuectl.cli.set import in_words
from queuectl.cli.store import open_store
from queuectl.db import engine
from queuectl.domain import changes, request
from queuectl.domain.selection import Chosen, Selection
from queuectl.errors import Conflict, InvalidInput, NotFound, QueuectlError
from queuectl.service import changing, editing
from queuectl.service.selection import choose

app = typer.Typer(rich_markup_mode=None, add_completion=False)

#: Tried in this order where neither VISUAL nor EDITOR says anything.
_EDITORS = ("editor", "vi")
#: Jobs that are named where there are too many.
_NAMED_JOBS = 5


@app.command("edit")
@selects
def edit(ctx: typer.Context, selection: Selection, json: options.Json = False) -> None:
    """Change a job that waits in an editor: $VISUAL, $EDITOR, editor or vi.

    It is held meanwhile, and then let go. If this is killed, it stays held until a release.
    What names several jobs is refused: queuectl set changes many at once.
    """
    editor = _find_editor()
    if not (render.is_terminal(sys.stdin) and render.is_terminal(sys.stdout)):
        raise InvalidInput(
            "an editor needs a terminal",
            hint="change it without one: queuectl set ID KEY=VALUE",
        )
    store = open_store(ctx)
    id = _find_one(store, selection)
    with _handled({signal.SIGTERM: _end, signal.SIGHUP: _end}):
        begun = editing.begin(store, id)
        changed = False
        try:
            changed = _edit(store, begun, editor)
        except BaseException:
            _give_back(store, begun)
            raise
    if json:
        render.json_value(next(objects.job_objects(store, [begun.job.id])))
    elif changed:
        render.out(begun.job.id)
    render.note("1 job changed" if changed else "nothing was changed")


def _find_one(store: engine.Store, selection: Selection) -> str:
    """Return the id of the one job that is meant; raises InvalidInput for several, and NotFound."""
    chosen = choose(
        store,
        selection,
        among=changes.CHANGEABLE,
        verb="edited",
        ways_out=changing.WAYS_OUT,
    )
    if not chosen:
        raise NotFound("no such job waits", hint="see those that do with: queuectl list")
    if len(chosen) > 1:
        raise InvalidInput(
            f"an editor is for one job, and these are {len(chosen)}: {_named(chosen)}",
            hint="name one by its id, or change all at once: queuectl set ... KEY=VALUE",
        )
    return chosen[0].id


def _named(chosen: Sequence[Chosen]) -> str:
    more = ", ..." if len(chosen) > _NAMED_JOBS else ""
    return ", ".join(job.id for job in chosen[:_NAMED_JOBS]) + more


def _find_editor() -> str:
    for variable in ("VISUAL", "EDITOR"):
        if os.environ.get(variable, "").strip():
            return os.environ[variable]
    found = next((name for name in _EDITORS if shutil.which(name)), None)
    if found is None:
        raise InvalidInput(
            "there is no editor: neither VISUAL nor EDITOR names one, and there is no vi",
            hint="export EDITOR=nano, or change it without one: queuectl set ID KEY=VALUE",
        )
    return found


class _Ended(SystemExit):
    """Somebody ends this program while a job is held for it."""


def _end(number: int, frame: FrameType | None) -> None:
    raise _Ended(128 + number)


def _leave_be(number: int, frame: FrameType | None) -> None:
    """Do nothing: the editor is meant, which inherits no handler, as it would SIG_IGN."""


@contextmanager
def _handled(handlers: Mapping[signal.Signals, Callable[..., None]]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _give_back(store: engine.Store, begun: editing.Edit) -> None:
    """Let the job go as it was; who cannot leaves it held, and says how to release it."""
    try:
        editing.finish(store, begun, {})
    except Conflict:
        pass  # somebody has changed it since, and it is no longer held for this
    except QueuectlError as error:
        render.note(f"job {begun.job.id} was left as it stands: {error.message}")
        render.hint(f"if it is held: queuectl release {begun.job.id}")


def _edit(store: engine.Store, begun: editing.Edit, editor: str) -> bool:
    """Edit until what stands there can be stored, or somebody gives up; return whether it differs.

    Raises what was wrong last.
    """
    shown = changes.described(begun.job, begun.tags)
    with tempfile.TemporaryDirectory(prefix="queuectl-") as folder:  # 0700
        path = Path(folder) / f"{begun.job.id}.json"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(_form(begun, shown))
        while True:
            store.close()  # nobody knows how long it takes
            with _handled({signal.SIGINT: _leave_be, signal.SIGQUIT: _leave_be}):
                _run(editor, path)
            try:
                given = _read(path, shown)
                return editing.finish(store, begun, given)
            except InvalidInput as error:
                render.error(error.message, error.hint)
                if not render.confirm("edit it again?"):
                    raise QueuectlError(
                        "nothing was changed", hint=f"job {begun.job.id} is as it was before"
                    ) from error


def _form(begun: editing.Edit, shown: Mapping[str, Any]) -> str:
    lines = [
        f"# Job {begun.job.id}, {begun.job.state}; it is held while you edit it.",
        "# Change what you like, save, and leave the editor; leave all as it is to change nothing.",
        "# A field that is left out stays as it is; null is as if it had not been given.",
    ]
    if begun.job.env:
        names = ", ".join(sorted(begun.job.env))
        lines.append(f"# Its variables are not shown, and stay as they are: {names}")
    text = jsons.dumps(shown, indent=2, ensure_ascii=False)
    return "\n".join(lines) + f"\n{text}\n"


#: Ctrl-C in the editor is the editor's: a shell without a trap would end with it.
_CALL = 'trap : INT QUIT\n{} "$1"'
#: A shell adds this to the number of the signal that ended its command.
_BY_SIGNAL = 128


def _run(editor: str, path: Path) -> None:
    """Run the editor as a shell would, so that it may bring options; raises QueuectlError."""
    command = ["/bin/sh", "-c", _CALL.format(editor), "sh", str(path)]
    code = subprocess.run(command, check=False).returncode  # noqa: S603  # it is the user's own
    number = -code if code < 0 else code - _BY_SIGNAL
    if code and number in set(signal.Signals):
        raise QueuectlError(
            f"the editor ended with {signal.Signals(number).name}; nothing was changed"
        )
    if code:
        raise QueuectlError(f"the editor ended with code {code}; nothing was changed")


def _read(path: Path, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are no longer as they were shown; raises InvalidInput."""
    lines = _read_text(path).split("\n")
    text = "\n".join("" if line.lstrip().startswith("#") else line for line in lines)
    if not text.strip():
        return {}
    given: dict[str, Any] = {}
    for key, value in _decode(text).items():
        field = changes.field_of(key)
        if field in given:
            raise InvalidInput(f"{key[:40]!r} is given twice", hint="give each key once")
        given[field] = value
    return {
        field: in_words(field, value, field) if isinstance(value, str) else value
        for field, value in given.items()
        if field not in shown or value != shown[field]
    }


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if len(content) > request.LARGEST_JOB_BYTES:
            raise InvalidInput(f"a job is at most {request.LARGEST_JOB_BYTES} bytes long")
        return content.decode()
    except OSError as error:
        raise QueuectlError(f"the edited file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput("the edited file is not UTF-8") from error


def _decode(text: str) -> dict[str, Any]:
    try:
        found = request.DECODER.decode(text)
    except jsons.JSONDecodeError as error:
        message = f"not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        raise InvalidInput(message) from error
    except RecursionError as error:
        raise InvalidInput("the JSON is nested too deeply") from error
    except ValueError as error:
        raise InvalidInput(request.describe_json_error(error)) from error
    if not isinstance(found, dict):
        raise InvalidInput("it must be one JSON object, with the fields of the job")
    return found
