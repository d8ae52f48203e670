"""Which workflow and reward a row names, and that these exist in Trinity and tell right from wrong."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from prepared_kinds import TOOLS, conversations, free_texts, rows_of, tool_model

from chord_exp.engine import vllm_stub
from chord_exp.prepare.answers.find import FREE_TEXT, VERIFIABLE, Answer, find_answer
from chord_exp.prepare.answers.reward_check import score_experts
from chord_exp.prepare.answers.scoring import (
    FREE_TEXT_SCORING,
    SCORING,
    needs_package,
    response_text,
    rollout_row,
    scoring_of,
)
from chord_exp.trinity_config.plugin_names import (
    BLEU_REWARD,
    CHRF_REWARD,
    CONVERSATION_WORKFLOW,
    EVAL_WORKFLOW_OF,
    JUDGE_WORKFLOW,
)
from chord_exp.trinity_config.rows import ROLLOUT_COLUMNS
from chord_exp.utils.split_settings import BLEU, CHRF, JUDGE, NONE

vllm_stub.install()


def everything():
    return {**conversations(1), **free_texts(1)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tool_model(tmp_path_factory.mktemp("model") / "model"))


@pytest.mark.parametrize("name", everything())
def test_every_row_has_the_same_columns_and_only_strings(name):
    for side in ("rl", "eval"):
        row = rows_of(*everything()[name])[side]
        assert tuple(row) == ROLLOUT_COLUMNS and all(isinstance(value, str) for value in row.values())


def test_only_what_trinity_cannot_ask_names_a_workflow_of_ours():
    workflows = {name: rows_of(*made)["rl"]["workflow"] for name, made in everything().items()}
    assert workflows == {
        "number": "math_boxed_workflow",
        "latex": "simple_workflow",
        "choice": "math_boxed_workflow",
        "multi_turn": CONVERSATION_WORKFLOW,
        "own_system": CONVERSATION_WORKFLOW,
        "tool_call": CONVERSATION_WORKFLOW,
        "after_tool": CONVERSATION_WORKFLOW,
        "free_text": "simple_workflow",
    }
    plain = [rows_of(*conversations(1)[name])["rl"] for name in ("number", "latex", "choice")]
    assert not needs_package(row[key] for row in plain for key in ("workflow", "reward"))


def test_the_runs_own_system_prompt_leaves_a_row_plain_and_a_missing_one_does_not():
    messages, _ = conversations(1)["own_system"]
    answer = find_answer(None, messages[-1]["content"])
    assert rollout_row(messages, answer, system_prompt="Be brief.")["conversation"] == ""
    bare, _ = conversations(1)["number"]
    # asked without the run's prompt, as the expert was
    assert json.loads(rollout_row(bare, answer, system_prompt="Be brief.")["conversation"]) == bare[:-1]


@pytest.mark.parametrize("name", everything())
def test_trinity_finds_what_a_row_names_and_an_evaluation_has_a_class_of_its_own(name):
    from trinity.common.rewards import REWARD_FUNCTIONS
    from trinity.common.workflows import WORKFLOWS

    for free_text in (CHRF, BLEU, JUDGE):
        made = rows_of(*everything()[name], free_text)
        rollout, evaluation = (WORKFLOWS.get(made[side]["workflow"]) for side in ("rl", "eval"))
        assert rollout is not evaluation and rollout is not None and evaluation is not None
        assert made["rl"]["reward"] == made["eval"]["reward"]
        assert not made["rl"]["reward"] or REWARD_FUNCTIONS.get(made["rl"]["reward"]) is not None


def test_no_mix_of_kinds_shares_a_workflow_class_between_rollouts_and_evaluations():
    names = {scoring.workflow for scoring in (*SCORING.values(), *FREE_TEXT_SCORING.values())} | {CONVERSATION_WORKFLOW}
    assert not names & {EVAL_WORKFLOW_OF[name] for name in names}


@pytest.mark.parametrize("name", conversations(1))
def test_the_experts_own_response_scores_under_the_reward_that_its_row_names(name):
    messages, tools = conversations(1)[name]
    row = rows_of(messages, tools)["rl"]
    scoring = SimpleNamespace(workflow=row["workflow"], reward=row["reward"])
    answers = [(row["answer"], response_text(messages[-1]), scoring), (row["answer"], "\\boxed{98765}", scoring)]
    assert list(score_experts(answers)) == [1.0, 0.0]


def test_what_is_asked_is_tokenised_as_the_expert_row_is(model):
    """The rollout's prompt is the beginning of the expert's row, for every sort of row."""
    from trinity.buffer.schema.formatter import SFTFormatter, TaskFormatter
    from trinity.common.config import FormatConfig, StorageConfig
    from trinity.common.constants import PromptType

    from chord_exp.plugins.workflows import prompt_text

    experts = SFTFormatter(model, FormatConfig(prompt_type=PromptType.MESSAGES, messages_key="messages"))
    keys = FormatConfig(response_key="answer", system_prompt="", workflow_key="workflow", reward_fn_key="reward")
    tasks = TaskFormatter(StorageConfig(name="rl", format=keys, default_workflow_type="simple_workflow"))
    config = SimpleNamespace(model_path=model, trust_remote_code=False, chat_template=None, enable_thinking=None)
    for messages, tools in everything().values():
        made = rows_of(messages, tools)
        task = tasks.format(made["rl"])
        workflow = task.workflow.__new__(task.workflow)
        workflow.reset(task)
        prompt = prompt_text(config, workflow.format_messages(), made["rl"]["tools"])
        expert = experts.format(made["sft"])
        tokenizer = experts.processor_or_tokenizer
        assert tokenizer(prompt)["input_ids"] == expert.tokens[: expert.prompt_length].tolist()
        assert not tools or '"add"' in prompt


def test_with_multi_turn_the_sft_reader_trains_every_assistant_turn_and_without_only_the_last(model):
    from trinity.buffer.schema.formatter import SFTFormatter
    from trinity.common.config import FormatConfig
    from trinity.common.constants import PromptType

    def trained(multi_turn: bool) -> str:
        settings = FormatConfig(
            prompt_type=PromptType.MESSAGES, messages_key="messages", enable_concatenated_multi_turn=multi_turn
        )
        reader = SFTFormatter(model, settings)
        experience = reader.format(rows_of(*conversations(1)["multi_turn"])["sft"])
        tokens = experience.tokens[experience.prompt_length :][experience.action_mask.bool()]
        return reader.processor_or_tokenizer.decode(tokens)

    assert "Hello" in trained(True) and "\\boxed{3}" in trained(True) and "1+2?" not in trained(True)
    assert "Hello" not in trained(False) and "\\boxed{3}" in trained(False)


def test_free_text_has_a_scoring_only_when_the_user_picked_one():
    assert set(SCORING) == VERIFIABLE
    assert scoring_of(Answer(FREE_TEXT), NONE) is None
    with pytest.raises(ValueError, match="free_text"):
        rollout_row(free_texts(1)["free_text"][0], Answer(FREE_TEXT), system_prompt="")
    assert scoring_of(Answer(FREE_TEXT), CHRF).reward == CHRF_REWARD
    assert scoring_of(Answer(FREE_TEXT), BLEU).reward == BLEU_REWARD
    assert scoring_of(Answer(FREE_TEXT), JUDGE).workflow == JUDGE_WORKFLOW


@pytest.mark.parametrize(("reply", "word"), [("It is a tool {x}.", "reference answer"), ("它是一种工具。", "参考答案")])
def test_a_judged_row_has_a_rubric_in_its_own_language_that_holds_the_reference(reply, word):
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": f"<think>hm</think>{reply}"}]
    row = rollout_row(messages, find_answer(None, reply), system_prompt="", free_text=JUDGE)
    rubric = json.loads(row["rubric"])
    assert word in rubric[0]["description"] and reply in rubric[0]["description"]
    assert all(set(line) == {"description", "weight"} for line in rubric) and row["answer"] == reply


def test_trinitys_own_tool_call_workflow_scores_the_calls_of_the_chat_template_as_zero():
    """Why `tool_call_workflow` is not used; a failure here means that upstream changed."""
    from trinity.common.workflows.customized_toolcall_workflows import compute_toolcall_reward

    (messages, _) = conversations(1)["tool_call"]
    answer = find_answer(None, "", tool_calls=messages[-1]["tool_calls"])
    assert compute_toolcall_reward(response_text(messages[-1]), answer.truth) == 0.0
    assert TOOLS
