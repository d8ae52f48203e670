"""What a trial is said to take before it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from composing import compose_spec
from safetensors.numpy import save_file

from chord_exp.sweep.scheduling.resources import Footprint
from chord_exp.sweep.trials.footprint import (
    LOCAL_BASE,
    LOCAL_BYTES_PER_PARAMETER,
    footprint_of,
    parameters_in,
)

MODEL = ["model=qwen3_4b", "data=folder"]


@pytest.mark.parametrize(
    ("cluster", "gpus", "nodes"), [("gpu_2", 2, 1), ("gpu_4", 4, 1), ("gpu_8", 8, 1), ("multi_node", 16, 2)]
)
def test_a_trial_on_gpus_takes_its_whole_cluster_and_the_cores_that_verl_asks_for(cluster, gpus, nodes):
    footprint = footprint_of(compose_spec([f"cluster={cluster}", *MODEL]))
    assert (footprint.gpus, footprint.nodes, footprint.joins) == (gpus, nodes, True)
    # each GPU is a trainer's, with three cores, or an engine's, with one at most; two drivers beside
    assert gpus + 2 < footprint.cpus <= 3 * gpus + 2


def test_a_local_trial_takes_its_threads_and_what_it_asks_of_a_ray_that_it_joins():
    private, joined = (
        footprint_of(compose_spec(["cluster.threads=2", f"cluster.ray_address={address}"]))
        for address in ("local", "auto")
    )
    assert (private.gpus, private.cpus, private.joins) == (0, 2.0, False)
    assert (joined.gpus, joined.cpus, joined.joins) == (0, 4.0, True)
    assert private.memory == joined.memory > 2.0


def checkpoint(folder: Path, shards: list[dict[str, tuple[int, ...]]]) -> Path:
    folder.mkdir()
    for number, tensors in enumerate(shards):
        arrays = {name: np.zeros(shape, np.float16) for name, shape in tensors.items()}
        save_file(arrays, folder / f"model-{number}.safetensors")
    return folder


def test_a_local_trial_s_memory_goes_by_the_checkpoint_and_not_by_what_is_configured(tmp_path):
    model = checkpoint(tmp_path / "mine", [{"a": (1000, 1000), "b": (7,)}, {"c": (2000, 500)}])
    assert parameters_in(model) == 2_000_007
    told = footprint_of(compose_spec([f"model.path={model}", "model.name=mine"]))
    assert told.memory == LOCAL_BASE + 2_000_007 * LOCAL_BYTES_PER_PARAMETER / 2**30


def test_a_checkpoint_that_cannot_be_counted_is_taken_for_what_is_configured(tmp_path):
    assert parameters_in(Path("Qwen/Qwen3-4B")) is None
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    assert parameters_in(tmp_path) is None
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(100))
    assert parameters_in(tmp_path) == 50


def test_what_the_user_says_of_cores_and_memory_stands_in_place_of_the_estimates():
    told = footprint_of(compose_spec([]), cpus=0.5, memory=1.5)
    assert told == Footprint(0, 0.5, 1.5)
    assert footprint_of(compose_spec(["cluster=gpu_4", *MODEL]), cpus=7.0).cpus == 7.0
