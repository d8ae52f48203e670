"""Exports and the package by `trinity run`, with only that changed which a CPU and a tiny model need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import logical_gpu_ray
import pytest
import yaml
from conftest import ROWS, UNCLIPPED
from full_batch import first_batch, first_gradient
from package_script import SCRIPT
from running import SMALL, TIMEOUT, share_prepared

from chord_exp.check.weights import Weights, stock_weights
from chord_exp.engine import worker_setup
from chord_exp.launch.start import run_environment

PACKAGE = SCRIPT.parent
ENVIRONMENT = run_environment("real_cpu", "local")


@pytest.fixture(scope="module")
def ray() -> Iterator[dict[str, str]]:
    """The environment in which a Ray is found that has five logical GPUs: an engine and four trainer ranks."""
    command = [sys.executable, logical_gpu_ray.__file__, "5"]
    with subprocess.Popen(
        command, env={**os.environ, **ENVIRONMENT}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        found = json.loads(next(line for line in server.stdout if line.startswith("{")))
        # what Ray's Jobs API hands to a driver: here what `trinity run` knows nothing of
        job = {"runtime_env": {"worker_process_setup_hook": worker_setup.HOOK, "py_executable": found["python"]}}
        yield {"RAY_ADDRESS": found["address"], "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)}
        server.stdin.close()


def exported(folder: Path, *overrides: str) -> Path:
    """The YAML that `action=export` writes for this machine's CPU."""
    target = folder / "export.yaml"
    words = ["cluster=real_cpu", "total_steps=2", "mu_schedule=constant", "mu_peak=0.5"]
    words += ["action=export", f"export_to={target}", f"hydra.run.dir={folder}/run"]
    share_prepared(folder)
    command = [sys.executable, "-m", "chord_exp", *SMALL, *words, *overrides]
    subprocess.run(command, cwd=folder, check=True, timeout=TIMEOUT)
    return target


def trinity_run(config: Path, ray: dict[str, str]) -> str:
    """Run a YAML to its end; returns the end of what was printed."""
    done = subprocess.run(
        [Path(sys.executable).with_name("trinity"), "run", "--config", config],
        env={**os.environ, **ENVIRONMENT, **ray},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    return (done.stdout + done.stderr)[-5000:]


def checkpoint(folder: Path, step: int) -> Path:
    """A checkpoint of the only run below a folder."""
    (found,) = folder.glob(f"checkpoints/*/*/global_step_{step}")
    return found


def trained(folder: Path) -> list[Path]:
    """The weights of the last step."""
    return list(folder.glob("checkpoints/*/*/global_step_2/actor/huggingface/model.safetensors"))


def test_an_export_trains_by_trinity_run(tmp_path: Path, ray: dict[str, str]) -> None:
    output = trinity_run(exported(tmp_path), ray)
    assert trained(tmp_path / "run"), output


def test_with_the_upstream_examples_arguments_a_step_is_as_many_times_too_large_as_the_document_says(
    tmp_path: Path, ray: dict[str, str]
) -> None:
    """loss=stock exported, then the arguments of Trinity's mix_chord example in it: dynamic, with all true sizes."""
    database = tmp_path / "rollouts.db"
    words = ["loss=stock", "cluster.gpu_per_node=3", "cluster.save_interval=1", ROWS.format(database), UNCLIPPED]
    path = exported(tmp_path, *words)
    config = yaml.safe_load(path.read_text())
    arguments = config["algorithm"]["policy_loss_fn_args"]
    usual, expert, ranks = (arguments[key] for key in (
        "train_batch_size_usual", "train_batch_size_expert", "ngpus_trainer"
    ))  # fmt: skip
    arguments |= {"use_dynamic_bsz": True, "ppo_mini_batch_size": usual + expert, "ppo_micro_batch_size_per_gpu": 4}
    assert stock_weights(arguments, usual, expert, ranks, verl_legacy=False) == Weights(1.0, 1.0, "K")
    path.write_text(yaml.safe_dump(config))
    output = trinity_run(path, ray)
    assert trained(tmp_path / "run"), output
    # the export has micro-batches of one row
    micro_batches = (usual + expert) / ranks
    expected = first_batch(path, database, by_row=True).gradient * micro_batches
    gradient = first_gradient(checkpoint(tmp_path / "run", 1))
    assert float((gradient - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize(("name", "ranks"), [("qwen3_chord_config.yaml", 4), ("qwen3_chord_simple.yaml", 2)])
def test_a_configuration_of_the_package_trains_by_trinity_run(
    tmp_path: Path, ray: dict[str, str], name: str, ranks: int
) -> None:
    """With its own batch, loss and trainer ranks; one engine in place of as many as ranks."""
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
    config["explorer"]["runner_per_model"] = tiny["explorer"]["runner_per_model"]
    config["cluster"]["gpu_per_node"] = 1 + ranks
    on_a_cpu = {"gpu_memory_utilization": 0.1, "enforce_eager": True, "dtype": "float32"}
    config["explorer"]["rollout_model"] |= {"engine_num": 1, **on_a_cpu}
    attention = {"model": {"override_config": {"attn_implementation": "sdpa"}}}
    config["trainer"]["trainer_config"] = {**config["trainer"].get("trainer_config", {}), **attention}
    config["trainer"]["max_token_len_per_gpu"] = tiny["trainer"]["max_token_len_per_gpu"]
    changed = tmp_path / name
    changed.write_text(yaml.safe_dump(config))
    output = trinity_run(changed, ray)
    assert trained(tmp_path / "run"), output
    assert len(list(checkpoint(tmp_path / "run", 2).glob("actor/model_world_*.pt"))) == ranks
