"""The program as a whole: the options before the command, and how every call ends."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer._click.exceptions import NoArgsIsHelpError  # it has no public name
from typer.main import get_command

from queuectl import __version__
from queuectl.cli import completion, render
from queuectl.cli.lazy import LazyGroup, put_off_imports, skip_plugins
from queuectl.errors import InvalidInput, QueuectlError

INTERRUPTED = 130
UNEXPECTED = 1
_LONGEST_VALUE = 60
_USAGE_HINT = "nothing was changed; correct it and try again (--help tells what is accepted)"

app = typer.Typer(
    name="queuectl",
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="COMMAND ...",
    epilog="Each option of a command has a variable: QUEUECTL_<COMMAND>_<OPTION>, like"
    " QUEUECTL_ENQUEUE_QUEUE for enqueue --queue; those that arm something (--all, --yes, --now)"
    " have none.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        render.out(f"queuectl {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            metavar="PATH-OR-URL",
            allow_from_autoenv=False,
            help="The store. Else QUEUECTL_DATABASE_URL, else QUEUECTL_DB_PATH, else"
            " ~/.queuectl/queue.db.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Print the version and leave."
        ),
    ] = False,
    install_completion: Annotated[str | None, completion.INSTALL_OPTION] = None,
    show_completion: Annotated[str | None, completion.SHOW_OPTION] = None,
) -> None:
    """A background job queue for the command line: retries, a dead letter queue, no server.

    Without a command: a short status.
    """
    if ctx.invoked_subcommand is None:
        with put_off_imports():
            from queuectl.cli import status
        status.show_short(ctx)


def run(arguments: list[str]) -> int:
    """Run the command that the arguments name; return the exit code. Everything is flushed then."""
    render.prepare_streams()
    skip_plugins()
    call = _Call()
    try:
        code = call.invoke(arguments)
        render.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough, as in `queuectl list | head -1`.
        render.abandon_output()
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if call.debug:
            traceback.print_exc()
        code = _report(error)
    return code


class _Call:
    """One call. ``debug`` is known as soon as the options before the command are parsed."""

    debug = False

    def invoke(self, arguments: list[str]) -> int:
        group: Any = get_command(app)
        if (shell := os.environ.get(completion.VARIABLE)) is not None:
            completion.answer(group, shell, arguments)
            return 0
        try:
            with group.make_context(app.info.name, completion.allow_bare(arguments)) as ctx:
                self.debug = ctx.params["debug"]
                group.invoke(ctx)
        except typer.Exit as leave:
            return leave.exit_code
        return 0


def _report(error: Exception) -> int:
    """Say what went wrong and what to do about it; return the exit code."""
    if isinstance(error, QueuectlError):
        wrong_usage = error.exit_code == InvalidInput.exit_code
        render.error(error.message, error.hint or (_USAGE_HINT if wrong_usage else None))
        return error.exit_code
    if isinstance(error, NoArgsIsHelpError):
        render.usage(error.message)
        return error.exit_code
    if isinstance(error, typer.TyperException):
        message, hint = _describe_usage(error)
        render.error(message, hint)
        return error.exit_code
    if isinstance(error, render.OutputError):
        render.error(str(error), None)
        return UNEXPECTED
    render.error(
        f"this should not have happened: {type(error).__name__}: {error}",
        "put --debug before the command to see where; please report it",
    )
    return UNEXPECTED


def _describe_usage(error: typer.TyperException) -> tuple[str, str | None]:
    message, _, suggestion = error.format_message().partition(" Did you mean ")
    message = _lower_first(message.strip().rstrip("."))
    ctx = getattr(error, "ctx", None)
    param = getattr(error, "param", None)
    message = _name_value(message, param)
    if ctx is not None and param is not None and param.envvar:
        source = ctx.get_parameter_source(param.name)
        if source is not None and source.name == "ENVIRONMENT":
            message += f" (from the variable {param.envvar})"
    if suggestion:
        return message, f"did you mean {suggestion}"
    return message, None if ctx is None else f"see: {ctx.command_path} --help"


def _name_value(message: str, param: Any) -> str:
    """Put the value that was typed into Typer's message about it, which speaks of "input"."""
    prefix, separator, reason = message.partition(": ")
    value = _typed_value(param)
    if not separator or value is None or not message.startswith("invalid value for"):
        return message
    reason = reason.removeprefix("Value error, ").removeprefix("Input should be ")
    reason = reason.split(", unable to parse")[0]
    shown = value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "..."
    flag = max(getattr(param, "opts", None) or [prefix], key=len)
    if shown in reason:
        return f"{flag}: {reason}"
    return (
        f"{flag}: {shown!r} is not {reason}"
        if reason.startswith("a ")
        else (f"{flag}: {shown!r} must be {reason}")
    )


def _typed_value(param: Any) -> str | None:
    """Return what stands behind an option on the command line, or in its variable."""
    arguments = sys.argv[1:]
    for flag in getattr(param, "opts", ()):
        for position, argument in enumerate(arguments):
            if argument == flag and position + 1 < len(arguments):
                return arguments[position + 1]
            if argument.startswith(f"{flag}="):
                return argument.removeprefix(f"{flag}=")
    return os.environ.get(getattr(param, "envvar", None) or "")


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
