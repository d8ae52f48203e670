"""Rows that only the whole data set can place: without a response, or with answers that must not be trained."""

from __future__ import annotations

import json
import re

from prepare_samples import pair, prepare, prompts, rejects, rows, tree, write_lines


def rl_only(number: int, truth: str | None = None) -> dict[str, object]:
    """A record of verl: a prompt and its truth, no response."""
    return {
        "data_source": "sums",
        "prompt": [{"role": "user", "content": pair(number)["prompt"]}],
        "reward_model": {"style": "rule", "ground_truth": truth or str(2 * number)},
    }


def chat(number: int, *, weight: int | None = None) -> dict[str, object]:
    first = {"role": "assistant", "content": f"Hello, {number}!"}
    if weight is not None:
        first["weight"] = weight
    return {
        "messages": [
            {"role": "user", "content": f"I am number {number}."},
            first,
            {"role": "user", "content": f"What is {number} plus one?"},
            {"role": "assistant", "content": f"\\boxed{{{number + 1}}}"},
        ]
    }


def test_prompts_without_a_response_are_rolled_out_and_never_imitated(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(40)] + [rl_only(n) for n in range(100, 110)])
    made = prepare(tmp_path / "raw", tmp_path / "out", eval_rows=5)
    bare = {pair(n)["prompt"] for n in range(100, 110)}
    assert not bare & set(prompts(tmp_path / "out", "sft"))
    assert bare <= set(prompts(tmp_path / "out", "rl")) | set(prompts(tmp_path / "out", "eval"))
    assert made.content["ratios"]["expert_ratio_reached"] == round(made.expert_rows / 45, 6)
    assert abs(made.expert_rows - 0.25 * 45) <= 1


def test_a_prompt_with_and_without_a_response_stands_on_one_side_once(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(40)] + [rl_only(n) for n in range(40)])
    made = prepare(tmp_path / "raw", tmp_path / "out")
    assert made.expert_rows + made.rl_rows == 40
    assert not set(prompts(tmp_path / "out", "sft")) & set(prompts(tmp_path / "out", "rl"))
    assert made.content["rows"]["duplicates"]["same_prompt"] == 40


def test_a_prompt_without_a_response_and_with_two_truths_is_listed_as_unusable(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(20)] + [rl_only(50, "1"), rl_only(50, "2")])
    made = prepare(tmp_path / "raw", tmp_path / "out")
    assert made.content["rejects"] == {"conflicting_truths": 1}
    assert made.content["rows"]["duplicates"]["exact"] == 1
    (listed,) = rejects(tmp_path / "out")
    assert listed["line"] in (21, 22) and listed["file"] == "a.jsonl" and "50 plus 50" in listed["text"]


def test_every_answer_of_conversations_is_trained_unless_a_row_forbids_it(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(20)])
    assert not prepare(tmp_path / "raw", tmp_path / "out").multi_turn
    write_lines(tmp_path / "raw" / "b.jsonl", [chat(n, weight=0) for n in range(3)])
    made = prepare(tmp_path / "raw", tmp_path / "out")
    assert not made.multi_turn and made.content["sft_only"] == {"multi_turn": 3}
    write_lines(tmp_path / "raw" / "c.jsonl", [chat(n) for n in range(10, 12)])
    made = prepare(tmp_path / "raw", tmp_path / "out")
    assert made.multi_turn and made.content["rejects"] == {"untrained_turn": 3}
    assert len([row for row in rows(tmp_path / "out", "sft") if "I am number" in row["messages"]]) == 2


def test_rows_with_their_own_system_prompt_are_rolled_out_with_it(tmp_path):
    own = [
        {"system": f"You are calculator {n}.", "question": pair(n)["prompt"], "answer": pair(n)["response"]}
        for n in range(20)
    ]
    write_lines(tmp_path / "raw" / "a.jsonl", own)
    made = prepare(tmp_path / "raw", tmp_path / "out", system_prompt="Box it.")
    assert made.rl_rows == 15
    for row in rows(tmp_path / "out", "rl"):
        system, user = json.loads(row["conversation"])
        number = int(re.findall(r"\d+", user["content"])[0])
        assert system == {"role": "system", "content": f"You are calculator {number}."}
    assert "chord_exp.plugins.workflows.ConversationWorkflow" in made.scored_by


def test_the_card_shows_what_the_manifest_holds_and_plots_that_do_not_change(tmp_path):
    write_lines(tmp_path / "raw" / "a|b.jsonl", [pair(n) for n in range(20)] + [{"bad": 1}, chat(3)])
    prepare(tmp_path / "raw", tmp_path / "out1", eval_rows=2)
    prepare(tmp_path / "raw", tmp_path / "out2", eval_rows=2)
    assert tree(tmp_path / "out1") == tree(tmp_path / "out2")
    card = (tmp_path / "out1" / "card.md").read_text(encoding="utf-8")
    for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", card):
        assert (tmp_path / "out1" / target).read_text(encoding="utf-8").startswith("<?xml")
    assert "a\\|b.jsonl" in card and "no known format has these fields" in card
    assert "expert_data_ratio is the share of each training batch" in card
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert all(line.count("|") - line.count("\\|") >= 3 for line in tables)
