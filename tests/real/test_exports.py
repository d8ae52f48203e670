"""Exports and the package by `trinity run`, with only that changed which a CPU and a tiny model need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import SMALL, TIMEOUT

from chord_exp.engine import real_cpu, worker_setup
from chord_exp.launch import private_ray

# what Ray's Jobs API hands to a driver: here the hook, which `trinity run` knows nothing of
JOB = json.dumps({"runtime_env": {"worker_process_setup_hook": worker_setup.HOOK}})
PACKAGE = Path(__file__).resolve().parents[2] / "package"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray with four logical GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**real_cpu.ENVIRONMENT, **ONE_THREAD}.items():
            patch.setenv(name, value)
        head = private_ray.start_head(tmp_path_factory.mktemp("ray"), num_gpus=4, num_cpus=64)
    yield head.ray_address
    head.stop()


def exported(folder: Path, *overrides: str) -> Path:
    target = folder / "export.yaml"
    words = ["cluster=real_cpu", "total_steps=2", "action=export", f"export_to={target}", f"hydra.run.dir={folder}/run"]
    subprocess.run([sys.executable, "-m", "chord_exp", *SMALL, *words, *overrides], check=True, timeout=TIMEOUT)
    return target


def trinity_run(config: Path, address: str) -> str:
    ours = {**private_ray.environment(), "RAY_JOB_CONFIG_JSON_ENV_VAR": JOB, "RAY_ADDRESS": address}
    done = subprocess.run(
        [Path(sys.executable).with_name("trinity"), "run", "--config", config],
        env={**os.environ, **real_cpu.ENVIRONMENT, **ONE_THREAD, **ours},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    return (done.stdout + done.stderr)[-5000:]


def weights_of(folder: Path) -> list[Path]:
    return list(folder.glob("checkpoints/*/*/global_step_2/actor/huggingface/model.safetensors"))


@pytest.mark.parametrize("loss", ["exact", "stock"])
def test_an_export_trains_by_trinity_run(tmp_path: Path, ray_address: str, loss: str) -> None:
    output = trinity_run(exported(tmp_path, f"loss={loss}"), ray_address)
    assert weights_of(tmp_path / "run"), output


@pytest.mark.parametrize("name", ["qwen3_chord_config.yaml", "qwen3_chord_simple.yaml"])
def test_a_configuration_of_the_package_trains_by_trinity_run(tmp_path: Path, ray_address: str, name: str) -> None:
    tiny = yaml.safe_load(exported(tmp_path).read_text())
    config: dict[str, Any] = yaml.safe_load((PACKAGE / name).read_text())
    config["checkpoint_root_dir"] = str(tmp_path / "run" / "checkpoints")
    config["model"] = tiny["model"]
    for side in ("taskset", "eval_tasksets"):
        config["buffer"]["explorer_input"][side] = tiny["buffer"]["explorer_input"][side]
    config["buffer"]["trainer_input"]["auxiliary_buffers"] = tiny["buffer"]["trainer_input"]["auxiliary_buffers"]
    expert = config["buffer"]["trainer_input"]["auxiliary_buffers"]["expert"]
    expert["total_epochs"] = 100
    config["buffer"]["total_steps"] = config["trainer"]["total_steps"] = 2
    config["explorer"]["rollout_model"] |= {"gpu_memory_utilization": 0.1, "enforce_eager": True, "dtype": "float32"}
    attention = {"model": {"override_config": {"attn_implementation": "sdpa"}}}
    config["trainer"]["trainer_config"] = {**config["trainer"].get("trainer_config", {}), **attention}
    config["trainer"]["max_token_len_per_gpu"] = tiny["trainer"]["max_token_len_per_gpu"]
    changed = tmp_path / name
    changed.write_text(yaml.safe_dump(config))
    output = trinity_run(changed, ray_address)
    assert weights_of(tmp_path / "run"), output
