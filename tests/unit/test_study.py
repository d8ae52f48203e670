"""Studies: what a configuration says of one, the local study's data, and the order in which it goes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from composing import compose_config
from prepare_samples import prepare
from report_runs import make_run

from chord_exp.config import compose
from chord_exp.config.hydra_errors import groups
from chord_exp.errors import ConfigError
from chord_exp.experiment.study import StudySpec
from chord_exp.report.read.runs import read_runs
from tools.study import numbers, plots
from tools.study import run as study
from tools.study.make_data import EXPERTS, REWARDED, ROWS, study_files, write_data
from tools.tiny.word_problems import LARGEST_NUMBER, evaluate

PLAN = {"title": "a", "question": "b?", "by": "method", "reference": "grpo"}


def test_a_study_names_the_keys_that_make_its_groups():
    assert StudySpec.read(None) is None
    assert StudySpec.read(PLAN).by == ["method"]
    two = StudySpec.read({**PLAN, "by": ["mu_peak", "mu_valley"], "reference": [0.5, 0.02]})
    assert two.reference == ["0.5", "0.02"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"title": " "}, "study.title is empty"),
        ({"by": ["a", "b"]}, "do not go together"),
        ({"by": []}, "do not go together"),
        ({"budget": 3}, "study.budget is not known"),
    ],
)
def test_a_study_that_says_too_little_is_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        StudySpec.read({**PLAN, **change})
    with pytest.raises(ConfigError, match=r"study\.question is missing"):
        StudySpec.read({key: PLAN[key] for key in ("title", "by", "reference")})


def test_every_study_of_ours_sweeps_what_it_compares_over_five_seeds():
    found = {}
    for option in groups()["experiment"]:
        text = Path(compose.chord_exp.__file__).parents[1].joinpath("conf", "experiment", f"{option}.yaml").read_text()
        if "\nstudy:" in text:
            found[option] = text
            spec, command = compose.read(compose_config([f"experiment={option}"]))
            assert spec.data.test_rows > 0
            for key in StudySpec.read(command.study).by:
                assert re.search(rf"^      {key}: .*,", text, re.MULTILINE), (option, key)
    assert set(found) == {"compare", "ablate_mu", "ablate_phi", "adaptive_mu", "tune_sft_then_grpo"}
    assert all("seed: 1,2,3,4,5\n" in found[option] for option in set(found) - {"tune_sft_then_grpo"})
    # a baseline is tuned on seeds that it is not compared on
    assert "seed: choice(101,102)" in found["tune_sft_then_grpo"]


def test_the_methods_of_a_study_set_all_that_sets_them_apart():
    for method in groups()["method"]:
        spec, _ = compose.read(compose_config([f"method={method}", "mu_schedule=paper_mu"]))
        decays = spec.mu_peak != spec.mu_valley
        assert decays == (method not in ("chord_phi", "fixed_mu")), method
        assert (spec.phi == "pq") == (method == "chord_phi")
        assert spec.variant == {"chord_mu": "mu", "chord_phi": "phi", "fixed_mu": "mu"}.get(method, method)


def test_the_study_s_data_is_the_same_every_time_and_its_answers_are_right():
    files = study_files()
    assert files == study_files() and files != study_files(seed=1)
    rows = {name: [json.loads(line) for line in text.splitlines()] for name, text in files.items()}
    assert {name: len(lines) for name, lines in rows.items()} == ROWS
    assert len({row["prompt"] for lines in rows.values() for row in lines}) == sum(ROWS.values())
    for row in rows[REWARDED]:
        assert len(re.findall(r"\d+", row["prompt"])) == 2 and int(row["ground_truth"]) >= 1
    for row in rows[EXPERTS]:
        said = re.fullmatch(r"(.+)=(\d+)\W+(\d+)([+-])(\d+)=(\d+) \\boxed\{(\d+)\}", row["response"])
        assert said is not None, row
        word, number, first, sign, second, result, boxed = said.groups()
        # the word stands in the question in place of its number, which the experts alone know
        assert word in row["prompt"] and re.findall(r"\d+", row["prompt"]) == [first]
        assert number == second and evaluate(f"{first}{sign}{second}") == int(result) == int(boxed)
        assert 2 <= int(first) <= LARGEST_NUMBER and 2 <= int(second) <= LARGEST_NUMBER


def test_experts_know_one_part_of_the_study_s_task_and_rewards_reach_both(tmp_path):
    write_data(tmp_path / "data")
    made = prepare(tmp_path / "data", tmp_path / "out", expert_ratio=0.2, eval_rows=60, test_rows=100)
    assert (made.eval_rows, made.test_rows) == (60, 100) and made.expert_rows > 300

    def numbers(side: str, key: str) -> list[int]:
        lines = (tmp_path / "out" / side / "train.jsonl").read_text(encoding="utf-8").splitlines()
        return [len(re.findall(r"\d+", re.sub(r"(?s)assistant.*", "", json.loads(line)[key]))) for line in lines]

    assert set(numbers("sft", "messages")) == {1}
    for side in ("rl", "eval", "test"):
        asked = numbers(side, "prompt")
        assert set(asked) == {1, 2} and 0.3 < asked.count(1) / len(asked) < 0.7


def tuned(folder: Path, share: str, rate: str, seed: int, peak: float) -> None:
    """A run whose accuracy grows with `peak`."""
    given = [f"sft_share={share}", f"sft_lr={rate}", f"seed={seed}"]
    make_run(folder / f"{share}_{rate}_{seed}", 20, seed=seed, peak=peak, overrides=given)


def test_the_tuned_setting_is_the_best_in_the_mean_over_its_seeds(tmp_path):
    for seed in (101, 102):
        tuned(tmp_path, "0.25", "0.001", seed, 0.2)
        tuned(tmp_path, "0.5", "0.001", seed, 0.9)
        # lucky once
        tuned(tmp_path, "0.5", "0.003", seed, 0.0 if seed == 101 else 0.95)
    assert study.best_setting(study.runs_of(tmp_path)) == {"sft_share": "0.5", "sft_lr": "0.001"}


def test_a_cheaper_method_gets_the_steps_that_cost_as_much(tmp_path):
    rows = {"chord_mu": (48, 16), "grpo": (48, 0), "sft": (0, 16), "sft_then_grpo": (48, 0)}
    for method, (usual, expert) in rows.items():
        composed = {"model": {"parameters_b": 0.001}}
        folder = make_run(tmp_path / method, 30, overrides=[f"method={method}"], composed=composed)
        sizes = {"usual_rows": usual, "expert_rows": expert}
        config = {"algorithm": {"policy_loss_fn_args": {key: rows for key, rows in sizes.items() if rows}}}
        (folder / "trinity.yaml").write_text(json.dumps(config), encoding="utf-8")
    steps = study.equal_steps(read_runs([tmp_path / method for method in rows]))
    # of 4,000 tokens a step: 6 a token, 2 more where it is a rollout's
    assert steps == {"grpo": round(30 * 7.5 / 8), "sft": round(30 * 7.5 / 6), "sft_then_grpo": round(30 * 7.5 / 8)}


def test_no_size_of_the_local_study_outdoes_what_sets_the_methods_apart():
    methods = Path(compose.chord_exp.__file__).parents[1] / "conf" / "method"
    constant = {key for key in ("mu_peak", "mu_valley") if key in (methods / "fixed_mu.yaml").read_text()}
    assert constant and constant.isdisjoint(word.partition("=")[0] for word in study.SIZES)
    for method, mu in {"chord_mu": (0.9, 0.05), "chord_phi": (0.1, 0.1), "fixed_mu": (0.1, 0.1)}.items():
        spec, _ = compose.read(compose_config(["experiment=compare", *study.SIZES, f"method={method}"]))
        assert (spec.mu.peak, spec.mu.valley) == mu


def test_the_local_study_tunes_then_compares_then_gives_equal_flops_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    asked: list[list[str]] = []

    def note(command: list[str]) -> None:
        asked.append(command[2:])
        (place,) = [word.partition("=")[2] for word in command if word.startswith("hydra.sweep.dir=")] or [""]
        if place:
            Path(place).mkdir(parents=True)

    monkeypatch.setattr(study, "_call", note)
    monkeypatch.setattr(study, "runs_of", lambda folder: [])
    monkeypatch.setattr(study, "best_setting", lambda runs: {"sft_share": "0.25", "sft_lr": "0.003"})
    monkeypatch.setattr(study, "equal_steps", lambda runs: {"sft": 270, "grpo": 78, "sft_then_grpo": 100})
    study.main(["--out", str(tmp_path / "study"), "seed=7"])
    sweeps = [words for words in asked if words[0] == "chord_exp"]
    assert [words[1] for words in sweeps] == ["experiment=tune_sft_then_grpo"] + ["experiment=compare"] * 4
    assert all("seed=7" in words for words in sweeps)
    assert all({"sft_share=0.25", "sft_lr=0.003"} <= set(words) for words in sweeps[1:])
    assert [words[-2:-1] for words in sweeps[2:]] == [["total_steps=270"], ["total_steps=78"], ["total_steps=100"]]
    assert [words[0] for words in asked[-3:]] == ["chord_exp.report"] * 3
    asked.clear()
    study.main(["--out", str(tmp_path / "study"), "seed=7"])
    assert [words[:2] for words in asked[:5]] == [["chord_exp.runs", "resume"]] * 5


def test_the_raw_numbers_hold_a_line_a_run_and_the_plots_are_drawn_from_them(tmp_path, monkeypatch):
    for method, peak in (("chord_mu", 0.9), ("grpo", 0.2)):
        for seed in (1, 2):
            given = [f"method={method}", f"seed={seed}", "sft_lr=0.001"]
            make_run(tmp_path / "compare" / f"{method}_{seed}", 20, seed=seed, peak=peak, tested=True, overrides=given)
    monkeypatch.setattr(numbers, "parts", lambda run, logged: {"two_numbers": logged, "in_words": 0.0})
    numbers.main([str(tmp_path), "--out", str(tmp_path / "numbers.csv")])
    lines = list(csv.DictReader((tmp_path / "numbers.csv").open()))
    assert [(line["method"], line["seed"], line["sweep"]) for line in lines] == [
        *(("chord_mu", seed, "compare") for seed in "12"),
        *(("grpo", seed, "compare") for seed in "12"),
    ]
    for line in lines:
        assert line["two_numbers"] == line["last"] != "" and line["sft_lr"] == "0.001" and line["steps"] == "20"
        assert float(line["tested"]) == pytest.approx(float(line["evaluated"]) - 0.03)
    plots.main([str(tmp_path / "numbers.csv"), "--out", str(tmp_path)])
    drawn = (tmp_path / "scores.svg").read_text()
    assert "CHORD-mu" in drawn and "at equal FLOPs" in drawn
    assert "a number in words" in (tmp_path / "parts.svg").read_text()


def test_a_model_that_is_not_the_one_that_was_scored_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "train.jsonl").write_text('{"prompt": "1", "answer": "1"}\n')
    run = make_run(tmp_path / "run", 20, tested=True)
    tasksets = [{"name": "eval", "path": "elsewhere"}, {"name": "test", "path": str(tmp_path / "test")}]
    config = {"model": {}, "buffer": {"explorer_input": {"eval_tasksets": tasksets}}}
    (run / "trinity.yaml").write_text(json.dumps(config))
    monkeypatch.setattr(numbers, "kept", lambda folder: {20: Path("global_step_20")})
    monkeypatch.setattr(numbers, "answers", lambda folder, rows, limits: iter([1.0]))
    (read,) = read_runs([run])
    with pytest.raises(RuntimeError, match=r"accuracy 1\.0 here and 0\.5 in its last evaluation"):
        numbers.parts(read, 0.5)
