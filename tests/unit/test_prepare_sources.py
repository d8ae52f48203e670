"""Records as real data sets have them, and the conversation that each gives."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from chord_exp.prepare.read.raw_rows import parse_row
from chord_exp.prepare.rejects import Reject
from chord_exp.prepare.rows.conversation import Conversation
from chord_exp.prepare.rows.reading import find_reading
from chord_exp.prepare.rows.turns import Checked, check_conversation

Record = dict[str, Any]


def system(text: str) -> Record:
    return {"role": "system", "content": text}


def user(text: Any) -> Record:
    return {"role": "user", "content": text}


def assistant(text: Any, **more: Any) -> Record:
    return {"role": "assistant", "content": text, **more}


def called(name: str, **arguments: Any) -> Record:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def read(record: Record) -> tuple[str, Conversation, Checked]:
    """Name of the format, what it reads, and that checked."""
    parsed = parse_row(json.dumps(record, ensure_ascii=False).encode())
    found, parsed = find_reading(parsed)
    conversation = found.read(parsed)
    return found.name, conversation, check_conversation(conversation)


def reason(record: Record) -> str:
    with pytest.raises(Reject) as caught:
        read(record)
    return caught.value.reason


WEATHER = {"name": "get_weather", "description": "Weather of a city", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": WEATHER}]
QA = [user("1+1?"), assistant("2")]
CALL = {"id": "c1", **called("get_weather", city="Paris")}
AFTER_CALL = [
    user("Weather in Paris?"),
    assistant("", tool_calls=[CALL]),
    {"role": "tool", "content": "18 C", "tool_call_id": "c1"},
    assistant("It is 18 C."),
]
# as the API writes it: no content, the arguments as text
OPENAI_CALL = {
    **CALL,
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}
OPENAI = [AFTER_CALL[0], assistant(None, tool_calls=[OPENAI_CALL]), AFTER_CALL[2], AFTER_CALL[3]]
NO_ID = [
    AFTER_CALL[0],
    assistant("", tool_calls=[called("get_weather", city="Paris")]),
    {"role": "tool", "content": "18 C"},
    AFTER_CALL[3],
]
SHAREGPT_CALL = [
    {"from": "human", "value": "Weather in Paris?"},
    {"from": "function_call", "value": '{"name": "get_weather", "arguments": {"city": "Paris"}}'},
    {"from": "observation", "value": "18 C"},
    {"from": "gpt", "value": "It is 18 C."},
]
TOOLACE = "You are an expert in composing functions. Here is a list of functions: [{...}]"
ALPACA = {"instruction": "Give the plural.", "input": "", "output": "mice"}
ARC = {
    "id": "Mercury_7175875",
    "question": "Which gas do plants take in?",
    "choices": {"text": ["oxygen", "carbon dioxide", "helium"], "label": ["A", "B", "C"]},
    "answerKey": "B",
}
ARC_ASKED = "Which gas do plants take in?\nA. oxygen\nB. carbon dioxide\nC. helium"
MMLU = {"question": "Find the degree.", "subject": "abstract_algebra", "choices": ["0", "4", "2", "6"], "answer": 1}
MEDQA = {
    "question": "Which drug?",
    "answer": "Nitrofurantoin",
    "options": {"A": "Ampicillin", "B": "Nitrofurantoin", "C": "Doxycycline"},
    "meta_info": "step2&3",
    "answer_idx": "B",
}
OPENR1 = {
    "problem": "1+1?",
    "solution": "Trivial: 2",
    "answer": "2",
    "problem_type": "Algebra",
    "generations": ["\\boxed{3}", "<think>..</think>\\boxed{2}"],
    "correctness_math_verify": [False, True],
}


@pytest.mark.parametrize(
    ("name", "record", "expected"),
    [
        ("messages", {"messages": QA}, QA),
        ("messages", {"messages": OPENAI, "tools": TOOLS}, AFTER_CALL),
        ("messages", {"messages": json.dumps(QA)}, QA),
        ("messages", {"messages": [{"role": "developer", "content": "Be brief."}, *QA]}, [system("Be brief."), *QA]),
        ("messages", {"messages": [user([{"type": "text", "text": "1+"}, {"type": "text", "text": "1?"}]), QA[1]]}, QA),
        (
            "messages",
            {"messages": [user("Weather in Paris?"), assistant(None, function_call=OPENAI_CALL["function"])]},
            NO_ID[:2],
        ),
        (
            "messages",
            {
                "messages": [
                    user("Weather in Paris?"),
                    {"role": "tool_call", "content": '{"name": "get_weather", "arguments": {"city": "Paris"}}'},
                    {"role": "tool_response", "content": "18 C"},
                    assistant("It is 18 C."),
                ]
            },
            NO_ID,
        ),
        ("sharegpt", {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]}, QA),
        ("sharegpt", {"conversations": SHAREGPT_CALL, "tools": json.dumps([WEATHER])}, NO_ID),
        ("sharegpt", {"conversations": SHAREGPT_CALL, "system": "Be brief."}, [system("Be brief."), *NO_ID]),
        ("sharegpt", {"conversations": QA}, QA),
        (
            "sharegpt",
            {
                "system": TOOLACE,
                "conversations": [
                    {"from": "user", "value": "Market trends?"},
                    {"from": "assistant", "value": '[Trends(country="us")]'},
                    {"from": "tool", "value": '[{"name": "Trends"}]'},
                    {"from": "assistant", "value": "They rise."},
                ],
            },
            [
                system(TOOLACE),
                user("Market trends?"),
                assistant('[Trends(country="us")]'),
                {"role": "tool", "content": '[{"name": "Trends"}]'},
                assistant("They rise."),
            ],
        ),
        (
            "swift_sharegpt",
            {"system": "Be brief.", "conversation": [{"human": "1+1?", "assistant": "2"}] * 2},
            [system("Be brief."), *QA, *QA],
        ),
        ("prompt_completion", {"prompt": "1+1?", "completion": "2"}, QA),
        (
            "prompt_completion",
            {"prompt": [system("Be brief."), QA[0]], "completion": [QA[1]]},
            [system("Be brief."), *QA],
        ),
        ("openr1", OPENR1, [user("1+1?"), assistant("<think>..</think>\\boxed{2}")]),
        (
            "openr1",
            {**OPENR1, "correctness_math_verify": [False, False]},
            [user("1+1?"), assistant("Trivial: 2")],
        ),
        (
            "problem_solution",
            {"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": "So $\\boxed{2}$."},
            [user("1+1?"), assistant("So $\\boxed{2}$.")],
        ),
        (
            "question_answer",
            {"question": "1+1?", "answer": "It is <<1+1=2>>2.\n#### 2"},
            [QA[0], assistant("It is <<1+1=2>>2.\n#### 2")],
        ),
        ("alpaca", ALPACA, [user("Give the plural."), assistant("mice")]),
        ("alpaca", {**ALPACA, "input": "mouse"}, [user("Give the plural.\nmouse"), assistant("mice")]),
        (
            "alpaca",
            {**ALPACA, "system": "Be brief.", "history": [["1+1?", "2"]]},
            [system("Be brief."), *QA, user("Give the plural."), assistant("mice")],
        ),
        (
            "alpaca",
            {"instruction": "When?", "context": "In 1998.", "response": "1998", "category": "closed_qa"},
            [user("When?\nIn 1998."), assistant("1998")],
        ),
        (
            "alpaca",
            {"instruction": "Plural?", "input": "mouse", "response": "mice"},
            [user("Plural?\nmouse"), assistant("mice")],
        ),
        (
            "multiple_choice",
            {"question": "2+2?", "choices": ["3", "4"], "answer": "B", "explanation": "2+2=4, so B."},
            [user("2+2?\nA. 3\nB. 4"), assistant("2+2=4, so B.")],
        ),
        ("problem_output", {"problem": "1+1?", "output": "2"}, QA),
        ("query_target", {"query": "1+1?", "target": "It is 2"}, [QA[0], assistant("It is 2")]),
        ("input_targets", {"input": "1+1?", "targets": ["It is 2"]}, [QA[0], assistant("It is 2")]),
        (
            "question_solution",
            {"question": "1+1?", "solution": "It is 2", "answer": "2"},
            [QA[0], assistant("It is 2")],
        ),
    ],
)
def test_a_record_gives_its_conversation(name, record, expected):
    found, conversation, checked = read(record)
    assert (found, conversation.answered, checked.messages, checked.last_only) == (name, True, expected, False)


def swift_call(city: str, **more) -> dict:
    content = json.dumps({"name": "get_weather", "arguments": {"city": city}})
    return {"role": "tool_call", "content": content, **more}


def test_tool_calls_that_are_turns_of_their_own_are_one_turn_with_what_was_said_before_them():
    turns = [user("Paris or Rome?"), assistant("Let me see."), swift_call("Paris"), swift_call("Rome")]
    turns += [{"role": "tool_response", "content": text} for text in ("18 C", "25 C")]
    _, _, checked = read({"messages": [*turns, assistant("Rome.")]})
    assert [message["role"] for message in checked.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    said = checked.messages[1]
    assert said["content"] == "Let me see."
    assert [call["function"]["arguments"]["city"] for call in said["tool_calls"]] == ["Paris", "Rome"]


def test_a_turn_of_which_only_the_call_is_trained_is_refused():
    turns = [user("Paris?"), assistant("Let me see.", loss=False), swift_call("Paris")]
    with pytest.raises(Reject, match="trained in part only"):
        read({"messages": turns})
    _, _, checked = read({"messages": [*turns[:1], swift_call("Paris", loss=True)]})
    assert len(checked.messages[1]["tool_calls"]) == 1


VERL = {
    "data_source": "math_dapo",
    "prompt": [user("1+1?")],
    "ability": "MATH",
    "reward_model": {"ground_truth": "2", "style": "rule-lighteval/MATH_v2"},
    "extra_info": {"index": "9a9b6eb4"},
}


@pytest.mark.parametrize(
    ("name", "record", "asked", "truth"),
    [
        ("verl", VERL, "1+1?", "2"),
        ("verl", {**VERL, "prompt": json.dumps([user("1+1?")])}, "1+1?", "2"),
        ("prompt_truth", {"prompt": [user("1+1?")], "solution": "$2$"}, "1+1?", "$2$"),
        ("prompt_truth", {"prompt": [user("1+1?")], "answer": None, "ground_truth": 2}, "1+1?", 2),
        # a final answer alone is nothing to imitate
        ("question_answer", {"question": "1+1?", "answer": "2"}, "1+1?", "2"),
        ("question_answer", {"question": "1+1?", "answer": 0.25}, "1+1?", "0.25"),
        ("problem_answer", {"problem": "1/2?", "answer": "\\frac{1}{2}"}, "1/2?", "\\frac{1}{2}"),
        ("prompt_answer", {"prompt": "A or B?", "answer": "A"}, "A or B?", "A"),
        ("query_target", {"query": "1+1?", "target": 2}, "1+1?", "2"),
        ("input_targets", {"input": "1+1?", "targets": ["2"]}, "1+1?", "2"),
        ("problem_solution", {"problem": "1+1?", "solution": "", "answer": "2"}, "1+1?", "2"),
        ("multiple_choice", ARC, ARC_ASKED, "B"),
        (
            "multiple_choice",
            {**ARC, "choices": {"text": ARC["choices"]["text"], "label": ["1", "2", "3"]}, "answerKey": "2"},
            ARC_ASKED,
            "B",
        ),
        ("multiple_choice", MMLU, "Find the degree.\nA. 0\nB. 4\nC. 2\nD. 6", "B"),
        ("multiple_choice", MEDQA, "Which drug?\nA. Ampicillin\nB. Nitrofurantoin\nC. Doxycycline", "B"),
        (
            "multiple_choice",
            {**MEDQA, "options": {**MEDQA["options"], "D": None}},
            "Which drug?\nA. Ampicillin\nB. Nitrofurantoin\nC. Doxycycline",
            "B",
        ),
    ],
)
def test_a_record_without_a_response_gives_a_prompt_and_a_truth(name, record, asked, truth):
    found, conversation, checked = read(record)
    assert (found, conversation.answered, conversation.answer) == (name, False, truth)
    assert checked.messages == [user(asked)]


@pytest.mark.parametrize(
    ("record", "answer", "choices"),
    [
        (OPENR1, "2", ()),
        (ARC, "B", ("oxygen", "carbon dioxide", "helium")),
        ({"messages": QA, "answer": 2}, 2, ()),
        ({"question": "1+1?", "response": "\\boxed{2}", "answer": "2"}, "2", ()),
        ({"question": "1+1?", "answer": "It is 2"}, None, ()),
    ],
)
def test_the_final_answer_beside_the_response_is_kept(record, answer, choices):
    _, conversation, _ = read(record)
    assert (conversation.answer, conversation.choices) == (answer, choices)


@pytest.mark.parametrize("tools", [TOOLS, WEATHER, [WEATHER], json.dumps(TOOLS), [json.dumps(WEATHER)]])
def test_tool_schemas_end_up_in_one_form(tools):
    assert orjson.loads(read({"messages": OPENAI, "tools": tools})[2].tools) == TOOLS


@pytest.mark.parametrize("tools", [None, [], "", "[]"])
def test_no_tools_are_no_tools(tools):
    assert read({"messages": QA, "tools": tools})[2].tools == ""


@pytest.mark.parametrize(
    ("weights", "kept", "last_only"),
    [((1, 1), 4, False), ((0, 1), 4, True), ((1, 0), 2, False), ((None, None), 4, False)],
)
@pytest.mark.parametrize("field", ["weight", "loss", "train"])
def test_answers_that_are_not_to_be_trained_are_not(field, weights, kept, last_only):
    first, second = (assistant("2", **({} if weight is None else {field: weight})) for weight in weights)
    checked = read({"messages": [user("a"), first, user("b"), second]})[2]
    assert (len(checked.messages), checked.last_only) == (kept, last_only)
    assert all(message.keys() == {"role", "content"} for message in checked.messages)


DEEP: Any = json.loads('{"a":' * 400 + "1" + "}" * 400)
PAIR = {"prompt": "1+1?", "response": "2"}


@pytest.mark.parametrize(
    ("expected", "record"),
    [
        ("preference", {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}),
        ("preference", {"chosen": [user("Hi"), assistant("Hello")], "rejected": [user("Hi"), assistant("No")]}),
        ("preference", {"chosen_messages": [user("Hi")], "rejected_messages": [user("Hi")]}),
        ("no_turns", {"text": "Once upon a time"}),
        ("unknown_format", {"title": "x", "body": "y"}),
        ("unknown_format", {"data": [PAIR]}),
        ("no_truth", {"prompt": [user("a")], "reward_model": {"style": "rule"}}),
        ("nothing_trained", {"messages": [user("a"), assistant("2", weight=0)]}),
        ("field_lost", {"messages": [user([{"type": "image_url", "image_url": {"url": "x"}}]), QA[1]]}),
        ("field_lost", {"messages": QA, "images": ["a.png"]}),
        ("field_lost", {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>?"}]}),
        ("field_lost", {**VERL, "images": [{"bytes": "x"}]}),
        ("field_lost", {**MMLU, "image": "a.png"}),
        ("field_lost", {**MMLU, "article": "Long ago"}),
        ("field_lost", {**PAIR, "output": "3"}),
        ("field_lost", {**PAIR, "question": "2+2?"}),
        ("field_lost", {"question": "1?", "answer": "2", "context": "Long ago"}),
        ("field_lost", {**ALPACA, "input": "a", "context": "b"}),
        ("bad_choice", {**MMLU, "answer": 7}),
        ("bad_choice", {**MMLU, "choices": [1, 2, 3, 4], "answer": 2}),
        ("bad_choice", {**MMLU, "answer": True}),
        ("bad_choice", {**MMLU, "choices": ["a"]}),
        ("bad_choice", {**MMLU, "choices": ["a"] * 27}),
        ("bad_choice", {**ARC, "answerKey": ""}),
        ("not_text", {**MMLU, "choices": ["a", ["b"]]}),
        ("bad_tool_call", {"conversations": [SHAREGPT_CALL[0], {"from": "function_call", "value": "get_weather()"}]}),
        ("bad_tool_call", {"messages": [user("a"), assistant("", tool_calls=[{}])]}),
        ("bad_tool_call", {"messages": [user("a"), assistant("", tool_calls=[called("f", **DEEP)])]}),
        ("bad_tools", {"messages": QA, "tools": "get_weather"}),
        ("bad_tools", {"messages": QA, "tools": [{"type": "function"}]}),
        ("bad_tools", {"messages": QA, "tools": [{"name": "f", "parameters": DEEP}]}),
        ("nul_character", {"messages": QA, "tools": [{"name": "f", "description": "\0"}]}),
        ("nul_character", {"messages": [user("a"), assistant("", tool_calls=[called("f", x="a\0")])]}),
        ("too_long", {"messages": [user("a"), assistant("", tool_calls=[called("f", x="a" * (1 << 20))])]}),
        ("unknown_role", {"conversations": [{"from": "bing", "value": "a"}, {"from": "gpt", "value": "b"}]}),
        ("bad_turns", {"messages": [system("a"), system("b"), *QA]}),
        ("bad_turns", {"messages": [user("a"), {"role": "tool", "content": "x"}, QA[1]]}),
        ("not_text", {"prompt": "a", "response": ["b", "c"]}),
        ("not_text", {**ALPACA, "history": [["a"]]}),
        ("not_text", {"conversation": [{"human": "a", "assistant": None}]}),
    ],
)
def test_what_a_side_cannot_hold_is_rejected_by_name(expected, record):
    assert reason(record) == expected


def test_an_escaped_backslash_before_u0000_is_no_nul():
    tools = [{"name": "f", "description": "\\u0000"}]
    assert orjson.loads(read({"messages": QA, "tools": tools})[2].tools)[0]["function"] == tools[0]


def test_arguments_named_parameters_are_not_lost():
    call = {"name": "get_weather", "parameters": {"city": "Paris"}}
    checked = read({"messages": [user("Weather?"), assistant("", tool_calls=[call])]})[2]
    assert checked.messages[1]["tool_calls"] == [called("get_weather", city="Paris")]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e30])
def test_a_number_of_a_table_that_is_no_plain_number_is_no_text(number):
    record = {"prompt": "a", "response": number}
    with pytest.raises(Reject, match="text"):
        check_conversation(find_reading(record)[0].read(record))
