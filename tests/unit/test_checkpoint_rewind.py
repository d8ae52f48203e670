"""Which checkpoint a resumed run goes back to, and when it begins anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from chord_exp.engine import checkpoint
from chord_exp.errors import RunFailed
from chord_exp.run_files.checkpoints import hf_dir, saved_steps, step_dir


def save(job: Path, step: int) -> None:
    hf_dir(job, step).mkdir(parents=True)
    save_file({"weight": torch.zeros(1)}, hf_dir(job, step) / "model.safetensors")
    torch.save({"sample_strategy": {}}, step_dir(job, step) / "actor" / checkpoint.TRAIN_STATE)


def rewind(job: Path) -> int:
    return checkpoint.rewind(job, "explorer", "trainer", explores=True)


def test_a_run_goes_back_to_the_newest_checkpoint_whose_position_the_explorer_recorded(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    for step in (1, 2):
        checkpoint.record_explorer_state(tmp_path, {"latest_iteration": step})
    assert rewind(tmp_path) == 2
    assert saved_steps(tmp_path) == [1, 2]


def test_a_run_killed_between_its_first_checkpoint_and_the_explorers_record_begins_anew(tmp_path):
    save(tmp_path, 1)
    checkpoint.record_explorer_state(tmp_path, {"latest_iteration": 0})
    assert rewind(tmp_path) == 0
    assert saved_steps(tmp_path) == []


def test_a_longer_run_without_a_usable_checkpoint_is_never_begun_anew_in_silence(tmp_path):
    save(tmp_path, 8)
    checkpoint.record_explorer_state(tmp_path, {"latest_iteration": 4})
    with pytest.raises(RunFailed, match="none of the checkpoints"):
        rewind(tmp_path)
    assert saved_steps(tmp_path) == [8]


def test_a_damaged_checkpoint_is_set_aside_and_not_taken_for_a_run_that_has_hardly_begun(tmp_path):
    save(tmp_path, 8)
    (hf_dir(tmp_path, 8) / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(RunFailed, match="none of the checkpoints"):
        rewind(tmp_path)
    assert step_dir(tmp_path, 8).with_suffix(".corrupt").is_dir()
