"""What a tracker is told about a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from composing import FACTS, FOLDERS, compose_spec, to_trinity

from chord_exp.config.compose import in_sweep
from chord_exp.errors import ConfigError
from chord_exp.trinity_config.tracker_config import sweep_label


def told(*overrides: str) -> dict:
    spec = compose_spec(["monitor=wandb", *overrides])
    return to_trinity(spec, FACTS, FOLDERS)["monitor"]["monitor_args"]["tracker"]


def test_the_config_has_the_experiment_s_own_keys_and_the_derived_sizes():
    config = told("mu_peak=0.4", "batch_size=6", "repeat_times=4", "total_steps=9")["config"]
    assert (config["mu_peak"], config["model"]["name"], config["total_steps"]) == (0.4, "tiny", 9)
    assert config["derived"] == {"usual_rows": 24, "expert_rows": 8, "data_parallel_size": 1, "steps": 9}


def test_no_prompt_and_no_key_is_in_the_config():
    text = str(
        told(
            "data.system_prompt=Think aloud.",
            "trinity.explorer.rollout_model.api_key=sk-1234",
            "+trinity.explorer.auxiliary_models=[{model_path: judge, api_key: sk-5678}]",
            "+trinity.buffer.explorer_input.taskset.workflow_args={hf_token: hf-90, judge_model: m}",
        )["config"]
    )
    for secret in ("Think aloud", "sk-1234", "sk-5678", "hf-90"):
        assert secret not in text
    # sizes in tokens are no tokens
    assert "max_prompt_tokens" in text and "judge_model" in text


def test_tags_say_what_ran_where_and_what_the_user_adds():
    assert told("variant=phi", "monitor.tags=[ablation,tiny]")["tags"] == [
        "phi",
        "tiny",
        "sft_data",
        "local",
        "ablation",
    ]


@pytest.mark.parametrize("tag", ["", " ", "x" * 65])
def test_a_tag_that_wandb_would_refuse_is_refused_before_the_run(tag):
    with pytest.raises(ConfigError, match=r"monitor\.tags"):
        compose_spec([f"monitor.tags=['{tag}']"])


def test_a_run_alone_is_grouped_by_its_name_and_a_trial_by_its_sweep():
    assert told()["group"] == "tiny-mu"
    trial = in_sweep(compose_spec(["monitor=wandb"]), Path("/data/multirun/tiny-mu/2026-01-31_12-00-00"))
    args = to_trinity(trial, FACTS, FOLDERS)["monitor"]["monitor_args"]
    assert args["tracker"]["group"] == "tiny-mu/2026-01-31_12-00-00"


def test_a_group_that_the_user_names_wins_over_the_sweep_s():
    spec = in_sweep(compose_spec(["monitor=wandb", "monitor.group=ours"]), Path("/data/multirun/a/b"))
    assert spec.monitor.group == "ours"


def test_a_long_folder_still_makes_a_group():
    assert len(sweep_label(Path("/") / ("a" * 200) / "b")) == 128


def test_a_key_for_wandb_cannot_be_put_into_trinity_s_config():
    with pytest.raises(ConfigError, match=r"monitor\.monitor_args\.api_key"):
        told("+trinity.monitor.monitor_args.api_key=sk-1")
