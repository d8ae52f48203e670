"""Trinity's rollout coordinator, with a count of the rollouts that an evaluation lost, and with its answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trinity.explorer.rollout_coordinator as trinity_coordinator
from trinity.common.workflows import Task
from trinity.explorer.rollout_coordinator import BatchState, RolloutCoordinator

# what follows `eval/NAME/` in the metrics
LOST_ROLLOUTS = "lost_rollouts"


class CountingCoordinator(RolloutCoordinator):
    """Adds `eval/NAME/lost_rollouts`: Trinity averages over the rollouts that came back, in silence on the rest."""

    def _build_batch_result(self, batch_state: BatchState, *args: Any, **kwargs: Any) -> dict:
        result = super()._build_batch_result(batch_state, *args, **kwargs)
        if batch_state.batch_type == "eval":
            statuses = batch_state.statuses.values()
            lost = sum(status.total_runs - status.completed_runs for status in statuses)
            # a task that never came back had one rollout at least
            lost += batch_state.expected_task_count - len(statuses)
            result["metrics"][f"{self._eval_metric_prefix(batch_state.batch_id)}/{LOST_ROLLOUTS}"] = float(lost)
        return result

    async def run_tasks(self, batch_id: str, tasks: list[Task]) -> tuple[int, str, list[bytes]]:
        """Run tasks to their end.

        Returns:
            How many rollouts were lost, the last line of the first error, and what the others are, serialized.
        """
        scheduler = self._require_scheduler()
        scheduler.schedule(tasks, batch_id=batch_id)
        # each task has a time limit of its own
        statuses, payloads = await scheduler.get_payload_results(batch_id=batch_id, timeout=math.inf)
        lost = sum(task.repeat_times or 1 for task in tasks) - sum(status.completed_runs for status in statuses)
        errors = [status.message for status in statuses if not status.ok and status.message]
        return lost, errors[0].strip().splitlines()[-1] if errors else "", payloads


@contextmanager
def counting_coordinator() -> Iterator[None]:
    """While this holds, Trinity's explorer starts ours: it names the class in a module, and takes no other way."""
    original = trinity_coordinator.RolloutCoordinator
    trinity_coordinator.RolloutCoordinator = CountingCoordinator
    try:
        yield
    finally:
        trinity_coordinator.RolloutCoordinator = original
