"""What counts as a verifiable answer, against Trinity's own reward."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chord_exp.prepare.answers import CHOICE, EXPRESSION, FRACTION, FREE_TEXT, NUMBER, SEVERAL, find_answer
from chord_exp.prepare.rejects import Reject


@pytest.fixture(scope="module")
def reward():
    """Trinity's reward of math_boxed_workflow: response, truth -> accuracy."""
    from trinity.common.rewards.math_reward import MathBoxedRewardFn

    score = MathBoxedRewardFn()
    return lambda response, truth: score(response=response, truth=truth)["accuracy"]


@pytest.mark.parametrize(
    ("response", "kind", "truth", "as_written"),
    [
        ("so \\boxed{42}", NUMBER, "42", True),
        ("so \\boxed{ 42. }", NUMBER, "42", True),
        ("so \\boxed{\\$42}", NUMBER, "42", True),
        ("so \\boxed{42%}", NUMBER, "42", True),
        ("so \\boxed{42\\%}", NUMBER, "42", False),
        ("so \\boxed{1,234}", NUMBER, "1234", False),
        ("so \\boxed{1{,}234}", NUMBER, "1234", False),
        ("so \\boxed{-3.50}", NUMBER, "-3.50", True),
        ("so \\boxed{+5}", NUMBER, "5", False),
        ("so \\boxed{\uff14\uff12\uff0e\uff15}", NUMBER, "42.5", False),
        ("so \\boxed {42} it is", NUMBER, "42", False),
        ("so \\boxed{\u22127}", NUMBER, "-7", False),
        ("so \\boxed{-0}", NUMBER, "0", False),
        ("so \\boxed{1/2}", FRACTION, "1/2", True),
        ("so \\boxed{\\frac{1}{2}}", FRACTION, "\\frac{1}{2}", True),
        ("so \\boxed{-\\dfrac{7}{3}}", FRACTION, "-\\dfrac{7}{3}", True),
        ("so \\boxed{B}", CHOICE, "B", True),
        ("so \\boxed{\\text{(C)}}", CHOICE, "C", True),
        ("first \\boxed{42}, and again \\boxed{42}", NUMBER, "42", True),
        ("<think>\\boxed{1}</think> no, \\boxed{2}", NUMBER, "2", True),
        ("48+24=72\n#### 72", NUMBER, "72", False),
        ("#### 1,000", NUMBER, "1000", False),
        ("#### $18.50", NUMBER, "18.50", False),
        ("So the answer is 42.", NUMBER, "42", False),
        ("所以答案是42。", NUMBER, "42", False),
        ("答案\uff1a\uff14\uff12", NUMBER, "42", False),
        ("答案是\uff1a-7", NUMBER, "-7", False),
        ("72", NUMBER, "72", False),
    ],
)
def test_a_plain_final_answer_is_found_and_says_whether_the_response_itself_scores(
    response, kind, truth, as_written, reward
):
    answer = find_answer(None, response)
    assert (answer.kind, answer.truth, answer.as_written) == (kind, truth, as_written)
    assert reward(f"\\boxed{{{truth}}}", truth) == 1.0
    assert reward(response, truth) == float(as_written)


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        ("Paris", FREE_TEXT),
        ("", FREE_TEXT),
        ("There were 42 of them, then 3 left.", FREE_TEXT),
        ("#### 42 apples", FREE_TEXT),
        ("the answer is 42 if it rains", FREE_TEXT),
        ("007", FREE_TEXT),
        ("1,23", FREE_TEXT),
        ("1" * 30, FREE_TEXT),
        ("2024-01-01", FREE_TEXT),
        ("\\boxed{x+1}", EXPRESSION),
        ("\\boxed{}", EXPRESSION),
        ("\\boxed{42", EXPRESSION),
        ("\\boxed{1/0}", EXPRESSION),
        ("\\boxed{42\\text{ cm}}", EXPRESSION),
        ("x=\\boxed{1} or x=\\boxed{2}", SEVERAL),
    ],
)
def test_anything_else_is_not_verifiable(response, kind):
    answer = find_answer(None, response)
    assert (answer.kind, answer.truth, answer.verifiable) == (kind, "", False)


@pytest.mark.parametrize("field", ["42", 42, 42.0, " 42 ", "42.0"])
def test_an_answer_field_makes_free_text_verifiable(field):
    answer = find_answer(field, "Count them one by one.")
    assert answer.verifiable and answer.value == "42" and isinstance(answer.truth, str) and not answer.as_written


@pytest.mark.parametrize("field", [True, None, [42], {"a": 1}, "Paris", "1" * 100])
def test_an_answer_field_that_is_no_number_is_ignored(field):
    assert find_answer(field, "\\boxed{3}").truth == "3"
    assert not find_answer(field, "some text").verifiable


def test_the_form_of_the_response_wins_over_an_equal_answer_field():
    assert find_answer("0.5", "\\boxed{\\frac{1}{2}}").truth == "\\frac{1}{2}"


def test_an_answer_field_that_contradicts_the_response_rejects_the_row():
    with pytest.raises(Reject, match=r"42.*41") as caught:
        find_answer(42, "\\boxed{41}")
    assert caught.value.reason == "answer_mismatch"


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.integers().map(str),
        st.integers().map(lambda n: f"{n:,}"),
        st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
        st.text(alphabet="0123456789.,-+$%\\!{} /ABC()", max_size=12),
        st.text(max_size=8),
    )
)
@example("1.0")
@example("00")
def test_every_truth_scores_when_boxed_and_as_written_is_never_a_false_promise(reward, content):
    response = f"working\n\\boxed{{{content}}}"
    answer = find_answer(None, response)
    if answer.verifiable:
        assert reward(f"\\boxed{{{answer.truth}}}", answer.truth) == 1.0
    if answer.as_written:
        assert reward(response, answer.truth) == 1.0


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_classified_without_an_error(text):
    find_answer(text, text)
