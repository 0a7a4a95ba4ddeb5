"""Commands that are imported when they are run, completed or asked for help; the root of them all.

Two things are put off. A command's module is imported when the command is named, so that
``queuectl --help`` imports none of them. And while such a module is imported, the modules of the
rooms below are only found, and run when something in them is first used: so a command module has
plain imports at its top, and neither its help nor its completion imports SQLAlchemy or Pydantic.
For this to work, such a module is imported as a module (``from queuectl.service import jobs``).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from queuectl.cli.commands import COMMANDS, Entry

#: What every variable of ours begins with.
PREFIX = "QUEUECTL"
#: Options that no variable sets: they arm something, or are an act of their own.
WITHOUT_VARIABLE = frozenset(
    {
        "all",
        "kind",
        "yes",
        "now",
        "force",
        "help",
        "version",
        "install_completion",
        "show_completion",
    }
)

_PLUGINS_VARIABLE = "PYDANTIC_DISABLE_PLUGINS"
#: Variables that are ours for the time of the start.
_set_here: list[str] = []

_PUT_OFF = ("queuectl.service.", "queuectl.worker.", "queuectl.db.", "queuectl.domain.")


class _PuttingOff:
    """Finds modules of the rooms below so that they run at the first use of something in them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PUT_OFF):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


@contextmanager
def put_off_imports() -> Iterator[None]:
    """Inside the block, modules of the rooms below are imported without being run."""
    finder = _PuttingOff()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class LazyCommand(TyperCommand):
    """Stands for a command or a group; becomes it when it is named on the command line."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.name, help=entry.summary, short_help=entry.summary)
        self._entry = entry

    def load(self) -> Any:
        """Import the module and return what it calls by this name, or its whole group."""
        with put_off_imports():
            command: Any = get_command(import_module(self._entry.module).app)
        command = getattr(command, "commands", {}).get(self._entry.name, command)
        command.name = self._entry.name
        name_variables(command, f"{PREFIX}_{self._entry.name}")
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        return self.load().make_context(info_name, args, parent=parent, **extra)


class LazyGroup(TyperGroup):
    """The group of all commands in the table."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for entry in COMMANDS:
            self.add_command(LazyCommand(entry))
        name_variables(self, PREFIX)


def name_variables(command: Any, prefix: str) -> None:
    """Give each option its variable, ``<prefix>_<OPTION>``, and say so once, below the help."""
    shown = []
    for param in command.params:
        if not isinstance(param, TyperOption):
            # "ID" says it all; Typer would write "ID <str>", and "{ID}" in the usage.
            param.display_type_rich = _no_type
            param.get_usage_pieces = partial(_usage_pieces, param)
        elif param.name not in WITHOUT_VARIABLE and param.allow_from_autoenv:
            param.envvar = variable_of(prefix, param.name)
            param.show_envvar = False
            shown.append(param)
    if shown and not command.epilog:
        flag = max(shown[0].opts, key=len)
        command.epilog = f"Each option has a variable, like {shown[0].envvar} for {flag}."
    for name, member in getattr(command, "commands", {}).items():
        if not isinstance(member, LazyCommand):
            name_variables(member, f"{prefix}_{name}")


def _no_type(ctx: Any) -> str:
    return ""


def _usage_pieces(argument: Any, ctx: Any) -> list[str]:
    if argument.metavar.endswith("..."):
        return [argument.metavar]  # it says itself what may be left out
    name = argument.metavar + ("..." if argument.nargs == -1 else "")
    return [name if argument.required else f"[{name}]"]


def variable_of(prefix: str, option: str) -> str:
    """Return the variable of an option: ``QUEUECTL_DLQ_RETRY`` and ``dry_run`` make one name."""
    return f"{prefix}_{option}".upper().replace("-", "_")


def skip_plugins() -> None:
    """Keep Pydantic from reading what all installed packages are, for 10 ms, to find plugins."""
    if _PLUGINS_VARIABLE not in os.environ:
        os.environ[_PLUGINS_VARIABLE] = "__all__"
        _set_here.append(_PLUGINS_VARIABLE)


def finish_start() -> None:
    """Leave nothing for later: for a command that forks, or that goes on for long.

    What was put off is run, the environment is again what it was, and garbage is collected.
    """
    for name in [name for name in sys.modules if name.startswith(_PUT_OFF)]:
        sys.modules[name].__doc__  # noqa: B018  # any attribute makes a lazy module run
    while _set_here:
        del os.environ[_set_here.pop()]
    gc.enable()
