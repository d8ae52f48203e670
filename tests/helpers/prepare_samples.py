"""Raw data folders for the tests of prepare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chord_exp.prepare import Manifest, ensure_prepared
from chord_exp.prepare.read.chunks import chunks_of, read_chunk
from chord_exp.prepare.read.files import find_files
from chord_exp.prepare.read.raw_rows import parse_row
from chord_exp.prepare.rejects import Reject
from chord_exp.utils.split_settings import SplitSettings

Record = dict[str, Any]
Found = tuple[int, Any]


def pair(number: int, *, reply: str | None = None) -> Record:
    """A verifiable record of the prompt_response format with a prompt of its own."""
    return {"prompt": f"What is {number} plus {number}?", "response": reply or f"\\boxed{{{2 * number}}}"}


def free_text(number: int) -> Record:
    return {"prompt": f"Tell me about thing {number}.", "response": "It is useful."}


def write_lines(path: Path, records: list[Any]) -> Path:
    """One record a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def split_settings(**changes: Any) -> SplitSettings:
    """The settings of this test suite."""
    values: dict[str, Any] = {
        "expert_ratio": 0.25,
        "eval_rows": 0,
        "test_rows": 0,
        "seed": 0,
        "system_prompt": "",
        "eval_dir": None,
        "map": {},
        "near_dedup": None,
        "answer_check": False,
        "drop_long": False,
        "single_turn": False,
        "free_text": "none",
    }
    return SplitSettings(**{**values, **changes})


def prepare(source: Path, out: Path | None, **more: Any) -> Manifest:
    """ensure_prepared with this test suite's values; `more` are options or arguments of it."""
    changes = {name: more.pop(name) for name in list(more) if name in SplitSettings.__dataclass_fields__}
    return ensure_prepared(source, split_settings(**changes), out=out, **more)


def rows(out: Path, side: str) -> list[Record]:
    """What was written to a side; [] when the side is absent."""
    path = out / side / "train.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def prompts(out: Path, side: str) -> list[str]:
    """The first user text of each row of a side."""
    if side != "sft":
        return [row["prompt"] for row in rows(out, side)]
    conversations = [json.loads(row["messages"]) for row in rows(out, side)]
    return [next(turn["content"] for turn in turns if turn["role"] == "user") for turns in conversations]


def rejects(out: Path) -> list[Record]:
    return [json.loads(line) for line in (out / "rejects.jsonl").read_bytes().splitlines()]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(folder: Path, target: int = 1 << 20) -> list[Found]:
    """Line and record of every row below a folder; the reason in place of a record that is rejected."""
    found: list[Found] = []
    scratch = folder.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    for file in find_files(folder)[0]:
        for chunk in chunks_of(file, target, scratch):
            for row in read_chunk(chunk):
                try:
                    if row.fault is not None:
                        raise row.fault
                    found.append((row.line, parse_row(row.data) if row.record is None else row.record))
                except Reject as reject:
                    found.append((row.line, reject.reason))
    return found
