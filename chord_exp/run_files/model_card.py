"""The card of a trained model, in its Hugging Face folder: from what, on what, how, and what it scores.

README.md           for people and for model hubs
training/           what it rests on: the run's record and configuration, the data's manifest, the evaluation
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from chord_exp.run_files import metrics
from chord_exp.run_files.evaluation import EVALUATION, Estimate, Evaluation
from chord_exp.run_files.names import LAUNCH, RECORD, TRINITY_CONFIG
from chord_exp.run_files.record import RunRecord
from chord_exp.utils.files import write_atomically

CARD, SOURCES = "README.md", "training"
MANIFEST = "manifest.json"
# not run.json: a folder that holds one is a run's
RUN = "record.json"
VARIANTS = {
    "mu": "CHORD-μ: (1-μ)·GRPO + μ·SFT",
    "phi": "CHORD-φ: (1-μ)·GRPO + μ·SFT, each expert token weighted by φ",
    "sft": "SFT",
    "grpo": "GRPO",
    "sft_then_grpo": "SFT, then GRPO",
}


def try_write_card(weights: Path, run_dir: Path) -> list[str]:
    """Write the card where that is possible; return a warning where not: it is no reason to call good work failed."""
    try:
        write_card(weights, run_dir)
    except (OSError, ValueError, TypeError, KeyError) as error:
        return [f"the card of {weights} could not be written: {error}"]
    return []


def write_card(weights: Path, run_dir: Path) -> None:
    """Write the card of a checkpoint's Hugging Face folder, with copies of what it rests on.

    Raises:
        OSError, ValueError, TypeError, KeyError: the run's files cannot be read, or the folder not be written.
    """
    record = RunRecord.load(run_dir / RECORD)
    launch = json.loads((run_dir / LAUNCH).read_text(encoding="utf-8"))
    manifest_path = Path(launch["data_manifest"])
    manifest, evaluation = {}, None
    with suppress(OSError, ValueError):  # data may be gone long before its model
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    with suppress(OSError, ValueError, TypeError, KeyError):
        evaluation = Evaluation.load(run_dir / EVALUATION)
    (weights / SOURCES).mkdir(exist_ok=True)
    sources = {
        RUN: run_dir / RECORD,
        TRINITY_CONFIG: run_dir / TRINITY_CONFIG,
        EVALUATION: run_dir / EVALUATION,
        MANIFEST: manifest_path,
    }
    for name, source in sources.items():
        if source.is_file():
            shutil.copyfile(source, weights / SOURCES / name)
    write_atomically(weights / CARD, card(record, launch["base_model"], manifest, evaluation, str(weights)))


def card(
    record: RunRecord, base_model: str, manifest: Mapping[str, Any], evaluation: Evaluation | None, weights: str
) -> str:
    """Return the text of the card."""
    return "\n".join(_lines(record, base_model, manifest, evaluation, weights)) + "\n"


def _lines(
    record: RunRecord, base_model: str, manifest: Mapping[str, Any], evaluation: Evaluation | None, weights: str
) -> Iterator[str]:
    yield "---"
    yield f"base_model: {json.dumps(base_model)}"
    yield "library_name: transformers"
    yield "pipeline_tag: text-generation"
    yield "tags: [chord, trinity-rft]"
    yield "---"
    yield f"# {record.name}"
    yield ""
    yield f"{base_model}, trained by {VARIANTS.get(record.variant, record.variant)} for {record.completed_steps} of"
    yield f"{record.planned_steps} steps (seed {record.seed}), with chord_exp on Trinity-RFT."
    yield ""
    yield "## Scores"
    yield ""
    yield from _scores(record, evaluation, weights)
    yield ""
    yield "## Data"
    yield ""
    yield from _data(record, manifest)
    yield ""
    yield "## Configuration"
    yield ""
    yield f"`python -m chord_exp {' '.join(record.overrides)}`" if record.overrides else "The defaults of chord_exp."
    yield f"All of it: [{SOURCES}/{TRINITY_CONFIG}]({SOURCES}/{TRINITY_CONFIG}), hash `{record.config_hash[:16]}`;"
    yield f"the run's record: [{SOURCES}/{RUN}]({SOURCES}/{RUN})."
    yield ""
    yield "| package | version |"
    yield "|---|---|"
    yield from (f"| {name} | {version} |" for name, version in record.versions.items())
    if record.git:
        yield f"| commit | {record.git['commit'][:12]}{' with changes' if record.git['dirty'] else ''} |"


def _scores(record: RunRecord, evaluation: Evaluation | None, weights: str) -> Iterator[str]:
    if evaluation is None:
        last, best = record.final_metrics.get(metrics.ACCURACY), record.best_metrics.get(metrics.ACCURACY)
        if last is None:
            yield "None were measured: `python -m chord_exp.evaluate` does."
            return
        yield f"Held-out accuracy during training, greedy: {last:.1%} at the end"
        if best:
            yield f"(best {best['value']:.1%} at step {best['step']:g}, chosen by these very prompts)."
        yield "Intervals and the base model beside it: `python -m chord_exp.evaluate`."
        return
    yield f"Held-out prompts ({evaluation.side}) of `{evaluation.data_digest[:12]}`;"
    yield f"sampled: {evaluation.samples} answers each at temperature {evaluation.temperature:g}."
    yield "95% intervals over prompts; the difference is paired."
    yield ""
    yield "| model | answers | score | ahead of the base model |"
    yield "|---|---|---|---|"
    for model in evaluation.models:
        if model.label != "base" and Path(model.weights) != Path(weights):
            continue
        for sampling, answers in model.answers.items():
            lead = "" if answers.lead is None else f"{estimate_text(answers.lead, signed=True)}"
            yield f"| {model.label} | {sampling} | {estimate_text(answers.score)} | {lead} |"


def estimate_text(found: Estimate, *, signed: bool = False) -> str:
    """Return an estimate as people read it: `61.0% [51.2%, 70.0%]`, with a sign in points."""
    if signed:
        return f"{100 * found.value:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"


def _data(record: RunRecord, manifest: Mapping[str, Any]) -> Iterator[str]:
    if not manifest:
        yield f"The prepared folder is gone; its digest is `{record.data_digest}`."
        return
    yield f"Digest `{manifest['digest']}`; all of it: [{SOURCES}/{MANIFEST}]({SOURCES}/{MANIFEST})."
    yield ""
    yield "| side | rows |"
    yield "|---|---|"
    yield from (f"| {side} | {manifest['rows'][side]:,} |" for side in ("sft", "rl", "eval"))
    yield ""
    yield "| file | SHA-256 |"
    yield "|---|---|"
    yield from (f"| {file['path']} | `{file['sha256'][:16]}` |" for file in manifest["inputs"])
