"""Each rule over metrics: rows that make it speak, and rows that do not."""

from __future__ import annotations

import pytest
from report_runs import rows

from chord_exp.run_files import history as h
from chord_exp.run_files.rules import BAD, RULES, findings


def seen(**values: list[float | str]) -> h.History:
    """A run that logged these metrics, by their names in `history`, one value a step from the first."""
    count = max(map(len, values.values()))
    steps = ({getattr(h, name): column[i] for name, column in values.items() if i < len(column)} for i in range(count))
    return h.history((step, {"step": step, "source": "trainer", **row}) for step, row in enumerate(steps, start=1))


def wave(*levels: float, each: int = 10) -> list[float]:
    return [level for level in levels for _ in range(each)]


FIRES = {
    "non_finite": {"LOSS": [0.5, "NaN", 0.4]},
    "first_step_kl": {"PPO_KL": [0.05, 0.0]},
    "reward_zero": {"REWARD": [0.0, 0.0, 0.0]},
    "flat_rewards": {"GROUP_STD_MAX": [0.5] + 10 * [0.0] + [0.5], "REWARD": 12 * [0.9]},
    "reward_collapse": {"REWARD": wave(0.3, 0.8, 0.1)},
    "low_entropy": {"ENTROPY": wave(0.4, 0.01)},
    "high_entropy": {"ENTROPY": 5 * [0.2] + [0.9]},
    "gradient_spikes": {"GRAD_NORM": 12 * [1.0] + [30.0] + 5 * [1.0]},
    "clipped": {"CLIP_SHARE": [0.0, 0.5]},
    "cut_responses": {"CUT_RESPONSES": [0.05, 0.4]},
    "cut_prompts": {"CUT_PROMPTS": [0, 3]},
    "mu_zero": {"MU": [0.0, 0.0, 0.0], "SFT_LOSS": [0.5, 0.5, 0.5]},
    "lost_evaluations": {"EVAL_LOST": [0, 2]},
    "not_evaluated": {"ACCURACY": [0.5], "LOSS": [0.5, 0.4]},
    "forgotten": {"ACCURACY": wave(0.3, 0.7, 0.5), "REWARD": wave(0.3, 0.5, 0.9)},
}
SILENT = {
    "non_finite": {"LOSS": [0.5, 0.6]},
    "first_step_kl": {"PPO_KL": [0.001, 0.05]},
    "reward_zero": {"REWARD": [0.0, 0.0, 0.1]},
    "flat_rewards": {"GROUP_STD_MAX": 9 * [0.0] + [0.5] + 9 * [0.0]},
    "reward_collapse": {"REWARD": wave(0.3, 0.8, 0.6)},
    "low_entropy": {"ENTROPY": [*wave(0.4, 0.05), 0.01]},
    "high_entropy": {"ENTROPY": 5 * [0.2] + [0.45]},
    "gradient_spikes": {"GRAD_NORM": 12 * [1.0] + [5.0] + 5 * [1.0]},
    "clipped": {"CLIP_SHARE": [0.0, 0.2]},
    "cut_responses": {"CUT_RESPONSES": [0.05, 0.1]},
    "cut_prompts": {"CUT_PROMPTS": [0, 0]},
    "mu_zero": {"MU": [0.0, 0.0, 0.1], "SFT_LOSS": [0.5, 0.5, 0.5]},
    "lost_evaluations": {"EVAL_LOST": [0, 0]},
    "not_evaluated": {"ACCURACY": [0.5, 0.6], "LOSS": [0.5, 0.4]},
    "forgotten": {"ACCURACY": wave(0.3, 0.7, 0.68), "REWARD": wave(0.3, 0.5, 0.9)},
}


def test_every_rule_has_rows_that_fire_and_rows_that_do_not():
    assert set(RULES) == set(FIRES) == set(SILENT)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_fires_and_names_a_line(name):
    finding = RULES[name](seen(**FIRES[name]))
    assert finding is not None and finding.rule == name
    assert finding.what and finding.remedy and finding.line == finding.step > 0
    assert "{" not in finding.what + finding.remedy


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_silent_on_what_is_well(name):
    assert RULES[name](seen(**SILENT[name])) is None


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_nothing_of_metrics_that_are_not_there(name):
    assert RULES[name](seen(TOKENS=[1.0, 2.0])) is None
    assert RULES[name](h.history([])) is None


def test_grpo_alone_is_not_told_that_its_expert_rows_taught_nothing():
    assert RULES["mu_zero"](seen(MU=[0.0, 0.0, 0.0])) is None


def test_a_healthy_run_has_no_findings():
    assert findings(h.history(enumerate(rows(100), start=1)), succeeded=True) == []


def test_a_short_run_without_any_spread_is_flat_and_one_without_any_reward_is_told_so_once():
    spread = {"GROUP_STD_MAX": [0.0, 0.0]}
    assert RULES["flat_rewards"](seen(**spread, REWARD=[0.2, 0.4])) is not None
    assert [one.rule for one in findings(seen(**spread, REWARD=[0.0, 0.0]), succeeded=True)] == ["reward_zero"]


def test_a_run_that_goes_on_is_not_blamed_for_what_comes_at_the_end():
    history = seen(**FIRES["not_evaluated"])
    assert [one.rule for one in findings(history, succeeded=True)] == ["not_evaluated"]
    assert findings(history, succeeded=False) == []


def test_the_last_evaluation_of_a_later_stage_counts_from_the_start():
    trained = [("sft", 1), ("sft", 2), ("grpo", 1), ("grpo", 2)]
    rows = [{"stage": stage, "step": step, "source": "trainer", h.LOSS: 0.5} for stage, step in trained]
    evaluated = {"stage": "grpo", "source": "explorer", h.ACCURACY: 0.5}
    early, last = (h.history(enumerate([*rows, {**evaluated, "step": step}], start=1)) for step in (1, 2))
    finding = RULES["not_evaluated"](early)
    assert finding is not None and finding.step == 3
    assert RULES["not_evaluated"](last) is None


def test_the_grave_comes_first():
    found = findings(seen(ENTROPY=[0.01, 0.01], EVAL_LOST=[0, 2]), succeeded=True)
    assert [one.severity for one in found] == [BAD, "warning"]


def test_many_cut_prompts_are_grave():
    few, many = ({"CUT_PROMPTS": [cut], "SAMPLES": [48.0]} for cut in (1, 20))
    assert [RULES["cut_prompts"](seen(**case)).severity for case in (few, many)] == ["warning", BAD]
