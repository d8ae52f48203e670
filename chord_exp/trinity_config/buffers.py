"""Trinity's section `buffer` of one stage: where prompts, expert rows and rollouts come from."""

from __future__ import annotations

from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.experiment.geometry import Stage
from chord_exp.experiment.spec import DataFacts, ExperimentSpec
from chord_exp.trinity_config.plugin_names import BOXED_WORKFLOW, EVAL_WORKFLOW_OF, JUDGE_WORKFLOW
from chord_exp.trinity_config.rows import EVAL, REWARD_KEY, RL, SFT, SPLIT, TEST, TOOLS_KEY, WORKFLOW_KEY
from chord_exp.trinity_config.user_overrides import EXPERT_BUFFER

TASKSET = "prompts"
# rows wait in memory between explorer and trainer; one step's worth is far below it
QUEUE_CAPACITY = 10000
# a step that takes longer than this has hung, seconds
STEP_TIMEOUT = 3600


def _side(facts: DataFacts, side: str) -> dict[str, Any]:
    return {"storage_type": "file", "path": f"{facts.folder}/{side}", "split": SPLIT}


def _expert_format(spec: ExperimentSpec, facts: DataFacts) -> dict[str, Any]:
    return {
        "prompt_type": "messages",
        "messages_key": spec.data.messages_key,
        "tools_key": TOOLS_KEY,
        # without it, only the last assistant turn of a conversation is trained
        "enable_concatenated_multi_turn": facts.multi_turn,
        "enable_thinking": spec.model.enable_thinking,
    }


def _expert_rows(spec: ExperimentSpec, facts: DataFacts, stage: Stage) -> dict[str, Any]:
    """A buffer of expert rows that lasts for all steps: Trinity ends the training when it runs out."""
    buffer: dict[str, Any] = {
        "name": EXPERT_BUFFER,
        **_side(facts, SFT),
        "schema_type": "sft",
        "format": _expert_format(spec, facts),
        "data_selector": {"selector_type": "shuffle", "seed": spec.seed},
        "total_epochs": stage.expert_epochs,
    }
    if facts.assumed:
        # the epochs rest on a guess; a number of steps does not
        buffer["total_steps"] = stage.steps
    return buffer


def _taskset(
    spec: ExperimentSpec, facts: DataFacts, name: str, side: str, workflow: str, temperature: float
) -> dict[str, Any]:
    """A reader of prompts. A row's own workflow and reward win unless the user has set one for all; `workflow` is for
    rows without."""
    data = spec.data
    taskset: dict[str, Any] = {
        "name": name,
        **_side(facts, side),
        "format": {
            "prompt_key": data.prompt_key,
            "response_key": data.answer_key,
            "system_prompt": data.system_prompt,
            "workflow_key": "" if data.workflow else WORKFLOW_KEY,
            "reward_fn_key": "" if data.reward else REWARD_KEY,
        },
        "rollout_args": {"temperature": temperature, "logprobs": 0},
        "default_workflow_type": workflow,
        "default_reward_fn_type": data.reward,
    }
    if not data.workflow and not {JUDGE_WORKFLOW, EVAL_WORKFLOW_OF[JUDGE_WORKFLOW]}.isdisjoint(facts.scored_by):
        if not data.judge_model:
            raise ConfigError(
                "the data has free text for a judge model and data.judge_model is not set",
                "data.judge_model",
                "name a model of the OpenAI-compatible API at OPENAI_BASE_URL, or prepare with data.free_text=none",
            )
        taskset["workflow_args"] = {
            "judge_model_name": data.judge_model,
            "judge_api_base_url_env": "OPENAI_BASE_URL",
            "judge_api_key_env": "OPENAI_API_KEY",
        }
    return taskset


def _rollout_taskset(spec: ExperimentSpec, facts: DataFacts) -> dict[str, Any]:
    workflow = spec.data.workflow or BOXED_WORKFLOW
    return _taskset(spec, facts, TASKSET, RL, workflow, spec.model.temperature)


def _eval_taskset(spec: ExperimentSpec, facts: DataFacts, side: str) -> dict[str, Any]:
    """A reader of eval/ or test/, named like it. Greedy, so that two evaluations of one model agree; sampled like the
    rollouts where the workflow has no twin. Its rows name twins."""
    chosen = spec.data.workflow or BOXED_WORKFLOW
    twin = EVAL_WORKFLOW_OF.get(chosen)
    workflow, temperature = (twin, 0.0) if twin else (chosen, spec.model.temperature)
    return {**_taskset(spec, facts, side, side, workflow, temperature), "repeat_times": 1}


def buffer_section(spec: ExperimentSpec, facts: DataFacts, stage: Stage) -> dict[str, Any]:
    trainer_input: dict[str, Any] = {}
    if stage.kind == "sft":
        trainer_input["experience_buffer"] = _expert_rows(spec, facts, stage)
    else:
        trainer_input["experience_buffer"] = {
            "name": "experience_buffer",
            "storage_type": "queue",
            "capacity": max(QUEUE_CAPACITY, 2 * stage.batch.rows),
            "max_read_timeout": STEP_TIMEOUT,
        }
    if stage.kind == "chord":
        trainer_input["auxiliary_buffers"] = {EXPERT_BUFFER: _expert_rows(spec, facts, stage)}
    buffer: dict[str, Any] = {
        "batch_size": spec.batch_size,
        "train_batch_size": stage.batch.rows,
        "total_epochs": max(stage.prompt_epochs, stage.expert_epochs if stage.kind == "sft" else 1),
        "total_steps": stage.steps,
        "trainer_input": trainer_input,
    }
    explorer_input: dict[str, Any] = {}
    if stage.batch.usual_rows:
        explorer_input["taskset"] = _rollout_taskset(spec, facts)
    sides = [side for side, rows in ((EVAL, facts.eval_rows), (TEST, facts.test_rows)) if rows]
    if sides:
        explorer_input["eval_tasksets"] = [_eval_taskset(spec, facts, side) for side in sides]
    if explorer_input:
        buffer["explorer_input"] = explorer_input
    return buffer
