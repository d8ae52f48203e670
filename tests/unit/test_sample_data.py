"""The shipped sample data: reproducible, distinct, right, in four formats and two languages."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tools.tiny import make_data
from tools.tiny.word_problems import (
    BASE_TEMPLATES,
    LARGEST_NUMBER,
    SAMPLE_TEMPLATES,
    evaluate,
    worked_response,
)

SAMPLE = Path(__file__).parents[2] / "sft_data"
ROW_KEYS = {
    "prompt_response.json": {"prompt", "response"},
    "messages.jsonl": {"messages"},
    "question_answer.json": {"question", "answer"},
    "input_output.jsonl": {"input", "output"},
}


def read_rows(path: Path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


def query_and_reply(row: dict) -> tuple[str, str]:
    if "messages" in row:
        user, assistant = row["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        return user["content"], assistant["content"]
    return tuple(row.values())


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    return [query_and_reply(row) for name in ROW_KEYS for row in read_rows(SAMPLE / name)]


def test_script_regenerates_the_shipped_files_byte_for_byte(tmp_path):
    make_data.write_sample(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(ROW_KEYS)
    assert {path.name for path in SAMPLE.iterdir()} == set(ROW_KEYS)
    for name in ROW_KEYS:
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes(), name


def test_another_seed_gives_other_rows():
    assert make_data.sample_files(seed=1) != make_data.sample_files(seed=2)


@pytest.mark.parametrize(("name", "keys"), ROW_KEYS.items())
def test_each_file_holds_rows_of_its_own_format(name, keys):
    rows = read_rows(SAMPLE / name)
    assert len(rows) == 500
    assert all(set(row) == keys for row in rows)


def test_no_prompt_occurs_twice(pairs):
    assert len({prompt for prompt, _ in pairs}) == len(pairs) == 2000


def test_every_boxed_answer_is_the_value_of_the_working_and_of_the_numbers_in_the_prompt(pairs):
    checked = 0
    for prompt, response in pairs:
        match = re.fullmatch(r"(\d+)([+-])(\d+)=(\d+) \\boxed\{(\d+)\}", response)
        if match is None:
            assert "boxed" not in response and not re.search(r"\d", prompt)
            continue
        left, sign, right, shown, boxed = match.groups()
        value = int(left) + int(right) if sign == "+" else int(left) - int(right)
        assert int(shown) == int(boxed) == value > 0, response
        assert sorted(re.findall(r"\d+", prompt)) == sorted([left, right]), prompt
        checked += 1
    assert checked == make_data.PROBLEMS


def test_few_rows_are_free_text_and_languages_are_balanced(pairs):
    free_text = [pair for pair in pairs if "boxed" not in pair[1]]
    assert 0.01 < len(free_text) / len(pairs) < 0.05
    chinese = sum(bool(re.search(r"[\u4e00-\u9fff]", prompt)) for prompt, _ in pairs)
    assert 0.45 < chinese / len(pairs) < 0.55


def test_every_template_is_in_the_sample_and_none_of_the_base_family(pairs):
    def shape(text: str) -> str:
        pattern = re.sub(r"\\\{\w+\\\}", "(.+?)", re.escape(text))
        return f"^{pattern}$"

    prompts = [prompt for prompt, _ in pairs]
    uses = Counter({t.text: sum(bool(re.match(shape(t.text), p)) for p in prompts) for t in SAMPLE_TEMPLATES})
    assert min(uses.values()) > 50
    assert not any(re.match(shape(t.text), p) for t in BASE_TEMPLATES for p in prompts)


def test_numbers_are_small(pairs):
    numbers = {int(number) for prompt, _ in pairs for number in re.findall(r"\d+", prompt)}
    assert min(numbers) >= 2 and max(numbers) <= LARGEST_NUMBER


def test_worked_response_shows_formula_value_and_boxed_answer():
    assert worked_response("17-5") == "17-5=12 \\boxed{12}"


@pytest.mark.parametrize("formula", ["", "3*4", "3+", "-3", "3+x", "__import__('os')"])
def test_evaluate_refuses_all_but_sums_and_differences(formula):
    with pytest.raises(ValueError, match="not a sum"):
        evaluate(formula)
