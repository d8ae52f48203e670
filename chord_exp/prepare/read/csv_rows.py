"""Rows of CSV and TSV text, as spreadsheets write it, by one reader over the file. No row, however long, fills the
memory."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from chord_exp.prepare.read.raw_rows import MAX_ROW_BYTES, RawRow, too_long
from chord_exp.prepare.rejects import Reject, clip

MAX_COLUMNS = 10_000
MAX_CELL_CHARACTERS = 32 << 20
# the index of a pandas table, by the name that pandas gives it
INDEX_COLUMN = "Unnamed: 0"

_SEPARATOR = re.compile(r"sep=(.)\r?\n?")
_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 20


class _RowTooLong(Exception):
    """A row goes on beyond the limit."""


class _Lines:
    """Lines of a text for the csv module, which says where rows end; counted, so that no row grows for ever."""

    def __init__(self, stream: BinaryIO, cut_off: bool) -> None:
        self._stream, self._cut_off = stream, cut_off
        # lines given out
        self.number = 0
        # of the row that is being read
        self.row_bytes, self._quotes = 0, 0

    def row_ended(self) -> None:
        self.row_bytes, self._quotes = 0, 0

    def __iter__(self) -> Iterator[str]:
        """
        Raises:
            _RowTooLong: a row is over the limit; `skip_row` goes on after it.
        """
        while line := self._stream.readline(MAX_ROW_BYTES + 1):
            if self._cut_off and not line.endswith(b"\n"):
                # half a row may look like a whole one
                return
            blank = self.row_bytes == 0 and line.isspace()
            self._count(line)
            if self.row_bytes > MAX_ROW_BYTES:
                raise _RowTooLong
            if blank:  # the csv module says nothing of it
                self.row_ended()
            yield _decoded(line)

    def skip_row(self) -> None:
        """Go to the end of the row that is being read: it is over at the end of a line with every quote closed."""
        while self._open_line or self._quotes % 2:
            line = self._stream.readline(MAX_ROW_BYTES)
            if not line:
                break
            self._count(line)

    def _count(self, line: bytes) -> None:
        self._open_line = not line.endswith(b"\n")
        self.number += not self._open_line
        self.row_bytes += len(line)
        self._quotes += line.count(b'"')


def _decoded(line: bytes) -> str:
    """A line; bytes that are not UTF-8 become what no text holds, so that its row is refused by name."""
    return line.decode("utf-8", "surrogateescape")


def find_delimiter(head: str, usual: str) -> tuple[str, bool]:
    """The character between cells, and whether a line of its own says so, as Excel reads it.

    Args:
        head: the first lines.
        usual: that of the file's kind; taken wherever it stands in the header.
    """
    head = head.lstrip("\r\n")
    if said := _SEPARATOR.match(head):
        return said[1], True
    header = head.partition("\n")[0]
    if usual in header:
        return usual, False
    try:
        found = csv.Sniffer().sniff("\n".join(head.split("\n")[:_SAMPLE_LINES]), _DELIMITERS).delimiter
    except csv.Error:
        found = usual
    return (found if found in header else usual), False


class CsvTable:
    """A table that is read row by row.

    Raises:
        Reject: the file cannot be read as a table.
    """

    def __init__(self, stream: BinaryIO, head: str, usual: str, cut_off: bool) -> None:
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        self._lines = _Lines(stream, cut_off)
        self.delimiter, said = find_delimiter(head, usual)
        # what a user should hear of how it is read
        self.notes = [] if self.delimiter == usual else [f"cells are separated by {self.delimiter!r}"]
        header = self._first_row(skip=said)
        if len(header) > MAX_COLUMNS:
            raise Reject("unreadable_file", f"{len(header):,} columns")
        names = [name.strip() for name in header]
        if len([name for name in names if name]) > 0 and len(names) > 1 and not names[0]:
            names[0] = INDEX_COLUMN
        if not all(is_text(name) for name in names):
            raise Reject("unreadable_file", "its header is not UTF-8")
        repeated = next((name for name, count in Counter(filter(None, names)).items() if count > 1), None)
        if repeated is not None:
            raise Reject("unreadable_file", f"two columns {clip(repeated, 40)!r}")
        nameless = [str(at) for at, name in enumerate(names, 1) if not name]
        if nameless and len(nameless) < len(names):
            self.notes.append(f"column{'s' * (len(nameless) > 1)} {', '.join(nameless)} without a name left out")
        self._names = names
        self._least = max((at for at, name in enumerate(names, 1) if name), default=0)

    def _first_row(self, *, skip: bool) -> list[str]:
        try:
            rows = (cells for cells in csv.reader(self._lines, delimiter=self.delimiter, strict=True) if cells)
            if skip:
                next(rows, [])
                self._lines.row_ended()
            header = next(rows, [])
        except csv.Error as error:
            raise Reject("unreadable_file", f"its header: {error}") from None
        except _RowTooLong:
            raise Reject("unreadable_file", "its header is too long") from None
        self._lines.row_ended()
        return header

    def rows(self) -> Iterator[RawRow]:
        """The rows; a row without a cell is none."""
        lines = self._lines
        while True:
            # strict: a quote that is never closed, or closed too early, is a fault and not text
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            begun = lines.number
            while True:
                line = begun + reader.line_num + 1
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    yield RawRow(line, b"", Reject("invalid_csv", str(error)))
                except _RowTooLong:
                    lines.skip_row()
                    yield RawRow(line, b"", too_long(lines.row_bytes))
                    lines.row_ended()
                    break
                else:
                    if cells is None:
                        return
                    if any(cells):
                        yield self._row(line, cells)
                lines.row_ended()

    def _row(self, line: int, cells: list[str]) -> RawRow:
        names = self._names
        if len(cells) < self._least or any(cells[len(names) :]):
            told = f"{len(cells)} cells, and the header has {len(names)}"
            return RawRow(line, b"", Reject("invalid_csv", told))
        record = {name: cell for name, cell in zip(names, cells, strict=False) if cell and name}
        if not all(cell.isascii() or is_text(cell) for cell in record.values()):
            return RawRow(line, b"", Reject("not_utf8"))
        return RawRow(line, b"", None, record)


def is_text(text: str) -> bool:
    """Whether it holds no half of a surrogate pair, which stands for a byte that does not decode."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
