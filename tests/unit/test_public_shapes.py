"""Rows in the shape of public data sets, made up: what each becomes, and what the reward of its row says of it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import orjson
import pytest
from prepare_samples import split_settings

from chord_exp.prepare.answers.find import KINDS
from chord_exp.prepare.answers.reward_check import score_experts
from chord_exp.prepare.answers.scoring import SCORINGS
from chord_exp.prepare.read.raw_rows import RawRow
from chord_exp.prepare.rejects import SFT_ONLY, Reject
from chord_exp.prepare.rows.build import Row, RowBuilder

Record = Any


def system(text: str) -> Record:
    return {"role": "system", "content": text}


def user(text: str) -> Record:
    return {"role": "user", "content": text}


def said(text: str, **more: Any) -> Record:
    return {"role": "assistant", "content": text, **more}


def called(name: str, **arguments: Any) -> Record:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def built(record: Record, mapping: dict[str, str] | None = None) -> Row:
    return RowBuilder(split_settings(map=mapping or {}), None).build(RawRow(1, json.dumps(record).encode()))


def reason(record: Record, mapping: dict[str, str] | None = None) -> str:
    with pytest.raises(Reject) as caught:
        built(record, mapping)
    return caught.value.reason


def taught(row: Row) -> list[Record] | None:
    """The conversation of the SFT side; None where the row has nothing to imitate."""
    return orjson.loads(orjson.loads(row.sft_line)["messages"]) if row.sft_line else None


class Shape(NamedTuple):
    """What a row becomes.

    Args:
        taught: the conversation of the SFT side; None for a row that is for RL only.
        kind: of its answer.
        right, wrong: responses that the reward of the row scores 1 and 0; "" where the row is for SFT only.
        unused: columns that nobody reads.
        why: why it stays on the SFT side.
    """

    name: str
    record: Record
    taught: list[Record] | None
    kind: str
    right: str = ""
    wrong: str = ""
    unused: tuple[str, ...] = ()
    why: str = ""


TOOLACE_SYSTEM = 'You are an expert in composing functions. Here is a list: [{"name": "Market Trends API"}]'
HERMES_SYSTEM = "You may call functions within <tools> </tools> tags: <tools>[{...}]</tools>"
TOOL = {"name": "get_weather", "description": "Weather", "parameters": {"city": {"type": "str"}}}
MCQ = "Which gas?\nA. oxygen\nB. neon\nC. argon\nD. helium"
SHAPES = [
    Shape(
        "ToolACE",
        {
            "system": TOOLACE_SYSTEM,
            "conversations": [
                {"from": "user", "value": "Market and weather?"},
                {"from": "assistant", "value": '[Market Trends API(country="us", deep=true), w(city="Rome, IT")]'},
            ],
        },
        [
            system(TOOLACE_SYSTEM),
            user("Market and weather?"),
            said('[Market Trends API(country="us", deep=true), w(city="Rome, IT")]'),
        ],
        "tool_call",
        "[w(city='Rome, IT'), Market Trends API(deep=True, country='us')]",
        '[Market Trends API(country="us", deep=true)]',
    ),
    Shape(
        "ToolACE, more turns",
        {
            "system": TOOLACE_SYSTEM,
            "conversations": [
                {"from": "user", "value": "Weather?"},
                {"from": "assistant", "value": '[w(city="Rome")]'},
                {"from": "tool", "value": "18 C"},
                {"from": "assistant", "value": "It is 18 C."},
            ],
        },
        [
            system(TOOLACE_SYSTEM),
            user("Weather?"),
            said('[w(city="Rome")]'),
            {"role": "tool", "content": "18 C"},
            said("It is 18 C."),
        ],
        "free_text",
        why="multi_turn",
    ),
    Shape(
        "Hermes function calling",
        {
            "id": "x",
            "conversations": [
                {"from": "system", "value": HERMES_SYSTEM},
                {"from": "human", "value": "Weather?"},
                {"from": "gpt", "value": "<tool_call>\n{'name': 'w', 'arguments': {'city': 'Rome'}}\n</tool_call>"},
            ],
            "category": "Weather",
        },
        [
            system(HERMES_SYSTEM),
            user("Weather?"),
            said("<tool_call>\n{'name': 'w', 'arguments': {'city': 'Rome'}}\n</tool_call>"),
        ],
        "tool_call",
        '<tool_call>{"arguments": {"city": "Rome"}, "name": "w"}</tool_call>',
        '<tool_call>{"arguments": {"city": "Oslo"}, "name": "w"}</tool_call>',
        unused=("category", "id"),
    ),
    Shape(
        "xLAM",
        {
            "id": 3,
            "query": "Weather in Rome?",
            "tools": json.dumps([TOOL]),
            "answers": json.dumps([{"name": "get_weather", "arguments": {"city": "Rome"}}]),
        },
        [user("Weather in Rome?"), said("", tool_calls=[called("get_weather", city="Rome")])],
        "tool_call",
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>',
        "It is sunny.",
        unused=("id",),
    ),
    Shape(
        "APIGen-MT",
        {
            "system": "Be a clerk.",
            "tools": json.dumps([TOOL]),
            "conversations": [
                {"from": "human", "value": "Weather in Rome?"},
                {"from": "function_call", "value": '{"name": "get_weather", "arguments": {"city": "Rome"}}'},
                {"from": "observation", "value": "18 C"},
                {"from": "gpt", "value": "18 C."},
            ],
        },
        [
            system("Be a clerk."),
            user("Weather in Rome?"),
            said("", tool_calls=[called("get_weather", city="Rome")]),
            {"role": "tool", "content": "18 C"},
            said("18 C."),
        ],
        "free_text",
        why="multi_turn",
    ),
    Shape(
        "DeepMath",
        {
            "question": "1+1?",
            "final_answer": "2",
            "difficulty": 4.5,
            "topic": "Sums",
            **{f"r1_solution_{n}": f"<think>Way {n}.</think>So $\\boxed{{2}}$" for n in (1, 2, 3)},
        },
        [user("1+1?"), said("<think>Way 1.</think>So $\\boxed{2}$")],
        "number",
        "\\boxed{2}",
        "\\boxed{3}",
        unused=("difficulty", "r1_solution_2", "r1_solution_3", "topic"),
    ),
    Shape(
        "OpenMathInstruct",
        {
            "problem": "1+1?",
            "generated_solution": "So \\boxed{2}",
            "expected_answer": "2",
            "problem_source": "augmented_math",
        },
        [user("1+1?"), said("So \\boxed{2}")],
        "number",
        "\\boxed{2}",
        "\\boxed{3}",
        unused=("problem_source",),
    ),
    Shape(
        "a prompt and its truth",
        {"prompt": "Expand (x)(x)+1.", "ground_truth": "x^2+1"},
        None,
        "expression",
        "\\boxed{1+x^2}",
        "\\boxed{x^2}",
    ),
    Shape(
        "Skywork-OR1",
        {
            "data_source": "train-math",
            "prompt": [user("3+4?")],
            "ability": "math",
            "reward_model": {"ground_truth": '["7"]', "style": "rule"},
            "extra_info": {"index": 0},
        },
        None,
        "number",
        "\\boxed{7}",
        "\\boxed{8}",
        unused=("ability", "data_source", "extra_info"),
    ),
    Shape(
        "Open-Reasoner-Zero",
        [{"from": "human", "value": "1+1?"}, {"from": "assistant", "ground_truth": {"value": "2"}}],
        None,
        "number",
        "\\boxed{2}",
        "\\boxed{3}",
    ),
    Shape(
        "Nemotron post-training",
        {
            "input": [user("1+1?")],
            "output": "<think>\nEasy.\n</think>\n\n\\boxed{2}",
            "category": "math",
            "reasoning": "on",
            "system_prompt": "detailed thinking on",
            "used_in_training": "yes",
        },
        [system("detailed thinking on"), user("1+1?"), said("<think>\nEasy.\n</think>\n\n\\boxed{2}")],
        "number",
        "\\boxed{2}",
        "\\boxed{3}",
        unused=("category", "used_in_training"),
    ),
    Shape(
        "UltraChat",
        {"id": "0", "data": ["Hi", "Hello", "Bye", "See you"]},
        [user("Hi"), said("Hello"), user("Bye"), said("See you")],
        "free_text",
        unused=("id",),
        why="multi_turn",
    ),
    Shape(
        "MedMCQA",
        {
            **{"id": "x", "question": "Which gas?", "opa": "oxygen", "opb": "neon", "opc": "argon", "opd": "helium"},
            **{"cop": 1, "choice_type": "single", "exp": "Neon glows, so B.", "subject_name": "Chemistry"},
        },
        [user(MCQ), said("Neon glows, so B.")],
        "choice",
        "\\boxed{B}",
        "\\boxed{C}",
        unused=("choice_type", "id", "subject_name"),
    ),
    Shape(
        "AQuA",
        {
            "question": "Which gas?",
            "options": ["A)oxygen", "B)neon", "C)argon", "D)helium"],
            "rationale": "It glows.\nThe answer is B",
            "correct": "B",
        },
        [user(MCQ), said("It glows.\nThe answer is B")],
        "choice",
        "\\boxed{B}",
        "\\boxed{C}",
    ),
    Shape(
        "C-Eval",
        {
            **{"id": "0", "question": "Which gas?", "A": "oxygen", "B": "neon", "C": "argon", "D": "helium"},
            **{"answer": "B", "explanation": "It glows."},
        },
        [user(MCQ), said("It glows.")],
        "choice",
        "\\boxed{B}",
        "\\boxed{C}",
        unused=("id",),
    ),
    Shape(
        "CMMLU",
        {"Unnamed: 0": "0", "Question": "Which gas?", "A": "oxygen", "B": "neon", "C": "argon", "D": "helium"}
        | {"Answer": "B"},
        None,
        "choice",
        "\\boxed{B}",
        "\\boxed{C}",
        unused=("unnamed: 0",),
    ),
    Shape(
        "MetaMathQA",
        {"query": "1+1?", "response": "It is 2.\n#### 2\nThe answer is: 2", "type": "GSM_Rephrased"},
        [user("1+1?"), said("It is 2.\n#### 2\nThe answer is: 2")],
        "number",
        "It is 2.\n#### 2\nThe answer is: 2",
        "The answer is: 3",
        unused=("type",),
    ),
    Shape(
        "capital columns",
        {"Question": "1+1?", "Answer": "It is \\boxed{2}"},
        [user("1+1?"), said("It is \\boxed{2}")],
        "number",
        "\\boxed{2}",
        "\\boxed{3}",
    ),
    Shape(
        "LLaMA-Factory v1",
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "value": "Be brief."}], "loss_weight": 0.0},
                {"role": "user", "content": [{"type": "text", "value": "1+"}, {"type": "text", "value": "1?"}]},
                {
                    "role": "assistant",
                    "content": [{"type": "reasoning", "value": "Easy sum."}, {"type": "text", "value": "\\boxed{2}"}],
                    "loss_weight": 1.0,
                },
            ]
        },
        [system("Be brief."), user("1+1?"), said("<think>\nEasy sum.\n</think>\n\n\\boxed{2}")],
        "number",
        "\\boxed{2}",
        "\\boxed{3}",
    ),
    Shape(
        "LLaMA-Factory v1, a call",
        {
            "tools": json.dumps([TOOL]),
            "messages": [
                {"role": "user", "content": [{"type": "text", "value": "Weather?"}]},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_call", "value": '{"name": "get_weather", "arguments": {"city": "X"}}'}],
                },
            ],
        },
        [user("Weather?"), said("", tool_calls=[called("get_weather", city="X")])],
        "tool_call",
        '<tool_call>{"name": "get_weather", "arguments": {"city": "X"}}</tool_call>',
        "no",
    ),
    Shape(
        "KTO, liked",
        {"prompt": "1+1?", "completion": "\\boxed{2}", "label": True},
        [user("1+1?"), said("\\boxed{2}")],
        "number",
        "\\boxed{2}",
        "\\boxed{3}",
    ),
    Shape(
        "reasoning beside the answer",
        {"question": "1+1?", "reasoning_content": "One and one.", "answer": "2"},
        [user("1+1?"), said("<think>\nOne and one.\n</think>\n\n2")],
        "number",
        "2",
        "3",
    ),
    Shape(
        "reasoning in the turn",
        {"messages": [user("1+1?"), said("\\boxed{2}", reasoning_content="One and one.")]},
        [user("1+1?"), said("<think>\nOne and one.\n</think>\n\n\\boxed{2}")],
        "number",
        "\\boxed{2}",
        "\\boxed{3}",
    ),
    Shape(
        "system beside messages",
        {"system": "Be brief.", "messages": [user("1+1?"), said("\\boxed{2}")]},
        [system("Be brief."), user("1+1?"), said("\\boxed{2}")],
        "number",
        "\\boxed{2}",
        "\\boxed{3}",
    ),
    Shape(
        "OpenAI functions",
        {
            "functions": [TOOL],
            "messages": [
                user("Weather?"),
                {
                    "role": "assistant",
                    "content": None,
                    "function_call": {"name": "get_weather", "arguments": '{"city": "X"}'},
                },
            ],
        },
        [user("Weather?"), said("", tool_calls=[called("get_weather", city="X")])],
        "tool_call",
        '<tool_call>{"name": "get_weather", "arguments": {"city": "X"}}</tool_call>',
        "no",
    ),
    Shape(
        "scores and a source",
        {"prompt": "1+1?", "response": "\\boxed{2}", "score": 4, "rating": 0, "source": "x", "note": None},
        [user("1+1?"), said("\\boxed{2}")],
        "number",
        "\\boxed{2}",
        "\\boxed{3}",
        unused=("rating", "score", "source"),
    ),
]


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])
def test_a_public_shape_is_read_and_its_reward_tells_right_from_wrong(shape: Shape):
    row = built(shape.record)
    assert taught(row) == shape.taught
    assert KINDS[row.kind] == shape.kind
    assert sorted(row.unused) == sorted(shape.unused)
    assert ("", *SFT_ONLY)[row.reason] == shape.why
    assert bool(row.rl_line) == bool(shape.right)
    if row.rl_line:
        truth = orjson.loads(row.rl_line)["answer"]
        responses = [(truth, text, SCORINGS[row.scoring]) for text in (shape.right, shape.wrong)]
        assert list(score_experts(responses)) == [1.0, 0.0]


TURNS = [user("1+1?"), said("\\boxed{2}")]
PAIR = {"prompt": "1+1?", "response": "\\boxed{2}"}


@pytest.mark.parametrize("column", ["label", "desirable", "is_correct", "correct", "chosen"])
@pytest.mark.parametrize("record", [PAIR, {"messages": TURNS}, {"prompt": "1+1?", "completion": "2"}])
def test_an_answer_that_its_row_calls_bad_is_no_expert(record, column):
    for bad in (False, 0, "false", "False", "0"):
        assert reason({**record, column: bad}) == "bad_answer"
    for good in (True, 1, "true"):
        assert taught(built({**record, column: good})) is not None
    for other in (3, "physics"):
        assert built({**record, column: other}).unused == [column]


def test_a_score_rejects_only_below_the_threshold_that_the_user_names():
    assert built({**PAIR, "rating": 1}).unused == ["rating"]
    least = {"score": "rating>=3.5"}
    assert built({**PAIR, "rating": 4}, least).unused == []
    assert built({**PAIR, "rating": "3.5"}, least).format == "prompt_response"
    for low in (3, "3", None, "good"):
        assert reason({**PAIR, "rating": low}, least) == "low_score"
    assert reason({**PAIR, "q": {"n": 1}}, {**least, "score": "q.n >= 2"}) == "low_score"


@pytest.mark.parametrize(
    ("expected", "record"),
    [
        ("field_lost", {**PAIR, "documents": [{"text": "Long ago"}]}),
        ("field_lost", {"messages": TURNS, "documents": ["Long ago"]}),
        ("field_lost", {**PAIR, "image_path": "a.png"}),
        ("field_lost", {"messages": TURNS, "image_url": "http://x/a.png"}),
        ("field_lost", {**PAIR, "prompt": "<image>\nWhat is it?"}),
        ("field_lost", {"messages": [system("Be brief."), *TURNS], "system": "Be long."}),
        ("bad_choice", {"question": "1+1?", "choices": [1, 2, 3, 4], "answer": 2}),
        ("bad_choice", {"question": "1+1?", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "2"}),
    ],
)
def test_what_would_change_the_question_or_the_answer_is_refused_by_name(expected, record):
    assert reason(record) == expected


def test_two_system_prompts_with_one_question_are_two_rows():
    french, short = (built({**PAIR, "system_prompt": text}) for text in ("Reply in French.", "Be brief."))
    assert french.digest != short.digest and french.group == short.group


def test_nulls_of_a_tables_union_of_fields_are_no_arguments():
    calls = [called("get_weather", city="Rome", order_id=None, area={"zip": None, "size": 1})]
    schema = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {}, "order_id": None}}}
    row = built({"messages": [user("Rome?"), {**said(""), "content": None, "tool_calls": calls}], "tools": [schema]})
    assert taught(row)[-1]["tool_calls"] == [called("get_weather", city="Rome", area={"size": 1})]
    assert orjson.loads(orjson.loads(row.sft_line)["tools"])[0]["function"]["parameters"]["properties"] == {"city": {}}
    rollout = orjson.loads(row.rl_line)
    right = '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome", "area": {"size": 1}}}</tool_call>'
    wrong = right.replace("}}</", ', "order_id": 3}}</')
    assert list(score_experts([(rollout["answer"], text, SCORINGS[row.scoring]) for text in (right, wrong)])) == [1, 0]


def test_a_null_inside_a_list_stays():
    row = built({"messages": [user("a"), {**said(""), "tool_calls": [called("f", x=[None, 1])]}]})
    assert taught(row)[-1]["tool_calls"] == [called("f", x=[None, 1])]
