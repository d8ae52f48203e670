"""Lines of CSV and TSV text for the csv module, with where its rows begin: no row of any length fills the memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator


class RowTooLong(Exception):
    """A row goes on beyond the limit."""


class TableLines:
    """Lines of a text, counted as they are given out; whoever reads rows of them says where each has ended."""

    def __init__(self, text: mmap.mmap, start: int, end: int, most: int) -> None:
        """
        Args:
            start, end: the part to read, bytes; `end` is that of a line.
            most: bytes that a row may have.
        """
        self._text, self._end, self._most = text, end, most
        # what has been given out: up to this byte, so many lines
        self.offset, self.count = start, 0
        self._row = (start, 0)

    @property
    def row_start(self) -> int:
        """Where the row begins that is being read, byte."""
        return self._row[0]

    @property
    def row_line(self) -> int:
        """Number of its first line, from 1."""
        return self._row[1] + 1

    def row_ended(self) -> None:
        """The lines given out so far are whole rows."""
        self._row = (self.offset, self.count)

    def __iter__(self) -> Iterator[str]:
        """
        Raises:
            RowTooLong: a row is over the limit; `skip_row` goes on after it.
        """
        while self.offset < self._end:
            end = self._line_end(self.offset)
            if end - self.row_start > self._most:
                raise RowTooLong
            line = decoded(self._text[self.offset : end])
            blank = self.offset == self.row_start and line.isspace()
            self.offset, self.count = end, self.count + 1
            if blank:  # the csv module says nothing of it
                self.row_ended()
            yield line

    def skip_row(self) -> None:
        """Go to the end of the row that is being read: it is over once every quote has been closed."""
        self.offset, self.count = self._row
        open_quote = False
        while self.offset < self._end:
            end = self._line_end(self.offset)
            open_quote ^= self._quotes(self.offset, end) % 2 == 1
            self.offset, self.count = end, self.count + 1
            if not open_quote:
                break
        self.row_ended()

    def _line_end(self, start: int) -> int:
        return self._text.find(b"\n", start, self._end) + 1 or self._end

    def _quotes(self, start: int, end: int) -> int:
        return sum(self._text[at : min(at + self._most, end)].count(b'"') for at in range(start, end, self._most))


def decoded(line: bytes) -> str:
    """A line of a table; bytes that are not UTF-8 become what no text holds, so that its row is refused by name."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("utf-8", "surrogateescape")
