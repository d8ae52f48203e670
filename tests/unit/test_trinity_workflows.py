"""What `trinity_config` relies on in Trinity's workflows; a failure here means that upstream changed."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from trinity.common.config import FormatConfig, GenerationConfig
from trinity.common.rewards.math_reward import MathBoxedRewardFn
from trinity.common.workflows import WORKFLOWS, Task

from chord_exp.trinity_config.plugin_names import EVAL_WORKFLOW_OF


def task(workflow: type, temperature: float) -> Task:
    return Task(
        workflow=workflow,
        reward_fn=MathBoxedRewardFn,
        format_args=FormatConfig(system_prompt=""),
        rollout_args=GenerationConfig(temperature=temperature),
        workflow_args={"judge_model_name": "judge"},
        raw_task={"prompt": "1+1", "response": "2"},
    )


def test_a_reused_workflow_keeps_the_sampling_arguments_of_its_first_task() -> None:
    workflow = WORKFLOWS.get("math_boxed_workflow")
    instance = task(workflow, 0.0).to_workflow(Mock(), [])
    instance.reset(task(workflow, 1.0))
    assert instance.rollout_args["temperature"] == 0.0, "fixed upstream: evaluations need no twin workflow any more"


@pytest.mark.parametrize("name", EVAL_WORKFLOW_OF)
def test_a_twin_is_another_class_with_the_same_way_of_asking(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    workflow, twin = WORKFLOWS.get(name), WORKFLOWS.get(EVAL_WORKFLOW_OF[name])
    assert workflow is not twin
    pair = [task(kind, 1.0).to_workflow(Mock(), []) for kind in (workflow, twin)]
    assert pair[0].format_messages() == pair[1].format_messages()
