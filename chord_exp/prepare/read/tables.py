"""Rows of Parquet and Arrow files. An empty cell is a field that is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chord_exp.prepare.rejects import Reject, clip

# rows that are made into Python objects at once: so many, or fewer of so many bytes together
ROWS_A_BATCH, BYTES_A_BATCH = 1024, 16 << 20

# row number, the record, and why it has none
TableRow = tuple[int, "dict[str, Any] | None", "Reject | None"]


def parquet_parts(path: Path) -> list[int]:
    """Rows of each row group.

    Raises:
        Reject: no Parquet file.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        facts = parquet.read_metadata(path)
        _refuse_repeated(facts.schema.to_arrow_schema())
        return [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(error) from None


def read_row_group(path: Path, number: int, first_row: int) -> Iterator[TableRow]:
    """Rows of one row group of a Parquet file, in batches."""
    import pyarrow
    from pyarrow import parquet

    row = first_row
    try:
        with parquet.ParquetFile(path) as file:
            facts = file.metadata.row_group(number)
            rows = rows_a_batch(facts.num_rows, facts.total_byte_size)
            for batch in file.iter_batches(rows, row_groups=[number]):
                for one in _rows(batch, row):
                    yield one
                    row = one[0] + 1
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        yield row, None, _unreadable(error)


def arrow_batches(path: Path) -> list[int]:
    """Rows of each record batch of an Arrow file or stream.

    Raises:
        Reject: no Arrow file.
    """
    return [batch.num_rows for batch in _batches(path)]


def read_batches(path: Path, first: int, count: int, first_row: int) -> Iterator[TableRow]:
    """Rows of some record batches of an Arrow file or stream."""
    row = first_row
    try:
        for number, batch in enumerate(_batches(path)):
            if first <= number < first + count:
                for one in _rows(batch, row):
                    yield one
                    row = one[0] + 1
            elif number >= first + count:
                return
    except Reject as reject:
        yield row, None, reject


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as source:
            try:
                file = pyarrow.ipc.open_file(source)
            except pyarrow.ArrowInvalid:
                source.seek(0)
                stream = pyarrow.ipc.open_stream(source)
                _refuse_repeated(stream.schema)
                yield from stream
            else:
                _refuse_repeated(file.schema)
                for number in range(file.num_record_batches):
                    yield file.get_batch(number)
    except (pyarrow.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise _unreadable(error) from None


def _rows(batch: Any, first_row: int) -> Iterator[TableRow]:
    # `nbytes` would follow the offsets of a damaged file, and end the process
    step = rows_a_batch(batch.num_rows, batch.get_total_buffer_size())
    for start in range(0, batch.num_rows, step):
        part = batch.slice(start, step)
        records = _records(part)
        for at, record in enumerate(records):
            number = first_row + start + at
            if record is None:
                yield number, None, Reject("not_text", "a value that cannot be read")
            else:
                yield number, {name: value for name, value in record.items() if value is not None}, None


def _records(part: Any) -> list[dict[str, Any] | None]:
    """The rows; None for one with a value that Python has no word for, such as a date in year 20000 or broken UTF-8."""
    try:
        # a damaged Arrow file may point outside itself, and reading it would end the process
        part.validate(full=True)
        return part.to_pylist()
    except (ValueError, KeyError, OverflowError, ArithmeticError):
        return [None] if part.num_rows == 1 else [_records(part.slice(at, 1))[0] for at in range(part.num_rows)]


def rows_a_batch(rows: int, size: int) -> int:
    """Rows to take at once of so many, which have so many bytes together."""
    return max(1, min(ROWS_A_BATCH, rows * BYTES_A_BATCH // max(1, size)))


def _refuse_repeated(schema: Any) -> None:
    """Of two columns of one name, also inside another column, a row would hold one only.

    Raises:
        Reject: there are two.
    """
    import pyarrow

    waiting = [schema]
    while waiting:
        fields = list(waiting.pop())
        names = Counter(one.name for one in fields)
        if repeated := next((name for name, count in names.items() if count > 1), None):
            raise Reject("unreadable_file", f"two columns {clip(repeated, 40)!r}")
        for one in fields:
            kind = one.type
            while hasattr(kind, "value_type") and not pyarrow.types.is_dictionary(kind):
                kind = kind.value_type
            if pyarrow.types.is_struct(kind):
                waiting.append([kind.field(at) for at in range(kind.num_fields)])


def _unreadable(error: Exception) -> Reject:
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return Reject("unreadable_file", first)
