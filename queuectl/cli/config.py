"""``queuectl config``: the stored settings."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from queuectl.cli import completion, options, render
from queuectl.cli.store import open_store
from queuectl.domain import durations
from queuectl.service import config as service

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_RETENTIONS = frozenset({"retention-completed", "retention-cancelled", "retention-dead"})
_DURATIONS = frozenset({"backoff-max", "timeout", "lease"}) | _RETENTIONS
_SIZES = frozenset({"output-limit"})

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The setting, like max-retries.",
        autocompletion=completion.complete_option,
        show_default=False,
    ),
]


@app.callback()
def config() -> None:
    """See and change the stored settings."""


@app.command("list")
def list_(ctx: typer.Context, json: options.Json = False) -> None:
    """List all settings: value, default, and where the value came from."""
    found = service.list_options(open_store(ctx))
    if json:
        render.json_array(_option_object(option) for option in found)
        return
    columns = [
        render.Column("NAME"),
        render.Column("VALUE"),
        render.Column("DEFAULT"),
        render.Column("SOURCE"),
        render.Column("CHANGED"),
    ]
    rows: list[list[render.Cell]] = [
        [
            option.name,
            _readable(option.name, option.value),
            _readable(option.name, option.default),
            option.source,
            option.updated_at,
        ]
        for option in found
    ]
    render.table(columns, rows)


@app.command("get")
def get(ctx: typer.Context, name: Name, json: options.Json = False) -> None:
    """Print one setting, in seconds or bytes."""
    _print(service.get_option(open_store(ctx), name), as_json=json)


@app.command("set", context_settings={"ignore_unknown_options": True})
def set_(
    ctx: typer.Context,
    name: Name,
    value: Annotated[
        str,
        typer.Argument(
            metavar="VALUE",
            help="A number, a word, or like 90s, 1h30m, 30d, 64KiB, 10MiB.",
            show_default=False,
        ),
    ],
    json: options.Json = False,
) -> None:
    """Change a setting for all workers and new jobs."""
    _print(service.set_option(open_store(ctx), name, value), as_json=json)


@app.command("unset")
def unset(ctx: typer.Context, name: Name, json: options.Json = False) -> None:
    """Return to the default."""
    _print(service.unset_option(open_store(ctx), name), as_json=json)


def _print(option: service.Option, *, as_json: bool) -> None:
    if as_json:
        render.json_value(_option_object(option))
    else:
        render.out(_plain(option.name, option.value))


def _option_object(option: service.Option) -> dict[str, Any]:
    return {
        "name": option.name,
        "value": option.value,
        "default": option.default,
        "source": option.source,
        "updated_at": option.updated_at,
    }


def _plain(name: str, value: Any) -> str:
    """Return what ``config set`` would take."""
    if value is None:
        return "never" if name in _RETENTIONS else "none"
    if isinstance(value, str):
        return value
    return str(int(value)) if value == int(value) else str(value)


def _readable(name: str, value: Any) -> str:
    if value is None:
        return _plain(name, value)
    if name in _DURATIONS:
        return durations.format_duration(value)
    if name in _SIZES and value % 1024 == 0:
        return f"{value // 1024**2}MiB" if value % 1024**2 == 0 else f"{value // 1024}KiB"
    return _plain(name, value)
