"""The manifest: what a prepared folder was made from, what it holds, and whether it is still up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import chord_exp
from chord_exp.errors import DataError
from chord_exp.prepare.folder import TOOL
from chord_exp.prepare.layout import EVAL, LAYOUT_VERSION, MANIFEST_FILE, RL, ROWS_FILE, SFT, SIDES
from chord_exp.prepare.options import PrepareOptions

RATIO_NOTE = (
    "expert_ratio is the share of the data set's verifiable training rows that become expert rows; "
    "expert_data_ratio is the share of each training batch that is expert rows."
)


@dataclass(frozen=True)
class Manifest:
    """What a caller needs to know of a prepared folder.

    Args:
        expert_rows: rows of the SFT side, free-text ones included.
        rl_rows: rollout prompts.
        eval_rows: held-out prompts.
        paths: absolute folder of each side that has rows: what Trinity's `path` takes.
        prompt_bytes_max: longest prompt of any side, system prompt included, in UTF-8 bytes; an upper bound
            of its tokens under a byte-level tokenizer, the chat template's own tokens not counted.
        response_bytes_max: longest expert response of any side, in the same unit.
        up_to_date: nothing was written: inputs and arguments were those of the folder found.
        rebuilt_because: why a folder that was there was rebuilt; "" for a new one or an up-to-date one.
        warnings: readable lines a user should see.
        content: manifest.json as it is.
    """

    expert_rows: int
    rl_rows: int
    eval_rows: int
    paths: Mapping[str, Path]
    prompt_bytes_max: int
    response_bytes_max: int
    up_to_date: bool
    rebuilt_because: str
    warnings: tuple[str, ...]
    content: Mapping[str, Any]


def load_manifest(out: Path, *, up_to_date: bool = True, rebuilt_because: str = "") -> Manifest:
    """The manifest of a prepared folder.

    Raises:
        DataError: no readable manifest there.
    """
    path = out / MANIFEST_FILE
    try:
        content = json.loads(path.read_bytes())
        rows, lengths = content["rows"], content["lengths"]
        return Manifest(
            expert_rows=rows[SFT],
            rl_rows=rows[RL],
            eval_rows=rows[EVAL],
            paths={side: out.resolve() / side for side in SIDES if rows[side]},
            prompt_bytes_max=max(side["prompt_bytes"]["max"] for side in lengths.values()),
            response_bytes_max=max(side["response_bytes"]["max"] for side in lengths.values()),
            up_to_date=up_to_date,
            rebuilt_because=rebuilt_because,
            warnings=tuple(content["warnings"]),
            content=content,
        )
    except FileNotFoundError:
        raise DataError("no prepared data here", where=str(out), fix="run python -m chord_exp.prepare") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the manifest cannot be read ({error!r})",
            where=str(path),
            fix="delete the folder and prepare again",
        ) from None


def identity(options: PrepareOptions, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """What decides the output: the first part of a manifest."""
    return {
        "tool": TOOL,
        "version": chord_exp.__version__,
        "layout": LAYOUT_VERSION,
        "arguments": asdict(options),
        "inputs": [{key: file[key] for key in ("path", "bytes", "sha256")} for file in inputs],
    }


def why_rebuild(out: Path, wanted: dict[str, Any]) -> str:
    """Why the folder at `out` does not serve; "" when it does. `out` is known to be ours.

    Raises:
        DataError: a file in it was changed by hand.
    """
    content = load_manifest(out).content
    for name, facts in content["outputs"].items():
        path = out / name
        if not path.is_file():
            return f"{name} is missing"
        if sha256_file(path) != facts["sha256"]:
            raise DataError(
                "the prepared file was changed since it was written",
                where=str(path),
                fix="choose another --out to keep it, or delete the folder to prepare again",
            )
    if (content["version"], content["layout"]) != (wanted["version"], wanted["layout"]):
        return f"it was written by version {content['version']}"
    for name, value in wanted["arguments"].items():
        before = content["arguments"].get(name)
        if before != value:
            return f"{name} was {before!r} and is {value!r}"
    before_files = {file["path"]: file["sha256"] for file in content["inputs"]}
    for file in wanted["inputs"]:
        if before_files.pop(file["path"], None) != file["sha256"]:
            return f"{file['path']} is new or changed"
    return f"{next(iter(before_files))} is gone" if before_files else ""


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def output_name(side: str) -> str:
    """A side's file as named in the manifest."""
    return f"{side}/{ROWS_FILE}"
