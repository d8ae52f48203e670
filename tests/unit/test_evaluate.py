"""From answers to scores; which checkpoints are asked; what a model card says."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from composing import FACTS, FOLDERS, compose_spec, to_trinity
from launching import fake_launch
from prepare_samples import write_lines

from chord_exp.errors import ConfigError, DataError
from chord_exp.evaluate import target as targets
from chord_exp.evaluate.__main__ import _draft, build_parser, main
from chord_exp.launch.kept import chosen, hf_of, kept, run_around
from chord_exp.prepare import load_manifest
from chord_exp.run_files.evaluation import Answers, Estimate, Evaluation, Lead, ModelScore
from chord_exp.run_files.model_card import card
from chord_exp.run_files.record import RUNNING, SUCCEEDED, RunRecord, utc_now
from chord_exp.run_files.scores import FEWEST_CHANGED, answers_of, detectable, estimate, lead_of
from chord_exp.trinity_config.build import Folders
from chord_exp.trinity_config.evaluation import Sampling, as_evaluation, held_out
from chord_exp.trinity_config.schema import check_schema


def items(scores: dict[str, list[float]], cut: str | None = None) -> list[dict]:
    return [
        {"prompt": prompt, "score": score, "cut": cut, "row": row, "run": run}
        for row, (prompt, found) in enumerate(scores.items())
        for run, score in enumerate(found)
    ]


def test_eight_answers_to_a_prompt_are_one_observation_of_it():
    few = answers_of(items({str(n): [float(n % 2)] for n in range(20)})).score
    many = answers_of(items({str(n): [float(n % 2)] * 8 for n in range(20)})).score
    assert (many.value, many.low, many.high, many.prompts) == (few.value, few.low, few.high, 20)


def test_a_prompt_counts_once_however_many_rows_ask_it():
    rows = [*items({"twice": [1.0]}), *items({"twice": [0.0]}), *items({"once": [1.0]})]
    found = answers_of(rows)
    assert found.score.value == 0.75 and found.score.prompts == 2 and found.count == 3


def test_a_model_that_is_always_right_may_still_be_wrong_on_other_prompts():
    assert estimate([1.0] * 10).low < 0.75
    assert estimate([0.5] * 10).low < 0.3 < 0.7 < estimate([0.5] * 10).high


def test_the_interval_of_many_prompts_holds_the_true_share_in_nineteen_of_twenty_cases():
    draw, inside = random.Random(1), 0
    for _ in range(200):
        shares = [draw.betavariate(2, 2) for _ in range(60)]
        means = [sum(draw.random() < share for _ in range(4)) / 4 for share in shares]
        found = estimate(means)
        inside += found.low <= 0.5 <= found.high
    assert 178 <= inside <= 199


def test_a_difference_is_taken_prompt_by_prompt():
    """Prompts differ far more than models do: only the paired difference shows what the model gained."""
    base = {str(n): n / 40 for n in range(40)}
    ours = {prompt: score + 0.05 for prompt, score in base.items()}
    lead = lead_of(ours, base)
    assert lead.value == pytest.approx(0.05) and lead.verdict == "better"
    assert estimate(list(ours.values())).low < estimate(list(base.values())).high
    assert lead_of(base, ours).verdict == "worse" and lead_of(base, base).verdict == "no difference shown"


def test_prompts_that_only_one_model_answered_are_in_no_difference():
    assert lead_of({"a": 1.0, "b": 1.0}, {"b": 0.0, "c": 0.0}).prompts == 1
    assert lead_of({"a": 1.0}, {"b": 0.0}) is None


def test_the_smallest_difference_falls_with_the_root_of_the_prompts_and_never_below_six_of_them():
    spread = [1.0, -1.0] * 50
    assert detectable(spread) == pytest.approx(2.8016 * 1.00504 / 10, rel=1e-3)
    assert detectable(spread * 4) == pytest.approx(detectable(spread) / 2, rel=1e-2)
    assert detectable([0.0] * 100) == FEWEST_CHANGED / 100


def test_an_evaluation_is_read_as_it_was_written(tmp_path):
    lead = Lead(0.1, 0.05, 0.15, 10, detectable=0.2)
    greedy = Answers(Estimate(0.5, 0.3, 0.7, 10), 10, 1, lead)
    found = Evaluation(
        utc_now(), "/data", "d", "eval", 0, 1.0, "local", [ModelScore("step 4", 4, "/w", {"greedy": greedy})]
    )
    found.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == found


@pytest.mark.parametrize("words", [[], ["variant=sft"], ["variant=sft_then_grpo"], ["cluster=gpu_4", "loss=stock"]])
def test_the_configuration_of_an_evaluation_asks_like_the_training_and_trains_nothing(words):
    config = to_trinity(compose_spec(words), FACTS, FOLDERS)
    samplings = {"greedy": Sampling(0.0, 1), "sampled": Sampling(0.7, 4)}
    folders = Folders("/e/checkpoints", "/e/metrics.jsonl")
    found = as_evaluation(config, "0", folders, samplings, prompts="/other/test", all_gpus="cluster=gpu_4" in words)
    check_schema(found)
    trained = config["buffer"]["explorer_input"]["eval_tasksets"][0]
    greedy, sampled = found["buffer"]["explorer_input"]["eval_tasksets"]
    for asked, temperature, answers in ((greedy, 0.0, 1), (sampled, 0.7, 4)):
        assert asked["rollout_args"]["temperature"] == temperature and asked["repeat_times"] == answers
        assert asked["format"] == trained["format"] and asked["path"] == "/other/test"
    assert found["mode"] == "bench" and "stages" not in found and found["synchronizer"]["sync_method"] == "checkpoint"
    assert found["model"] == config["model"]
    if "cluster=gpu_4" in words:
        assert found["explorer"]["rollout_model"]["engine_num"] == 4
    assert held_out(config) == FACTS.folder


def test_a_training_that_held_nothing_out_says_not_how_to_ask():
    config = to_trinity(compose_spec([]), replace(FACTS, eval_rows=0), FOLDERS)
    assert held_out(config) is None
    with pytest.raises(ConfigError, match="held no prompts out"):
        as_evaluation(config, "0", FOLDERS, {}, prompts="/p", all_gpus=False)


def run_in(folder: Path, stages: dict[str, int], steps: dict[str, list[int]], status: str = SUCCEEDED) -> Path:
    """The folder of a run that left checkpoints, as far as evaluations look at it."""
    launch = fake_launch(stages=stages, base_model="base/model", yaml=json.dumps({"buffer": {}, "model": {}}))
    folder.mkdir()
    launch.save(folder)
    for stage, saved in steps.items():
        for step in saved:
            (folder / "checkpoints" / "p" / "fake" / stage / f"global_step_{step}").mkdir(parents=True)
    record(status).save(folder / "run.json")
    return folder


def record(status: str = SUCCEEDED, overrides: tuple[str, ...] = (), **more) -> RunRecord:
    return RunRecord("fake", "p", "mu", status, 4, 4, 0, "hash", list(overrides), "id", utc_now(), **more)


def labels(run: Path, *words: str, base: bool = True) -> list[str]:
    """What a command line would ask of a run."""
    given = build_parser().parse_args([str(run), *words])
    (session,) = targets.of_run(run, [], chosen(given, given.target, run), base=base).sessions
    return [model.label for model in session.models]


def test_the_newest_checkpoint_is_asked_after_the_base_model(tmp_path):
    run = run_in(tmp_path / "run", {"": 4}, {"": [2, 10, 4]})
    assert labels(run) == ["base", "step 10"]
    assert labels(run, "--all", base=False) == ["step 2", "step 4", "step 10"]
    assert labels(run, "--steps", "4,2") == ["base", "step 2", "step 4"]
    (session,) = targets.of_run(run, [], kept(run), base=True).sessions
    assert session.models[0].weights == "base/model" and session.models[1].checkpoint.name == "global_step_2"


def test_steps_of_a_later_stage_count_on_from_the_earlier(tmp_path):
    run = run_in(tmp_path / "run", {"sft": 4, "grpo": 6}, {"sft": [4], "grpo": [3, 6]})
    assert {step: path.parent.name for step, path in kept(run).items()} == {4: "sft", 7: "grpo", 10: "grpo"}


def test_a_folder_inside_of_a_run_is_that_checkpoint(tmp_path):
    run = run_in(tmp_path / "run", {"": 4}, {"": [2, 4]})
    inside = run / "checkpoints" / "p" / "fake" / "global_step_2" / "actor" / "huggingface"
    inside.mkdir(parents=True)
    assert run_around(inside) == run and run_around(tmp_path) is None
    assert hf_of(kept(run)[2]) == inside
    given = build_parser().parse_args([str(inside)])
    assert list(chosen(given, inside, run)) == [2] and list(chosen(given, run / "checkpoints", run)) == [4]


def refused(*words: str, capsys) -> str:
    assert main(list(words)) == 2
    return capsys.readouterr().err


def test_what_cannot_be_scored_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_in(tmp_path / "run", {"": 4}, {"": [2, 4]})
    empty = run_in(tmp_path / "none", {"": 4}, {})
    model = tmp_path / "model"
    model.mkdir()
    assert "neither a run" in refused("model", capsys=capsys)
    (model / "config.json").write_text("{}")
    assert "--data" in refused("model", capsys=capsys)
    assert "how long" in refused("model", "--data", str(tmp_path), capsys=capsys)
    assert "no folder" in refused("nowhere", capsys=capsys)
    assert "keeps no checkpoint of step 3" in refused(str(run), "--steps", "3", capsys=capsys)
    assert "holds no checkpoint" in refused(str(empty), capsys=capsys)
    assert "held no prompts out" in refused(str(run), capsys=capsys)
    assert "its own settings" in refused(str(run), "lr=1", capsys=capsys)
    assert "--base" in refused(str(run), "--base", "x", capsys=capsys)
    assert "--k" in refused(str(run), "--k", "-1", capsys=capsys)


def test_raw_data_is_asked_whole_and_prepared_data_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = write_lines(tmp_path / "aime" / "a.jsonl", [{"problem": f"{n} + 1?", "answer": n + 1} for n in range(30)])
    found = targets.benchmark(str(raw.parent), "Think.")
    manifest = load_manifest(found)
    assert (manifest.eval_rows, manifest.content["arguments"]["system_prompt"]) == (30, "Think.")
    assert targets.benchmark(str(found)) == found
    with pytest.raises(DataError):
        targets.benchmark("nowhere")


def test_a_run_that_goes_on_is_not_scored(tmp_path, monkeypatch):
    run = run_in(tmp_path / "run", {"": 4}, {"": [2]}, status=RUNNING)
    monkeypatch.setattr("chord_exp.run_files.record.is_locked", lambda path: True)
    with pytest.raises(ConfigError, match="going on"):
        targets.of_run(run, [], kept(run), base=True)


def test_a_card_says_from_what_on_what_and_how_good():
    lead = Lead(0.25, 0.2, 0.3, 100, detectable=0.1)
    models = [
        ModelScore("base", 0, "Qwen/Qwen3-4B", {"greedy": Answers(Estimate(0.5, 0.4, 0.6, 100), 100, 0)}),
        ModelScore("step 4", 4, "/w", {"greedy": Answers(Estimate(0.75, 0.7, 0.8, 100), 100, 0, lead)}),
        ModelScore("step 2", 2, "/other", {"greedy": Answers(Estimate(0.6, 0.5, 0.7, 100), 100, 0, lead)}),
    ]
    evaluation = Evaluation(utc_now(), "/data", "digest", "eval", 8, 1.0, "local", models)
    manifest = {
        "digest": "digest",
        "rows": {"sft": 5000, "rl": 20000, "eval": 100},
        "inputs": [{"path": "a.jsonl", "sha256": "f" * 64}],
    }
    run = record(overrides=("lr=1e-6",), git={"commit": "c" * 40, "dirty": False})
    text = card(run, "Qwen/Qwen3-4B", manifest, evaluation, "/w")
    head, body = text.split("---\n")[1:]
    assert 'base_model: "Qwen/Qwen3-4B"' in head
    assert "| step 4 | greedy | 75.0% [70.0%, 80.0%] | +25.0 points [+20.0, +30.0] |" in body
    assert "| base |" in body and "step 2" not in body
    for said in ("`python -m chord_exp lr=1e-6`", "| sft | 5,000 |", "| a.jsonl | `ffffffffffffffff` |", "CHORD-μ"):
        assert said in body


def test_a_card_without_an_evaluation_says_where_its_score_comes_from():
    best = {"eval/eval/accuracy/mean@1": {"value": 0.8, "step": 20}}
    run = record(final_metrics={"eval/eval/accuracy/mean@1": 0.75}, best_metrics=best)
    text = card(run, "m", {}, None, "/w")
    assert "75.0% at the end" in text and "80.0% at step 20" in text and "the prepared folder is gone" in text.lower()


def test_an_evaluation_takes_the_place_of_the_last_one_whole_or_not_at_all(tmp_path):
    with _draft(tmp_path) as draft:
        (draft / "items.jsonl").write_text("first")
        with pytest.raises(ConfigError, match="another process"), _draft(tmp_path):
            pass
    with pytest.raises(RuntimeError), _draft(tmp_path) as draft:
        (draft / "items.jsonl").write_text("half")
        raise RuntimeError
    assert (tmp_path / "evaluation" / "items.jsonl").read_text() == "first"
    (tmp_path / "evaluation" / "items.jsonl").unlink()
    with pytest.raises(ConfigError, match="no evaluation"), _draft(tmp_path):
        pass
