"""What a folder says of its own rows: bad answers, columns that nobody reads, keys that count from 1, declarations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from prepare_samples import pair, prepare, rejects, rows, write_lines

from chord_exp.errors import DataError
from chord_exp.prepare.report.card import card_text
from chord_exp.prepare.report.summary import summary_lines


def test_bad_answers_are_counted_and_listed_and_never_taught(tmp_path):
    kto = [{**pair(n), "label": n % 2 == 0} for n in range(40)]
    write_lines(tmp_path / "raw" / "kto.jsonl", kto)
    made = prepare(tmp_path / "raw", out=tmp_path / "out")
    assert made.content["rejects"] == {"bad_answer": 20}
    assert {row["reason"] for row in rejects(tmp_path / "out")} == {"bad_answer"}
    assert made.expert_rows + made.rl_rows == 20
    assert any("20 bad_answer" in warning for warning in made.warnings)


def test_columns_that_nobody_reads_are_listed_with_their_counts_always(tmp_path):
    records: list[dict[str, Any]] = [{**pair(n), "id": n + 1, "score": 5} for n in range(10)]
    records += [{**pair(n), "note": None} for n in range(10, 20)]
    write_lines(tmp_path / "raw" / "a.jsonl", records)
    made = prepare(tmp_path / "raw", out=tmp_path / "out")
    assert made.content["unused_columns"] == {"id": 10, "score": 10}
    assert "columns not read: 10 id, 10 score" in summary_lines(made)
    assert "| score | 10 |" in card_text(made.content)
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(20)])
    again = prepare(tmp_path / "raw", out=tmp_path / "out2")
    assert "columns not read: none" in summary_lines(again) and "every column is read" in card_text(again.content)


def choice(number: int, key: int) -> dict[str, Any]:
    options = {f"op{letter}": f"{number + at} apples" for at, letter in enumerate("abcd")}
    return {"question": f"How many are {number}?", **options, "cop": key, "exp": f"Count to {number} and choose."}


@pytest.mark.parametrize("first", [0, 1])
def test_whether_keys_count_from_0_or_from_1_is_found_out_for_each_file(tmp_path, first):
    # a few rows at the beginning do not tell
    keys = [1, 2, 3, 2, 1, *[first, first + 1, first + 2, first + 3] * 5]
    write_lines(tmp_path / "raw" / "a.jsonl", [choice(n, key) for n, key in enumerate(keys)])
    write_lines(tmp_path / "raw" / "b.jsonl", [choice(100 + n, n % 4) for n in range(8)])
    made = prepare(tmp_path / "raw", out=tmp_path / "out")
    assert made.content["rejects"] == {}
    answers = {row["prompt"].split("?")[0]: row["answer"] for row in rows(tmp_path / "out", "rl")}
    assert len(answers) > 15
    for question, letter in answers.items():
        number = int(question.split()[-1])
        index = number % 4 if number >= 100 else keys[number] - first
        assert letter == "ABCD"[index]


def test_a_test_of_choices_alone_says_what_the_sft_side_lacks(tmp_path):
    lines = [f"{n},{n}+1=?,{n},{n + 1},{n + 2},{n + 3},B" for n in range(10, 20)]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "ceval.csv").write_text(",Question,A,B,C,D,Answer\n" + "\n".join(lines) + "\n")
    with pytest.raises(DataError, match="10 prompts with a verifiable answer have no response to imitate"):
        prepare(tmp_path / "raw", out=tmp_path / "out")
    write_lines(tmp_path / "raw" / "solved.jsonl", [pair(n) for n in range(10)])
    made = prepare(tmp_path / "raw", out=tmp_path / "out")
    assert made.content["formats"] == {"multiple_choice": 10, "prompt_response": 10}


def test_conversations_of_several_turns_alone_are_called_by_that_name(tmp_path):
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}] * 2
    write_lines(tmp_path / "raw" / "a.jsonl", [{"conversations": turns, "id": 1}])
    with pytest.raises(DataError, match="1 multi_turn") as caught:
        prepare(tmp_path / "raw", out=tmp_path / "out")
    assert "several turns are imitated" in caught.value.fix


def test_two_tools_of_one_parquet_file_do_not_lend_each_other_arguments(tmp_path):
    import pyarrow
    from pyarrow import parquet

    records = []
    for n in range(10):
        name, arguments = ("weather", {"city": f"city {n}"}) if n % 2 else ("order", {"order_id": n})
        call = {"type": "function", "function": {"name": name, "arguments": arguments}}
        properties = {key: {"type": "string"} for key in arguments}
        tool = {"type": "function", "function": {"name": name, "parameters": {"properties": properties}}}
        turns = [{"role": "user", "content": f"Do {n}."}, {"role": "assistant", "content": None, "tool_calls": [call]}]
        records.append({"messages": turns, "tools": [tool]})
    (tmp_path / "raw").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "raw" / "calls.parquet")
    made = prepare(tmp_path / "raw", out=tmp_path / "out")
    assert made.content["rows"]["rejected"] == 0
    written = b"".join((tmp_path / "out" / side / "train.jsonl").read_bytes() for side in ("sft", "rl"))
    assert written.count(b"order_id") and b"null" not in written


LLAMA_FACTORY = {
    "sums": {
        "file_name": "sums.json",
        "columns": {"prompt": "ask", "response": "say", "system": "rules"},
    },
    "chats": {
        "file_name": "./chats.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "talk", "kto_tag": "good"},
        "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "me", "assistant_tag": "it"},
    },
    "ranked": {"file_name": "ranked.jsonl", "ranking": True},
    "hub": {"hf_hub_url": "someone/something"},
}
SWIFT = [
    {"dataset_path": "sums.json", "columns": {"ask": "query", "say": "response", "rules": "system"}},
    {"dataset_path": "chats.jsonl", "columns": {"talk": "messages"}},
    {"ms_dataset_id": "someone/something"},
]


def write_declared(folder: Path, declaration: Any, tags: dict[str, str]) -> None:
    folder.mkdir()
    (folder / "dataset_info.json").write_text(json.dumps(declaration))
    sums = [{"ask": f"{n}+1?", "say": f"\\boxed{{{n + 1}}}", "rules": "Add."} for n in range(10)]
    (folder / "sums.json").write_text(json.dumps(sums))
    chats = []
    for n in range(10):
        asked, said = (f"{n}+2?", f"\\boxed{{{n + 2}}}")
        turns = [{tags["role"]: tags["user"], tags["content"]: asked}]
        turns += [{tags["role"]: tags["assistant"], tags["content"]: said}]
        chats.append({"talk": turns, "good": True})
    write_lines(folder / "chats.jsonl", chats)


def test_a_declaration_of_llama_factory_is_no_data_and_names_columns_and_roles(tmp_path):
    tags = {"role": "who", "content": "what", "user": "me", "assistant": "it"}
    write_declared(tmp_path / "raw", LLAMA_FACTORY, tags)
    bad = {"talk": [{"who": "me", "what": "Hi"}, {"who": "it", "what": "Go away"}], "good": False}
    with (tmp_path / "raw" / "chats.jsonl").open("a") as file:
        file.write(json.dumps(bad) + "\n")
    write_lines(tmp_path / "raw" / "ranked.jsonl", [pair(1)])
    made = prepare(tmp_path / "raw", out=tmp_path / "out")
    assert made.content["formats"] == {"llama_factory": 20} and made.content["unused_columns"] == {}
    assert made.content["rejects"] == {"bad_answer": 1, "preference": 1}
    texts = [orjson.loads(row["conversation"])[0] for row in rows(tmp_path / "out", "rl") if row["conversation"]]
    assert texts and all(turn == {"role": "system", "content": "Add."} for turn in texts)
    assert [file["path"] for file in made.content["inputs"]] == ["chats.jsonl", "ranked.jsonl", "sums.json"]


def test_a_declaration_of_ms_swift_names_columns(tmp_path):
    tags = {"role": "role", "content": "content", "user": "user", "assistant": "assistant"}
    write_declared(tmp_path / "raw", SWIFT, tags)
    made = prepare(tmp_path / "raw", out=tmp_path / "out")
    assert made.content["formats"] == {"ms_swift": 20} and made.content["unused_columns"] == {"good": 10}


def test_another_declaration_is_another_preparation(tmp_path):
    tags = {"role": "role", "content": "content", "user": "user", "assistant": "assistant"}
    write_declared(tmp_path / "raw", SWIFT, tags)
    first = prepare(tmp_path / "raw", out=tmp_path / "out")
    (tmp_path / "raw" / "dataset_info.json").write_text(json.dumps(SWIFT[:2]))
    assert prepare(tmp_path / "raw", out=tmp_path / "out").digest != first.digest


def test_a_declaration_that_cannot_be_read_is_named(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(20)])
    (tmp_path / "raw" / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="declaration of data sets") as caught:
        prepare(tmp_path / "raw", out=tmp_path / "out")
    assert "dataset_info.json" in str(caught.value)


def test_evaluation_rows_are_read_by_the_field_map_and_those_that_cannot_be_are_counted(tmp_path):
    write_lines(tmp_path / "evals" / "e.jsonl", [{"my_question": "what is 3 plus 3?"}, {"nothing": 1}, [1]])
    mapped = [{"my_question": pair(n)["prompt"], "reply": pair(n)["response"]} for n in range(20)]
    write_lines(tmp_path / "raw" / "a.jsonl", mapped)
    made = prepare(
        tmp_path / "raw",
        out=tmp_path / "out",
        map={"prompt": "my_question", "response": "reply"},
        eval_dir=str(tmp_path / "evals"),
    )
    assert made.content["rejects"] == {"leaks_eval": 1}
    assert made.content["eval_data"] == {"rows": 3, "unread": 2}
    assert any(warning.startswith("2 rows of the evaluation data") for warning in made.warnings)
