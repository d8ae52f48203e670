"""The manifest: what a prepared folder was made from, and what it holds."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chord_exp
from chord_exp.errors import DataError
from chord_exp.prepare.answers.find import FREE_TEXT, KINDS, TOOL_CALL
from chord_exp.prepare.answers.scoring import SCORINGS
from chord_exp.prepare.columns import AS_WRITTEN, Columns
from chord_exp.prepare.folder import TOOL
from chord_exp.prepare.read.files import DATASET_INFO
from chord_exp.prepare.read.inventory import Inventory, sha256_file
from chord_exp.prepare.report.tally import Tally
from chord_exp.prepare.report.token_lengths import RowLimit, percentiles
from chord_exp.prepare.report.warnings import Facts, collect_warnings
from chord_exp.prepare.rows.contamination import EvalPrompts
from chord_exp.prepare.rows.script import LANGUAGES
from chord_exp.prepare.split.assign import REASONS, Assignment
from chord_exp.prepare.split.sources import source_of
from chord_exp.trinity_config.plugin_names import EVAL_WORKFLOW_OF
from chord_exp.trinity_config.rows import EVAL, LAYOUT_VERSION, MANIFEST_FILE, RL, SFT, TEST
from chord_exp.utils.split_settings import SplitSettings

RATIO_NOTE = (
    "expert_ratio is the share of the data set's verifiable training rows that become expert rows; "
    "expert_data_ratio is the share of each training batch that is expert rows."
)
# of a folder with other columns in every row, the most frequent ones
_MOST_UNUSED = 100
LENGTHS = ("prompt_chars", "prompt_bytes", "response_chars", "response_bytes")


@dataclass(frozen=True)
class Manifest:
    """What a caller needs to know of a prepared folder."""

    # where it lies, absolute
    folder: Path
    # of its inputs and arguments: folders of equal digest hold equal rows; 64 hexadecimal digits
    digest: str
    # rows of the SFT side, free-text ones included
    expert_rows: int
    # rollout prompts
    rl_rows: int
    # held-out prompts
    eval_rows: int
    test_rows: int
    # workflows and rewards that rows of the RL and the held-out side name
    scored_by: tuple[str, ...]
    # the SFT side holds conversations of which every answer is to be trained
    multi_turn: bool
    # nothing was written: the folder was there
    up_to_date: bool
    # in what the content that had to make way differed; "" where there was none
    replaced: str
    # readable lines a user should see
    warnings: tuple[str, ...]
    # manifest.json as it is
    content: Mapping[str, Any]

    def is_whole(self) -> bool:
        """Whether every file is there at its full size."""
        return all(
            (self.folder / name).is_file() and (self.folder / name).stat().st_size == facts["bytes"]
            for name, facts in self.content["outputs"].items()
        )

    def refuse_changes(self, key: str) -> None:
        """
        Raises:
            DataError: a file was changed by hand.
        """
        for name, facts in self.content["outputs"].items():
            path = self.folder / name
            if path.is_file() and sha256_file(path) != facts["sha256"]:
                raise DataError(
                    "the prepared file was changed since it was written",
                    where=str(path),
                    fix=f"choose another {key} to keep it, or delete the folder to prepare again",
                )


def load_manifest(folder: Path, *, up_to_date: bool = True, replaced: str = "") -> Manifest:
    """Return the manifest of a prepared folder.

    Raises:
        DataError: no readable manifest there.
    """
    path = folder / MANIFEST_FILE
    try:
        content = json.loads(path.read_bytes())
        rows = content["rows"]
        return Manifest(
            folder=folder.resolve(),
            digest=content["digest"],
            expert_rows=rows[SFT],
            rl_rows=rows[RL],
            eval_rows=rows[EVAL],
            test_rows=rows[TEST],
            scored_by=tuple(content["scored_by"]),
            multi_turn=content["multi_turn"],
            up_to_date=up_to_date,
            replaced=replaced,
            warnings=tuple(content["warnings"]),
            content=content,
        )
    except FileNotFoundError:
        raise DataError("no prepared data here", where=str(folder), fix="run python -m chord_exp.prepare") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the manifest cannot be read ({error!r})",
            where=str(path),
            fix="delete the folder and prepare again",
        ) from None


def identity(
    settings: SplitSettings, inputs: Inventory, evals: Inventory | None, row_limit: RowLimit | None
) -> dict[str, Any]:
    """What decides the output, and the digest of it: the first part of a manifest."""
    decides = {
        "tool": TOOL,
        "version": chord_exp.__version__,
        "layout": LAYOUT_VERSION,
        "arguments": {**settings.split_arguments(), "row_limit": row_limit.decides() if row_limit else None},
        "inputs": inputs.facts,
        "eval_inputs": [] if evals is None else evals.facts,
        "declarations": {
            path.relative_to(inputs.folder).as_posix(): sha256_file(path)
            for path in sorted(inputs.folder.rglob(DATASET_INFO))
        },
    }
    text = json.dumps(decides, sort_keys=True)
    return {**decides, "digest": hashlib.sha256(text.encode()).hexdigest()}


def differences(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """In what a manifest differs from a wanted one, such as "expert_ratio, inputs"; "" where it does not."""
    arguments = wanted["arguments"]
    names = [name for name in arguments if before["arguments"].get(name) != arguments[name]]
    for part in ("inputs", "eval_inputs"):
        if [file["sha256"] for file in before[part]] != [file["sha256"] for file in wanted[part]]:
            names.append(part)
    return ", ".join(
        [*names, *(part for part in ("version", "layout", "declarations") if before.get(part) != wanted[part])]
    )


@dataclass(frozen=True)
class Built:
    """A finished preparation, as the manifest needs it."""

    settings: SplitSettings
    inputs: Inventory
    evals: Inventory | None
    # what the evaluation data asks; None without any
    eval_prompts: EvalPrompts | None
    columns: Columns
    tally: Tally
    assignment: Assignment
    outputs: dict[str, Any]
    personal_data: dict[str, Any]


def content_of(wanted: dict[str, Any], built: Built) -> dict[str, Any]:
    """The manifest of what was built: identity, counts, ratios, lengths, hashes, warnings.

    Args:
        wanted: from `identity`.
    """
    import numpy as np

    settings, tally, assignment, columns = built.settings, built.tally, built.assignment, built.columns
    sides, prompts = assignment.sides, built.eval_prompts
    loaded = columns.load("kind", "language", "flags", "scoring", *LENGTHS)
    kept = np.concatenate(list(sides.values()))
    sft_rows = sides[SFT]
    expert = sft_rows[assignment.reason[sft_rows] == 0]
    reached = len(expert) / max(len(expert) + len(sides[RL]), 1)
    boxed = expert[~np.isin(loaded["kind"][expert], [KINDS.index(kind) for kind in (TOOL_CALL, FREE_TEXT)])]
    sft_only = _counted(assignment.reason[sft_rows], REASONS)
    sft_only.pop("", None)
    facts = Facts(
        asked_ratio=settings.expert_ratio,
        reached_ratio=reached,
        unboxed_experts=int(((loaded["flags"][boxed] & AS_WRITTEN) == 0).sum()),
        experts=len(boxed),
        eval_asked=settings.eval_rows,
        eval_rows=len(sides[EVAL]),
        test_asked=settings.test_rows,
        test_rows=len(sides[TEST]),
        skipped=built.inputs.skipped,
        sft_only=Counter(sft_only),
        tally=tally,
        unread_eval_rows=0 if prompts is None else prompts.unread,
        free_text=settings.free_text,
    )
    return {
        **wanted,
        "inputs": [{**file, **vars(tally.files[file["path"]])} for file in wanted["inputs"]],
        "skipped_files": built.inputs.skipped,
        "rows": tally.rows({side: len(rows) for side, rows in sides.items()}),
        "multi_turn": assignment.multi_turn,
        "scored_by": _scored_by(loaded["scoring"], sides),
        "formats": dict(sorted(tally.formats.items())),
        "unused_columns": dict(tally.unused.most_common(_MOST_UNUSED)),
        "eval_data": {} if prompts is None else {"rows": prompts.rows, "unread": prompts.unread},
        "sources": _by_source(built, kept),
        "kinds": _counted(loaded["kind"][kept], KINDS),
        "languages": _counted(loaded["language"][kept], LANGUAGES),
        "sft_only": sft_only,
        "rejects": dict(sorted(tally.rejects.items())),
        "ratios": {
            "expert_ratio_asked": settings.expert_ratio,
            "expert_ratio_reached": round(reached, 6),
            "sft_share_of_training_rows": round(len(sft_rows) / max(len(sft_rows) + len(sides[RL]), 1), 6),
            "note": RATIO_NOTE,
        },
        "lengths": {
            side: {name: percentiles(loaded[name][rows]) for name in LENGTHS}
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
    return {side: total[rows] for side, rows in built.assignment.sides.items() if len(rows)}


def _counted(numbers: Any, names: tuple[str, ...]) -> dict[str, int]:
    """How often each name occurs, those that do."""
    import numpy as np

    counts = np.bincount(numbers, minlength=len(names)).tolist()
    return {name: count for name, count in zip(names, counts, strict=True) if count}


def _scored_by(scoring: Any, sides: Mapping[str, Any]) -> list[str]:
    """Workflows and rewards that the rows of the RL side and of the held-out ones name."""
    import numpy as np

    names: set[str] = set()
    for number in np.unique(scoring[sides[RL]]).tolist():
        names |= {SCORINGS[number].workflow, SCORINGS[number].reward}
    for number in np.unique(scoring[np.concatenate([sides[EVAL], sides[TEST]])]).tolist():
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
