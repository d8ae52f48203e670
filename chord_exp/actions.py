"""What each `action` does with a checked experiment."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from chord_exp.errors import SUCCEEDED, ConfigError, DataError
from chord_exp.experiment.geometry import Geometry, derive
from chord_exp.experiment.spec import DataFacts, ExperimentSpec
from chord_exp.trinity_config.build import Folders, to_trinity, to_yaml
from chord_exp.trinity_config.installed import has_flash_attention, verl_is_legacy
from chord_exp.trinity_config.plugin_names import PACKAGE
from chord_exp.trinity_config.user_overrides import extra_term_warnings, flatten

if TYPE_CHECKING:
    from chord_exp.launch.launch_spec import LaunchSpec
    from chord_exp.prepare import Manifest
    from chord_exp.prepare.report.token_lengths import Chat

# for a plan without data: the sizes of the paper's mathematics run (arXiv 2508.11408)
ASSUMED_EXPERT_ROWS = 5_000
ASSUMED_RL_ROWS = 20_000


def assumed_facts(spec: ExperimentSpec) -> DataFacts:
    """Sizes to plan with while the data is not there."""
    return DataFacts(ASSUMED_EXPERT_ROWS, ASSUMED_RL_ROWS, spec.data.eval_rows, assumed=True)


def read_facts(spec: ExperimentSpec, *, required: bool) -> DataFacts:
    """Prepare the data where needed and return its sizes.

    Args:
        required: without it, missing data gives assumed sizes.

    Raises:
        DataError: the data cannot be used, or is missing and required.
    """
    # the import is not light, and a refused configuration needs none of it
    from chord_exp.prepare import ensure_prepared, load_manifest
    from chord_exp.prepare.read.files import resolve_input
    from chord_exp.prepare.report.token_lengths import longest

    data = spec.data
    if data.input_dir is None:
        try:
            manifest = load_manifest(Path(data.out))
        except DataError:
            if required or Path(data.out).exists():
                raise
            return assumed_facts(spec)
        _refuse_other_system_prompt(spec, manifest)
    else:
        if not required and not Path(data.input_dir).exists():
            return assumed_facts(spec)
        manifest = ensure_prepared(resolve_input(data.input_dir), data, out=data.out)
        if not manifest.up_to_date:
            _warn(manifest.warnings)
    model = spec.model
    if data.check and required:
        _check_rows(spec, manifest)
    lengths = longest(Path(data.out), _chat(spec), model.max_prompt_tokens, model.window)
    return DataFacts(
        manifest.expert_rows,
        manifest.rl_rows,
        manifest.eval_rows,
        prompt_tokens_max=lengths.prompt_max if lengths else None,
        expert_tokens_max=lengths.expert_max if lengths else None,
        multi_turn=manifest.multi_turn,
        scored_by=manifest.scored_by,
    )


def _check_rows(spec: ExperimentSpec, manifest: Manifest) -> None:
    """Render and count every row.

    Raises:
        DataError: some would break or waste the training.
    """
    from chord_exp.prepare.report.token_lengths import check_rows

    model, data = spec.model, spec.data
    found = check_rows(
        Path(data.out),
        _chat(spec),
        prompt_limit=model.max_prompt_tokens,
        row_limit=model.window,
        multi_turn=manifest.multi_turn,
    )
    if found.problems:
        shown = "; ".join(f"{one.file}:{one.line}: {one.what}" for one in found.problems[:3])
        raise DataError(
            f"{len(found.problems):,} rows would break or waste the training: {shown}",
            data.out,
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
            spec.data.out,
            "prepare it again with python -m chord_exp.prepare",
        ) from None
    if prepared_with != spec.data.system_prompt:
        raise ConfigError(
            f"data.system_prompt={spec.data.system_prompt!r} and the folder was prepared with "
            f"{prepared_with!r}: expert rows and rollouts would differ",
            spec.data.out,
            f"set data.system_prompt to {prepared_with!r}, or prepare the folder again with --system-prompt",
        )


def described(spec: ExperimentSpec, facts: DataFacts) -> Geometry:
    """The derived numbers, with warnings about hand-set values among the warnings."""
    geometry = derive(spec, facts)
    hand_set = extra_term_warnings(spec.trinity) if spec.uses_chord else []
    return replace(geometry, warnings=(*geometry.warnings, *hand_set))


def run_folders(spec: ExperimentSpec, run_dir: Path, *, with_metrics: bool = True) -> Folders:
    """The absolute paths of a run in `run_dir`."""
    root = run_dir.absolute()
    return Folders(str(root / "checkpoints"), str(root / "metrics.jsonl") if with_metrics else None, spec.data.out)


def check(spec: ExperimentSpec, run_dir: Path) -> None:
    """Refuse what can be refused without the data, writing nothing.

    Raises:
        ConfigError: numbers that cannot agree, or a value under `trinity:` that Trinity does not take.
    """
    config = to_trinity(spec, assumed_facts(spec), run_folders(spec, run_dir))
    if spec.trinity:
        # slow to import; only hand-set values can be foreign to Trinity
        from chord_exp.trinity_config.schema import check_schema

        check_schema(config)


def plan(spec: ExperimentSpec, run_dir: Path) -> int:
    """Print what would run."""
    from chord_exp.experiment.plan import show

    facts = read_facts(spec, required=False)
    to_trinity(spec, facts, run_folders(spec, run_dir))
    show(spec, facts, described(spec, facts), flatten(spec.trinity))
    return SUCCEEDED


def export(spec: ExperimentSpec, run_dir: Path, target: Path) -> int:
    """Write the YAML that `trinity run --config` takes.

    Raises:
        ConfigError: the file exists with other content, or cannot be written.
    """
    facts = read_facts(spec, required=False)
    if spec.loss == "stock":
        _refuse_rows_that_need_the_package(spec, facts)
    from chord_exp.launch.private_ray import SHARING_COMMAND

    # Trinity's own loss needs no chord_exp on the cluster; neither must the monitor then
    folders = run_folders(spec, run_dir, with_metrics=spec.loss == "exact")
    config = to_trinity(spec, facts, folders, verl_legacy=verl_is_legacy(), flash_attention=has_flash_attention())
    if config["cluster"]["ray_address"] == "local":
        # a private Ray is for our own launcher to start
        config["cluster"]["ray_address"] = "auto"
    write_new(target, to_yaml(config))
    _warn(described(spec, facts).warnings)
    # engine and trainer that share a GPU each ask Ray for a whole one, and would wait for the second for good
    how = f", started with `{SHARING_COMMAND}`" if config["mode"] == "colocate" else ""
    print(f"{target}: start it with `trinity run --config {target}` on a running Ray cluster{how}")
    return SUCCEEDED


def _refuse_rows_that_need_the_package(spec: ExperimentSpec, facts: DataFacts) -> None:
    ours = sorted(name for name in facts.scored_by if name.startswith(PACKAGE))
    if ours and not (spec.data.workflow and spec.data.reward):
        raise ConfigError(
            f"loss=stock is for clusters without chord_exp, and rows of this data name {', '.join(ours)}",
            spec.data.out,
            "install chord_exp on the cluster and export with loss=exact, or prepare the data without tool calls, rows "
            "with their own system prompt or more turns, and scored free text",
        )


def write_new(target: Path, text: str) -> None:
    """Write a file whole or not at all; a file with the same content is left as it is.

    Raises:
        ConfigError: another file is there, or the place cannot be written.
    """
    try:
        if target.exists():
            if target.is_file() and target.read_text(encoding="utf-8") == text:
                return
            raise ConfigError(f"{target} exists and differs", "export_to", "remove it, or give another name")
        with tempfile.NamedTemporaryFile("w", dir=target.parent, delete=False, encoding="utf-8") as handle:
            handle.write(text)
        os.chmod(handle.name, 0o644)
        os.replace(handle.name, target)
    except OSError as error:
        raise ConfigError(
            f"cannot write {target}: {error.strerror}", "export_to", "give a file in an existing folder"
        ) from error


def run(spec: ExperimentSpec, run_dir: Path, overrides: Sequence[str]) -> int:
    """Train; returns the process exit code."""
    from chord_exp.launch.run import run_experiment

    facts = read_facts(spec, required=True)
    _warn(described(spec, facts).warnings)
    return run_experiment(launch_of(spec, facts, run_dir, overrides), run_dir)


def launch_of(spec: ExperimentSpec, facts: DataFacts, run_dir: Path, overrides: Sequence[str]) -> LaunchSpec:
    """The plain values that starting a run takes."""
    from chord_exp.launch.launch_spec import LaunchSpec, Stage

    config = to_trinity(
        spec, facts, run_folders(spec, run_dir), verl_legacy=verl_is_legacy(), flash_attention=has_flash_attention()
    )
    stages = derive(spec, facts).stages
    return LaunchSpec(
        name=spec.name,
        project=spec.project,
        variant=spec.effective_variant,
        seed=spec.seed,
        engine=spec.cluster.engine,
        ray_address=spec.cluster.ray_address,
        resume=spec.resume,
        config=config,
        yaml=to_yaml(config),
        stages=tuple(Stage(stage.kind if len(stages) > 1 else "", stage.steps) for stage in stages),
        # Trinity's own CHORD loss may log NaN for a micro-batch with one side only
        check_losses_finite=spec.loss == "exact",
        overrides=list(overrides),
    )


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"chord_exp: warning: {warning}", file=sys.stderr)
