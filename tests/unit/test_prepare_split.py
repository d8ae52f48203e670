"""The split: disjoint by prompt, the asked share, free text on the SFT side only, stable in any order."""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepare_samples import free_text, pair, prepare, prompts, rejects, rows, split_settings, tree, write_lines

import chord_exp.prepare.pipeline as pipeline
import chord_exp.prepare.split.groups as split_module
from chord_exp.errors import ConfigError, DataError
from chord_exp.prepare.report.tally import FileTally, Tally
from chord_exp.prepare.rows.text_keys import normalise
from chord_exp.prepare.split.groups import Groups, split_groups
from chord_exp.utils.split_settings import ALL


def sides(out):
    return {side: set(prompts(out, side)) for side in ("sft", "rl", "eval")}


def test_the_three_sides_share_no_prompt_and_keep_every_row(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(200)] + [free_text(n) for n in range(40)])
    made = prepare(tmp_path / "raw", tmp_path / "out", eval_rows=20)
    found = sides(tmp_path / "out")
    assert (made.expert_rows, made.rl_rows, made.eval_rows) == (45 + 40, 135, 20)
    assert len(found["sft"] | found["rl"] | found["eval"]) == 240
    assert {free_text(n)["prompt"] for n in range(40)} <= found["sft"]
    assert made.content["ratios"]["expert_ratio_reached"] == 0.25
    assert made.content["ratios"]["sft_share_of_training_rows"] == pytest.approx(85 / 220)
    assert {path.name for path in made.folder.iterdir() if path.is_dir()} == {"sft", "rl", "eval"}


def test_a_benchmark_is_held_out_whole_though_its_rows_have_no_response(tmp_path):
    questions = [{"problem": f"What is {n} plus {n}?", "answer": 2 * n} for n in range(30)]
    write_lines(tmp_path / "raw" / "a.jsonl", [*questions, free_text(1)])
    made = prepare(tmp_path / "raw", tmp_path / "out", eval_rows=ALL)
    assert (made.eval_rows, made.rl_rows, made.test_rows) == (30, 0, 0)
    assert set(prompts(tmp_path / "out", "eval")) == {row["problem"] for row in questions}
    assert [line for line in made.warnings if "not asked" in line] == ["1 rows are not asked: 1 not_verifiable"]
    with pytest.raises(DataError, match="no response to imitate"):
        prepare(tmp_path / "raw", tmp_path / "train")


def test_rl_rows_hold_the_prompt_and_the_truth_as_strings_and_sft_rows_the_full_response(tmp_path):
    reply = "Twice {0} is \\boxed{{{1}}}"
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n, reply=reply.format(n, 2 * n)) for n in range(8)])
    prepare(tmp_path / "raw", tmp_path / "out", expert_ratio=0.5)
    for row in rows(tmp_path / "out", "rl"):
        number = int(row["prompt"].split()[2])
        assert (row["prompt"], row["answer"]) == (pair(number)["prompt"], str(2 * number))
        assert all(isinstance(value, str) for value in row.values())
    for row in rows(tmp_path / "out", "sft"):
        user, assistant = json.loads(row["messages"])
        number = int(user["content"].split()[2])
        assert assistant == {"role": "assistant", "content": reply.format(number, 2 * number)}


def test_expert_and_free_text_rows_are_mixed_in_the_file(tmp_path):
    # Trinity reads expert rows in file order.
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(800)] + [free_text(n) for n in range(200)])
    prepare(tmp_path / "raw", tmp_path / "out")
    kinds = ["thing" in prompt for prompt in prompts(tmp_path / "out", "sft")]
    assert len(kinds) == 400 and 70 <= sum(kinds[:200]) <= 130


def without_names(out):
    """The prepared rows: all but what names the input files."""
    return {name: data for name, data in tree(out).items() if name.endswith("train.jsonl")}


def test_file_names_and_row_order_do_not_change_the_output(tmp_path):
    records = [pair(n) for n in range(60)] + [free_text(n) for n in range(10)]
    records += [{**pair(n), "prompt": pair(n)["prompt"].upper()} for n in range(10)]
    write_lines(tmp_path / "raw1" / "a.jsonl", records)
    write_lines(tmp_path / "raw1" / "b" / "c.json", [pair(n) for n in range(100, 130)])
    random.Random(3).shuffle(records)
    write_lines(tmp_path / "raw2" / "z.jsonl", records)
    write_lines(tmp_path / "raw2" / "a.json", [pair(n) for n in range(129, 99, -1)])
    prepare(tmp_path / "raw1", tmp_path / "out1", eval_rows=8)
    prepare(tmp_path / "raw2", tmp_path / "out2", eval_rows=8)
    assert without_names(tmp_path / "out1") == without_names(tmp_path / "out2")


def test_the_number_of_processes_does_not_change_the_output(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "CHUNK_BYTES", 2000)
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    records = [pair(n) for n in range(200)] + [pair(n) for n in range(20)] + [{"bad": n} for n in range(30)]
    records += [{"messages": [*chat, {"role": "user", "content": pair(n)["prompt"]}, chat[1]]} for n in range(9)]
    write_lines(tmp_path / "raw" / "a.jsonl", records)
    write_lines(tmp_path / "raw" / "b.jsonl", [free_text(n) for n in range(99)])
    prepare(tmp_path / "raw", tmp_path / "out1", workers=1, near_dedup=0.9)
    prepare(tmp_path / "raw", tmp_path / "out2", workers=3, near_dedup=0.9)
    assert tree(tmp_path / "out1") == tree(tmp_path / "out2")


def test_every_source_kind_and_language_is_divided_alike(tmp_path):
    chinese = [{"prompt": f"{n}加{n}等于几", "response": f"\\boxed{{{2 * n}}}"} for n in range(40)]
    choices = [{"prompt": f"Which letter has number {n}?", "response": "\\boxed{B}"} for n in range(80)]
    write_lines(tmp_path / "raw" / "sums.jsonl", [pair(n) for n in range(400)] + chinese)
    write_lines(tmp_path / "raw" / "letters.jsonl", choices)
    prepare(tmp_path / "raw", tmp_path / "out", eval_rows=52)
    counts = {
        side: Counter(
            "zh" if "加" in p else "choice" if "letter" in p else "sum" for p in prompts(tmp_path / "out", side)
        )
        for side in ("sft", "rl", "eval")
    }
    for stratum, size in (("sum", 400), ("zh", 40), ("choice", 80)):
        assert abs(counts["eval"][stratum] - size / 10) <= 1
        assert abs(counts["sft"][stratum] - 0.9 * size / 4) <= 1


def test_adding_rows_moves_few_old_ones(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(2000)])
    prepare(tmp_path / "raw", tmp_path / "out", eval_rows=100)
    before = sides(tmp_path / "out")
    write_lines(tmp_path / "raw" / "b.jsonl", [pair(n) for n in range(2000, 2200)])
    prepare(tmp_path / "raw", tmp_path / "out", eval_rows=100)
    after = sides(tmp_path / "out")
    moved = sum(len(before[side] - after[side]) for side in before)
    assert moved <= 0.02 * 2000


def test_another_seed_gives_another_split(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(100)])
    prepare(tmp_path / "raw", tmp_path / "out1")
    prepare(tmp_path / "raw", tmp_path / "out2", seed=1)
    assert sides(tmp_path / "out1")["rl"] != sides(tmp_path / "out2")["rl"]


def test_one_prompt_written_in_two_ways_stays_on_one_side(tmp_path):
    twins = [
        {
            **pair(n),
            "prompt": f"  \uff37\uff28\uff21\uff34 is\n{n} plus {n}?",
            "response": f"So \\boxed{{{2 * n}}}",
        }
        for n in range(100)
    ]
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(100)] + twins)
    made = prepare(tmp_path / "raw", tmp_path / "out", eval_rows=10)
    seen = {side: {normalise(prompt) for prompt in found} for side, found in sides(tmp_path / "out").items()}
    assert not seen["sft"] & seen["rl"] and not seen["eval"] & (seen["sft"] | seen["rl"])
    # An expert prompt keeps both answers; a rollout prompt stands once.
    assert made.content["rows"]["duplicates"] == {
        "exact": 0,
        "near": 0,
        "same_prompt": made.rl_rows + made.eval_rows,
    }
    assert made.content["ratios"]["expert_ratio_reached"] == pytest.approx(0.25, abs=0.01)


def test_exact_duplicates_are_dropped_after_normalising(tmp_path):
    copies = [{"question": pair(n)["prompt"].upper() + " ", "answer": pair(n)["response"]} for n in range(10)]
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(20)] + copies)
    made = prepare(tmp_path / "raw", tmp_path / "out")
    assert made.content["rows"]["duplicates"] == {"exact": 10, "near": 0, "same_prompt": 0}
    assert made.expert_rows + made.rl_rows == 20


def test_the_duplicate_with_a_verifiable_answer_is_the_one_kept(tmp_path):
    bare = [{"prompt": f"How many are {n}?", "response": f"They are {n} in all, I think"} for n in range(10)]
    write_lines(tmp_path / "raw" / "a.jsonl", bare)
    write_lines(tmp_path / "raw" / "b.jsonl", [{**record, "answer": n} for n, record in enumerate(bare)])
    made = prepare(tmp_path / "raw", tmp_path / "out", expert_ratio=0.5)
    assert (made.expert_rows, made.rl_rows) == (5, 5)
    assert any("5 of 5 verifiable expert rows" in line for line in made.warnings)


def test_a_prompt_that_also_stands_in_an_sft_only_row_never_becomes_a_rollout(tmp_path):
    chats = [
        {
            "messages": [
                {"role": "user", "content": f"Hello {n}"},
                {"role": "assistant", "content": "Hi"},
                {"role": "user", "content": pair(n)["prompt"]},
                {"role": "assistant", "content": pair(n)["response"]},
            ]
        }
        for n in range(5)
    ]
    free = [{"prompt": pair(n)["prompt"], "response": "Hard to say"} for n in range(5, 10)]
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(30)] + chats + free)
    made = prepare(tmp_path / "raw", tmp_path / "out", eval_rows=5)
    held = {pair(n)["prompt"] for n in range(10)}
    assert not held & (sides(tmp_path / "out")["rl"] | sides(tmp_path / "out")["eval"])
    assert made.content["sft_only"] == {
        "multi_turn": 5,
        "not_verifiable": 5,
        "prompt_shared_with_sft_only_row": 10,
    }


def test_one_prompt_with_two_answers_stays_on_the_sft_side(tmp_path):
    wrong = [{**pair(n), "response": "\\boxed{999}"} for n in range(5)]
    same = [{**pair(n), "response": f"\\boxed{{{2 * n}.0}}"} for n in range(5, 10)]
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(30)] + wrong + same)
    made = prepare(tmp_path / "raw", tmp_path / "out")
    assert made.content["sft_only"] == {"conflicting_answers": 10}
    assert not {pair(n)["prompt"] for n in range(5)} & sides(tmp_path / "out")["rl"]


def test_exact_duplicates_with_two_answer_fields_stay_on_the_sft_side(tmp_path):
    bare = [{"prompt": f"How many are {n}?", "response": "I counted them all"} for n in range(10)]
    fields = [{**record, "answer": number} for record in bare[:5] for number in (3, 4, 3)]
    write_lines(tmp_path / "raw" / "a.jsonl", fields + [{**record, "answer": 3} for record in bare[5:]])
    made = prepare(tmp_path / "raw", tmp_path / "out")
    assert made.content["sft_only"] == {"conflicting_answers": 5}
    assert made.content["rows"]["duplicates"]["exact"] == 10


def test_a_lost_row_is_a_loud_fault():
    tally = Tally(files={"a.jsonl": FileTally(read=5, rejected=1, duplicates=1)}, same_prompt=1)
    assert tally.rows({"sft": 1, "rl": 1, "eval": 0, "test": 0})["read"] == 5
    with pytest.raises(AssertionError, match="5 rows read but 4"):
        tally.rows({"sft": 1, "rl": 0, "eval": 0, "test": 0})


def test_held_out_rows_are_capped_with_a_warning_and_can_be_none(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(50)])
    capped = prepare(tmp_path / "raw", tmp_path / "out", eval_rows=40)
    assert capped.eval_rows == 10
    assert any("10 of 40 held-out prompts" in line for line in capped.warnings)
    none = prepare(tmp_path / "raw", tmp_path / "out", eval_rows=0)
    assert none.eval_rows == 0 and not (tmp_path / "out" / "eval").exists()


def test_a_test_set_is_held_out_besides_and_moves_no_held_out_prompt(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(100)])

    def prompts(out: str, side: str) -> set[str]:
        lines = (tmp_path / out / side / "train.jsonl").read_text().splitlines()
        return {json.loads(line)["prompt"] for line in lines}

    without = prepare(tmp_path / "raw", tmp_path / "out1", eval_rows=10)
    made = prepare(tmp_path / "raw", tmp_path / "out2", eval_rows=10, test_rows=15)
    assert (without.test_rows, made.eval_rows, made.test_rows) == (0, 10, 15)
    assert not (tmp_path / "out1" / "test").exists()
    assert prompts("out2", "eval") == prompts("out1", "eval")
    assert not prompts("out2", "test") & (prompts("out2", "eval") | prompts("out2", "rl"))
    assert "| test | 15 |" in (tmp_path / "out2" / "card.md").read_text()
    capped = prepare(tmp_path / "raw", tmp_path / "out3", test_rows=40)
    assert capped.test_rows == 20 and any("20 of 40 test prompts" in line for line in capped.warnings)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"expert_ratio": 0}, "SFT side.*variant=grpo"),
        ({"expert_ratio": 1}, "RL side empty.*variant=sft"),
        ({"expert_ratio": 25}, "outside.*0.25"),
        ({"expert_ratio": -0.1}, "outside"),
        ({"expert_ratio": float("nan")}, "no number"),
        ({"expert_ratio": "x"}, "no number"),
        ({"eval_rows": -2}, "--eval-rows=-2 is no integer of 0 or more"),
        ({"eval_rows": 1.5}, "no integer"),
        ({"near_dedup": 1.1}, "--near-dedup=1.1 is no similarity"),
        ({"free_text": "maybe"}, "use one of none, judge"),
        ({"seed": 1.5}, "no integer"),
        ({"system_prompt": " "}, "white space"),
        ({"system_prompt": None}, "no text"),
        ({"system_prompt": "\udc80"}, "UTF-8"),
    ],
)
def test_a_choice_out_of_range_is_refused_with_the_remedy(changed, message):
    with pytest.raises(ConfigError) as caught:
        split_settings(**changed)
    assert caught.value.fix
    assert re.search(message, str(caught.value))


@settings(max_examples=200)
@given(
    sizes=st.lists(st.integers(0, 5), min_size=2, max_size=60).filter(lambda sizes: sum(map(bool, sizes)) >= 4),
    ratio=st.floats(0.01, 0.99),
    eval_rows=st.integers(0, 30),
    test_rows=st.integers(0, 30),
    data=st.data(),
)
def test_the_share_reached_is_the_best_that_whole_groups_allow(sizes, ratio, eval_rows, test_rows, data):
    ranks = data.draw(st.permutations(range(len(sizes))))
    others = data.draw(st.permutations(range(len(sizes))))
    chosen = np.flatnonzero(sizes)
    groups = Groups(
        np.array(sizes)[chosen],
        np.array(ranks, np.uint64)[chosen],
        np.array(others, np.uint64)[chosen],
        np.zeros(len(chosen), np.int64),
    )
    split = split_groups(groups, expert_ratio=ratio, eval_rows=eval_rows, test_rows=test_rows)
    assert (split.expert.astype(int) + split.rollout + split.held_out + split.test == 1).all()
    assert split.held_out.sum() == min(eval_rows, len(groups) // 5)
    assert split.test.sum() == min(test_rows, len(groups) // 5)
    assert split.expert.any() and split.rollout.any()
    rest = np.flatnonzero(~(split.held_out | split.test))
    rows = groups.expert_rows[rest][np.argsort(groups.split_rank[rest])]

    def error(cut):
        expert = rows[:cut].sum()
        return abs(expert / (expert + len(rows) - cut) - ratio)

    assert error(split.expert.sum()) <= min(error(cut) for cut in range(1, len(rows))) + 1e-12


@settings(max_examples=100)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) >= 10),
    ratio=st.floats(0.1, 0.9),
    eval_share=st.floats(0, 0.2),
    seed=st.integers(0, 1 << 30),
)
def test_strata_are_divided_alike_and_their_rounding_does_not_add_up(sizes, ratio, eval_share, seed):
    draw = np.random.default_rng(seed)
    count = sum(sizes)
    stratum = np.repeat(np.arange(len(sizes)), sizes)
    ranks = draw.permutation(count).astype(np.uint64), draw.permutation(count).astype(np.uint64)
    groups = Groups(np.ones(count, np.int64), *ranks, stratum)
    eval_rows = round(eval_share * count)
    split = split_groups(groups, expert_ratio=ratio, eval_rows=eval_rows)
    assert split.held_out.sum() == min(eval_rows, count // 5)
    rest = count - split.held_out.sum()
    assert abs(split.expert.sum() - ratio * rest) <= 1
    for number, size in enumerate(sizes):
        mine = stratum == number
        held = (mine & split.held_out).sum()
        assert abs(held - split.held_out.sum() / count * size) <= 1.5
        assert abs((mine & split.expert).sum() - ratio * (size - held)) <= 1.5


def test_prompts_without_a_response_are_always_rolled_out():
    count = 40
    rows = np.array([0] * 30 + [1] * 10)
    ranks = np.arange(count, dtype=np.uint64)
    split = split_groups(Groups(rows, ranks, ranks, np.zeros(count, np.int64)), expert_ratio=0.5, eval_rows=0)
    assert not split.expert[:30].any() and split.expert[30:].all()
    with pytest.raises(DataError, match="no prompt with a verifiable answer and a response"):
        split_groups(Groups(rows * 0, ranks, ranks, np.zeros(count, np.int64)), expert_ratio=0.5, eval_rows=0)


def test_in_a_large_stratum_adding_rows_moves_no_old_one(monkeypatch):
    monkeypatch.setattr(split_module, "LARGE_STRATUM", 500)
    draw = np.random.default_rng(3)
    ranks = [draw.integers(0, 1 << 64, 2200, np.uint64, endpoint=False) for _ in range(2)]

    def expert_of(count):
        groups = Groups(np.ones(count, np.int64), ranks[0][:count], ranks[1][:count], np.zeros(count, np.int64))
        return split_groups(groups, expert_ratio=0.25, eval_rows=100)

    before, after = expert_of(2000), expert_of(2200)
    trained = ~before.held_out & ~after.held_out[:2000]
    assert (before.expert == after.expert[:2000])[trained].all() and (~trained).sum() < 130
    assert abs(before.expert.sum() / 1900 - 0.25) < 0.04


def test_rejected_rows_do_not_shift_the_split(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(50)])
    prepare(tmp_path / "raw", tmp_path / "out1")
    write_lines(tmp_path / "raw" / "b.jsonl", [{"nothing": n} for n in range(9)])
    prepare(tmp_path / "raw", tmp_path / "out2")
    assert len(rejects(tmp_path / "out2")) == 9
    assert rows(tmp_path / "out1", "rl") == rows(tmp_path / "out2", "rl")
