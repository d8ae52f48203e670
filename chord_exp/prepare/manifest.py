"""The manifest: what a prepared folder was made from, what it holds, and whether it is still up to date."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import chord_exp
from chord_exp.errors import DataError
from chord_exp.prepare.answers.find import FREE_TEXT, KINDS, TOOL_CALL
from chord_exp.prepare.answers.scoring import SCORINGS
from chord_exp.prepare.columns import AS_WRITTEN, Columns
from chord_exp.prepare.folder import TOOL
from chord_exp.prepare.options import PrepareOptions
from chord_exp.prepare.read.survey import Survey, sha256_file
from chord_exp.prepare.report.percentiles import percentiles
from chord_exp.prepare.report.tally import Tally
from chord_exp.prepare.report.warnings import Facts, collect_warnings
from chord_exp.prepare.rows.script import LANGUAGES
from chord_exp.prepare.split.assign import REASONS, Placement
from chord_exp.prepare.split.sources import source_of
from chord_exp.trinity_config.plugin_names import EVAL_WORKFLOW_OF
from chord_exp.trinity_config.rows import EVAL, LAYOUT_VERSION, MANIFEST_FILE, RL, SFT, SIDES

RATIO_NOTE = (
    "expert_ratio is the share of the data set's verifiable training rows that become expert rows; "
    "expert_data_ratio is the share of each training batch that is expert rows."
)
LENGTHS = ("prompt_chars", "prompt_bytes", "response_chars", "response_bytes")


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
        scored_by: workflows and rewards that rows of the RL and the held-out side name.
        multi_turn: the SFT side holds conversations of which every answer is to be trained.
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
    scored_by: tuple[str, ...]
    multi_turn: bool
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
            scored_by=tuple(content["scored_by"]),
            multi_turn=content["multi_turn"],
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


def identity(options: PrepareOptions, inputs: Survey, evals: Survey | None) -> dict[str, Any]:
    """What decides the output: the first part of a manifest."""
    return {
        "tool": TOOL,
        "version": chord_exp.__version__,
        "layout": LAYOUT_VERSION,
        "arguments": {**asdict(options), "map": dict(options.map)},
        "inputs": inputs.facts,
        "eval_inputs": [] if evals is None else evals.facts,
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
    for part in ("inputs", "eval_inputs"):
        before_files = {file["path"]: file["sha256"] for file in content[part]}
        for file in wanted[part]:
            if before_files.pop(file["path"], None) != file["sha256"]:
                return f"{file['path']} is new or changed"
        if before_files:
            return f"{next(iter(before_files))} is gone"
    return ""


@dataclass(frozen=True)
class Built:
    """A finished preparation, as the manifest needs it."""

    options: PrepareOptions
    inputs: Survey
    evals: Survey | None
    columns: Columns
    tally: Tally
    placement: Placement
    outputs: dict[str, Any]
    personal_data: dict[str, Any]
    # percentiles in tokens, of each side; empty without a tokenizer
    tokens: dict[str, dict[str, Any]]


def content_of(wanted: dict[str, Any], built: Built) -> dict[str, Any]:
    """The manifest of what was built: identity, counts, ratios, lengths, hashes, warnings.

    Args:
        wanted: from `identity`.
    """
    import numpy as np

    options, tally, placement, columns = built.options, built.tally, built.placement, built.columns
    sides = placement.sides
    loaded = columns.load("kind", "language", "flags", "scoring", *LENGTHS)
    kept = np.concatenate(list(sides.values()))
    taught = sides[SFT]
    expert = taught[placement.reason[taught] == 0]
    reached = len(expert) / (len(expert) + len(sides[RL]))
    boxed = expert[~np.isin(loaded["kind"][expert], [KINDS.index(kind) for kind in (TOOL_CALL, FREE_TEXT)])]
    sft_only = _counted(placement.reason[taught], REASONS)
    sft_only.pop("", None)
    facts = Facts(
        asked_ratio=options.expert_ratio,
        reached_ratio=reached,
        unboxed_experts=int(((loaded["flags"][boxed] & AS_WRITTEN) == 0).sum()),
        experts=len(boxed),
        eval_asked=placement.eval_asked,
        eval_rows=len(sides[EVAL]),
        skipped=built.inputs.skipped,
        sft_only=Counter(sft_only),
        tally=tally,
        free_text=options.free_text,
    )
    return {
        **wanted,
        "inputs": [{**file, **vars(tally.files[file["path"]])} for file in wanted["inputs"]],
        "skipped_files": built.inputs.skipped,
        "rows": tally.rows({side: len(rows) for side, rows in sides.items()}),
        "multi_turn": placement.multi_turn,
        "scored_by": _scored_by(loaded["scoring"], sides),
        "formats": dict(sorted(tally.formats.items())),
        "sources": _by_source(built, kept),
        "kinds": _counted(loaded["kind"][kept], KINDS),
        "languages": _counted(loaded["language"][kept], LANGUAGES),
        "sft_only": sft_only,
        "rejects": dict(sorted(tally.rejects.items())),
        "ratios": {
            "expert_ratio_asked": options.expert_ratio,
            "expert_ratio_reached": round(reached, 6),
            "sft_share_of_training_rows": round(len(taught) / (len(taught) + len(sides[RL])), 6),
            "note": RATIO_NOTE,
        },
        "lengths": {
            side: {**{name: percentiles(loaded[name][rows]) for name in LENGTHS}, **built.tokens.get(side, {})}
            for side, rows in sides.items()
            if len(rows)
        },
        "personal_data": built.personal_data,
        "outputs": built.outputs,
        "warnings": collect_warnings(facts),
    }


def row_bytes(built: Built) -> dict[str, Any]:
    """Bytes of each row, prompt and response together, of each side that has rows; shape (rows of the side,)."""
    loaded = built.columns.load("prompt_bytes", "response_bytes")
    total = loaded["prompt_bytes"] + loaded["response_bytes"]
    return {side: total[rows] for side, rows in built.placement.sides.items() if len(rows)}


def _counted(numbers: Any, names: tuple[str, ...]) -> dict[str, int]:
    """How often each name occurs, those that do."""
    import numpy as np

    counts = np.bincount(numbers, minlength=len(names)).tolist()
    return {name: count for name, count in zip(names, counts, strict=True) if count}


def _scored_by(scoring: Any, sides: Mapping[str, Any]) -> list[str]:
    """Workflows and rewards that the rows of the RL and the held-out side name."""
    import numpy as np

    names: set[str] = set()
    for number in np.unique(scoring[sides[RL]]).tolist():
        names |= {SCORINGS[number].workflow, SCORINGS[number].reward}
    for number in np.unique(scoring[sides[EVAL]]).tolist():
        names |= {EVAL_WORKFLOW_OF[SCORINGS[number].workflow], SCORINGS[number].reward}
    return sorted(filter(None, names))


def _by_source(built: Built, kept: Any) -> dict[str, int]:
    """Rows written, by source."""
    import numpy as np

    counts: Counter[str] = Counter()
    files = np.bincount(built.columns.files()[kept], minlength=len(built.inputs.files))
    for file, count in zip(built.inputs.files, files.tolist(), strict=True):
        counts[source_of(file.name)] += count
    return dict(sorted(counts.items()))


def save(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest of a folder."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
