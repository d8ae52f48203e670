"""Every variant and every way of sharing GPUs and weights ends well on the real components."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from conftest import REAL, RecordedRun, small_policy_change
from running import Run, finish

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
ALL = {"actor/mu", "actor/loss", "actor/grad_norm", "eval/eval/accuracy/mean@1"}
ROLLOUTS = {"actor/usual/pg_loss", "actor/usual/ppo_kl", "actor/usual/pg_clipfrac", "rollout/accuracy/mean"}
# of each variant
LOGGED = {
    "mu": {*ALL, *ROLLOUTS, "actor/expert/sft_loss"},
    "phi": {*ALL, *ROLLOUTS, "actor/expert/sft_phi_loss"},
    "grpo": {*ALL, *ROLLOUTS},
    "sft": {*ALL, "actor/expert/sft_loss"},
}
TERMS = {"actor/usual/pg_loss", "actor/expert/sft_loss", "actor/expert/sft_phi_loss"}


def check_succeeded(run: Run, output: str) -> None:
    assert run.process.returncode == 0, output
    record = run.record
    assert record["status"] == "succeeded" and record["completed_steps"] == record["planned_steps"]
    assert all(math.isfinite(value) for row in run.rows for value in row.values() if isinstance(value, float))
    assert run.processes() == []


def check_logged(run: Run, variant: str) -> None:
    keys = {key for row in run.rows for key in row}
    assert LOGGED[variant] - keys == set()
    # of a term that the variant lacks, nothing
    assert keys & TERMS == LOGGED[variant] & TERMS


def test_the_guide_names_what_is_looked_for_here() -> None:
    named = set(re.findall(r"`((?:actor|rollout|eval)/[^`]+)`", GUIDE.read_text(encoding="utf-8")))
    assert set().union(*LOGGED.values()) - {"actor/usual/ppo_kl", "actor/usual/pg_clipfrac"} <= named


def test_chord_mu_by_two_ranks(two_ranks: RecordedRun) -> None:
    check_succeeded(two_ranks.run, two_ranks.output)
    check_logged(two_ranks.run, "mu")
    # each step's rollouts came from the weights of the step before
    assert two_ranks.run.series("rollout/model_version") == {1: 0, 2: 1}


def test_chord_phi_by_four_ranks(four_ranks: RecordedRun) -> None:
    check_succeeded(four_ranks.run, four_ranks.output)
    check_logged(four_ranks.run, "phi")


def test_engine_and_trainer_share_one_gpu_and_weights_go_through_memory(one_rank: RecordedRun) -> None:
    check_succeeded(one_rank.run, one_rank.output)
    assert small_policy_change(one_rank.run)


def test_grpo_with_weights_through_checkpoints(tmp_path: Path) -> None:
    words = ["variant=grpo", "cluster.sync_method=checkpoint", "total_steps=2"]
    run, output = finish(tmp_path / "run", *REAL, *words)
    check_succeeded(run, output)
    check_logged(run, "grpo")
    assert set(run.series("actor/mu").values()) == {0}
    assert small_policy_change(run)


def test_sft_is_evaluated_before_and_after(tmp_path: Path) -> None:
    run, output = finish(tmp_path / "run", *REAL, "variant=sft", "total_steps=2")
    check_succeeded(run, output)
    check_logged(run, "sft")
    assert set(run.series("actor/mu").values()) == {1}
    assert sorted(run.series("eval/eval/accuracy/mean@1")) == [0, 2]


def test_sft_then_grpo(tmp_path: Path) -> None:
    run, output = finish(tmp_path / "run", *REAL, "variant=sft_then_grpo", "total_steps=4")
    check_succeeded(run, output)
    assert {row.get("stage") for row in run.rows if row["source"] == "trainer"} == {"sft", "grpo"}


@pytest.mark.parametrize(("name", "loads_one"), [("stock", True), ("two_ranks", False)])
def test_a_reference_model_runs_only_for_trinitys_own_algorithm(request, name: str, loads_one: bool) -> None:
    run = request.getfixturevalue(name).run
    assert bool(run.series("time/ref")) == loads_one
