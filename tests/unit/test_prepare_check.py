"""Prepared rows of every kind through Trinity's own readers; rows rendered and counted (`--tokenizer`); the rewards of
training on expert answers (`--answer-check`)."""

from __future__ import annotations

import json

import pytest
from prepared_kinds import TEMPLATE, TOOLS, conversations, free_texts, rows_of, tool_model, write_prepared

from chord_exp.errors import DataError
from chord_exp.prepare.answers.reward_check import score_experts
from chord_exp.prepare.answers.scoring import FREE_TEXT_SCORING, Scoring, expert_row
from chord_exp.prepare.report.token_lengths import Chat, check_rows
from chord_exp.trinity_config.plugin_names import ACCURACY_REWARD, BOXED_REWARD, BOXED_WORKFLOW, TOOL_CALL_REWARD
from chord_exp.trinity_config.rows import (
    ANSWER_KEY,
    MESSAGES_KEY,
    PROMPT_KEY,
    REWARD_KEY,
    SPLIT,
    TOOLS_KEY,
    WORKFLOW_KEY,
)
from chord_exp.utils.split_settings import JUDGE


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tool_model(tmp_path_factory.mktemp("model") / "model"))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def expert_reader(folder, model, multi_turn):
    from trinity.buffer.reader.file_reader import ExperienceFileReader
    from trinity.common.config import FormatConfig, StorageConfig
    from trinity.common.constants import PromptType

    columns = {"messages_key": MESSAGES_KEY, "tools_key": TOOLS_KEY}
    return ExperienceFileReader(
        StorageConfig(
            name="sft",
            path=str(folder),
            schema_type="sft",
            split=SPLIT,
            tokenizer_path=model,
            batch_size=1,
            enable_progress_bar=False,
            format=FormatConfig(prompt_type=PromptType.MESSAGES, enable_concatenated_multi_turn=multi_turn, **columns),
        )
    )


def task_reader(folder, is_eval):
    from trinity.buffer.reader.file_reader import TaskFileReader
    from trinity.common.config import FormatConfig, TasksetConfig

    columns = {"prompt_key": PROMPT_KEY, "response_key": ANSWER_KEY, "workflow_key": WORKFLOW_KEY}
    taskset = TasksetConfig(
        name="rl",
        path=str(folder),
        split=SPLIT,
        default_workflow_type=BOXED_WORKFLOW,
        batch_size=1,
        is_eval=is_eval,
        enable_progress_bar=False,
        format=FormatConfig(system_prompt="", reward_fn_key=REWARD_KEY, **columns),
    )
    return TaskFileReader(taskset.to_storage_config())


@pytest.mark.parametrize("multi_turn", [True, False])
@pytest.mark.parametrize("free_text", ["chrf", JUDGE])
def test_rows_of_every_kind_pass_through_trinitys_readers_and_a_perfect_answer_scores(
    tmp_path, own_cache, model, multi_turn, free_text
):
    next(score_experts([("1", "\\boxed{1}", Scoring(BOXED_WORKFLOW, BOXED_REWARD))]))  # makes Trinity importable
    out = write_prepared(tmp_path / "out", [conversations, free_texts], each=2, free_text=free_text)
    experts = expert_reader(out / "sft", model, multi_turn)
    assert len(experts) == 16
    for sample in experts.dataset.dataset:
        experience = experts.formatter.format(sample)
        assert 0 < experience.prompt_length < len(experience.tokens) and experience.action_mask.any()
    for side in ("rl", "eval"):
        reader = task_reader(out / side, side == "eval")
        assert len(reader) == 16
        for sample in reader.dataset.dataset:
            task = reader.formatter.format(sample)
            # without a model, and without what a judge's constructor asks of the environment
            workflow = task.workflow.__new__(task.workflow)
            workflow.reset(task)
            asked = [message for message in workflow.format_messages() if message["role"] != "system"]
            assert any((message.get("content") or "").strip() for message in asked)
            assert score_of_the_truth(sample) in (None, 1.0)


def score_of_the_truth(sample):
    truth, reward = sample[ANSWER_KEY], sample[REWARD_KEY]
    assert truth.strip()
    if reward in (BOXED_REWARD, ACCURACY_REWARD):
        perfect = truth if "\\boxed" in truth else f"\\boxed{{{truth}}}"
    elif reward == TOOL_CALL_REWARD:
        perfect = f"<tool_call>{truth}</tool_call>"
    else:
        return None
    return next(score_experts([(truth, perfect, Scoring("", reward))]))


def checked(out, model, **changes):
    limits = {"prompt_limit": 500, "row_limit": 800, "multi_turn": True, **changes}
    return check_rows(out, Chat(model), **limits)


def change(out, side, line, **fields):
    path = out / side / "train.jsonl"
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    rows[line - 1] = {**rows[line - 1], **fields}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def messages(*turns):
    return json.dumps([{"role": role, "content": content} for role, content in turns])


def test_rows_within_the_limits_are_counted_with_percentiles(tmp_path, model):
    out = write_prepared(tmp_path / "out", [conversations], each=1)
    found = checked(out, model)
    assert found.problems == [] and found.rows == {"sft": 7, "rl": 7, "eval": 7}
    assert set(found.lengths["sft"]) == {"row tokens", "prompt tokens"}
    assert set(found.lengths["rl"]) == {"prompt tokens"}
    longest = found.lengths["sft"]
    assert longest["row tokens"]["max"] > longest["prompt tokens"]["max"] >= longest["prompt tokens"]["p50"] > 0
    assert "no row would break training" in found.lines()[-1]


@pytest.mark.parametrize(
    ("side", "fields", "what"),
    [
        ("sft", {"messages": messages(("user", "a"), ("assistant", "b " * 900))}, "row tokens, at most 512"),
        ("rl", {"prompt": "word " * 600, "conversation": ""}, "prompt tokens, at most 500"),
    ],
)
def test_a_row_that_is_too_long_is_told_with_file_and_line(tmp_path, model, side, fields, what):
    out = write_prepared(tmp_path / "out", [conversations], each=1)
    change(out, side, 1, **fields)
    (problem,) = checked(out, model).problems
    assert (problem.file, problem.line) == (f"{side}/train.jsonl", 1) and what in problem.what
    assert f"{side}/train.jsonl:1: " in "\n".join(checked(out, model).lines())


def test_a_template_that_refuses_a_role_is_told_row_by_row(tmp_path):
    strict = tool_model(tmp_path / "strict")
    refusal = (
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tool role') }}{% endif %}{% endfor %}"
    )
    (strict / "chat_template.jinja").write_text(refusal + TEMPLATE)
    out = write_prepared(tmp_path / "out", [conversations], each=1)
    problems = checked(out, str(strict), multi_turn=False).problems
    assert [problem.file for problem in problems] == ["sft/train.jsonl", "rl/train.jsonl", "eval/train.jsonl"]
    assert all("no tool role" in problem.what for problem in problems)


def test_a_long_row_is_told_whether_the_reader_cuts_it_or_not(tmp_path, model):
    out = write_prepared(tmp_path / "out", [conversations], each=1)
    change(out, "sft", 1, messages=messages(("user", "a"), ("assistant", "b " * 900)))
    found = [checked(out, model, multi_turn=multi_turn).problems[0].what for multi_turn in (True, False)]
    # Trinity's reader of conversations cuts at the tokenizer's model_max_length
    assert "at most 512" in found[0] and "at most 800" in found[1]


def test_tools_of_a_row_count_towards_its_length(tmp_path, model):
    out = write_prepared(tmp_path / "out", [conversations], each=1)
    long = json.dumps(json.loads(TOOLS) * 20)
    turns, _ = conversations(1)["tool_call"]
    assert rows_of(turns, long)["sft"] == expert_row(turns, long)
    change(out, "rl", 6, tools=long)
    assert ["prompt tokens, at most 500" in problem.what for problem in checked(out, model).problems] == [True]


def test_the_answer_check_scores_with_the_rewards_of_training():
    boxed, maths = Scoring("math_boxed_workflow", "math_boxed_reward"), Scoring("simple_workflow", "accuracy_reward")
    rows = [
        ("42", "so \\boxed{42}", boxed),
        ("42", "so 42", boxed),
        ("\\boxed{\\frac{1}{2}}", "so $\\boxed{0.5}$", maths),
        ("\\boxed{x+1}", "so $\\boxed{1+x}$", maths),
        ("\\boxed{x+1}", "so $\\boxed{x+2}$", maths),
    ]
    assert list(score_experts(rows)) == [1.0, 0.0, 1.0, 1.0, 0.0]


def test_a_judge_cannot_be_asked_by_the_answer_check():
    with pytest.raises(DataError, match="by asking a model"):
        next(score_experts([("a", "b", FREE_TEXT_SCORING[JUDGE])]))
