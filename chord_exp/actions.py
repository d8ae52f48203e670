"""What each `action` does with an experiment: data, derived numbers, Trinity's configuration, each once."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chord_exp.config.command_line import RUN_DIR
from chord_exp.data_facts import assumed_facts, look_at_data, prepare_data
from chord_exp.errors import SUCCEEDED, ConfigError
from chord_exp.experiment.geometry import Geometry, derive
from chord_exp.experiment.memory.fit import TOO_MUCH, use_of
from chord_exp.experiment.memory.remedies import cheapest
from chord_exp.experiment.memory.show import refusal, warnings_of
from chord_exp.experiment.objective import GAC_ESTIMATE
from chord_exp.experiment.spec import DataFacts, ExperimentSpec
from chord_exp.machine_facts import machine_of, step_times
from chord_exp.run_files.names import METRICS, RECORD
from chord_exp.trinity_config.build import TRINITY_MONITORS, Folders, to_trinity, to_yaml
from chord_exp.trinity_config.installed import has_flash_attention, verl_is_legacy
from chord_exp.trinity_config.plugin_names import PACKAGE
from chord_exp.trinity_config.rows import MANIFEST_FILE
from chord_exp.trinity_config.user_overrides import extra_term_warnings, flatten
from chord_exp.utils.files import claim_folder, write_atomically
from chord_exp.utils.text import warn

if TYPE_CHECKING:
    # needs Hydra
    from chord_exp.config.composer import ComposedExperiment
    from chord_exp.launch.launch_spec import LaunchSpec


def cluster_words() -> list[str]:
    """Return the overrides that `cluster=auto` stands for here and now, and say so.

    Raises:
        ConfigError: the Ray cluster that is named does not answer.
    """
    from chord_exp.config.auto_cluster import words_for
    from chord_exp.launch.cluster.machines import look

    machines = look()
    words = words_for(machines.gpus, ray_runs=machines.of_ray)
    print(f"chord_exp: cluster=auto: {machines}: {' '.join(words)}", file=sys.stderr)
    return words


def derive_with_warnings(spec: ExperimentSpec, facts: DataFacts) -> Geometry:
    """Return the derived numbers, with warnings about the user's own Trinity values among the warnings."""
    geometry = derive(spec, facts)
    overridden = extra_term_warnings(spec.trinity) if spec.uses_chord else []
    return replace(geometry, warnings=(*geometry.warnings, *overridden))


def run_folders(run_dir: Path, *, with_metrics: bool = True) -> Folders:
    """Return the absolute paths of a run in `run_dir`."""
    root = run_dir.absolute()
    return Folders(str(root / "checkpoints"), str(root / METRICS) if with_metrics else None)


def trinity_config(spec: ExperimentSpec, facts: DataFacts, geometry: Geometry, folders: Folders) -> dict[str, Any]:
    """Return the Trinity configuration of an experiment for the packages that are installed here.

    Raises:
        ConfigError: numbers that cannot agree, or a value under `trinity:` that Trinity does not take.
    """
    installed = {"verl_legacy": verl_is_legacy(), "flash_attention": has_flash_attention()}
    config = to_trinity(spec, facts, geometry, folders, **installed)
    if spec.trinity:
        # slow to import; only the user's own values can be foreign to Trinity
        from chord_exp.trinity_config.schema import check_schema

        check_schema(config)
    return config


def plan(spec: ExperimentSpec, run_dir: Path) -> int:
    """Print what would run; write nothing."""
    from chord_exp.experiment.plan import show

    facts = look_at_data(spec)
    geometry = derive_with_warnings(spec, facts)
    trinity_config(spec, facts, geometry, run_folders(run_dir))
    times = step_times(run_dir) if spec.resume else None
    show(spec, facts, geometry, flatten(spec.trinity), machine_of(spec), times)
    return SUCCEEDED


def export(spec: ExperimentSpec, run_dir: Path, target: Path) -> int:
    """Write the YAML that `trinity run --config` takes, and the data that it names where there is raw data.

    Raises:
        ConfigError: the file exists with other content, or cannot be written.
    """
    if spec.loss == "stock":
        _refuse_a_tracker_that_needs_the_package(spec)
    if spec.mu_source == GAC_ESTIMATE:
        raise ConfigError(
            "mu_source=gac_estimate follows what the step before logged, which Trinity's own trainer does not hand on",
            "mu_source",
            "run it by python -m chord_exp, on GPUs too; or export another mu_source",
        )
    facts = prepare_data(spec, allow_missing=True)
    if spec.loss == "stock":
        _refuse_rows_that_need_the_package(spec, facts)
    from chord_exp.launch.cluster.private_ray import SHARING_COMMAND

    geometry = derive_with_warnings(spec, facts)
    # Trinity's own loss needs no chord_exp on the cluster; neither must the monitor then
    folders = run_folders(run_dir, with_metrics=spec.loss == "exact")
    config = trinity_config(spec, facts, geometry, folders)
    if config["cluster"]["ray_address"] == "local":
        # a private Ray is for our own launcher to start
        config["cluster"]["ray_address"] = "auto"
    write_new(target, to_yaml(config))
    warn(geometry.warnings)
    if spec.cluster.keep_best:
        warn(["trinity run knows no scores: it keeps all checkpoints where cluster.keep_best is set"])
    # engine and trainer that share a GPU each ask Ray for a whole one, and would wait for the second for good
    how = f", started with `{SHARING_COMMAND}`" if config["mode"] == "colocate" else ""
    print(f"{target}: start it with `trinity run --config {target}` on a running Ray cluster{how}")
    return SUCCEEDED


def _refuse_rows_that_need_the_package(spec: ExperimentSpec, facts: DataFacts) -> None:
    ours = sorted(name for name in facts.scored_by if name.startswith(PACKAGE))
    if ours and not (spec.data.workflow and spec.data.reward):
        raise ConfigError(
            f"loss=stock is for clusters without chord_exp, and rows of this data name {', '.join(ours)}",
            facts.folder,
            "install chord_exp on the cluster and export with loss=exact; or prepare data whose answers all stand in a "
            "plain \\boxed{42}, without tool calls, own system prompts and scored free text; or name one "
            "workflow and reward for all rows: data.workflow=math_boxed_workflow data.reward=math_boxed_reward",
        )


def _refuse_a_tracker_that_needs_the_package(spec: ExperimentSpec) -> None:
    if spec.monitor.tracker not in (None, *TRINITY_MONITORS):
        raise ConfigError(
            f"loss=stock is for clusters without chord_exp, and Trinity has no monitor {spec.monitor.tracker!r}",
            "monitor",
            f"use monitor=tensorboard or one of {', '.join(TRINITY_MONITORS)}, or export with loss=exact",
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
        write_atomically(target, text)
    except OSError as error:
        raise ConfigError(
            f"cannot write {target}: {error.strerror}", "export_to", "give a file in an existing folder"
        ) from error


def perform(experiment: ComposedExperiment) -> int:
    """Do what an experiment's `action` says; return the process exit code."""
    spec, command = experiment.spec, experiment.command
    if command.action == "plan":
        return plan(spec, experiment.run_dir)
    if command.action == "export":
        return export(spec, experiment.run_dir, Path(str(command.export_to)))
    return run(experiment)


def run(experiment: ComposedExperiment) -> int:
    """Train in a folder of its own; return the process exit code.

    Raises:
        ConfigError, DataError: the experiment cannot be run, or its folder holds something else.
    """
    from chord_exp.launch.driver.warm_server import warm_server
    from chord_exp.launch.run import run_experiment
    from chord_exp.launch.start import WARM_ENV
    from chord_exp.launch.stop_file import stop_path, watching_stop_file

    refuse_folder(experiment)
    # what the run's process imports takes as long as the data does, so both at once; a sweep has its own server
    engine = experiment.spec.cluster.engine
    alone = engine != "verl" and WARM_ENV not in os.environ
    with warm_server(engine=engine) if alone else nullcontext():
        facts = prepare_data(experiment.spec, before=partial(check_without_data, experiment))
        launch = launch_spec(experiment, facts, experiment.run_dir)
        warn(launch.warnings)
        run_dir = experiment.run_dir if experiment.run_dir_chosen else claim_folder(experiment.run_dir)
        if run_dir != experiment.run_dir:
            # another run of this name took the folder in the same second
            launch = launch_spec(experiment, facts, run_dir)
        # of an earlier attempt
        stop_path(run_dir).unlink(missing_ok=True)
        with watching_stop_file(run_dir):
            return run_experiment(launch, run_dir)


def check_without_data(experiment: ComposedExperiment) -> None:
    """Refuse what needs no data to be refused, before gigabytes of it are read.

    Raises:
        ConfigError: see `launch_spec`.
    """
    spec = experiment.spec
    facts = assumed_facts(spec)
    geometry = derive(spec, facts)
    trinity_config(spec, facts, geometry, run_folders(experiment.run_dir))
    _check_memory(experiment, facts, geometry)


def _check_memory(experiment: ComposedExperiment, facts: DataFacts, geometry: Geometry) -> list[str]:
    """Return warnings about what may not fit into the GPUs.

    Raises:
        ConfigError: it does not fit by more than the forecast may be wrong by, and force=true was not given.
    """
    spec = experiment.spec
    machine = machine_of(spec)
    uses = use_of(spec, geometry, machine)
    too_much = [use for use in uses if TOO_MUCH in use.verdicts]
    if too_much and not experiment.command.force and not machine.not_followed:
        what, fix = refusal(too_much[0], cheapest(spec, facts, machine))
        raise ConfigError(what, "cluster", fix)
    return list(warnings_of(uses))


def refuse_folder(experiment: ComposedExperiment) -> None:
    """Refuse a run's folder that is used, or one without a run to go on with.

    Raises:
        ConfigError: it is one.
    """
    used = (experiment.run_dir / RECORD).exists()
    if not experiment.spec.resume:
        if used:
            raise ConfigError(
                f"{experiment.run_dir} already holds a run",
                RUN_DIR,
                "add resume=true to go on with it, or give another folder",
            )
    elif not experiment.run_dir_chosen:
        fix = f"add {RUN_DIR}=FOLDER of that run"
        raise ConfigError("resume=true does not say which run to go on with", "resume", fix)
    elif not used:
        raise ConfigError(
            f"{experiment.run_dir} holds nothing to resume: no {RECORD}",
            RUN_DIR,
            "leave resume out, or name the folder of a run",
        )


def launch_spec(experiment: ComposedExperiment, facts: DataFacts, run_dir: Path) -> LaunchSpec:
    """Return the plain values that starting a run takes.

    Raises:
        ConfigError: numbers that cannot agree, or a value under `trinity:` that Trinity does not take.
    """
    from chord_exp.launch.launch_spec import LaunchSpec, Stage

    spec = experiment.spec
    geometry = derive_with_warnings(spec, facts)
    config = trinity_config(spec, facts, geometry, run_folders(run_dir))
    warnings = [*geometry.warnings, *_check_memory(experiment, facts, geometry)]
    return LaunchSpec(
        name=spec.name,
        project=spec.project,
        variant=spec.effective_variant,
        seed=spec.seed,
        engine=spec.cluster.engine,
        ray_address=spec.cluster.ray_address,
        resume=spec.resume,
        yaml=to_yaml(config),
        stages=tuple(Stage(stage.kind if len(geometry.stages) > 1 else "", stage.steps) for stage in geometry.stages),
        # Trinity's own CHORD loss may log NaN for a micro-batch with one side only
        check_losses_finite=spec.loss == "exact",
        base_model=spec.model.path,
        data_digest=facts.digest,
        data_manifest=str(Path(facts.folder) / MANIFEST_FILE),
        keep_newest=spec.cluster.max_checkpoints_to_keep,
        keep_best=spec.cluster.keep_best,
        overrides=experiment.overrides,
        warnings=warnings,
        keepsakes=experiment.hydra_files(run_dir),
    )
