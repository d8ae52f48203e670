"""Every kind of row, mixed in one folder, trains through the real Trinity loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prepared_kinds import conversations, free_texts, tool_model, write_prepared
from running import finish

from chord_exp.run_files import metrics


@pytest.mark.slow
def test_a_folder_of_every_kind_trains_with_the_workflow_and_reward_of_each_row(tmp_path: Path) -> None:
    """Numbers, LaTeX, choices, tool calls, more turns, system prompts, and free text by similarity."""
    prepared = write_prepared(tmp_path / "prepared", [conversations, free_texts], each=2)
    model = tool_model(tmp_path / "model")
    run, output = finish(
        tmp_path / "run",
        "total_steps=4",
        "data=prepared",
        f"data.out={prepared}",
        f"model.path={model}",
        "model.max_prompt_tokens=400",
        # hot enough that four equal responses mean greedy sampling
        "model.temperature=1.5",
        "model.max_response_tokens=24",
        "batch_size=4",
    )
    assert run.process.returncode == 0, output
    assert run.record["completed_steps"] == 4
    assert metrics.non_finite(run.rows) is None
    assert sum(run.series(metrics.TRUNCATED_PROMPTS).values()) == 0
    (file,) = run.folder.glob("checkpoints/*/*/buffer/*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    # four steps of four prompts meet all sixteen rows
    assert len({row["prompt_text"] for row in rows}) == 16
    by_prompt = "\n".join(sorted({row["prompt_text"] for row in rows}))
    for expected in ("Be brief.", '"add"', "<tool_call>", "Hello", "<|im_start|>tool"):
        assert expected in by_prompt
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(row["prompt_text"], set()).add(row["response_text"])
    # the greedy evaluation before the first step must not have made the rollouts greedy, of any kind
    assert sum(len(responses) > 1 for responses in groups.values()) >= 14
    # similarity is a matter of degree: it differs within a group where the others give 0 or 1
    assert any(0 < row["reward"] < 1 for row in rows)
    assert "rollout/similarity/mean" in {key for row in run.rows for key in row.get("metrics", row)}
    assert pytest.approx(0, abs=1e-3) == max(map(abs, run.series("actor/usual/ppo_kl").values()))
