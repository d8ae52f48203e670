"""What counts as a verifiable answer, against Trinity's own rewards."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chord_exp.prepare.answers.find import (
    CHOICE,
    EXPRESSION,
    FRACTION,
    FREE_TEXT,
    NUMBER,
    SEVERAL,
    TOOL_CALL,
    Answer,
    find_answer,
)
from chord_exp.prepare.answers.reward_check import score_experts
from chord_exp.prepare.answers.scoring import response_text, scoring_of
from chord_exp.prepare.rejects import Reject


def reward(response: str, answer: Answer) -> float:
    """What training gives: the reward function of the answer's kind, by Trinity's registry."""
    scoring = scoring_of(answer)
    assert scoring is not None
    return next(score_experts([(answer.truth, response, scoring)]))


def ideal(answer: Answer) -> str:
    """The answer as a model would write it."""
    return f"so {answer.truth}" if "boxed" in answer.truth else f"so \\boxed{{{answer.truth}}}"


@pytest.mark.parametrize(
    ("response", "kind", "truth", "trinity_reads_it"),
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
        ("so \\boxed{1/2}", FRACTION, "\\boxed{1/2}", True),
        ("so \\boxed{\\frac{1}{2}}", FRACTION, "\\boxed{\\frac{1}{2}}", True),
        ("so \\boxed{-\\dfrac{7}{3}}", FRACTION, "\\boxed{-\\dfrac{7}{3}}", True),
        ("so \\boxed{x+1}", EXPRESSION, "\\boxed{x+1}", True),
        ("so $\\boxed{2\\sqrt{3}}$", EXPRESSION, "\\boxed{2\\sqrt{3}}", True),
        ("so \\boxed{(-\\infty, 3]}", EXPRESSION, "\\boxed{(-\\infty, 3]}", True),
        ("so \\boxed{42\\text{ cm}}", EXPRESSION, "\\boxed{42\\text{ cm}}", True),
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
        ("so \\boxed{7\\%}", NUMBER, "7", False),
        ("so \\boxed{2\\,500}", NUMBER, "2500", False),
        ("so \\boxed{.5}", NUMBER, "0.5", False),
        ("so \\boxed{\\frac12}", FRACTION, "\\boxed{\\frac{1}{2}}", False),
        ("so \\boxed{1/2} = \\boxed{\\frac{1}{2}}", FRACTION, "\\boxed{\\frac{1}{2}}", False),
        ("so \\boxed{\\mathrm{(B)}}", CHOICE, "B", False),
        # MetaMathQA, and headings
        ("It is 42.\n#### 42\nThe answer is: 42", NUMBER, "42", False),
        ("#### Heading\nSo it is.\n#### 42", NUMBER, "42", False),
        ("The answer is 42.\n#### Notes", NUMBER, "42", False)
        if False
        else ("#### Notes\nThe answer is 42.", NUMBER, "42", False),
    ],
)
def test_a_plain_final_answer_is_found_and_scores_in_the_form_that_the_expert_writes(
    response, kind, truth, trinity_reads_it
):
    answer = find_answer(None, response)
    assert (answer.kind, answer.truth, answer.own_form) == (kind, truth, not trinity_reads_it)
    assert reward(response, answer) == reward(ideal(answer), answer) == 1.0
    assert reward("so \\boxed{123457}", answer) == 0.0


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
        ("\\boxed{}", FREE_TEXT),
        ("\\boxed{42", FREE_TEXT),
        ("\\boxed{Paris}", FREE_TEXT),
        ("\\boxed{9^{9^{9}}}", FREE_TEXT),
        ("\\boxed{2^{100000}}", FREE_TEXT),
        ("\\boxed{99999!}", FREE_TEXT),
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


@pytest.mark.parametrize("field", [True, None, [42, 43], {"a": 1}, "Paris", "1" * 100])
def test_an_answer_field_that_is_no_number_is_ignored(field):
    assert find_answer(field, "\\boxed{3}").truth == "3"
    assert not find_answer(field, "some text").verifiable


def test_the_form_of_the_response_wins_over_an_equal_answer_field():
    assert find_answer("0.5", "\\boxed{\\frac{1}{2}}").truth == "\\boxed{\\frac{1}{2}}"


def test_an_answer_field_that_contradicts_the_response_rejects_the_row():
    with pytest.raises(Reject, match=r"42.*41") as caught:
        find_answer(42, "\\boxed{41}")
    assert caught.value.reason == "answer_mismatch"


@settings(max_examples=300)
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
def test_every_truth_scores_when_boxed_and_as_written_is_never_a_false_promise(content):
    response = f"working\n\\boxed{{{content}}}"
    answer = find_answer(None, response)
    if answer.verifiable:
        assert reward(ideal(answer), answer) == 1.0
    if answer.as_written:
        assert reward(response, answer) == 1.0


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_any_text_is_classified_without_an_error(text):
    find_answer(text, text)


ATOMS = st.one_of(
    st.integers(0, 99).map(str),
    st.sampled_from(["x", "y", "\\pi", "\\sqrt{2}", "\\sqrt{x}", "\\frac{1}{3}", "x^2", "e^{x}", "a_1", "\\sin x"]),
)
LATEX = st.lists(ATOMS, min_size=1, max_size=3).flatmap(
    lambda atoms: st.sampled_from([" + ", " - ", "+", "\\cdot ", ", ", "="]).map(lambda sign: sign.join(atoms))
)


@settings(max_examples=120)
@given(LATEX, st.sampled_from(["so \\boxed{{{}}}", "so $\\boxed{{{}}}$.", "so $$\\boxed{{ {} }}$$"]))
def test_latex_truths_score_under_math_verify(content, frame):
    answer = find_answer(None, frame.format(content))
    if answer.kind in (EXPRESSION, FRACTION):
        assert reward(ideal(answer), answer) == 1.0


@settings(max_examples=60)
@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_a_fraction_scores_in_either_form_and_not_in_another_value(over, under):
    answer = find_answer(None, f"\\boxed{{{over}/{under}}}")
    assert answer.kind == FRACTION
    assert reward(f"\\boxed{{{over}/{under}}}", answer) == 1.0
    assert reward(f"$\\boxed{{\\frac{{{over}}}{{{under}}}}}$", answer) == 1.0
    assert reward(f"\\boxed{{\\frac{{{over + under}}}{{{under}}}}}", answer) == 0.0


@pytest.mark.parametrize(
    ("field", "response", "letter"),
    [
        ("B", None, "B"),
        (1, None, "B"),
        ("1", None, "B"),
        ("green", None, "B"),
        ("(b)", "Because it grows.", "B"),
        (None, "Because it grows. The answer is (B).", "B"),
        (None, "Because it grows: \\boxed{B}", "B"),
        ("B", "Because it grows: \\boxed{\\text{B}}", "B"),
        (None, "所以答案是B。", "B"),
        (None, "C", "C"),
        (2, "It is \\boxed{C}", "C"),
    ],
)
def test_a_multiple_choice_answer_becomes_a_letter_that_scores(field, response, letter):
    answer = find_answer(field, response, choices=("red", "green", "blue"))
    assert (answer.kind, answer.truth) == (CHOICE, letter)
    assert reward(f"\\boxed{{{letter}}}", answer) == 1.0 and reward("\\boxed{D}", answer) == 0.0


def test_a_numeric_choice_is_named_by_its_text_before_its_index():
    assert find_answer("2", None, choices=("1", "2", "3")).truth == "B"
    assert find_answer(None, "so \\boxed{3}", choices=("1", "2", "3")).truth == "C"


@pytest.mark.parametrize("field", [3, -1, "E", "violet", None, 0.5, float("nan"), 1e400])
def test_an_answer_that_is_no_choice_is_not_verifiable(field):
    assert not find_answer(field, None, choices=("red", "green", "blue")).verifiable


@pytest.mark.parametrize(
    ("field", "kind", "truth"),
    [
        ("34", NUMBER, "34"),
        (34, NUMBER, "34"),
        ("1,234", NUMBER, "1234"),
        ("\\frac{1}{2}", FRACTION, "\\boxed{\\frac{1}{2}}"),
        ("$x+1$", EXPRESSION, "\\boxed{x+1}"),
        ("\\boxed{x+1}", EXPRESSION, "\\boxed{x+1}"),
        ("2\\sqrt{3}", EXPRESSION, "\\boxed{2\\sqrt{3}}"),
        ("Paris", FREE_TEXT, "Paris"),
        ("e-mail them", FREE_TEXT, "e-mail them"),
        (None, FREE_TEXT, ""),
    ],
)
def test_a_record_without_a_response_has_the_truth_of_its_field(field, kind, truth):
    answer = find_answer(field, None)
    assert (answer.kind, answer.truth) == (kind, truth)
    if answer.verifiable:
        assert reward(ideal(answer), answer) == 1.0


FORMS = st.sampled_from(
    [
        "so \\boxed{{{}}}",
        "so $\\boxed{{{}}}$.",
        "so \\boxed{{\\${}}}",
        "so \\boxed{{{}\\%}}",
        "so \\boxed{{{}%}}",
        "so \\boxed{{ {} }}",
        "so $\\boxed {{{}}}$",
        "#### {}",
        "#### ${}",
        "#### Result\nIt follows.\n#### {}",
        "#### {}\nThe answer is: {}",
        "The answer is ${}$.",
        "The answer is: {}",
        "所以答案是{}。",
        "{}",
    ]
)
NUMERALS = st.one_of(
    st.integers(-(10**9), 10**9).flatmap(
        lambda n: st.sampled_from(
            [f"{n}", f"{n:,}", f"{n:,}".replace(",", "{,}"), f"{n:,}".replace(",", "\\,"), f"{n}.0", f"{n:,}.00"]
        )
    ),
    st.decimals(-1000, 1000, places=2).map(str),
    st.integers(1, 99).map(lambda n: f".{n:02}"),
    st.tuples(st.integers(1, 9), st.integers(2, 9)).map(lambda parts: f"\\frac{parts[0]}{parts[1]}"),
    st.tuples(st.integers(-99, 99), st.integers(2, 99)).map(lambda parts: f"\\frac{{{parts[0]}}}{{{parts[1]}}}"),
)


@settings(max_examples=400)
@given(NUMERALS, FORMS)
@example("2,500", "so \\boxed{{{}}}")
@example("7", "so $\\boxed{{{}\\%}}$")
def test_every_numeric_form_of_an_expert_scores_for_its_own_truth_and_another_value_does_not(numeral, form):
    response = form.format(numeral, numeral)
    answer = find_answer(None, response)
    if answer.verifiable:
        assert reward(response, answer) == 1.0
        assert reward(response.replace(numeral, "123457"), answer) == 0.0
    else:
        # a fraction is stated in a box
        assert "frac" in numeral and "boxed" not in form


DEEP: list = []
for _ in range(100_000):
    DEEP = [DEEP]
VALUES = st.one_of(st.integers(-9, 9), st.text(max_size=6), st.booleans(), st.none(), st.lists(st.integers(0, 3)))
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.text("abc_", min_size=1, max_size=6),
            "arguments": st.dictionaries(st.text("xyz", min_size=1, max_size=3), VALUES, max_size=3),
        }
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=150)
@given(CALLS)
def test_the_experts_own_tool_calls_score_and_other_calls_do_not(calls):
    written = [{"type": "function", "function": {**call, "arguments": json.dumps(call["arguments"])}} for call in calls]
    answer = find_answer(None, "", tool_calls=written)
    assert answer.kind == TOOL_CALL and answer == find_answer(None, "", tool_calls=calls[::-1])
    said = response_text({"role": "assistant", "content": "Let me see.", "tool_calls": written})
    assert reward(said, answer) == 1.0
    assert reward(said.replace('"name": "', '"name": "other_'), answer) == 0.0
    assert reward("I will not call anything.", answer) == 0.0


@pytest.mark.parametrize(
    "calls",
    [
        [{"name": ""}],
        [{"name": "f", "arguments": "{"}],
        [{"name": "f", "arguments": {"a": DEEP}}],
        ["f"],
        [{"function": 3}],
    ],
)
def test_broken_tool_calls_are_not_verifiable(calls):
    assert not find_answer(None, "", tool_calls=calls).verifiable
