"""Ask held-out prompts and keep every answer: Trinity's own evaluation keeps averages alone."""

from __future__ import annotations

from functools import cache
from typing import Any

from trinity.buffer.buffer import get_buffer_reader
from trinity.common.config import TasksetConfig
from trinity.common.experience import Experience
from trinity.common.workflows import Task, Workflow

# what takes one answer to one prompt: step, sampling, row, run, prompt, truth, response, score, reward, tokens, cut
Item = dict[str, Any]
# the part of a reward that says right or wrong; where there is none, the sum of the parts counts
ACCURACY = "accuracy"


async def read_tasks(taskset: TasksetConfig) -> list[Task]:
    """Return every task of an evaluation task set, as tasks whose answers come back."""
    reader, tasks = get_buffer_reader(taskset), []
    while True:
        try:
            tasks += await reader.read()
        except StopAsyncIteration:
            break
    for task in tasks:
        # of an evaluation Trinity's runners return no answers
        task.is_eval = False
        task.workflow = workflow_of_its_own(task.workflow, taskset.name)
    return tasks


@cache
def workflow_of_its_own(workflow: type[Workflow], taskset: str) -> type[Workflow]:
    """Return a class of a task set's own that does what `workflow` does.

    A runner takes up its workflow again for the next task of the same class, with the sampling arguments of its first
    task: after greedy answers, sampled ones would be greedy, too.
    """
    return type(f"{workflow.__name__}_{taskset}", (workflow,), {})


def item_of(experience: Experience, task: Task, sampling: str) -> Item:
    """Return one answer as it is written down."""
    parts = experience.metrics or {}
    reward = float(experience.reward or 0.0)
    tokens = len(experience.tokens) - experience.prompt_length
    return {
        "sampling": sampling,
        "row": int(experience.eid.task),
        "run": int(experience.eid.run),
        "prompt": str(task.task_desc),
        "truth": str(task.truth),
        "response": experience.response_text if experience.messages is None else experience.messages,
        "score": float(parts.get(ACCURACY, reward)),
        "reward": reward,
        "tokens": int(tokens),
        # prompt_truncated or response_truncated; null where all was said
        "cut": experience.truncate_status,
    }
