"""What a plan and a run need to know of the data: prepared where needed, or assumed where it is not there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from chord_exp.errors import ConfigError, DataError
from chord_exp.experiment.spec import DataFacts, ExperimentSpec
from chord_exp.trinity_config.rows import PREPARED_ROOT
from chord_exp.utils.hub import SAMPLE_OF_HUB
from chord_exp.utils.text import warn

if TYPE_CHECKING:
    from chord_exp.prepare import Manifest
    from chord_exp.prepare.report.token_lengths import Chat

# for a plan without data: the sizes of the paper's mathematics run (arXiv 2508.11408)
ASSUMED_EXPERT_ROWS = 5_000
ASSUMED_RL_ROWS = 20_000
# raw data up to this size is prepared within a second or two
SMALL_BYTES = 32 << 20


class _NotPrepared(Exception):
    """The data would have to be prepared."""


def assumed_facts(spec: ExperimentSpec) -> DataFacts:
    """Return sizes to plan with while the data is not there: of a sample of a hub those that it will have."""
    data = spec.data
    folder = data.out or str(Path(PREPARED_ROOT, Path(data.input_dir or "data").name).absolute())
    experts, prompts = ASSUMED_EXPERT_ROWS, ASSUMED_RL_ROWS
    sample = SAMPLE_OF_HUB.fullmatch(data.input_dir or "")
    if sample is not None and sample[2]:
        rows = max(2, int(sample[2]) - data.eval_rows - data.test_rows)
        experts = max(1, round(data.expert_ratio * rows))
        prompts = rows - experts
    return DataFacts(experts, prompts, data.eval_rows, folder, test_rows=data.test_rows, assumed=True)


def prepare_data(
    spec: ExperimentSpec, *, allow_missing: bool = False, before: Callable[[], None] | None = None
) -> DataFacts:
    """Prepare the data where that has not been done, and return its place and sizes.

    Args:
        allow_missing: data that is not there gives assumed sizes.
        before: called before anything is prepared, unless all is there already; may raise.

    Raises:
        ConfigError: the data does not fit the experiment's settings or its model.
        DataError: the data cannot be used, or is missing.
    """
    if allow_missing and not Path(str(spec.data.input_dir or spec.data.out)).exists():
        return assumed_facts(spec)
    manifest = _manifest(spec, before)
    if spec.data.check and not allow_missing:
        _check_rows(spec, manifest)
    return _facts(spec, manifest)


def look_at_data(spec: ExperimentSpec) -> DataFacts:
    """Return the place and sizes of the data for a plan, and leave nothing behind.

    Data that is not prepared yet is prepared in a folder that is removed again if that takes a moment only; sizes of
    larger data are assumed.

    Raises:
        ConfigError, DataError: see `prepare_data`.
    """
    data = spec.data
    there = Path(str(data.input_dir or data.out))
    if not there.exists():
        return assumed_facts(spec)
    try:
        return _facts(spec, _manifest(spec, _not_now))
    except _NotPrepared:
        if sum(file.stat().st_size for file in there.rglob("*") if file.is_file()) > SMALL_BYTES:
            warn([f"{there} is not prepared yet: the plan assumes its sizes; python -m chord_exp.prepare counts them"])
            return assumed_facts(spec)
    with TemporaryDirectory(prefix="chord-plan-") as scratch:
        facts = _facts(spec, _manifest(spec, root=scratch))
        name = Path(facts.folder).name
    return replace(facts, folder=data.out or str(Path(PREPARED_ROOT, name).absolute()))


def _not_now() -> None:
    raise _NotPrepared


def _manifest(spec: ExperimentSpec, before: Callable[[], None] | None = None, root: str = PREPARED_ROOT) -> Manifest:
    """Return the manifest of the prepared data; prepare it where there is raw data.

    Args:
        before: see `prepare_data`.
        root: folder for prepared data; PREPARED_ROOT is overruled by `data.out`.
    """
    # the import is not light, and a refused configuration needs none of it
    from chord_exp.prepare import ensure_prepared, load_manifest
    from chord_exp.prepare.read.files import resolve_input
    from chord_exp.prepare.report.token_lengths import RowLimit

    data = spec.data

    def begin() -> None:
        if before is not None:
            before()
        if sys.stderr.isatty():
            print(f"preparing {data.input_dir}", file=sys.stderr)

    if data.input_dir is None:
        manifest = load_manifest(Path(str(data.out)))
        _refuse_other_system_prompt(spec, manifest)
        return manifest
    manifest = ensure_prepared(
        resolve_input(data.input_dir),
        data,
        out=data.out if root == PREPARED_ROOT else None,
        root=root,
        row_limit=RowLimit(_chat(spec), spec.model.window),
        on_wait=lambda: print("chord_exp: waiting for another process that prepares the same data", file=sys.stderr),
        before=begin,
    )
    if not manifest.up_to_date:
        warn(manifest.warnings)
    return manifest


def _facts(spec: ExperimentSpec, manifest: Manifest) -> DataFacts:
    from chord_exp.prepare.report.token_lengths import longest

    lengths = longest(manifest.folder, _chat(spec), spec.model.max_prompt_tokens, spec.model.window)
    return DataFacts(
        manifest.expert_rows,
        manifest.rl_rows,
        manifest.eval_rows,
        folder=str(manifest.folder),
        digest=manifest.digest,
        prompt_tokens_max=lengths.prompt_max if lengths else None,
        expert_tokens_max=lengths.expert_max if lengths else None,
        test_rows=manifest.test_rows,
        multi_turn=manifest.multi_turn,
        scored_by=manifest.scored_by,
    )


def _check_rows(spec: ExperimentSpec, manifest: Manifest) -> None:
    """Render and count every row.

    Raises:
        DataError: some would break or waste the training.
    """
    from chord_exp.prepare.report.token_lengths import check_rows

    model = spec.model
    found = check_rows(
        manifest.folder,
        _chat(spec),
        prompt_limit=model.max_prompt_tokens,
        row_limit=model.window,
        multi_turn=manifest.multi_turn,
    )
    if found.problems:
        shown = "; ".join(f"{one.file}:{one.line}: {one.what}" for one in found.problems[:3])
        raise DataError(
            f"{len(found.problems):,} rows would break or waste the training: {shown}",
            str(manifest.folder),
            "mend or leave out these rows, or give the model longer limits; data.check=false trains on them anyhow",
        )


def _chat(spec: ExperimentSpec) -> Chat:
    """How the run renders conversations."""
    from chord_exp.prepare.report.token_lengths import Chat

    model = spec.model
    return Chat(model.path, spec.data.system_prompt, model.enable_thinking, model.trust_remote_code)


def _refuse_other_system_prompt(spec: ExperimentSpec, manifest: Manifest) -> None:
    """Expert rows hold the system prompt they were prepared with; rollouts must be asked with it too."""
    try:
        prepared_with = manifest.content["arguments"]["system_prompt"]
    except (KeyError, TypeError):
        raise DataError(
            "the manifest does not say with which system prompt the data was prepared",
            str(manifest.folder),
            "prepare it again with python -m chord_exp.prepare",
        ) from None
    if prepared_with != spec.data.system_prompt:
        raise ConfigError(
            f"data.system_prompt={spec.data.system_prompt!r} and the folder was prepared with "
            f"{prepared_with!r}: expert rows and rollouts would differ",
            str(manifest.folder),
            f"set data.system_prompt to {prepared_with!r}, or prepare the folder again with --system-prompt",
        )
