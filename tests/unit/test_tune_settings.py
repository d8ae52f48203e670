"""The keys of hydra.sweeper, what a trial is worth, and where a sweep starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tuning import settings

from chord_exp.config.hydra_errors import groups
from chord_exp.errors import ConfigError
from chord_exp.run_files import metrics
from chord_exp.sweep.progress import TrialProgress
from chord_exp.sweep.scheduling.resources import Footprint
from chord_exp.sweep.scheduling.trial import Trial
from chord_exp.sweep.tune.best import BestTrial, Result, find_start
from chord_exp.sweep.tune.objective_values import objective_values
from chord_exp.sweep.tune.settings import Objective

CONF = Path(__import__("chord_exp.conf", fromlist=["x"]).__file__).parent
ABOUT = {"model.name": "tiny", "data.name": "sft_data", "variant": "mu"}


def test_the_option_file_gives_every_setting():
    assert settings().targets == [Objective(metrics.ACCURACY, True)]


@pytest.mark.parametrize(
    ("text", "key", "maximize"),
    [
        ("accuracy", metrics.ACCURACY, True),
        ("maximize reward", metrics.REWARD, True),
        ("loss", "actor/loss", False),
        ("minimize actor/grad_norm", "actor/grad_norm", False),
    ],
)
def test_an_objective_is_a_metric_and_a_direction(text, key, maximize):
    assert Objective.parse(text) == Objective(key, maximize)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": "tpee"}, "use one of tpe, random, grid, cmaes"),
        ({"pruner": "sha"}, "use one of asha"),
        ({"objective_value": "mean"}, "use one of best, last"),
        ({"n_trials": 0}, "n_trials=0 is below 1"),
        ({"n_trials": True}, "n_trials"),
        ({"n_trials": None}, "never ends by itself"),
        ({"reduction_factor": 1}, "2 or more"),
        ({"objectives": "accuracy"}, "objectives='accuracy' has the wrong type"),
        ({"objectives": [["loss"]]}, "is no objective"),
        ({"objectives": []}, "there is none"),
        ({"objectives": ["actor/grad_norm"]}, "write 'maximize actor/grad_norm'"),
        ({"objectives": ["maximise accuracy"]}, "no objective"),
        ({"objectives": ["accuracy", "loss"]}, "Optuna prunes for one objective only"),
        ({"objectives": ["accuracy", "loss"], "pruner": "none", "sampler": "cmaes"}, "cmaes takes one objective"),
        ({"n_jobs": 4}, "hydra.sweeper.n_jobs is not known"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_its_key(changes, words):
    with pytest.raises(ConfigError, match=words) as refusal:
        settings(**changes)
    assert "hydra.sweeper." in str(refusal.value)


def test_several_objectives_are_allowed_without_early_stopping():
    assert len(settings(objectives=["accuracy", "minimize loss"], pruner="none").targets) == 2


def write(folder: Path, *rows: dict) -> None:
    folder.mkdir(exist_ok=True)
    with open(folder / "metrics.jsonl", "a") as stream:
        stream.writelines(json.dumps({"source": "explorer", **row}) + "\n" for row in rows)


def progress_of(run_dir: Path, stages: dict[str, int], target: Objective) -> TrialProgress:
    return TrialProgress(Trial(0, "", run_dir, [], Footprint(), stages), [target.key])


def test_a_trial_is_worth_its_best_or_its_last_value_after_step_0(tmp_path):
    target = Objective(metrics.ACCURACY, True)
    progress = progress_of(tmp_path, {"": 3}, target)
    assert objective_values(progress, [target], "best") is None
    write(tmp_path, {"step": 0, metrics.ACCURACY: 0.9}, {"step": 1, metrics.ACCURACY: 0.5})
    progress.read_on()
    write(tmp_path, {"step": 2, metrics.ACCURACY: "NaN"}, {"step": 3, metrics.ACCURACY: 0.4})
    progress.read_on()
    assert progress.values[target.key] == {1: 0.5, 3: 0.4} and progress.best[target.key] == (0.5, 1)
    assert [objective_values(progress, [target], rule) for rule in ("best", "last")] == [[0.5], [0.4]]


def test_steps_of_later_stages_count_on(tmp_path):
    target = Objective("actor/loss", False)
    progress = progress_of(tmp_path, {"sft": 5, "grpo": 2}, target)
    write(tmp_path, {"step": 5, "stage": "sft", target.key: 2.0}, {"step": 1, "stage": "grpo", target.key: 1.0})
    progress.read_on()
    assert progress.values[target.key] == {5: 2.0, 6: 1.0} and progress.best[target.key] == (1.0, 6)
    assert objective_values(progress, [target], "best") == [1.0]


def result(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True)
    best = [BestTrial(0, "0_x", [0.5], {"lr": "0.001"})]
    Result(**{"finished": True, "objectives": ["maximize accuracy"], "best": best, "about": ABOUT, **changes}).save(
        folder
    )
    return folder


def test_the_newest_finished_sweep_of_the_experiment_before_gives_the_start(tmp_path):
    before = tmp_path / "tune_batch_lr"
    result(before / "2026-01-01")
    newest = result(before / "2026-01-02", best=[BestTrial(3, "3_x", [0.7], {"lr": "0.002"})])
    result(before / "2026-01-03", finished=False)
    result(before / "2026-01-04", best=[])
    result(before / "2026-01-05", about={**ABOUT, "model.name": "qwen3_4b"})
    start = find_start(None, "tune_batch_lr", tmp_path / "tune_mu" / "now", ABOUT)
    assert (start.sweep, start.overrides) == (newest, {"lr": "0.002"})
    assert str(newest) in start.why and "lr=0.002" in start.why


def test_without_one_the_configuration_s_own_values_are_the_start_and_that_is_said(tmp_path):
    start = find_start(None, "tune_batch_lr", tmp_path / "tune_mu" / "now", ABOUT)
    assert start.overrides == {} and start.recorded() is None
    assert f"no finished sweep in {tmp_path / 'tune_batch_lr'}" in start.why
    assert find_start("none", "tune_batch_lr", tmp_path / "a" / "b", ABOUT).overrides == {}


def test_what_a_sweep_started_from_is_carried_to_the_next(tmp_path):
    mu = result(
        tmp_path / "s",
        best=[BestTrial(1, "1_x", [0.6], {"mu_peak": "0.4"})],
        start={"sweep": "/before", "overrides": {"lr": "0.002", "mu_peak": "0.1"}},
    )
    start = find_start(str(mu), None, tmp_path / "tune_ratio" / "now", ABOUT)
    assert start.overrides == {"lr": "0.002", "mu_peak": "0.4"}
    assert start.recorded() == {"sweep": str(mu), "overrides": start.overrides}


@pytest.mark.parametrize("front", [[], [BestTrial(n, f"{n}", [0.1, 0.2], {}) for n in (0, 1)]])
def test_a_sweep_without_one_best_trial_is_no_start(tmp_path, front):
    folder = result(tmp_path / "s", best=front)
    with pytest.raises(ConfigError, match=r"no trial that succeeded|2 best trials"):
        find_start(str(folder), None, tmp_path, ABOUT)


def test_a_folder_without_a_result_or_with_a_damaged_one_is_no_start(tmp_path):
    with pytest.raises(ConfigError, match=r"no best\.json"):
        find_start(str(tmp_path), None, tmp_path, ABOUT)
    (tmp_path / "best.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        find_start(str(tmp_path), None, tmp_path, ABOUT)


def test_the_experiments_follow_the_seed_s_order():
    chain = {}
    for name in groups()["experiment"]:
        text = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))
        # a study's tuning is of no sequence
        if name.startswith("tune_") and "study" not in text:
            assert text["name"] == name and text["hydra"]["mode"] == "MULTIRUN"
            chain[name] = (text["hydra"]["sweeper"].get("warm_start"), set(text["hydra"]["sweeper"]["params"]))
    assert chain == {
        "tune_batch_lr": (None, {"batch_size", "lr"}),
        "tune_mu": ("tune_batch_lr", {"mu_peak", "mu_valley", "mu_warmup_steps", "mu_decay_steps"}),
        "tune_ratio": ("tune_mu", {"expert_data_ratio"}),
    }
