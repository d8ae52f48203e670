"""Experiments composed as the command line composes them, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra

from chord_exp.config import compose
from chord_exp.experiment.geometry import derive
from chord_exp.experiment.spec import DataFacts, ExperimentSpec
from chord_exp.trinity_config import build
from chord_exp.trinity_config.build import Folders

FACTS = DataFacts(expert_rows=520, rl_rows=1380, eval_rows=100, folder="/data/prepared")
FOLDERS = Folders("/run/checkpoints", "/run/metrics.jsonl")
# sizes that a test counts on, whatever the defaults are tuned to: 24 rollouts, 8 expert rows, 128 tokens a row
SIZES = [
    "batch_size=6",
    "repeat_times=4",
    "total_steps=80",
    "model.max_prompt_tokens=96",
    "model.max_response_tokens=32",
    "mu_schedule=local",
    "mu_peak=0.6",
]
# options that leave a value to the user
NEEDED = {"data=folder": "data.input_dir=/data/raw", "data=prepared": "data.out=/data/prepared"}


def compose_config(overrides: list[str]):
    """The configuration without Hydra's node."""
    compose.register_schema()
    given = {override.split("=")[0] for override in overrides}
    extra = [value for option, value in NEEDED.items() if option in overrides and value.split("=")[0] not in given]
    with hydra.initialize_config_module("chord_exp.conf", version_base="1.3", job_name="chord_exp"):
        return hydra.compose(compose.CONFIG_NAME, overrides=[*overrides, *extra])


def compose_spec(overrides: list[str], model_folder: Path | None = None) -> ExperimentSpec:
    """The specification; a hub id becomes `model_folder`, as nothing may be downloaded in a test."""
    replaced = [] if model_folder is None else [f"model.path={model_folder}"]
    spec, _ = compose.read(compose_config([*overrides, *replaced]))
    return spec


def to_trinity(spec: ExperimentSpec, facts: DataFacts, folders: Folders, **options: Any) -> dict[str, Any]:
    """The Trinity configuration, from the numbers that follow from the experiment and its data."""
    return build.to_trinity(spec, facts, derive(spec, facts), folders, **options)
