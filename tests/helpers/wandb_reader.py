"""Read the `.wandb` files that a run leaves, record by record, with WandB's own message types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, FILE_HEADER, CHUNK_HEADER = 32768, 7, 7


def _payloads(data: bytes) -> Iterator[bytes]:
    """Whole records of a file in LevelDB's log format, without its checksums."""
    position, parts = FILE_HEADER, b""
    while position + CHUNK_HEADER <= len(data):
        if BLOCK - position % BLOCK < CHUNK_HEADER:
            position += BLOCK - position % BLOCK
            continue
        size, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        position += CHUNK_HEADER
        parts += data[position : position + size]
        position += size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def records(file: Path) -> list[Record]:
    """All records of a file."""
    return [Record.FromString(payload) for payload in _payloads(file.read_bytes())]


def run_of(file: Path) -> Any:
    """The message that describes the run: run_id, run_group, job_type, tags, config."""
    return next(record.run for record in records(file) if record.WhichOneof("record_type") == "run")


def config_of(file: Path) -> dict[str, Any]:
    """The run's configuration."""
    return {item.key: json.loads(item.value_json) for item in run_of(file).config.update if item.key != "_wandb"}


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The logged rows, without WandB's own keys."""
    found = []
    for record in records(file):
        if record.WhichOneof("record_type") == "history":
            row = {(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
            found.append({key: value for key, value in row.items() if not key.startswith("_")})
    return found
