"""What a plan and a run need to know of the machine, the model and an earlier run to forecast what they take."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

from chord_exp.experiment.memory.architecture import Architecture, by_name, from_config
from chord_exp.experiment.memory.cards import gib_of
from chord_exp.experiment.memory.fit import Machine
from chord_exp.experiment.sections import ClusterSpec
from chord_exp.experiment.spec import ExperimentSpec
from chord_exp.run_files import metrics
from chord_exp.run_files.history import STEP_TIMES
from chord_exp.run_files.names import METRICS
from chord_exp.trinity_config.installed import has_flash_attention, verl_keeps_outputs
from chord_exp.trinity_config.user_overrides import flatten

CONFIG = "config.json"
# longest wait for the driver, seconds
DRIVER_TIMEOUT = 20
# keys below trinity: that change the memory in ways the forecast does not follow
NOT_FOLLOWED = (
    "trainer.trainer_config",
    "trainer.trainer_strategy",
    "trainer.use_dynamic_bsz",
    "trainer.megatron",
    "algorithm.optimizer.optimizer_type",
    "algorithm.entropy_loss_fn",
    "explorer.rollout_model",
    "explorer.auxiliary_models",
    "stages",
)


def machine_of(spec: ExperimentSpec) -> Machine:
    """Return what the forecast of an experiment must know besides it."""
    return Machine(
        architecture=architecture_of(spec.model.path),
        card_gib=card_gib(spec.cluster),
        flash_attention=has_flash_attention(),
        keeps_outputs=verl_keeps_outputs(),
        not_followed=tuple(key for key, _ in flatten(spec.trinity) if key.startswith(NOT_FOLLOWED)),
    )


def architecture_of(path: str) -> Architecture | None:
    """Return a model's sizes: from its config.json where it is here, or by its name; None if neither is known."""
    file = Path(path) / CONFIG
    if not file.is_file():
        known = by_name(path)
        cached = None if known else _in_hub_cache(path)
        if cached is None:
            return known
        file = cached
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return from_config(config) if isinstance(config, dict) else None


def _in_hub_cache(path: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(path, CONFIG)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def card_gib(cluster: ClusterSpec) -> float | None:
    """Return the memory of a GPU, GiB: as given, or that of the GPUs here if they can be those of the cluster."""
    if cluster.gpu_memory_gib is not None:
        return gib_of(cluster.gpu_memory_gib)
    # a Ray elsewhere, or a laptop with a GPU of its own, says nothing about the cluster
    if cluster.engine != "verl" or cluster.ray_address not in ("auto", "local"):
        return None
    here = _gpus_here()
    return min(here) if here and len(here) >= cluster.gpu_per_node else None


@cache
def _gpus_here() -> tuple[float, ...]:
    """Memory of this machine's NVIDIA GPUs, GiB; none without a driver that answers."""
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DRIVER_TIMEOUT, check=True)
        return tuple(float(line) / 1024 for line in done.stdout.splitlines() if line.strip())
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()


def step_times(run_dir: Path) -> dict[str, float]:
    """Return where the time of a step went in a run, seconds by name, on average; empty where nothing was measured."""
    rows = metrics.read(run_dir / METRICS)
    found = {}
    for key, name in STEP_TIMES.items():
        spent = metrics.series(rows, key)
        if spent:
            # what happens at some steps only counts for all
            steps = max(row["step"] for row in rows if row.get("source") == "trainer")
            found[name] = sum(spent.values()) / steps
    return found
