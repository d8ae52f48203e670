"""What is to be scored, and by which settings it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chord_exp import actions
from chord_exp.config.command_line import parse
from chord_exp.config.composer import composing
from chord_exp.data_facts import assumed_facts
from chord_exp.errors import ConfigError
from chord_exp.experiment.geometry import derive
from chord_exp.experiment.spec import ExperimentSpec
from chord_exp.launch.kept import hf_of
from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.launch.verdict import damaged_weights
from chord_exp.prepare import ensure_prepared, load_manifest
from chord_exp.prepare.options import default_settings
from chord_exp.prepare.read.files import resolve_input
from chord_exp.prepare.report.progress import shown_progress
from chord_exp.run_files.checkpoints import ADAPTER_FOLDER
from chord_exp.run_files.names import RECORD
from chord_exp.run_files.record import RUNNING, RunRecord
from chord_exp.sweep.folder import SweepFolder
from chord_exp.trinity_config.evaluation import held_out
from chord_exp.trinity_config.rows import MANIFEST_FILE, PREPARED_ROOT
from chord_exp.utils.split_settings import ALL
from chord_exp.utils.text import warn

BASE = "base"
# words that say where the engines of a run's evaluation run
PLACE = ("cluster=", "cluster.")


@dataclass(frozen=True)
class Model:
    """One model to score."""

    label: str
    # number of its checkpoint in the session; 0 for the model that the configuration names
    step: int
    # folder or hub id of its weights
    weights: str
    # folder of the checkpoint, global_step_N; None for step 0
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Session:
    """Models that one engine loads one after the other."""

    # the Trinity configuration of a training, to ask by
    config: dict[str, Any]
    engine: str
    models: tuple[Model, ...]


@dataclass(frozen=True)
class Target:
    """What a command names."""

    sessions: tuple[Session, ...]
    # prepared folder of the prompts; None for a run that held none out
    data: Path | None
    # folder of the run; None for a folder of weights
    run_dir: Path | None


def of_run(run_dir: Path, words: Sequence[str], checkpoints: Mapping[int, Path], *, base: bool) -> Target:
    """Return checkpoints of a run, after its base model.

    Args:
        words: overrides of `cluster`, for engines in another place than the run's.
        checkpoints: folders by overall step.
        base: whether the base model is asked, too.

    Raises:
        ConfigError: the run goes on, and may drop its checkpoints meanwhile; or the words say more than a place.
    """
    if RunRecord.load(run_dir / RECORD).status == RUNNING:
        raise ConfigError(f"{run_dir} is still going on", str(run_dir), "wait for its end, or stop it")
    launch = LaunchSpec.load(run_dir)
    config, engine = _moved(launch.config, words) if words else (launch.config, launch.engine)
    for step, path in checkpoints.items():
        if (path / "actor" / ADAPTER_FOLDER).is_dir() and damaged_weights(hf_of(path)) is not None:
            raise ConfigError(
                f"the adapters of step {step} are not merged into weights yet",
                str(path),
                f"merge them: python -m chord_exp.convert {run_dir} --all",
            )
    models = [Model(f"step {step}", step, str(hf_of(path)), path) for step, path in checkpoints.items()]
    first = [Model(BASE, 0, launch.base_model)] if base else []
    data = held_out(config)
    return Target((Session(config, engine, (*first, *models)),), Path(data) if data else None, run_dir)


def benchmark(text: str, system_prompt: str = "") -> Path:
    """Return the prepared folder that `--data` means; of raw data every prompt that can be scored is held out.

    Args:
        text: a prepared folder, a folder of raw data, or the hub id of a data set.
        system_prompt: that weights are asked with; a run has its own.

    Raises:
        DataError: there is no such data, or none of it can be scored.
    """
    folder = resolve_input(text)
    if (folder / MANIFEST_FILE).is_file():
        return folder
    settings = replace(default_settings(), eval_rows=ALL, system_prompt=system_prompt)
    with shown_progress() as progress:
        manifest = ensure_prepared(folder, settings, root=PREPARED_ROOT, progress=progress)
    if not manifest.up_to_date:
        warn(manifest.warnings)
    return manifest.folder


def of_folder(folder: Path, words: Sequence[str], data: str, base: str | None) -> Target:
    """Return a folder of weights, after the model that it is to be compared with.

    Args:
        words: overrides of an experiment: the model's lengths, and the cluster.
        data: see `benchmark`; the system prompt of a prepared folder is the one that is asked with.

    Raises:
        ConfigError, DataError: the words do not say how long prompts and responses may be.
    """
    if not any(word.startswith(("model=", "model.max_response_tokens=")) for word in words):
        raise ConfigError(
            f"nothing says how long the prompts and responses of {folder} may be",
            "command line",
            "add a model of conf/model, such as model=qwen3_4b, or model.max_prompt_tokens=512 "
            "model.max_response_tokens=1024",
        )
    paths = [*([(BASE, base)] if base else []), (folder.name, str(folder.absolute()))]
    specs = [(label, _compose([*words, f"model.path={path}", "model.name=evaluated"])) for label, path in paths]
    prompts = benchmark(data, specs[-1][1].data.system_prompt)
    asked_with = load_manifest(prompts).content["arguments"]["system_prompt"]
    sessions = []
    for label, spec in specs:
        asked = replace(spec, data=replace(spec.data, system_prompt=asked_with))
        sessions.append(Session(_config(asked, prompts), spec.cluster.engine, (Model(label, 0, spec.model.path),)))
    return Target(tuple(sessions), prompts, None)


def refuse_sweep(folder: Path) -> None:
    """
    Raises:
        ConfigError: the folder is a sweep's.
    """
    if SweepFolder(folder).exists():
        names = ", ".join(trial.name for trial in SweepFolder(folder).trials()[:4])
        raise ConfigError(f"{folder} is a sweep", str(folder), f"name one of its runs: {names}, ...")


def _moved(config: dict[str, Any], words: Sequence[str]) -> tuple[dict[str, Any], str]:
    """A run's configuration with the engines of another cluster, and the name of that engine."""
    for word in words:
        if not word.startswith(PLACE):
            raise ConfigError(
                f"{word}: a run is asked by its own settings",
                "command line",
                "only cluster=... and cluster.KEY=... may differ: where the engines run",
            )
    spec = _compose(words)
    place = _config(spec, None)
    explorer = {**config["explorer"]}
    for key in ("rollout_model", "runner_per_model"):
        explorer[key] = place["explorer"][key]
    return {**config, "cluster": place["cluster"], "explorer": explorer}, spec.cluster.engine


def _compose(words: Sequence[str]) -> ExperimentSpec:
    with composing(parse(list(words)), actions.cluster_words) as composer:
        return composer.run().spec


def _config(spec: ExperimentSpec, data: Path | None) -> dict[str, Any]:
    """The Trinity configuration of an experiment; what it would train on does not matter."""
    facts = assumed_facts(spec)
    if data is not None:
        manifest = load_manifest(data)
        facts = replace(facts, folder=str(manifest.folder), eval_rows=manifest.eval_rows, scored_by=manifest.scored_by)
    folders = actions.run_folders(Path("evaluation"))
    return actions.trinity_config(spec, facts, derive(spec, facts), folders)
