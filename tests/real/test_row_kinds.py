"""Rows with tools and rows for a judge, by an engine of two ranks, which is then killed with all that is below it."""

from __future__ import annotations

import json
from pathlib import Path

import constant_judge
from conftest import REAL, small_policy_change
from prepared_kinds import conversations, free_texts, tool_model, write_prepared
from running import ended_at_exit, start
from test_faults import check_failed

from chord_exp.utils.split_settings import JUDGE


def test_tool_calls_and_a_judge_by_an_engine_of_two_ranks(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared", [conversations, free_texts], each=2, free_text=JUDGE)
    judge = constant_judge.write_model(tmp_path / "judge")
    with constant_judge.served(judge, tmp_path / "server.log") as address:
        run = start(
            tmp_path / "run",
            *REAL,
            "data=prepared",
            f"data.out={prepared}",
            f"data.judge_model={constant_judge.NAME}",
            f"model.path={tool_model(tmp_path / 'model')}",
            "model.max_prompt_tokens=400",
            "model.temperature=1.5",
            "batch_size=4",
            "total_steps=8",
            "cluster.gpu_per_node=3",
            "cluster.tensor_parallel_size=2",
            env={"OPENAI_BASE_URL": address, "OPENAI_API_KEY": "none"},
        )
        with ended_at_exit(run):
            # four steps of four prompts meet all sixteen rows
            run.wait_for_step(5)
            run.kill("vLLMRolloutModel")
            # the engine's second rank is a process of vLLM's own
            check_failed(run, run.wait(), "vLLMRolloutModel process died", "inference engine", planned=8)
    assert small_policy_change(run)
    (file,) = run.folder.glob("checkpoints/*/*/buffer/*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    by_prompt = "\n".join(sorted({row["prompt_text"] for row in rows}))
    for expected in ("Be brief.", '"add"', "<tool_call>", "Hello", "<|im_start|>tool", "What is thing"):
        assert expected in by_prompt
    judged = [row["reward"] for row in rows if "What is thing" in row["prompt_text"]]
    assert judged and all(abs(reward - constant_judge.REWARD) < 1e-6 for reward in judged)
    assert set(run.series("rollout/judge_success/mean").values()) == {1.0}
