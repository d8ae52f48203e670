"""The paper's experiments: its sizes, and the same on the tiny model."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from composing import compose_spec

from chord_exp.data_facts import assumed_facts
from chord_exp.errors import DataError
from chord_exp.experiment.geometry import derive
from chord_exp.experiment.spec import DataFacts
from chord_exp.prepare.read.files import resolve_input

MATH, TOOLS = DataFacts(5000, 20000, 200, "/data"), DataFacts(500, 5000, 200, "/data")
# prompts, rollouts, expert rows, steps; what is published of arXiv 2508.11408
SIZES = {"math": (32, 256, 64, 1500), "tools": (96, 768, 96, 100)}
MU = {
    "paper_math_mu": (0, 200, 0.9, 0.05),
    "paper_math_phi": (0, 0, 0.1, 0.1),
    "paper_tools_mu": (0, 30, 0.9, 0.05),
    "paper_tools_phi": (0, 0, 0.1, 0.1),
}


@pytest.mark.parametrize("name", MU)
def test_an_experiment_has_the_paper_s_sizes(name):
    spec, kind = compose_spec([f"experiment={name}"]), name.split("_")[1]
    (stage,) = derive(spec, MATH if kind == "math" else TOOLS).stages
    assert (spec.batch_size, stage.batch.usual_rows, stage.batch.expert_rows, stage.steps) == SIZES[kind]
    mu = spec.mu
    assert (mu.warmup_steps, mu.decay_steps, mu.peak, mu.valley) == MU[name]
    assert spec.effective_variant == name.rpartition("_")[2]
    assert spec.model.temperature == 1 and spec.cluster.name == "gpu_8"


@pytest.mark.parametrize(("name", "facts"), [("paper_math_mu", MATH), ("paper_tools_phi", TOOLS)])
def test_a_plan_without_the_data_counts_the_rows_that_the_sample_will_have(name, facts):
    assumed = assumed_facts(compose_spec([f"experiment={name}"]))
    assert assumed.assumed and (assumed.expert_rows, assumed.rl_rows) == (facts.expert_rows, facts.rl_rows)


@pytest.mark.parametrize("name", MU)
def test_at_scale_tiny_it_is_the_same_experiment_on_the_tiny_model(name):
    spec = compose_spec([f"experiment={name}", "scale=tiny"])
    assert (spec.name, spec.model.name, spec.cluster.name, spec.data.name) == (name, "tiny", "local", "sft_data")
    assert (spec.mu_decay_steps, spec.mu_peak) == (MU[name][1], MU[name][2])
    # the sample data is small: a step must fit
    (stage,) = derive(spec, DataFacts(520, 1380, 16, "/data")).stages
    assert stage.steps == 4 and stage.batch.expert_rows >= 1


def test_the_command_line_has_the_last_word_over_a_scale():
    spec = compose_spec(["experiment=paper_math_mu", "scale=tiny", "total_steps=9", "model.max_response_tokens=32"])
    assert (spec.total_steps, spec.model.max_response_tokens) == (9, 32)


def test_a_sample_of_a_hub_s_data_set_is_fetched_once_and_is_the_same_each_time(tmp_path, monkeypatch):
    rows = datasets.Dataset.from_dict({"problem": [str(number) for number in range(100)]})
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name: asked.append(name) or datasets.DatasetDict(train=rows))
    taken = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        saved = [resolve_input("owner/name[7]") for _ in range(2)]
        assert saved == [Path("outputs/hub/owner--name-7")] * 2
        taken.append(datasets.load_from_disk(str(saved[0]))["problem"])
    assert asked == ["owner/name"] * 2
    assert list(taken[0]) == list(taken[1]) and len(set(taken[0])) == 7


def test_a_data_set_that_cannot_be_fetched_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fails(name):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(DataError, match=r"owner/name.*no network"):
        resolve_input("owner/name[7]")
