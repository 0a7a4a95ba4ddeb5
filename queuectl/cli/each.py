"""``queuectl enqueue --each``: a job for each line, made from a template as GNU parallel's are."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from queuectl.domain import batch, places, request, template
from queuectl.domain import each as domain
from queuectl.errors import InvalidInput

#: Stands for the command while the options are validated.
SAMPLE = "true"

EachOf = Annotated[
    str | None,
    typer.Option(
        "--each",
        metavar="FILE",
        help="A job for each line that is not empty: {} is the line, {.} without its extension,"
        " {/} its last part, {//} its folder, {/.} both, {#} its number; all quoted. - is stdin."
        " All or none.",
    ),
]
Null = Annotated[
    bool, typer.Option("--null", "-0", help="--each: NUL ends an item, as from find -print0.")
]


def refuse_mixtures(*, file: str | None, each: str | None, null: bool) -> None:
    """Refuse what cannot be meant; raises InvalidInput."""
    if file is not None and each is not None:
        raise InvalidInput(
            "give either --file or --each, not both",
            hint="--file reads jobs in JSON, --each a value a line",
        )
    if each == "":
        raise InvalidInput("--each names no file", hint="write --each names.txt, or --each -")
    if null and each is None:
        raise InvalidInput("--null is for --each", hint="write --each FILE, or leave it out")


def reader_of(
    words: list[str],
    base: request.JobRequest,
    id: str | None,
    unique: str | None,
    *,
    null: bool,
) -> batch.Reader:
    """Return what makes jobs of a file's lines; raises InvalidInput for the template."""
    if id is not None and not places.has_place(id):
        raise InvalidInput(
            f"--id {id[:40]!r} would be the id of every job",
            hint="put the number of the line into it, like --id 'job-{#}', or leave it out",
        )
    if unique is not None and not places.has_place(unique):
        raise InvalidInput(
            f"--unique {unique[:40]!r} would be the key of every job, and only one would be stored",
            hint="put the line into it, like --unique 'convert {}', or leave it out",
        )
    file = base.expect_file if places.has_place(base.expect_file or "") else None
    name = base.name if places.has_place(base.name or "") else None
    pattern = domain.Pattern(_template(words), base, id, unique, file, name)
    return partial(domain.read_jobs, pattern=pattern, separator=b"\0" if null else b"\n")


def _template(words: list[str]) -> template.Template | None:
    if len(words) == 1 and words[0].startswith('{"'):
        raise InvalidInput(
            "a template is a command, not a job in JSON",
            hint="give the rest by options: --each FILE --queue NAME 'convert {} {.}.png'",
        )
    if not words:
        return None
    return (
        template.Template.of_line(words[0])
        if len(words) == 1
        else template.Template.of_words(words)
    )
