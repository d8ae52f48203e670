"""The hash of a configuration: what counts and what does not."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from chord_exp.run_files.record import config_hash

RUN_DIR = Path("/out/实验 1")


def config(run_dir: Path = RUN_DIR) -> dict:
    return {
        "checkpoint_root_dir": f"{run_dir}/checkpoints",
        "continue_from_checkpoint": False,
        "cluster": {"ray_address": "127.0.0.1:6379", "node_num": 1},
        "buffer": {"taskset": {"path": "/data/rl"}},
        "algorithm": {"optimizer": {"lr": 1e-4}},
    }


def test_a_resumed_run_on_another_ray_keeps_its_hash():
    resumed = config()
    resumed["continue_from_checkpoint"] = True
    resumed["cluster"]["ray_address"] = "127.0.0.1:7000"
    assert config_hash(resumed, RUN_DIR) == config_hash(config(), RUN_DIR)


def test_where_metrics_go_does_not_count():
    watched = {**config(), "monitor": {"monitor_args": {"wandb": {"group": "a sweep"}}}}
    assert config_hash(watched, RUN_DIR) == config_hash(config(), RUN_DIR)


@pytest.mark.parametrize("other", ["/elsewhere/run", '/out/a "quoted" one', "/out/实验 2"])
def test_the_folder_of_the_run_does_not_count(other):
    assert config_hash(config(Path(other)), Path(other)) == config_hash(config(), RUN_DIR)


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("algorithm", {"optimizer": {"lr": 2e-4}}),
        ("buffer", {"taskset": {"path": "/other/rl"}}),
        ("cluster", {"ray_address": "127.0.0.1:6379", "node_num": 2}),
    ],
)
def test_numbers_data_and_machines_count(section, value):
    assert config_hash({**config(), section: value}, RUN_DIR) != config_hash(config(), RUN_DIR)


def test_the_configuration_is_left_as_it_was():
    given = config()
    before = deepcopy(given)
    config_hash(given, RUN_DIR)
    assert given == before
