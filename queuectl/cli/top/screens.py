"""What lies above the first screen for a while: a question, and the details of a job."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Static

from queuectl.cli.top import keys


class Question(ModalScreen[bool]):
    """Asks for a yes or a no."""

    BINDINGS = keys.QUESTION

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        yield Static(Text(f"{self._text} [y/n]"), id="question")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class Details(Screen[None]):
    """Shows a text that is longer than the screen."""

    BINDINGS = keys.ABOVE

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(Text(self._text), id="details")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
