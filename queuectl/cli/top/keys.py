"""The keys, each with what it does and what the footer and the help say of it."""

from __future__ import annotations

from textual.binding import Binding, BindingType

#: Everywhere.
PROGRAM: list[BindingType] = [
    Binding("q", "quit", "Quit"),
    Binding("ctrl+c", "interrupt", "Quit, with exit code 130", show=False, priority=True),
    Binding("ctrl+z", "suspend_group", "Suspend; fg comes back", show=False, priority=True),
]
#: In a table.
ROWS: list[BindingType] = [
    Binding("j", "cursor_down", "Down", show=False),
    Binding("k", "cursor_up", "Up", show=False),
    Binding("g", "scroll_top", "First", show=False),
    Binding("G", "scroll_bottom", "Last", show=False),
    Binding("enter", "select_cursor", "Details"),
]
#: On the first screen.
MAIN: list[BindingType] = [
    Binding("f", "follow", "Follow", tooltip="Show what the job prints, as it comes"),
    Binding("p", "pause", "Pause", tooltip="Pause or resume the queue"),
    Binding("c", "cancel", "Cancel", tooltip="Cancel the job; asks first"),
    Binding("r", "retry", "Retry", tooltip="Queue a job again that has ended"),
    # The footer has room for 80 columns; the help has it too.
    Binding("F", "freeze", "Freeze a running job's processes, or let them go on", show=False),
    Binding("slash", "filter", "Filter", key_display="/"),
    Binding("escape", "show_all", "No filter", show=False),
    Binding("question_mark", "help", "Help", key_display="?"),
]
#: On a screen that lies above it.
ABOVE: list[BindingType] = [Binding("escape,q", "dismiss", "Back")]
#: Where something is asked.
QUESTION: list[BindingType] = [
    Binding("y", "answer(True)", "Yes"),
    Binding("n,escape,q", "answer(False)", "No"),
]
