"""``queuectl set``: change jobs that wait, without an editor."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from queuectl.cli import completion, dates, job_options, render, selection
from queuectl.db import engine
from queuectl.domain import changes, request
from queuectl.domain import selection as domain_selection
from queuectl.errors import InvalidInput
from queuectl.service import changing

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID]... KEY=VALUE...",
        help="Jobs, by id, by any unique beginning of it, or: last. Keys: "
        f"{', '.join(changes.known_keys())}.",
        autocompletion=completion.complete_setting,
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class _Named:
    """Which jobs somebody named, and the texts that they are to have, by their keys."""

    selection: domain_selection.Selection
    texts: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The same, and how the change is to go."""

    how: selection.Asked
    texts: dict[str, str]


def _replaced(
    function: Callable[..., object], name: str, new: inspect.Parameter
) -> inspect.Signature:
    """Return a function's signature with another parameter in the place of one."""
    given = inspect.signature(function, eval_str=True).parameters.values()
    chosen = [new if each.name == name else each for each in given]
    return inspect.Signature([each.replace(kind=new.kind) for each in chosen])


def _name(words: list[str] | None, **conditions: Any) -> _Named:
    """Return the jobs that were named, and the fields that were set; raises InvalidInput."""
    ids, texts = changes.split_words(words or ())
    return _Named(selection.select(ids=ids, **conditions), texts)


def _ask(named: _Named, **how: Any) -> _Asked:
    return _Asked(selection.ask(named.selection, **how), named.texts)


def _takes_words(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command ids among KEY=VALUE, and the other ways to name jobs: it is ``asked``."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    words = inspect.Parameter("words", keyword, default=None, annotation=_Words)
    named = inspect.Parameter("named", keyword, annotation=_Named)
    _name.__signature__ = _replaced(selection.select, "ids", words)  # type: ignore[attr-defined]  # inspect's
    _ask.__signature__ = _replaced(selection.ask, "selection", named)  # type: ignore[attr-defined]  # inspect's
    return selection.expand(selection.expand(function, "asked", _ask), "named", _name)


@app.command("set")
@_takes_words
def set_(ctx: typer.Context, asked: _Asked) -> None:
    """Change jobs that wait: queuectl set ID priority=5 queue=slow at='tomorrow 9:00'.

    All of them or, if one cannot be so, none. VALUE none is as if the field had not been given. A
    job that runs or has ended is refused.
    """
    given = _read(asked.texts)
    strict = bool(asked.how.selection.references)
    alike = 0

    def act(
        store: engine.Store, chosen: Sequence[domain_selection.Chosen], *, dry_run: bool = False
    ) -> list[str]:
        nonlocal alike
        done = changing.change(store, chosen, given, strict=strict, dry_run=dry_run)
        alike = done.alike
        return done.ids

    selection.change(
        ctx,
        asked.how,
        act,
        among=changes.CHANGEABLE,
        verb="changed",
        ways_out=changing.WAYS_OUT,
        rehearse=lambda store, chosen: act(store, chosen, dry_run=True),
    )
    if asked.how.quiet:
        return
    if alike:
        render.note(f"{render.count(alike)} {'was' if alike == 1 else 'were'} so before")
    _tell_times(given)


def _tell_times(given: Mapping[str, Any]) -> None:
    """Say times that were given in words back as what they mean."""
    fields = changes.resolve(given, datetime.now(UTC))
    for field, word in (("run_at", "due"), ("deadline", "deadline")):
        instant = request.parse_instant(fields.get(field))
        if instant is not None:
            render.note(f"{word} {dates.tell(instant)}")


def _read(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields as a JSON job has them; raises InvalidInput."""
    if not texts:
        raise InvalidInput(
            "nothing to set was given", hint="write KEY=VALUE, as in: queuectl set last priority=5"
        )
    given: dict[str, Any] = {}
    for key, text in texts.items():
        field = changes.field_of(key)
        given[field] = changes.read_text(field, in_words(field, _number(field, text), key))
    return given


def _number(field: str, text: str) -> str:
    """Return ``5m`` as the number that it is as a base of pauses; other texts as they are."""
    if field == "backoff_base":
        with suppress(ValueError):
            return repr(job_options.parse_base(text))
    return text


def in_words(field: str, text: str, key: str) -> str:
    """Return what ``tomorrow 9:00`` means where a field is a time; other texts as they are.

    ``key`` is what the field was called. Raises InvalidInput.
    """
    word = text.strip().lower()
    if word == "none":
        return text
    if field == "run_at":
        return datetime.now(UTC).isoformat() if word == "now" else dates.parse_when(text, key)
    return dates.parse_deadline(text, key) if field == "deadline" else text
