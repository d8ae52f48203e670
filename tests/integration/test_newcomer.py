"""The guide's first page as it stands: from a data folder to an evaluated checkpoint, each line typed by a newcomer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run_module

from chord_exp.run_files.evaluation import Evaluation
from chord_exp.run_files.model_card import CARD, SOURCES

ROOT = Path(__file__).parents[2]
GUIDES = (ROOT / "docs" / "guide.md", ROOT / "docs" / "guide.zh-CN.md")
STEPS, HELD_OUT, SAMPLES = 30, 60, 4


def first_block(guide: Path) -> list[str]:
    """The lines of a guide's first shell block."""
    block = re.search(r"^```bash\n(.*?)^```$", guide.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return block.group(1).splitlines()


def test_both_guides_begin_with_the_same_page():
    assert first_block(GUIDES[0]) == first_block(GUIDES[1])


@pytest.fixture(scope="module")
def walked(tmp_path_factory) -> Path:
    """The folder in which a newcomer has typed every line of the page."""
    place = tmp_path_factory.mktemp("newcomer")
    shutil.copytree(ROOT / "sft_data", place / "my_data")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for line in first_block(GUIDES[0]):
        done = subprocess.run(
            line, shell=True, cwd=place, capture_output=True, text=True, env={**os.environ, "PATH": path}
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return place


@pytest.mark.slow
def test_the_run_keeps_the_newest_checkpoints_and_the_best(walked):
    record = json.loads((walked / "my_run" / "run.json").read_text())
    assert record["status"] == "succeeded" and record["completed_steps"] == STEPS
    best = record["best_metrics"]["eval/eval/accuracy/mean@1"]["step"]
    kept = {int(path.name.rpartition("_")[2]) for path in walked.glob("my_run/checkpoints/*/*/global_step_*")}
    assert {STEPS, STEPS - 10} <= kept and len(kept) <= 3
    assert best in kept or best not in (10, 20, 30), "the best of those that were saved"


@pytest.mark.slow
def test_every_checkpoint_is_scored_beside_the_base_model_on_every_held_out_prompt(walked):
    found = Evaluation.load(walked / "my_run" / "evaluation.json")
    assert found.models[0].label == "base" and found.models[-1].step == STEPS
    assert found.lost == 0 and found.samples == SAMPLES
    for model in found.models:
        assert model.answers["greedy"].count == HELD_OUT and model.answers["sampled"].count == HELD_OUT * SAMPLES
        assert (model.answers["greedy"].lead is None) == (model.label == "base")
    items = [json.loads(line) for line in (walked / "my_run/evaluation/items.jsonl").read_text().splitlines()]
    assert len(items) == len(found.models) * HELD_OUT * (1 + SAMPLES)
    sampled = {(item["row"], item["response"]) for item in items if item["sampling"] == "sampled"}
    greedy = [item for item in items if item["model"] == "base" and item["sampling"] == "greedy"]
    assert len({item["row"] for item in greedy}) == HELD_OUT
    assert len(sampled) > HELD_OUT, "sampled answers to one prompt differ: they were not greedy"


@pytest.mark.slow
def test_greedy_scores_are_those_that_training_measured_at_the_same_steps(walked):
    """The same weights, prompts, workflow and reward: the two ways of measuring agree to the last answer."""
    rows = [json.loads(line) for line in (walked / "my_run" / "metrics.jsonl").read_text().splitlines()]
    trained = {row["step"]: row["eval/eval/accuracy/mean@1"] for row in rows if "eval/eval/accuracy/mean@1" in row}
    found = Evaluation.load(walked / "my_run" / "evaluation.json")
    for model in found.models:
        assert model.answers["greedy"].score.value == pytest.approx(trained[model.step]), model.label


@pytest.mark.slow
def test_the_final_weights_have_a_card_with_data_configuration_and_scores(walked):
    (weights,) = walked.glob(f"my_run/checkpoints/*/*/global_step_{STEPS}/actor/huggingface")
    text = (weights / CARD).read_text(encoding="utf-8")
    assert f"| step {STEPS} | sampled |" in text and "| base | greedy |" in text and "| eval | 60 |" in text
    assert {path.name for path in (weights / SOURCES).iterdir()} == {
        "evaluation.json",
        "manifest.json",
        "record.json",
        "trinity.yaml",
    }
    assert (walked / "my_run" / "report.html").exists()


@pytest.mark.slow
def test_weights_in_a_folder_of_their_own_score_as_the_checkpoint_that_they_are(walked):
    (weights,) = walked.glob(f"my_run/checkpoints/*/*/global_step_{STEPS}/actor/huggingface")
    shutil.copytree(weights, walked / "mine")
    lengths = ["model.max_prompt_tokens=64", "model.max_response_tokens=24"]
    words = ["mine", "--data", "my_prepared", "--base", "builtin:tiny", "--k", "0", *lengths]
    done = run_module(walked, "-m", "chord_exp.evaluate", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    alone = Evaluation.load(walked / "outputs" / "evaluations" / "mine" / "evaluation.json")
    within = Evaluation.load(walked / "my_run" / "evaluation.json")
    assert [model.label for model in alone.models] == ["base", "mine"]
    for one, other in zip(alone.models, (within.models[0], within.models[-1]), strict=True):
        assert one.answers["greedy"] == other.answers["greedy"]
