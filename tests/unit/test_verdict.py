"""How a run is judged from what it left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chord_exp.launch.run_request import Outcome
from chord_exp.launch.verdict import Evidence, damaged_weights, judge_run
from chord_exp.run_files.causes import is_machine_fault
from chord_exp.run_files.record import RunError

PLENTY = 1 << 40


def safetensors(data: bytes = b"\0" * 8) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


@pytest.fixture
def good(tmp_path: Path) -> Evidence:
    weights = tmp_path / "hf"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(safetensors())
    (tmp_path / "logs").mkdir()
    rows = [{"step": step, "source": "trainer", "actor/loss": 0.5, "actor/grad_norm": 1.0} for step in (1, 2, 3)]
    return Evidence(
        run_dir=tmp_path,
        outcome=Outcome("finished", 3),
        exit_code=0,
        planned_steps=3,
        is_last_stage=True,
        stage="",
        rows=rows,
        final_weights=weights,
        check_losses_finite=True,
        free_bytes=PLENTY,
        interrupted=False,
    )


def test_a_run_that_did_all_it_planned_succeeded(good: Evidence) -> None:
    verdict = judge_run(good)
    assert (verdict.status, verdict.completed_steps, verdict.error) == ("succeeded", 3, None)


def test_a_run_called_finished_that_stopped_short_failed(good: Evidence) -> None:
    verdict = judge_run(replace(good, outcome=Outcome("finished", 2)))
    assert verdict.status == "failed"
    assert "2 of 3" in verdict.error.what


def test_a_first_stage_that_ended_the_run_is_a_failure_however_far_it_came(good: Evidence) -> None:
    assert judge_run(replace(good, is_last_stage=False)).status == "failed"


@pytest.mark.parametrize("value", ["NaN", "Infinity", float("nan")])
def test_a_value_that_is_not_finite_fails_the_run(good: Evidence, value: object) -> None:
    good.rows[1]["actor/loss"] = value
    verdict = judge_run(good)
    assert verdict.status == "failed"
    assert "actor/loss is not finite at step 2" in verdict.error.what


def test_a_step_made_again_after_a_resume_counts_as_it_was_made_last(good: Evidence) -> None:
    bad = {"step": 2, "source": "trainer", "actor/loss": "NaN"}
    assert judge_run(replace(good, rows=[bad, *good.rows])).status == "succeeded"
    assert judge_run(replace(good, rows=[*good.rows, bad])).status == "failed"


def test_losses_that_the_stock_loss_cannot_log_are_not_held_against_it(good: Evidence) -> None:
    good.rows[0]["actor/loss"] = "NaN"
    assert judge_run(replace(good, check_losses_finite=False)).status == "succeeded"
    good.rows[0]["actor/grad_norm"] = "NaN"
    assert judge_run(replace(good, check_losses_finite=False)).status == "failed"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"w": "model-2.safetensors"}}'
        ),
        lambda folder: (folder / "model.safetensors").write_bytes(safetensors()[:-1]),
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64),
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": {"w'),
        lambda folder: (folder / "model.safetensors.index.json").write_text("[]"),
    ],
)
def test_a_final_checkpoint_that_would_not_load_fails_the_run(good: Evidence, damage: object) -> None:
    assert damaged_weights(good.final_weights) is None
    damage(good.final_weights)
    verdict = judge_run(good)
    assert verdict.status == "failed"
    assert "does not load" in verdict.error.what


def test_a_run_that_the_user_ended_is_stopped_whatever_else_it_left(good: Evidence) -> None:
    assert judge_run(replace(good, interrupted=True, outcome=None, exit_code=-9)).status == "stopped"
    assert judge_run(replace(good, outcome=Outcome("stopped", 2))).status == "stopped"


def test_a_stop_that_came_when_all_was_done_takes_nothing_away(good: Evidence) -> None:
    assert judge_run(replace(good, interrupted=True)).status == "succeeded"


def test_a_run_that_was_stopped_before_its_last_evaluation_has_something_left_to_do(good: Evidence) -> None:
    assert judge_run(replace(good, outcome=Outcome("stopped", 3), interrupted=True)).status == "stopped"


def test_a_process_that_vanished_is_a_failure_with_its_signal(good: Evidence) -> None:
    verdict = judge_run(replace(good, outcome=None, exit_code=-9))
    assert verdict.status == "failed"
    assert "signal 9" in verdict.error.what


def test_a_process_that_died_of_an_exception_is_quoted(good: Evidence) -> None:
    (good.run_dir / "logs" / "run.log").write_text("Traceback ...\nModuleNotFoundError: No module named 'x'\n")
    verdict = judge_run(replace(good, outcome=None, exit_code=1))
    assert verdict.error.what == "ModuleNotFoundError: No module named 'x'"


def test_a_full_disk_is_named_even_when_the_run_could_not_write_it_down(good: Evidence) -> None:
    verdict = judge_run(replace(good, outcome=None, exit_code=1, free_bytes=0))
    assert "full" in verdict.error.cause
    assert verdict.error.remedy


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("ActorDiedError: the LocalTrainer process died", "trainer"),
        ("ActorDiedError: the LocalExplorer process died", "explorer"),
        ("ActorDiedError: the vLLMRolloutModel process died", "inference engine"),
        ("OSError: [Errno 28] No space left on device", "full"),
        ("NonFiniteLoss: actor/loss is not finite at step 4", "overflowed"),
        ("OutOfMemoryError: CUDA out of memory", "memory"),
        ("KeyError: 'x'", "run.log"),
        ("OSError: BLOOM-560m is not a folder", "run.log"),
        ("ConnectionError: HTTPSConnectionPool(host='judge'): Max retries exceeded", "run.log"),
        ("ray.exceptions.RaySystemError: System error", "Ray went away"),
        ("RpcError: failed to connect to GCS", "Ray went away"),
    ],
)
def test_known_errors_come_with_cause_and_remedy(good: Evidence, error: str, cause: str) -> None:
    verdict = judge_run(replace(good, outcome=Outcome("failed", error=error)))
    assert verdict.error.what == error
    assert cause in verdict.error.cause


@pytest.mark.parametrize(
    ("error", "of_the_machine"),
    [
        ("Ray died: its raylet ended while the run was using it", True),
        ("ConnectionError: HTTPSConnectionPool(host='judge'): Max retries exceeded", False),
        ("OSError: [Errno 28] No space left on device", True),
        ("KeyError: 'x'", False),
    ],
)
def test_only_a_fault_of_the_machine_is_worth_another_try(error: str, of_the_machine: bool) -> None:
    assert is_machine_fault(RunError(error)) is of_the_machine
