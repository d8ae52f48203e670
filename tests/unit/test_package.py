"""package/ is in step with conf/, and its YAML files run where chord_exp is not installed."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import generate
import pytest
import yaml
from yaml_text import annotated

from chord_exp.check.__main__ import main as check
from chord_exp.check.weights import stock_weights

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "package"
MODEL = ROOT / "chord_exp" / "tiny" / "model"

MAINS = [main for _, _, main, _, _ in generate.PAIRS]
HALVES = {main: half for _, _, main, half, _ in generate.PAIRS}
# of the seed document
FILES = {
    "README_CHORD.md",
    "chord_training_guide.md",
    "prepare_chord_data.py",
    "qwen3_chord_config.yaml",
    "qwen3_chord_simple.yaml",
    "qwen3_chord_simple_train.yaml",
    "qwen3_chord_train_config.yaml",
    "run_chord_training.sh",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A copy of the package, entered as a user would."""
    folder = tmp_path / "package"
    folder.mkdir()
    for name in FILES:
        shutil.copy(PACKAGE / name, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PWD", str(folder))
    monkeypatch.setenv("TRINITY_MODEL_PATH", str(MODEL))
    monkeypatch.setattr(sys, "argv", ["chord"])
    return folder


@pytest.fixture
def prepared(place):
    """The package with its data prepared as the seed document says."""
    command = [sys.executable, "prepare_chord_data.py", "--input_dir", "sft_data", "--expert_ratio", "0.25"]
    subprocess.run(command, check=True, capture_output=True)
    return place


def test_the_package_holds_the_files_of_the_seed_document():
    assert {path.name for path in PACKAGE.iterdir()} >= FILES


def test_the_generated_files_are_in_step_with_conf_and_docs():
    stale = [name for name, text in generate.files().items() if (PACKAGE / name).read_text(encoding="utf-8") != text]
    assert not stale, "run make package"


def test_a_key_without_a_comment_is_noticed():
    with pytest.raises(KeyError):
        annotated({"mode": "both", "new_key": 1}, {"mode": "m"}, "header")


@pytest.mark.parametrize("main", MAINS)
def test_every_key_has_a_comment_above_it_in_chinese(main):
    lines = (PACKAGE / main).read_text(encoding="utf-8").splitlines()
    for before, line in pairwise(lines):
        if line.strip() and not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("#"), line
    comments = [line for line in lines if line.lstrip().startswith("#")]
    assert sum(bool(re.search("[\u4e00-\u9fff]", line)) for line in comments) > 0.9 * len(comments)


@pytest.mark.parametrize("main", MAINS)
def test_nothing_in_a_main_file_is_read_from_chord_exp(main):
    values = (PACKAGE / main).read_text(encoding="utf-8")
    assert "chord_exp" not in "\n".join(line for line in values.splitlines() if not line.lstrip().startswith("#"))


@pytest.mark.parametrize("main", MAINS)
def test_trinity_accepts_a_main_file_as_it_is_and_reads_the_prepared_rows(main, prepared):
    pytest.importorskip("trinity")
    from trinity.buffer.buffer import get_buffer_reader
    from trinity.common.config import load_config

    logging.getLogger("trinity").setLevel(logging.ERROR)
    config = load_config(main).check_and_update()
    batch = config.buffer
    arguments = config.algorithm.policy_loss_fn_args
    assert arguments["train_batch_size_usual"] == batch.batch_size * config.algorithm.repeat_times
    assert arguments["ngpus_trainer"] == config.cluster.trainer_gpu_num
    expert = batch.trainer_input.auxiliary_buffers["expert"]
    taskset, evaluation = batch.explorer_input.tasksets[0], batch.explorer_input.eval_tasksets[0]
    assert Path(expert.path) == prepared / "prepared" / "sft"
    expert.batch_size = 4
    expert_reader = get_buffer_reader(expert)
    rows = expert_reader.reader._read_sync() if hasattr(expert_reader, "reader") else expert_reader._read_sync()
    assert len(rows) == 4 and all(row.prompt_length > 0 for row in rows)
    for tasks in (taskset, evaluation):
        (task, *_) = get_buffer_reader(tasks.to_storage_config())._read_sync(1)
        assert task.task_desc and task.truth


@pytest.mark.parametrize("main", MAINS)
def test_both_sides_are_weighed_exactly_by_trinitys_own_loss(main):
    values = yaml.safe_load((PACKAGE / main).read_text(encoding="utf-8"))
    arguments = values["algorithm"]["policy_loss_fn_args"]
    usual, expert = arguments["train_batch_size_usual"], arguments["train_batch_size_expert"]
    assert usual + expert == values["buffer"]["train_batch_size"]
    weights = stock_weights(arguments, usual, expert, arguments["ngpus_trainer"], verl_legacy=False)
    assert (weights.usual, weights.expert, weights.times) == (1, 1, "")


@pytest.mark.parametrize("main", MAINS)
def test_the_check_finds_nothing_in_a_main_file_with_its_data(main, prepared, capsys):
    assert check([main, "--verl", "new"]) == 0
    assert f"{main}: no mismatch" in capsys.readouterr().out


@pytest.mark.parametrize("main", MAINS)
def test_the_shown_command_joins_a_half_with_its_main_file(main, place):
    half = place / HALVES[main]
    (command,) = re.findall(r"^#\s+(python -c .*)$", half.read_text(encoding="utf-8"), re.MULTILINE)
    half.write_text(half.read_text(encoding="utf-8").replace("lr: 1.0e-06", "lr: 5.0e-07"), encoding="utf-8")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", command], check=True, cwd=place, env=environment)
    joined = yaml.safe_load((place / "my_config.yaml").read_text(encoding="utf-8"))
    expected = yaml.safe_load((place / main).read_text(encoding="utf-8"))
    assert joined["algorithm"]["optimizer"].pop("lr") == 5e-7
    assert expected["algorithm"]["optimizer"].pop("lr") == 1e-6
    assert joined == expected


def test_a_wrong_edit_gets_a_readable_refusal(prepared, capsys):
    text = (prepared / "qwen3_chord_config.yaml").read_text(encoding="utf-8")
    (prepared / "my_config.yaml").write_text(
        text.replace("\n  batch_size: 24\n", "\n  batch_size: 8\n"), encoding="utf-8"
    )
    assert check(["my_config.yaml", "--verl", "new"]) == 2
    out = capsys.readouterr().out
    assert "train_batch_size is 256" in out and "batch_size x repeat_times = 64" in out
    assert "train_batch_size_usual is 192, and batch_size x repeat_times is 64" in out


def test_the_data_script_takes_the_seeds_flags_and_its_settings_are_those_of_the_yaml(prepared):
    import json

    arguments = json.loads((prepared / "prepared" / "manifest.json").read_text(encoding="utf-8"))["arguments"]
    values = yaml.safe_load((prepared / "qwen3_chord_simple.yaml").read_text(encoding="utf-8"))
    taskset = values["buffer"]["explorer_input"]["taskset"]
    assert arguments["system_prompt"] == taskset["format"]["system_prompt"]
    assert arguments["expert_ratio"] == 0.25
