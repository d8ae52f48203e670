"""The flow: read → detect → normalise → check → exact dedup → split → write, from a folder of raw rows to a
prepared one."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from chord_exp.errors import DataError, RunFailed
from chord_exp.prepare.answers import KINDS, Answer
from chord_exp.prepare.folder import locked, recover, refuse_foreign, refuse_overlap, replacing
from chord_exp.prepare.layout import EVAL, MANIFEST_FILE, REJECTS_FILE, RL, SFT, SIDES
from chord_exp.prepare.manifest import (
    RATIO_NOTE,
    Manifest,
    identity,
    load_manifest,
    output_name,
    sha256_file,
    why_rebuild,
)
from chord_exp.prepare.options import PrepareOptions
from chord_exp.prepare.reader import find_files, read_rows, shown_name
from chord_exp.prepare.rejects import Reject, clip_bytes
from chord_exp.prepare.rows import build_row
from chord_exp.prepare.scoring import expert_row, rollout_row
from chord_exp.prepare.split import split_groups
from chord_exp.prepare.table import RowTable
from chord_exp.prepare.tally import FileTally, Tally, percentiles
from chord_exp.prepare.verdict import Facts, collect_warnings, refuse_unusable
from chord_exp.prepare.writer import LinesWriter

Progress = Callable[[int, int, int], None]
"""Told now and then: bytes read, bytes in all, rows read."""

_ROWS_BETWEEN_REPORTS = 2000


def ensure_prepared(
    input_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    expert_ratio: float,
    seed: int,
    system_prompt: str,
    eval_rows: int | None = None,
    eval_ratio: float | None = None,
    progress: Progress | None = None,
    on_wait: Callable[[], None] | None = None,
) -> Manifest:
    """Prepares `input_dir` into `out` unless that has been done with the same inputs and arguments.

    Args:
        input_dir: folder of raw .json and .jsonl files.
        out: folder to write; replaced as a whole, and only when prepare wrote it.
        expert_ratio, seed, system_prompt, eval_rows, eval_ratio: see PrepareOptions.
        progress: called while reading.
        on_wait: called once when another process is preparing beside `out`.

    Raises:
        DataError: unusable data or arguments, or an output that is not ours; nothing is written.
        RunFailed: the output cannot be written; the old one is as it was.
    """
    options = PrepareOptions(expert_ratio, eval_rows, eval_ratio, seed, system_prompt)
    source, target = Path(input_dir).resolve(), Path(out).resolve()
    refuse_overlap(source, target)
    inputs, skipped = _survey(source)
    wanted = identity(options, inputs)
    try:
        refuse_foreign(target)
        with locked(target.parent, on_wait or (lambda: None)):
            recover(target)
            refuse_foreign(target)
            reason = why_rebuild(target, wanted) if (target / MANIFEST_FILE).exists() else ""
            if not reason and (target / MANIFEST_FILE).exists():
                return load_manifest(target)
            with replacing(target) as staging:
                _build(source, staging, inputs, skipped, options, wanted, progress)
            return load_manifest(target, up_to_date=False, rebuilt_because=reason)
    except OSError as error:
        raise RunFailed(
            f"cannot write the prepared data: {error.strerror or error}",
            where=str(error.filename or target),
            fix="free space or choose another --out; what was there before is unchanged",
        ) from None


def _survey(source: Path) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        files, skipped = find_files(source)
        inputs = []
        for path in files:
            state = path.stat()
            inputs.append(
                {
                    "path": shown_name(path, source),
                    "file": path,
                    "bytes": state.st_size,
                    "changed": state.st_mtime_ns,
                    "sha256": sha256_file(path),
                }
            )
    except OSError as error:
        raise DataError(
            f"cannot read the input: {error.strerror}",
            where=str(error.filename or source),
            fix="check its permissions",
        ) from None
    return inputs, skipped


def _build(
    source: Path,
    staging: Path,
    inputs: list[dict[str, Any]],
    skipped: list[str],
    options: PrepareOptions,
    wanted: dict[str, Any],
    progress: Progress | None,
) -> None:
    tally = Tally()
    with tempfile.TemporaryFile(dir=staging) as spool:
        table = RowTable(spool)
        with LinesWriter(staging / REJECTS_FILE) as rejects:
            _read(inputs, options, table, tally, rejects, progress)
        free_rows = table.finish()
        refuse_unusable(source, table, tally, free_rows)
        split = split_groups(
            free_rows,
            table.groups.split_rank,
            table.groups.eval_rank,
            expert_ratio=options.expert_ratio,
            eval_rows=options.eval_rows,
            eval_ratio=options.eval_ratio,
        )
        placed = _place(table, split.rollout, split.held_out, tally)
        outputs = _write(staging, table, placed, options.system_prompt)
    outputs[REJECTS_FILE] = rejects.facts()
    expert = [at for at in placed[SFT] if not table.sft_only(at)]
    facts = Facts(
        asked_ratio=options.expert_ratio,
        reached_ratio=len(expert) / (len(expert) + len(placed[RL])),
        unboxed_experts=sum(not table.as_written[at] for at in expert),
        experts=len(expert),
        eval_asked=split.eval_asked,
        eval_rows=len(placed[EVAL]),
        skipped=skipped,
        sft_only=Counter(filter(None, map(table.sft_only, range(len(table))))),
        tally=tally,
    )
    manifest = {
        **wanted,
        "inputs": [{**file, **vars(tally.files[file["path"]])} for file in wanted["inputs"]],
        "skipped_files": skipped,
        "rows": tally.rows({side: len(placed[side]) for side in SIDES}),
        "formats": dict(sorted(tally.formats.items())),
        "kinds": {kind: table.kind.count(number) for number, kind in enumerate(KINDS)},
        "sft_only": dict(sorted(facts.sft_only.items())),
        "rejects": dict(sorted(tally.rejects.items())),
        "ratios": {
            "expert_ratio_asked": options.expert_ratio,
            "expert_ratio_reached": round(facts.reached_ratio, 6),
            "sft_share_of_training_rows": round(len(placed[SFT]) / (len(placed[SFT]) + len(placed[RL])), 6),
            "note": RATIO_NOTE,
        },
        "lengths": {
            side: {name: percentiles(column[at] for at in placed[side]) for name, column in table.lengths.items()}
            for side in SIDES
            if placed[side]
        },
        "outputs": outputs,
        "warnings": collect_warnings(facts),
    }
    (staging / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _refuse_moving_inputs(inputs)


def _read(
    inputs: list[dict[str, Any]],
    options: PrepareOptions,
    table: RowTable,
    tally: Tally,
    rejects: LinesWriter,
    progress: Progress | None,
) -> None:
    total = sum(file["bytes"] for file in inputs)
    done, rows = 0, 0
    for file in inputs:
        counts = tally.files[file["path"]] = FileTally()
        for raw in read_rows(file["file"]):
            counts.read += 1
            rows += 1
            try:
                if raw.fault is not None:
                    raise raw.fault
                row = build_row(raw.data, options)
            except Reject as reject:
                counts.rejected += 1
                tally.rejects[reject.reason] += 1
                rejects.write(
                    {
                        "file": file["path"],
                        "line": raw.line,
                        "reason": reject.reason,
                        "detail": reject.detail,
                        "text": clip_bytes(raw.data),
                    }
                )
            else:
                tally.formats[row.format] += 1
                counts.duplicates += not table.add(row)
            if progress is not None and rows % _ROWS_BETWEEN_REPORTS == 0:
                progress(done + raw.end, total, rows)
        done += file["bytes"]
    if progress is not None:
        progress(total, total, rows)


def _place(table: RowTable, rollout: list[int], held_out: list[int], tally: Tally) -> dict[str, list[int]]:
    """Row numbers of each side in writing order: by the hash of the row, so mixed well and the same for any
    file order.

    Trinity reads expert rows in file order, unshuffled. Of several rows with one prompt, only the first by
    hash becomes the rollout.
    """
    side_of = {group: RL for group in rollout} | {group: EVAL for group in held_out}
    placed: dict[str, list[int]] = {side: [] for side in SIDES}
    seen: set[int] = set()
    for at in sorted(range(len(table)), key=table.rank.__getitem__):
        group = table.group[at]
        side = SFT if table.sft_only(at) else side_of.get(group, SFT)
        if side != SFT:
            if group in seen:
                tally.same_prompt += 1
                continue
            seen.add(group)
        placed[side].append(at)
    return placed


def _write(staging: Path, table: RowTable, placed: dict[str, list[int]], system_prompt: str) -> dict[str, Any]:
    outputs = {}
    for side, rows in placed.items():
        if not rows:
            continue
        with LinesWriter(staging / output_name(side)) as writer:
            for at in rows:
                messages, kind, truth = orjson.loads(table.payload(at))
                writer.write(
                    expert_row(messages)
                    if side == SFT
                    else rollout_row(
                        messages, Answer(kind, truth), system_prompt=system_prompt, evaluation=side == EVAL
                    )
                )
        outputs[output_name(side)] = writer.facts()
    return outputs


def _refuse_moving_inputs(inputs: list[dict[str, Any]]) -> None:
    for file in inputs:
        state = file["file"].stat()
        if (state.st_size, state.st_mtime_ns) != (file["bytes"], file["changed"]):
            raise DataError(
                "the input changed while it was read",
                where=file["path"],
                fix="prepare again once it is complete",
            )
