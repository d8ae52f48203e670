"""Reading: four formats, mixed files, damaged rows; rows in = rows out + rejects + duplicates."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepare_samples import free_text, pair, prepare, prompts, rejects, rows, split_settings, write_lines

from chord_exp.errors import DataError
from chord_exp.prepare.read.chunks import chunks_of, read_chunk
from chord_exp.prepare.read.files import find_files
from chord_exp.prepare.read.raw_rows import RawRow, parse_row
from chord_exp.prepare.rejects import Reject
from chord_exp.prepare.rows.build import Row, RowBuilder
from chord_exp.prepare.rows.reading import find_reading
from chord_exp.utils.split_settings import SplitSettings

OPTIONS = split_settings()
TURNS = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "\\boxed{2}"}]


def built(record: object, options: SplitSettings = OPTIONS) -> Row:
    data = record if isinstance(record, bytes) else json.dumps(record).encode()
    return RowBuilder(options, None).build(RawRow(1, data))


def reason(record: object) -> str:
    with pytest.raises(Reject) as caught:
        built(record)
    return caught.value.reason


def messages(record: object, options: SplitSettings = OPTIONS) -> list[dict[str, str]]:
    return orjson.loads(orjson.loads(built(record, options).sft_line)["messages"])


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("prompt_response", {"prompt": "1+1?", "response": "\\boxed{2}"}),
        ("messages", {"messages": TURNS}),
        ("question_answer", {"question": "1+1?", "answer": "\\boxed{2}"}),
        ("input_output", {"input": "1+1?", "output": "\\boxed{2}"}),
    ],
)
def test_each_format_gives_the_same_conversation(name, record):
    assert find_reading(record)[0].name == name
    assert messages(record) == TURNS
    assert messages({**record, "id": 7, "source": "x"}) == TURNS


def test_messages_win_over_other_fields_of_the_same_record():
    assert find_reading({"prompt": "copy", "response": "copy", "messages": TURNS})[0].name == "messages"


def test_system_prompts_and_earlier_turns_survive():
    turns = [
        {"role": "system", "content": "Be brief."},
        *TURNS,
        {"role": "user", "content": "And 2+2?"},
        TURNS[1],
    ]
    assert messages({"messages": turns}) == turns
    assert messages({"prompt": "1+1?", "response": "\\boxed{2}", "system": "Be brief."}) == [turns[0], *TURNS]


def test_the_system_prompt_of_the_run_goes_into_rows_that_have_none():
    options = split_settings(system_prompt="Box it.")
    own = {"role": "system", "content": "Be brief."}
    assert messages({"messages": TURNS}, options) == [{"role": "system", "content": "Box it."}, *TURNS]
    assert messages({"messages": [own, *TURNS]}, options) == [own, *TURNS]
    assert messages({"messages": [{"role": "system", "content": " "}, *TURNS]}, options)[0]["content"] == "Box it."


def test_a_plain_number_as_response_is_its_own_text():
    assert messages({"question": "1+1?", "response": 2})[1]["content"] == "2"
    assert messages({"question": "1/4?", "response": 0.25})[1]["content"] == "0.25"


@pytest.mark.parametrize(
    ("expected", "record"),
    [
        ("invalid_json", b'{"prompt": "a", '),
        ("invalid_json", b'{"prompt": "\\ud800", "response": "b"}'),
        ("not_text", b'{"prompt": NaN, "response": "b"}'),
        ("invalid_json", b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
        ("not_utf8", '{"prompt": "多少", "response": "三"}'.encode("gbk")),
        ("duplicate_key", b'{"prompt": "a", "prompt" : "b", "response": "c"}'),
        ("duplicate_key", b'{"messages": [{"role": "user", "role": "user", "content": "a"}]}'),
        ("not_an_object", [1, 2]),
        ("not_an_object", None),
        ("unknown_format", {}),
        ("no_turns", {"text": "only"}),
        ("unknown_format", {"data": [{"prompt": "a", "response": "b"}]}),
        ("preference", {"prompt": "a", "chosen": "b", "rejected": "c"}),
        ("field_lost", {"question": "a", "output": "1", "solution": "long"}),
        ("field_lost", {"question": "a", "answer": "1", "context": "long"}),
        ("bad_tools", {"messages": TURNS, "tools": [{}]}),
        ("bad_tool_call", {"messages": [TURNS[0], {"role": "assistant", "content": None, "tool_calls": [{}]}]}),
        ("not_text", {"prompt": ["a"], "response": "b"}),
        ("not_text", {"prompt": "a", "response": None}),
        ("not_text", {"prompt": "a", "response": True}),
        ("not_text", {"prompt": "a", "response": 10**40}),
        ("not_text", {"prompt": 5, "response": "b"}),
        ("not_text", {"prompt": "a", "response": "b", "system": 3}),
        ("not_text", {"messages": "hello"}),
        ("bad_turns", {"messages": ["hello"]}),
        ("nul_character", {"prompt": "a\0", "response": "b"}),
        ("empty_prompt", {"prompt": " \n\u3000", "response": "b"}),
        ("empty_answer", {"prompt": "a", "response": ""}),
        ("unknown_format", {"messages": []}),
        ("unknown_role", {"messages": [{"role": "human", "content": "a"}, TURNS[1]]}),
        ("unknown_role", {"messages": [{"role": ["user"], "content": "a"}, TURNS[1]]}),
        ("bad_turns", {"messages": TURNS[:1]}),
        ("bad_turns", {"messages": [*TURNS, TURNS[0]]}),
        ("bad_turns", {"messages": [TURNS[1], TURNS[0]]}),
        ("bad_turns", {"messages": [*TURNS, {"role": "system", "content": "late"}]}),
        ("too_long", {"prompt": "a" * (1 << 20), "response": "b"}),
        ("answer_mismatch", {"prompt": "a", "response": "\\boxed{1}", "answer": 2}),
    ],
)
def test_an_unusable_row_is_rejected_with_its_reason(expected, record):
    assert reason(record) == expected


def test_key_like_text_inside_a_string_is_no_duplicate_key():
    record = {"prompt": 'say "prompt": "x", "prompt": "y"', "response": "b"}
    assert parse_row(json.dumps(record).encode()) == record


def read(path: Path) -> list[tuple[int, object]]:
    """Line and record of each row; the reason in place of a record that is rejected."""
    found: list[tuple[int, object]] = []
    [file] = find_files(path.parent)[0]
    for row in (row for chunk in chunks_of(file, 1 << 20, path.parent) for row in read_chunk(chunk)):
        try:
            if row.fault is not None:
                raise row.fault
            found.append((row.line, parse_row(row.data)))
        except Reject as reject:
            found.append((row.line, reject.reason))
    return found


A, B = {"a": 'x]},{"'}, {"b": [1, {"c": '\\\\"'}]}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("x.json", json.dumps([A, B]), [(1, A), (2, B)]),
        ("x.json", json.dumps([A, B], indent=1), [(1, A), (2, B)]),
        ("x.json", f"{json.dumps(A)}\n\n{json.dumps(B)}", [(1, A), (3, B)]),
        ("x.json", json.dumps(B, indent=1), [(1, B)]),
        ("x.json", json.dumps(A, indent=1) + "\n" + json.dumps(B, indent=1), [(1, A), (2, B)]),
        ("x.json", "\ufeff" + json.dumps([A]), [(1, A)]),
        ("x.JSONL", "\ufeff" + json.dumps(A) + "\r\n" + json.dumps(B) + "\r\n", [(1, A), (2, B)]),
        ("x.json", "[]", []),
        ("x.json", "", []),
        ("x.jsonl", " \n\n ", []),
        ("x.json", '[{"a": 1}, 5, "five", null]', [(1, {"a": 1}), *[(n, "not_an_object") for n in (2, 3, 4)]]),
        ("x.json", '[{"a": 1},\n{"b" 2},\n{"c": 3}]', [(1, {"a": 1}), (2, "invalid_json"), (3, {"c": 3})]),
        ("x.json", '[{"a": 1}, {"b": "cut o', [(1, {"a": 1}), (2, "invalid_json"), (3, "invalid_json")]),
        ("x.json", '[{"a": 1}] {"b": 2}', [(1, {"a": 1}), (2, "invalid_json")]),
        ("x.jsonl", '{"a": 1}\n{"b": \n{"c": 3}', [(1, {"a": 1}), (2, "invalid_json"), (3, {"c": 3})]),
        ("x.jsonl", '[{"a": 1}]', [(1, {"a": 1})]),
        ("x.json", "hello", [(1, "invalid_json")]),
    ],
)
def test_a_file_is_cut_into_rows_with_their_lines(tmp_path, name, text, expected):
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert read(path) == expected


def test_one_folder_may_mix_formats_files_and_subfolders(tmp_path):
    source = tmp_path / "raw"
    write_lines(source / "a.jsonl", [pair(n) for n in range(1, 5)] + [{"messages": TURNS}])
    (source / "b.json").write_text(json.dumps([{"question": "9+9?", "answer": "\\boxed{18}"}]))
    write_lines(source / "deep" / "c.JSON", [{"input": "8+8?", "output": "#### 16"}, free_text(1)])
    (source / "notes.txt").write_text("hello")
    (source / ".hidden.json").write_text("{")
    made = prepare(source, tmp_path / "out")
    assert made.content["formats"] == {
        "input_output": 1,
        "messages": 1,
        "prompt_response": 5,
        "question_answer": 1,
    }
    assert made.content["skipped_files"] == ["notes.txt"]
    assert any("notes.txt" in warning for warning in made.warnings)
    assert made.expert_rows + made.rl_rows == 8


def test_rejects_name_file_line_reason_and_clipped_text(tmp_path):
    source = tmp_path / "raw"
    write_lines(source / "a.jsonl", [pair(1), pair(2), {"prompt": "x" * 999}, pair(3)])
    (source / "b.jsonl").write_bytes(b'{"prompt": "\xff"}\n')
    prepare(source, tmp_path / "out")
    first, second = rejects(tmp_path / "out")
    assert (first["file"], first["line"], first["reason"]) == ("a.jsonl", 3, "unknown_format")
    assert "prompt" in first["detail"] and len(first["text"]) <= 200
    assert (second["file"], second["line"], second["reason"]) == ("b.jsonl", 1, "not_utf8")
    assert "\\xff" in second["text"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "prompt",
        "response",
        "messages",
        "question",
        "answer",
        "input",
        "output",
        "system",
        "instruction",
        "role",
        "content",
    ]
)
texts = st.sampled_from(
    ["1+1?", "\uff11+1?", " 1+1? ", "hi\0", "", "\\boxed{2}", "#### 3", "\ud800", "\u2028", "\U0001f600"]
)
turns = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": texts})
records = st.dictionaries(names, texts | json_values | st.lists(turns, max_size=4), max_size=4) | json_values
hostile_lines = st.one_of(
    records.map(lambda record: json.dumps(record).encode()),
    st.binary(max_size=30),
    st.builds(lambda a, b: json.dumps(a).encode()[:b], records, st.integers(0, 40)),
)


@settings(max_examples=40)
@given(st.lists(hostile_lines, max_size=12), st.sampled_from(["x.json", "x.jsonl"]), st.booleans(), st.booleans())
def test_no_row_is_lost_or_made_up_whatever_the_input(lines, name, as_array, with_eval):
    good = [json.dumps(pair(n)).encode() for n in range(12)]
    if name == "x.jsonl":
        # by which it is known to hold an object a line
        lines = [b"{}", *lines]
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "raw"), Path(folder, "out")
        source.mkdir()
        (source / "good.jsonl").write_bytes(b"\n".join(good))
        (source / name).write_bytes(b"[" + b",".join(lines) + b"]" if as_array else b"\n".join(lines))
        made = prepare(source, out, eval_rows=2 if with_eval else 0)
        counts = made.content["rows"]
        written = {side: len(rows(out, side)) for side in ("sft", "rl", "eval")}
        assert written == {side: counts[side] for side in written}
        assert counts["read"] == sum(written.values()) + counts["rejected"] + sum(counts["duplicates"].values())
        assert counts["read"] >= len(good)
        assert len(rejects(out)) == counts["rejected"]
        assert all(type(value) is str for side in written for row in rows(out, side) for value in row.values())
        if name == "x.jsonl" and not as_array:
            expected = sum(bool(line.strip(b" \t\r")) for entry in lines for line in entry.split(b"\n"))
            assert counts["read"] == len(good) + expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no data file"),
        ("", "hold no row"),
        (
            "{}\n[]\n",
            "none of the 2 rows can be used: 1 not_an_object, 1 unknown_format; the first: a.jsonl:1: no known format",
        ),
        (json.dumps(free_text(1)), "free text"),
        (json.dumps(pair(1)), "1 prompt"),
    ],
)
def test_data_that_cannot_fill_both_sides_is_refused_with_the_reason(tmp_path, content, message):
    source = tmp_path / "raw"
    source.mkdir()
    if content is not None:
        (source / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        prepare(source, tmp_path / "out")
    assert caught.value.fix and caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()
    left = {path.name for path in tmp_path.iterdir()} - {"raw"}
    # the list of rejects, where there are some
    assert left == ({"out.rejects.jsonl"} if content and content.startswith("{}") else set())
    if left:
        assert "out.rejects.jsonl" in caught.value.fix
        listed = (tmp_path / "out.rejects.jsonl").read_text().splitlines()
        assert [json.loads(line)["reason"] for line in listed] == ["unknown_format", "not_an_object"]
        write_lines(source / "a.jsonl", [pair(n) for n in range(9)])
        prepare(source, tmp_path / "out")
        assert {path.name for path in tmp_path.iterdir()} == {"raw", "out"}


def test_rows_with_a_system_prompt_of_their_own_may_go_to_either_side(tmp_path):
    source = tmp_path / "raw"
    write_lines(source / "a.jsonl", [{**pair(n), "system": "Be brief."} for n in range(5)])
    made = prepare(source, tmp_path / "out")
    assert (made.expert_rows, made.rl_rows) == (1, 4)
    assert all("Be brief." in json.dumps(row) for row in rows(tmp_path / "out", "rl"))


def test_rows_of_several_turns_stay_on_the_sft_side(tmp_path):
    source = tmp_path / "raw"
    several = [{"messages": [{"role": "user", "content": f"Thing {n}?"}, TURNS[1], *TURNS]} for n in range(5)]
    write_lines(source / "a.jsonl", several + [pair(n) for n in range(20)])
    made = prepare(source, tmp_path / "out")
    assert made.content["rows"]["sft"] >= 5
    assert not any(prompt.startswith("Thing") for prompt in prompts(tmp_path / "out", "rl"))
    single = prepare(source, tmp_path / "single", single_turn=True)
    assert single.content["rejects"] == {"several_turns": 5} and single.expert_rows == 5
