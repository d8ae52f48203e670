"""Near duplicates, leaks of evaluation prompts, the answer check, languages, personal data."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepare_samples import free_text, pair, prepare, prompts, rejects, rows, write_lines

from chord_exp.errors import DataError
from chord_exp.prepare.report.pii_scan import kinds_in
from chord_exp.prepare.rows.script import LANGUAGES, language
from chord_exp.prepare.split.near_duplicates import Part, near_duplicates, signatures
from chord_exp.prepare.split.sources import source_of

STORY = (
    "A baker in a small town gets up early every morning, mixes flour and water, waits until the dough has risen and "
    "then bakes {n} loaves, of which the first {m} go to the school at the end of the road"
)


def story(number: int, *, word: str = "early") -> dict[str, str]:
    prompt = STORY.format(n=number, m=number // 2).replace("early", word) + ". How many go elsewhere?"
    return {"prompt": prompt, "response": f"That leaves \\boxed{{{number - number // 2}}}."}


def shingles(text: str) -> set[str]:
    return {text[at : at + 5] for at in range(len(text) - 4)}


def test_a_reworded_copy_is_dropped_and_a_problem_with_other_numbers_is_kept(tmp_path):
    records = [story(n) for n in range(100, 120)] + [story(n, word="timely") for n in range(100, 105)]
    write_lines(tmp_path / "raw" / "a.jsonl", records)
    kept = prepare(tmp_path / "raw", tmp_path / "out1")
    assert kept.content["rows"]["duplicates"]["near"] == 0
    made = prepare(tmp_path / "raw", tmp_path / "out2", near_dedup=0.8)
    assert made.content["rows"]["duplicates"]["near"] == 5
    assert made.expert_rows + made.rl_rows == 20
    assert sum(file["near"] for file in made.content["inputs"]) == 5


def test_a_near_copy_with_another_answer_is_kept(tmp_path):
    other = {**story(100, word="timely"), "response": "That leaves \\boxed{7}."}
    write_lines(tmp_path / "raw" / "a.jsonl", [story(n) for n in range(100, 110)] + [other])
    assert prepare(tmp_path / "raw", tmp_path / "out", near_dedup=0.8).content["rows"]["duplicates"]["near"] == 0


def test_planted_near_duplicates_are_found_and_others_left_alone(tmp_path):
    words = random.Random(5)
    letters = "abcdefghij klmnopq rstuvw xyz"
    texts = ["".join(words.choice(letters) for _ in range(300)) for _ in range(400)]
    copies = [text[:120] + "#" + text[121:] for text in texts[:200]]
    path = tmp_path / "signatures"
    data = signatures([(text, "") for text in texts + copies])
    path.write_bytes(data)
    rank = np.arange(600, dtype=np.uint64)
    value = np.zeros(600, np.uint64)
    parts = [Part(path, 0, 250), Part(path, 250 * (len(data) // 600), 350)]
    found = near_duplicates(parts, rank, value, 0.8)
    assert not found[:400].any() and found[400:].sum() >= 198
    value[400:500] = 1
    assert not near_duplicates(parts, rank, value, 0.8)[400:500].any()


@settings(max_examples=50)
@given(st.text(min_size=40, max_size=300), st.integers(0, 300), st.text(max_size=20))
def test_the_estimated_similarity_is_near_the_true_one(text, at, inserted):
    other = text[:at] + inserted + text[at:]
    records = np.frombuffer(signatures([(text, ""), (other, "")]), [("signature", "<u4", 128), ("numbers", "<u8")])
    estimate = (records["signature"][0] == records["signature"][1]).mean()
    one, two = shingles(f"{text}\n"), shingles(f"{other}\n")
    assert abs(estimate - len(one & two) / len(one | two)) < 0.25


def test_prompts_of_the_evaluation_data_are_removed_whole_or_by_thirteen_words_and_listed(tmp_path):
    write_lines(tmp_path / "evals" / "test.jsonl", [pair(3), {"question": STORY.format(n=8, m=4) + "."}])
    long = {"prompt": "Please help me. " + STORY.format(n=8, m=4) + "?", "response": "\\boxed{4}"}
    write_lines(
        tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(20)] + [long, {**pair(3), "prompt": "what is 3 PLUS 3?"}]
    )
    made = prepare(tmp_path / "raw", tmp_path / "out", eval_dir=tmp_path / "evals")
    assert made.content["rejects"] == {"leaks_eval": 3}
    assert {(row["line"], row["reason"]) for row in rejects(tmp_path / "out")} == {
        (4, "leaks_eval"),
        (21, "leaks_eval"),
        (22, "leaks_eval"),
    }
    everywhere = [prompt for side in ("sft", "rl", "eval") for prompt in prompts(tmp_path / "out", side)]
    assert pair(3)["prompt"] not in everywhere and len(everywhere) == 19
    # other evaluation data, another preparation
    write_lines(tmp_path / "evals" / "test.jsonl", [pair(4)])
    again = prepare(tmp_path / "raw", tmp_path / "out", eval_dir=tmp_path / "evals")
    assert again.replaced == "eval_inputs"


def test_evaluation_data_without_a_prompt_is_refused(tmp_path):
    write_lines(tmp_path / "evals" / "test.jsonl", [{"nothing": 1}])
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(20)])
    with pytest.raises(DataError, match="holds no prompt"):
        prepare(tmp_path / "raw", tmp_path / "out", eval_dir=tmp_path / "evals")


def test_answers_that_the_reward_does_not_score_stay_on_the_sft_side_and_are_listed(tmp_path):
    right = [pair(n) for n in range(10)] + [{**pair(n), "response": f"So it is #### {2 * n}"} for n in range(10, 14)]
    silent = [{**pair(n), "response": "Count them.", "answer": 2 * n} for n in range(20, 23)]
    expression = [{**pair(30), "response": "So \\boxed{\\frac{\\sqrt{3}}{2}}", "answer": "\\frac{1}{2}+x"}]
    write_lines(tmp_path / "raw" / "a.jsonl", [*right, *silent, *expression])
    made = prepare(tmp_path / "raw", tmp_path / "out", answer_check=True)
    assert made.content["sft_only"] == {"answer_check_failed": 4}
    listed = [json.loads(line) for line in (tmp_path / "out" / "failed_answers.jsonl").read_text().splitlines()]
    assert [row["line"] for row in listed] == [15, 16, 17, 18]
    assert "states no final answer" in listed[0]["detail"] and "gives 0" in listed[3]["detail"]
    assert any("the reward does not score their own answer" in line for line in made.warnings)
    assert not {record["prompt"] for record in silent} & set(prompts(tmp_path / "out", "rl"))
    assert not (prepare(tmp_path / "raw", tmp_path / "bare").folder / "failed_answers.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How many apples?", "latin"),
        ("“How many apples?”", "latin"),
        ("小明有3个苹果", "zh"),
        ("解方程 x^2 + 2x = 3 求 x 的值", "zh"),
        ("りんごはいくつありますか", "ja"),
        ("日本の人口は何人ですか", "ja"),
        ("사과가 몇 개 있나요", "ko"),
        ("Сколько яблок", "cyrillic"),
        ("π ≈ 3.14", "greek"),
        ("… ≤ ≥", "other"),
        ("café au lait", "latin"),
    ],
)
def test_the_language_is_told_by_the_script(text, expected):
    assert language(text) == expected


@given(st.text())
def test_any_text_has_a_language(text):
    assert language(text) in LANGUAGES


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to jane.doe+x@mail.example.org please", ["e-mail address"]),
        ("电话13812345678。", ["phone number"]),
        ("call +44 20 7946 0958", ["phone number"]),
        ("key sk-abcdefghijklmnopqrstuvwx", ["key or token"]),
        ("AKIA" + "A" * 16, ["key or token"]),
        ("-----BEGIN RSA PRIVATE KEY-----", ["key or token"]),
        ("12345678901234567890 is a number, and so is 1.13812345678", []),
        ("a@b and @property", []),
        ("5 + 3 = 8", []),
    ],
)
def test_what_looks_like_personal_data_is_named(text, kinds):
    assert kinds_in(text) == kinds


def test_personal_data_is_reported_and_nothing_is_removed(tmp_path):
    told = [{**free_text(n), "response": f"Ask me{n}@example.com."} for n in range(3)]
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(20)] + told)
    made = prepare(tmp_path / "raw", tmp_path / "out")
    looked = made.content["personal_data"]
    assert looked["rows"] == 23
    entry = looked["found"]["e-mail address"]
    assert entry["rows"] == 3 and entry["side"] == "sft"
    assert "@example.com" in rows(tmp_path / "out", "sft")[entry["first_line"] - 1]["messages"]


def test_free_text_scored_by_similarity_is_told_of_and_needs_no_box(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [free_text(n) for n in range(20)])
    with pytest.raises(DataError, match="free text, which no rule can score"):
        prepare(tmp_path / "raw", tmp_path / "out")
    made = prepare(tmp_path / "raw", tmp_path / "out", free_text="chrf")
    assert made.rl_rows == 15 and "chord_exp.plugins.rewards.ChrfReward" in made.scored_by
    (warning,) = made.warnings
    assert "similarity to the expert's response (chrf)" in warning


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("train-00001-of-00100.parquet", "train.parquet"),
        ("math/part-3.jsonl", "math/part.jsonl"),
        ("gsm8k.jsonl", "gsm8k.jsonl"),
        ("aime24.jsonl", "aime24.jsonl"),
    ],
)
def test_shards_are_one_source(name, source):
    assert source_of(name) == source
