"""Tables that take rows and change only what differs; the chosen row stays chosen when it moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from rich.cells import cell_len
from rich.text import Text
from textual.coordinate import Coordinate
from textual.geometry import Region
from textual.widgets import DataTable

from queuectl.cli import render
from queuectl.cli.top import keys
from queuectl.cli.top.snapshot import Row

#: More new and gone rows than that, and all are put there anew: taking one out costs a look at all.
_FEW = 30
#: More changed cells than that, and the table is drawn whole: finding a cell's place costs a look
#: at all rows above it.
_FEW_CELLS = 60


class Rows(DataTable[Text]):
    """A table of rows that have keys."""

    BINDINGS = keys.ROWS
    #: Whether each cell that changes is drawn by itself.
    _draws_cells = False

    def __init__(self, titles: Sequence[str], key_title: str, *, id: str) -> None:
        super().__init__(cursor_type="row", id=id)
        self._titles = titles
        self._key_place = titles.index(key_title)
        #: What stands there, in its order.
        self._rows: dict[str, Row] = {}

    def refresh(
        self,
        *regions: Region,
        repaint: bool = True,
        layout: bool = False,
        recompose: bool = False,
    ) -> Self:
        """Draw it anew; but for a cell that changes, Textual would draw the whole table."""
        if self._draws_cells and not regions:
            return self
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    @property
    def chosen(self) -> str | None:
        """The key of the row under the cursor."""
        names = list(self._rows)
        return names[self.cursor_row] if 0 <= self.cursor_row < len(names) else None

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Let the table hold these rows in this order."""
        wanted = {row.key: row for row in rows}
        if self.columns and list(wanted.items()) == list(self._rows.items()):
            return
        for title in () if self.columns else self._titles:
            self.add_column(Text(title), key=title)
        # Who stands on the first row looks at what comes first, whatever that is.
        chosen = self.chosen if self.cursor_row > 0 else None
        before, self._rows = self._rows, wanted
        resized = self._fit_columns()
        gone, new = before.keys() - wanted.keys(), wanted.keys() - before.keys()
        if len(gone) + len(new) > _FEW:
            self._put_anew()
        else:
            self._put_changes(before, resized=resized)
        if chosen in wanted and chosen != self.chosen:
            self.move_cursor(row=list(wanted).index(chosen))

    def _fit_columns(self) -> bool:
        """Make each column as wide as what stands in it; return whether a width has changed.

        Textual does so when it is idle; a row that is drawn before then would keep the old widths.
        """
        before = [column.content_width for column in self.ordered_columns]
        cells = zip(self._titles, *(row.cells for row in self._rows.values()), strict=True)
        after = [max(map(cell_len, column)) for column in cells]
        for column, width in zip(self.ordered_columns, after, strict=True):
            column.content_width = width
        return before != after

    def _put_anew(self) -> None:
        scrolled = self.scroll_y
        self.clear()
        for row in self._rows.values():
            self.add_row(*_draw(row), key=row.key)
        self.call_after_refresh(self.scroll_to, y=scrolled, animate=False)

    def _put_changes(self, before: dict[str, Row], *, resized: bool) -> None:
        order = [key for key in before if key in self._rows]
        for key in before.keys() - self._rows.keys():
            self.remove_row(key)
        for row in self._rows.values():
            if row.key not in before:
                self.add_row(*_draw(row), key=row.key)
                order.append(row.key)
        self._change_cells(before, resized=resized)
        if order != list(self._rows):
            places = {key: place for place, key in enumerate(self._rows)}
            self.sort(self._titles[self._key_place], key=lambda cell: places[cell.plain])

    def _change_cells(self, before: dict[str, Row], *, resized: bool) -> None:
        """Change and draw the cells that differ; all is drawn where they are many, or wider."""
        changes = [
            (row.key, place, drawn)
            for row in self._rows.values()
            if row.key in before and row != before[row.key]
            for place, drawn in _differing(before[row.key], row)
        ]
        self._draws_cells = len(changes) <= _FEW_CELLS and not resized
        for key, place, drawn in changes:
            self.update_cell(key, self._titles[place], drawn)
        if self._draws_cells:
            for key, place, _ in changes:
                self.refresh_coordinate(Coordinate(self.get_row_index(key), place))
        self._draws_cells = False


def _differing(before: Row, row: Row) -> list[tuple[int, Text]]:
    """Return the cells that differ, each with its place."""
    return [
        (place, cell)
        for place, (old, cell) in enumerate(zip(_draw(before), _draw(row), strict=True))
        if old != cell or old.style != cell.style
    ]


def _draw(row: Row) -> list[Text]:
    """Return the cells as texts in which nothing is markup; the first bears the state's colour."""
    colours = [render.STATE_COLOURS.get(row.state, ""), *[""] * (len(row.cells) - 1)]
    return [
        Text(cell, style=colour, no_wrap=True)
        for cell, colour in zip(row.cells, colours, strict=True)
    ]
