"""Engine and trainer on one GPU: each asks Ray for a whole one, and both are given the same."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from chord_exp.errors import RunFailed
from chord_exp.launch.cluster import private_ray
from chord_exp.launch.driver.run_process import _cpus, _need

TWO_PLACES = """
import os, sys
from pathlib import Path
import ray
from chord_exp.launch.cluster import private_ray
with private_ray.sharing_gpus(True):
    private_ray.start(Path(sys.argv[1]), num_gpus=2, num_cpus=4)
assert os.environ.get("CUDA_VISIBLE_DEVICES") == sys.argv[2]

@ray.remote(num_gpus=1, num_cpus=1)
class Place:
    def gpu(self):
        return os.environ["CUDA_VISIBLE_DEVICES"]

places = [Place.remote(), Place.remote()]
print(*ray.get([place.gpu.remote() for place in places], timeout=120))
"""


@pytest.mark.slow
def test_two_processes_that_each_take_a_gpu_share_the_one_that_is_there() -> None:
    folder = private_ray.make_temp_dir()
    environment = {**os.environ, **private_ray.environment(), "CUDA_VISIBLE_DEVICES": "3"}
    done = subprocess.run(
        [sys.executable, "-c", TWO_PLACES, folder, "3"], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.stdout.split() == ["3", "3"], done.stderr


def test_a_cluster_with_one_gpu_is_refused_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": 1.0, "CPU": 8.0})
    with pytest.raises(RunFailed, match=r"CUDA_VISIBLE_DEVICES=0,0 ray start --head --num-gpus=2"):
        _need(2, 5, shared=True)
    with pytest.raises(RunFailed, match="needs 4 GPUs and the Ray cluster has 1"):
        _need(4, 8, shared=False)
    _need(1, 8, shared=False)


def test_a_cluster_with_too_few_cores_is_refused_instead_of_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """verl asks Ray for three cores with each GPU: two engines and two trainer GPUs on a machine of eight hang."""
    cluster = SimpleNamespace(trainer_gpu_num=2)
    rollout = SimpleNamespace(engine_num=2, nnodes=1)
    config = SimpleNamespace(mode="both", cluster=cluster, explorer=SimpleNamespace(rollout_model=rollout))
    assert _cpus(config) == 9
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": 4.0, "CPU": 8.0})
    with pytest.raises(RunFailed, match=r"ask for 9 CPU cores .* has 8") as refused:
        _need(4, 9, shared=False)
    assert "ray start --head --num-cpus=9" in str(refused.value)


def test_verl_asks_for_as_many_cores_with_a_gpu_as_is_counted_here() -> None:
    from verl.single_controller.ray.base import ResourcePoolManager

    field = ResourcePoolManager.__dataclass_fields__["max_colocate_count"]
    assert field.default == private_ray.CPUS_PER_TRAINER_GPU
