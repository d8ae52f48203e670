"""`--check` and `--answer-check`, against Trinity's real readers and rewards."""

from __future__ import annotations

import json

import pytest
from prepared_kinds import TEMPLATE, TOOLS, conversations, free_texts, rows_of, tool_model, write_prepared

from chord_exp.errors import DataError
from chord_exp.prepare import trinity_readers
from chord_exp.prepare.answers.scoring import FREE_TEXT_SCORING, JUDGE, Scoring, expert_row
from chord_exp.prepare.trinity_readers import check_prepared, score_experts


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tool_model(tmp_path_factory.mktemp("model") / "model"))


def checked(out, model, **changes):
    options = {"system_prompt": "", "max_prompt_tokens": 500, "max_tokens": 800, "multi_turn": True, **changes}
    return check_prepared(out, model, **options)


@pytest.mark.parametrize("multi_turn", [True, False])
@pytest.mark.parametrize("free_text", ["chrf", JUDGE])
def test_a_good_folder_of_every_kind_passes(tmp_path, model, multi_turn, free_text):
    out = write_prepared(tmp_path / "out", [conversations, free_texts], each=2, free_text=free_text)
    seen = []
    report = checked(out, model, multi_turn=multi_turn, progress=lambda done, total: seen.append((done, total)))
    assert report.ok, report.lines()
    assert report.rows == {"sft": 16, "rl": 16, "eval": 16} and seen[-1] == (48, 48)
    assert "no row would break training" in report.lines()[0]


def change(out, side, line, **fields):
    path = out / side / "train.jsonl"
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    rows[line - 1] = {**rows[line - 1], **fields}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def messages(*turns):
    return json.dumps([{"role": role, "content": content} for role, content in turns])


@pytest.mark.parametrize(
    ("side", "fields", "reason"),
    [
        ("sft", {"messages": messages(("user", "a"), ("assistant", ""))}, trinity_readers.EMPTY_ANSWER),
        ("sft", {"messages": messages(("user", "a"))}, trinity_readers.EMPTY_ANSWER),
        ("sft", {"messages": messages(("user", "a"), ("gpt", "b"))}, trinity_readers.UNKNOWN_ROLE),
        ("sft", {"messages": messages(("user", "a"), ("assistant", "b " * 900))}, trinity_readers.TOO_LONG),
        ("sft", {"messages": messages(("user", None), ("assistant", "b"))}, trinity_readers.UNREADABLE),
        ("sft", {"messages": "[]"}, trinity_readers.UNREADABLE),
        ("sft", {"tools": "{"}, trinity_readers.UNREADABLE),
        ("rl", {"answer": ""}, trinity_readers.EMPTY_ANSWER),
        ("rl", {"answer": "1,000"}, None),
        ("rl", {"answer": "\\boxed{7/0}", "reward": "accuracy_reward"}, trinity_readers.NEVER_SCORES),
        ("rl", {"prompt": " "}, trinity_readers.EMPTY_PROMPT),
        ("rl", {"prompt": "word " * 600}, trinity_readers.TOO_LONG),
        ("rl", {"workflow": "no_such_workflow"}, trinity_readers.UNREADABLE),
        ("rl", {"reward": "chord_exp.plugins.rewards.Missing"}, trinity_readers.UNREADABLE),
        (
            "eval",
            {"conversation": "[", "workflow": "chord_exp.plugins.workflows.ConversationEvaluation"},
            trinity_readers.UNREADABLE,
        ),
    ],
)
def test_a_row_that_would_break_training_is_told_with_file_and_line(tmp_path, model, side, fields, reason):
    out = write_prepared(tmp_path / "out", [conversations], each=1)
    change(out, side, 1, **fields)
    report = checked(out, model)
    expected = [] if reason is None else [(f"{side}/train.jsonl", 1, reason)]
    assert [(problem.file, problem.line, problem.reason) for problem in report.problems] == expected
    assert report.ok == (reason is None)
    if reason:
        text = "\n".join(report.lines())
        assert f"{side}/train.jsonl:1" in text and f"{reason} 1" in text


def test_a_template_that_refuses_a_role_is_told_row_by_row(tmp_path, model):
    strict = tool_model(tmp_path / "strict")
    refusal = (
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tool role') }}{% endif %}{% endfor %}"
    )
    (strict / "chat_template.jinja").write_text(refusal + TEMPLATE)
    out = write_prepared(tmp_path / "out", [conversations], each=1)
    report = checked(out, str(strict), multi_turn=False)
    assert {problem.detail for problem in report.problems if problem.reason == trinity_readers.UNREADABLE} == {
        "no tool role"
    }


def test_a_long_row_is_told_whether_the_reader_cuts_it_or_not(tmp_path, model):
    out = write_prepared(tmp_path / "out", [conversations], each=1)
    change(out, "sft", 1, messages=messages(("user", "a"), ("assistant", "b " * 900)))
    details = [checked(out, model, multi_turn=multi_turn).problems[0].detail for multi_turn in (True, False)]
    assert "cut at the tokenizer's model_max_length of 512" in details[0] and "at most 800" in details[1]


def test_a_file_that_trinity_cannot_load_at_all_is_one_readable_error(tmp_path, model):
    out = write_prepared(tmp_path / "out", [conversations], each=1)
    with (out / "rl" / "train.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match="cannot read the rl side"):
        checked(out, model)


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


def test_tools_of_a_row_count_towards_its_length(tmp_path, model):
    out = write_prepared(tmp_path / "out", [conversations], each=1)
    long = json.dumps(json.loads(TOOLS) * 20)
    turns, _ = conversations(1)["tool_call"]
    assert rows_of(turns, long)["sft"] == expert_row(turns, long)
    change(out, "rl", 6, tools=long)
    assert [problem.reason for problem in checked(out, model).problems] == [trinity_readers.TOO_LONG]
