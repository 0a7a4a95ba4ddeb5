"""The tables of ``queuectl top``: what is drawn anew, and what stands there then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from textual.app import App, ComposeResult
from textual.strip import Strip

from queuectl.cli.top.snapshot import Row
from queuectl.cli.top.tables import Rows

_TITLES = ("STATE", "ID", "TIME")
_FIRST = [Row(key, ("pending", key, "due 5s"), "pending") for key in "abcd"]
_HEADER_LINES = 1


class Watched(Rows):
    """Remembers which of its lines were drawn."""

    drawn: set[int]

    def render_line(self, y: int) -> Strip:
        self.drawn.add(y)
        return super().render_line(y)


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        table = Watched(_TITLES, "ID", id="jobs")
        table.drawn = set()
        yield table


async def _show(*steps: Sequence[Row], down: int = 0) -> tuple[list[str], set[int], str | None]:
    """Show one after the other; return the text, the lines drawn at last, and who is chosen."""
    app = Shown()
    async with app.run_test(size=(60, 12)) as pilot:
        table = app.query_one(Watched)
        for place, rows in enumerate(steps):
            table.drawn.clear()
            table.show_rows(rows)
            while not table.drawn:
                await pilot.pause()
            if place == 0:
                await pilot.press(*["j"] * down)
                await pilot.pause()
        drawn = set(table.drawn)
        return [table.render_line(y).text for y in range(12)], drawn, table.chosen


def _with(row: Row, state: str, time: str) -> Row:
    return Row(row.key, (state, row.key, time), state)


def test_only_the_row_is_drawn_of_which_a_cell_differs() -> None:
    second = [_FIRST[0], _FIRST[1], _with(_FIRST[2], "pending", "due 6s"), _FIRST[3]]

    text, drawn, _ = asyncio.run(_show(_FIRST, second))

    assert drawn == {_HEADER_LINES + 2}
    assert "due 6s" in text[_HEADER_LINES + 2]


def test_a_cell_that_is_wider_than_its_column_moves_all() -> None:
    second = [_with(_FIRST[0], "processing", "1h20m30s"), *_FIRST[1:]]

    text, drawn, _ = asyncio.run(_show(_FIRST, second))

    assert drawn == set(range(_HEADER_LINES + len(second)))
    assert text[_HEADER_LINES].split() == ["processing", "a", "1h20m30s"]
    assert text[0].index("ID") == text[_HEADER_LINES].index(" a ") + 1


@pytest.mark.parametrize("time", ["due 12h30m", "due"], ids=["wider", "narrower"])
def test_a_row_that_is_drawn_before_the_table_has_come_to_rest_stays_right(time: str) -> None:
    """Textual keeps what it has drawn, and sets the widths of the columns later."""
    second = [_with(row, "pending", time) for row in _FIRST]

    async def draw_at_once() -> list[str]:
        app = Shown()
        async with app.run_test(size=(60, 12)) as pilot:
            table = app.query_one(Watched)
            for rows in (_FIRST, second):
                table.show_rows(rows)
                table.render_line(_HEADER_LINES)
                await pilot.pause()
            return [table.render_line(y).text for y in range(12)]

    anew, _, _ = asyncio.run(_show(second))

    assert asyncio.run(draw_at_once()) == anew


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(_FIRST[::-1], id="turned round"),
        pytest.param([Row("new", ("held", "new", "-"), "held"), *_FIRST[1:]], id="gone and new"),
        pytest.param(
            [_with(_FIRST[3], "dead", "1s ago"), _with(_FIRST[1], "pending", "due 9s")],
            id="moved and changed",
        ),
        pytest.param(
            [_FIRST[1], *(_with(Row(f"n{n}", ()), "held", "-") for n in range(40))], id="many new"
        ),
        pytest.param([_with(row, "completed", "2s ago") for row in _FIRST], id="all changed"),
    ],
)
def test_it_shows_what_a_new_table_shows_and_the_chosen_row_stays_chosen(
    second: list[Row],
) -> None:
    text, _, chosen = asyncio.run(_show(_FIRST, second, down=1))
    anew, _, _ = asyncio.run(_show(second))

    assert [line.split() for line in text] == [line.split() for line in anew]
    assert chosen == "b"
