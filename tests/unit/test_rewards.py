"""The rewards that Trinity loads by dotted path."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chord_exp.plugins.rewards import BleuReward, ChrfReward, FinalAnswerReward, ToolCallReward

TRUTH = '[{"arguments": {"a": 1}, "name": "add"}]'


def similarity(reward, response, truth):
    return reward(response=response, truth=truth)["similarity"]


@pytest.mark.parametrize("reward", [ChrfReward(), BleuReward()])
@pytest.mark.parametrize("text", ["It is a useful thing for work.", "它是一种很有用的工具,适合工作。"])
def test_similarity_is_one_for_the_reference_and_less_for_another_text(reward, text):
    assert similarity(reward, text, text) == pytest.approx(1)
    assert similarity(reward, f"<think>hm</think>{text}", text) == pytest.approx(1)
    assert 0 < similarity(reward, text[: len(text) // 2], text) < 1
    assert similarity(reward, "", text) == similarity(reward, text, "") == similarity(reward, text, None) == 0


@settings(max_examples=100)
@given(st.text(max_size=60), st.text(max_size=60))
def test_similarity_is_a_share_for_any_texts(response, truth):
    assert 0 <= similarity(ChrfReward(), response, truth) <= 1
    assert 0 <= similarity(BleuReward(), response, truth) <= 1


def test_a_negated_answer_may_score_above_a_right_paraphrase():
    """What the printed warning says."""
    truth = "这种药可以和酒一起服用"
    assert similarity(ChrfReward(), "这种药不可以和酒一起服用", truth) > similarity(
        ChrfReward(), "喝酒时吃它没问题", truth
    )


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', 1),
        ('<think>hm</think>\n<tool_call>\n[{"name": "add", "arguments": {"a": 1}}]\n</tool_call>', 1),
        ('{"name": "add", "parameters": {"a": 1}}', 1),
        ('<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', 1),
        ('<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>', 0),
        ('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>' * 2, 0),
        ('<tool_call>{"name": "add", "arguments": {"a": 1}', 0),
        ("<tool_call>[[[</tool_call>", 0),
        ("[" * 100_000, 0),
        ("[add(a=1)]", 1),
        ("<think>hm</think>\n[add(a = 1)]\n", 1),
        ("<tool_call>\n{'name': 'add', 'arguments': {'a': 1}}\n</tool_call>", 1),
        ('<tool_call>{"name": "add", "arguments": {"a": 1, "b": null}}</tool_call>', 1),
        ("[add(a=1, b=None)]", 1),
        ("[add(a=2)]", 0),
        ("[add(a=1), add(a=1)]", 0),
        ("[add(1)]", 0),
        ("[add(a=x)]", 0),
        ("[add(a='1')]", 0),
        ("[add(a=__import__('os'))]", 0),
        ("[add(a=" + "(" * 5000 + "1" + ")" * 5000 + ")]", 0),
        ("[add(a=" + "[" * 50_000 + ")]", 0),
        ("[add(a='1)]", 0),
        ("", 0),
        (None, 0),
        ("3", 0),
    ],
)
def test_tool_calls_are_compared_as_calls(response, score):
    assert ToolCallReward()(response=response, truth=TRUTH) == {"accuracy": score}


def test_no_call_is_never_right_even_against_an_empty_truth():
    assert ToolCallReward()(response="", truth="") == {"accuracy": 0.0}


@settings(max_examples=100)
@given(st.text(max_size=80))
def test_any_response_is_scored_without_an_error(response):
    assert ToolCallReward()(response=response, truth=TRUTH)["accuracy"] in (0.0, 1.0)


@settings(max_examples=200, deadline=None)
@given(st.text("[]()=,'\"{}:ab1 .\\\\", max_size=40))
def test_any_text_of_calls_is_scored_without_an_error(text):
    assert ToolCallReward()(response=f"[{text}]", truth=TRUTH)["accuracy"] in (0.0, 1.0)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.text("\\\\boxed{}frac/.,-+%$#0123456789 ", max_size=60))
def test_any_final_answer_is_scored_without_an_error(response):
    assert FinalAnswerReward()(response=response, truth="7")["accuracy"] in (0.0, 1.0)


@pytest.mark.parametrize("truth", ["", None, "words"])
def test_no_final_answer_is_never_right_even_against_an_empty_truth(truth):
    assert FinalAnswerReward()(response="words", truth=truth) == {"accuracy": 0.0}
