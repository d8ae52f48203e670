"""What a run is told of memory before it starts: refused, warned of, or let through."""

from __future__ import annotations

import json

import pytest
from composing import FACTS

from chord_exp import machine_facts
from chord_exp.actions import launch_spec
from chord_exp.config.command_line import parse
from chord_exp.config.composer import composing
from chord_exp.errors import ConfigError
from chord_exp.machine_facts import card_gib, machine_of, step_times

GPU = ["cluster=gpu_4", "model=qwen3_4b", "total_steps=5", "mu_schedule=constant", "data=prepared", "data.out=/data"]


def experiment(overrides: list[str]):
    with composing(parse([*GPU, *overrides])) as composer:
        return composer.run()


def start(overrides: list[str], tmp_path):
    with composing(parse([*GPU, *overrides])) as composer:
        return launch_spec(composer.run(), FACTS, tmp_path)


def test_what_does_not_fit_is_refused_with_overrides_that_make_it_fit(tmp_path):
    with pytest.raises(ConfigError) as caught:
        start(["cluster.gpu_memory_gib=24"], tmp_path)
    text = str(caught.value)
    assert "GiB and has 24.0 GiB" in text and "force=true" in text
    words = text.partition("use ")[2].partition(" (")[0].split()
    assert "cluster.offload_policy=true" in words
    assert start(["cluster.gpu_memory_gib=24", *words], tmp_path).stages


def test_force_starts_it_all_the_same_with_a_warning(tmp_path):
    started = start(["cluster.gpu_memory_gib=24", "force=true"], tmp_path)
    assert any("may run out of memory" in line for line in started.warnings)


def test_what_the_forecast_does_not_follow_is_not_refused(tmp_path):
    by_hand = "trinity.trainer.trainer_config.model.use_fused_kernels=true"
    assert start(["cluster.gpu_memory_gib=24", by_hand], tmp_path).warnings


@pytest.mark.parametrize(("card", "said"), [("A100-80G", []), ("48", ["expandable_segments"]), ("44", ["may run out"])])
def test_what_is_near_the_edge_is_warned_of(tmp_path, card, said):
    warnings = start([f"cluster.gpu_memory_gib={card}"], tmp_path).warnings
    assert [word for word in ("expandable_segments", "may run out") if word in "\n".join(warnings)] == said


def test_a_card_of_no_name_is_refused_with_the_names():
    with pytest.raises(ConfigError, match="A100-80G"):
        experiment(["cluster.gpu_memory_gib=A100-90G"])


def test_gpus_here_are_those_of_the_cluster_where_they_can_be(monkeypatch):
    spec = experiment([]).spec
    monkeypatch.setattr(machine_facts, "_gpus_here", lambda: (23.9,))
    # a laptop's own GPU
    assert card_gib(spec.cluster) is None
    monkeypatch.setattr(machine_facts, "_gpus_here", lambda: (80.0, 80.0, 79.6, 80.0))
    assert card_gib(spec.cluster) == 79.6
    assert card_gib(experiment(["cluster.ray_address=10.0.0.1:6379"]).spec.cluster) is None
    assert machine_of(experiment(["cluster.gpu_memory_gib=H20"]).spec).card_gib == 95.5


def test_the_times_of_a_step_are_read_from_the_metrics_of_the_run(tmp_path):
    rows = [{"step": step, "source": "trainer", "time/train_step": 2.0, "time/read_experience": 6.0} for step in (1, 2)]
    rows.append({"step": 2, "source": "explorer", "time/eval": 4.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert step_times(tmp_path) == {"waiting for rollouts": 6.0, "training": 2.0, "evaluating": 2.0}
    assert step_times(tmp_path / "none") == {}
