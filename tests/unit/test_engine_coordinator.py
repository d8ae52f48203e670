"""Evaluations that lose rollouts say so."""

from __future__ import annotations

import pytest

from chord_exp.engine.vllm_stub import install

install()

import trinity.explorer.rollout_coordinator as trinity_coordinator  # noqa: E402
from trinity.explorer.rollout_coordinator import BatchState  # noqa: E402
from trinity.explorer.workflow_runner import Status  # noqa: E402

from chord_exp.engine.coordinator import CountingCoordinator, counting_coordinator  # noqa: E402
from chord_exp.run_files import metrics  # noqa: E402


def result(kind: str, batch_id: object, statuses: list[Status], expected: int) -> dict:
    coordinator = object.__new__(CountingCoordinator)
    coordinator.detailed_stats = False
    batch = BatchState(batch_id, kind, expected, statuses=dict(enumerate(statuses)))
    return coordinator._build_batch_result(batch, pipeline_metrics={})["metrics"]


@pytest.mark.parametrize(
    ("completed", "expected", "lost"), [([1, 1], 2, 0), ([1, 0, 0], 3, 2), ([1], 3, 2), ([], 0, 0)]
)
def test_an_evaluation_counts_the_rollouts_that_did_not_come_back(completed: list, expected: int, lost: int) -> None:
    statuses = [Status(done, 1, [{"accuracy/mean@1": 1.0}] if done else []) for done in completed]
    assert result("eval", "3/eval", statuses, expected)[metrics.EVAL_LOST_ROLLOUTS] == lost


def test_training_batches_are_as_trinity_makes_them() -> None:
    assert not any("lost" in key for key in result("train", 3, [Status(1, 2, [{"a": 1.0}])], 1))


def test_the_explorer_is_given_ours_by_the_name_that_trinity_looks_up() -> None:
    original = trinity_coordinator.RolloutCoordinator
    with counting_coordinator():
        assert "RolloutCoordinator" in original.get_actor.__func__.__code__.co_names
        assert trinity_coordinator.RolloutCoordinator is CountingCoordinator
    assert trinity_coordinator.RolloutCoordinator is original
