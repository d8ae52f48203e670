"""Tables of plain text, written as HTML or as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

# a text, or a text and asides to it
Cell = str | tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    # what it means, in a few words
    note: str = ""
    # set to the right, and never broken
    is_number: bool = True


@dataclass(frozen=True)
class Table:
    """Columns, and rows of one cell for each."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    # CSS classes of each row and its first cell's mark, where rows stand for groups
    marks: Sequence[tuple[str, str]] = ()


def html(table: Table) -> str:
    """Return a table as HTML, in a box of its own that scrolls sideways."""
    head = "".join(
        f'<th class="{_kind(column)}" title="{escape(column.note)}">{escape(column.name)}' for column in table.columns
    )
    rows = []
    for index, row in enumerate(table.rows):
        attributes, mark = table.marks[index] if table.marks else ("", "")
        cells = (
            f"<td class={_kind(column)}>{mark if place == 0 else ''}{_cell(cell)}"
            for place, (column, cell) in enumerate(zip(table.columns, row, strict=True))
        )
        rows.append(f"<tr{attributes}>{''.join(cells)}</tr>")
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _kind(column: Column) -> str:
    return "n" if column.is_number else "long"


def _cell(cell: Cell) -> str:
    first, *asides = (cell,) if isinstance(cell, str) else cell
    return escape(first) + "".join(f"<br><small>{escape(aside)}</small>" for aside in asides if aside)


def markdown(table: Table) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    yield f"| {' | '.join(in_line(column.name) for column in table.columns)} |"
    yield f"|{' --- |' * len(table.columns)}"
    for row in table.rows:
        texts = (cell if isinstance(cell, str) else "; ".join(filter(None, cell)) for cell in row)
        yield f"| {' | '.join(map(in_line, texts))} |"


def in_line(text: str) -> str:
    """Return a text as it may stand within a line, or a cell, of Markdown."""
    return " ".join(text.replace("|", "\\|").split())
