"""Which checkpoints of a run stay."""

from __future__ import annotations

import json
from pathlib import Path

from composing import FACTS, compose_spec

from chord_exp.experiment.geometry import derive
from chord_exp.launch.driver.keep_best import Keeper, to_keep

SCORE = "eval/eval/accuracy/mean@1"


def test_the_newest_stay_and_beside_them_the_best():
    scores = {2: 0.9, 4: 0.1, 6: 0.5, 8: 0.9}
    assert to_keep([2, 4, 6, 8, 10], scores, newest=1, best=1) == {2, 10}
    assert to_keep([2, 4, 6, 8, 10], scores, newest=2, best=2) == {2, 8, 10}
    assert to_keep([2, 4, 6], {}, newest=1, best=3) == {6}
    assert to_keep([2, 4], scores, newest=0, best=1) == {2, 4}


def saved(job: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("global_step_")) for path in job.glob("global_step_*"))


def save(job: Path, step: int) -> None:
    (job / f"global_step_{step}").mkdir(parents=True)
    (job / "latest_checkpointed_iteration.txt").write_text(str(step))


def log(path: Path, step: int, score: float | str, stage: str = "") -> None:
    with open(path, "a") as stream:
        stream.write(json.dumps({"step": step, "source": "explorer", "stage": stage, SCORE: score}) + "\n")


def test_what_is_neither_new_nor_good_goes_at_the_next_save(tmp_path):
    job, metrics = tmp_path / "job", tmp_path / "metrics.jsonl"
    keeper = Keeper(job, metrics, "grpo", newest=1, best=1)
    keeper.look()
    save(job, 2)
    keeper.look()
    log(metrics, 2, 0.5, "grpo")
    log(metrics, 2, 0.9, "sft")
    save(job, 4)
    log(metrics, 4, "NaN", "grpo")
    keeper.look()
    assert saved(job) == [2, 4]
    save(job, 6)
    (job / "global_step_8").mkdir()  # being written
    keeper.look()
    assert saved(job) == [2, 6, 8]
    log(metrics, 6, 0.7, "grpo")
    keeper.drop()
    assert saved(job) == [6, 8]


def test_without_a_wish_for_the_best_nothing_is_dropped_here(tmp_path):
    save(tmp_path, 2)
    save(tmp_path, 4)
    keeper = Keeper(tmp_path, tmp_path / "metrics.jsonl", "", newest=1, best=0)
    keeper.look()
    keeper.drop()
    assert saved(tmp_path) == [2, 4]


def test_a_plan_warns_where_no_checkpoint_but_the_last_has_a_score():
    words = ["total_steps=80", "cluster.keep_best=1", "cluster.save_interval=27", "data.eval_interval=20"]
    assert any("keep_best has no choice" in warning for warning in derive(compose_spec(words), FACTS).warnings)
    words[2] = "cluster.save_interval=20"
    assert not any("keep_best" in warning for warning in derive(compose_spec(words), FACTS).warnings)
