"""Studies: methods that are chosen on the evaluation set, judged on the test set, and compared in plain words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_runs import make_run

from chord_exp.report.figures.compare import chosen_score
from chord_exp.report.figures.paper import REPORTED, reported
from chord_exp.report.figures.summary import Report, look, who_wins
from chord_exp.report.page.html import render
from chord_exp.report.page.texts import markdown
from chord_exp.report.read.folders import find_runs
from chord_exp.report.read.runs import read_run, read_runs
from chord_exp.report.read.settings import StudyPlan, study_plan
from chord_exp.run_files import history as h
from chord_exp.run_files import names

PLAN = {"title": "Who wins?", "question": "Does CHORD pay?", "by": "variant", "reference": "grpo"}
# variant, and how much of it is learnt
METHODS = {"sft": 0.1, "grpo": 0.4, "mu": 0.9}


def add(folder: Path, variant: str, skill: float, seed: int, **settings: object) -> Path:
    number = len(list(folder.glob("*"))) if folder.exists() else 0
    composed = {"variant": variant, "seed": seed, "mu_peak": 0.6, "mu_valley": 0.05, **settings, "study": PLAN}
    overrides = [f"variant={variant}", f"seed={seed}", *(f"{key}={value}" for key, value in settings.items())]
    run = folder / f"{number}_{variant}"
    return make_run(
        run, 40, seed=seed, peak=skill, variant=variant, overrides=overrides, composed=composed, tested=True
    )


def study(folder: Path, seeds: int = 5) -> Report:
    for variant, skill in METHODS.items():
        for seed in range(1, seeds + 1):
            add(folder, variant, skill, seed)
    return look(read_runs(find_runs([folder])))


def test_methods_are_the_groups_and_the_reference_is_the_one_named(tmp_path):
    report = study(tmp_path)
    assert report.study == StudyPlan("Who wins?", "Does CHORD pay?", ("variant",), ("grpo",))
    assert [one.group.label for one in report.scores] == list(METHODS) and report.reference == 1
    assert [one.difference is None for one in report.scores] == [False, True, False]
    assert all(one.difference.paired for one in report.scores if one.difference)
    assert report.title == "Who wins?"


def test_the_winner_is_said_plainly_with_those_it_is_told_from(tmp_path):
    first, better = who_wins(study(tmp_path))
    assert first.startswith("mu comes out first: ") and "test accuracy" in first and "5 seeds" in first
    assert better.startswith("It is better than grpo (+") and "sft (+" in better


def test_a_winner_that_cannot_be_told_from_the_next_is_said_to_be_so(tmp_path):
    for variant, factor in (("mu", 1), ("phi", 2)):
        for seed in range(1, 6):
            # other seeds: what they start with differs by more than what they learn
            add(tmp_path, variant, 0.5, seed * factor)
    _, alike = who_wins(look(read_runs(find_runs([tmp_path]))))
    assert alike.startswith("It cannot be told from ")


def test_a_reference_may_be_several_values_and_point_to_others():
    study = {"title": "t", "question": "q", "by": ["share", "rate"], "reference": [0.5, "${lr}"]}
    plan = study_plan({"lr": 0.01, "share": 0.2, "rate": 1.0, "study": study})
    assert plan == StudyPlan("t", "q", ("share", "rate"), ("0.5", "0.01"))
    assert study_plan({"study": None}) is None


def test_few_seeds_are_not_judged(tmp_path):
    (said,) = who_wins(study(tmp_path, seeds=2))
    assert "fewer than 5 seeds" in said


def test_the_step_is_chosen_on_the_evaluation_set_and_reported_on_the_test_set(tmp_path):
    run = add(tmp_path, "mu", 0.5, 1)
    rows = [
        {"step": step, h.ACCURACY: evaluated, h.TEST_ACCURACY: tested}
        for step, evaluated, tested in ((0, 0.9, 0.9), (20, 0.7, 0.5), (40, 0.6, 0.8))
    ]
    (run / names.METRICS).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = chosen_score(read_run(run))
    # neither the untrained model nor the best on the test set
    assert found is not None and (found.at, found.value, found.line) == (20, 0.5, 2)


def test_settings_of_a_method_are_chosen_on_the_evaluation_set(tmp_path):
    for seed in range(1, 6):
        add(tmp_path, "grpo", 0.4, seed)
        for lr, skill in ((0.1, 0.0), (0.01, 0.8), (0.001, 0.3)):
            add(tmp_path, "sft_then_grpo", skill, seed, lr=lr)
    report = look(read_runs(find_runs([tmp_path])))
    tuned = report.scores[1].group
    assert tuned.label == "sft_then_grpo" and len(tuned.runs) == 5
    assert {run.settings["lr"] for run in tuned.runs} == {"0.01"}
    assert "of 3 settings best on the evaluation set: lr=0.01" in render(report)


def test_the_page_stands_beside_the_papers_table_and_shows_both_budgets(tmp_path):
    report = study(tmp_path)
    page, text = render(report), markdown(report)
    for form in (page, text):
        assert "Does CHORD pay?" in form and "comes out first" in form
        assert all(str(value) in form for method in METHODS for value in REPORTED[method])
        assert "samples" in form and "FLOPs" in form
    assert (
        page.index("comes out first") < page.index(">Scores<") < page.index("Beside the paper") < page.index(">Train<")
    )


def test_a_sweep_without_a_test_set_is_judged_by_the_last_evaluation(tmp_path):
    for seed in range(1, 6):
        for variant in ("mu", "grpo"):
            make_run(tmp_path / f"{variant}{seed}", 20, seed=seed, overrides=[f"variant={variant}", f"seed={seed}"])
    report = look(read_runs(find_runs([tmp_path])))
    assert report.study is None and report.judged_metric == h.ACCURACY
    assert report.scores[0].judged == report.scores[0].final


@pytest.mark.parametrize(
    ("variant", "settings", "row"),
    [
        ("mu", {}, "mu"),
        ("phi", {"phi": "pq", "mu_source": "schedule"}, "phi"),
        ("mu", {"mu_valley": 0.6}, None),
        ("mu", {"mu_source": "reward"}, None),
        ("phi", {"phi": "focal"}, None),
        ("sft", {"mu_valley": 0.6}, "sft"),
    ],
)
def test_only_what_the_paper_reports_is_put_beside_its_row(tmp_path, variant, settings, row):
    run = read_run(add(tmp_path, variant, 0.5, 1, **settings))
    assert reported(run) == (None if row is None else REPORTED[row])
