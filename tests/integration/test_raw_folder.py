"""From a messy folder of raw data to a trained run: formats, kinds of answer and file kinds in one."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

from prepared_kinds import TOOL, tool_model
from running import finish

from chord_exp.run_files import metrics


def _said(question: str, answer: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def write_raw(folder: Path) -> None:
    """Some twenty rows of every sort, in files of several kinds."""
    import pyarrow
    from pyarrow import parquet

    folder.mkdir(parents=True)
    numbers = range(20)
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        writer.writerows([f"{n}+{n}=?", f"#### {2 * n}"] for n in numbers)
    latex = [{"problem": f"half of {n}?", "solution": f"\\boxed{{\\frac{{{n}}}{{2}}}}"} for n in numbers]
    parquet.write_table(pyarrow.Table.from_pylist(latex), folder / "latex.parquet")
    choices = [{"question": f"is {n} odd?", "choices": ["yes", "no"], "answer": (n + 1) % 2} for n in numbers]
    with gzip.open(folder / "choices.jsonl.gz", "wt", encoding="utf-8") as packed:
        packed.writelines(json.dumps(row) + "\n" for row in choices)
    rows: list[dict[str, Any]] = []
    for n in numbers:
        call = {"type": "function", "function": {"name": "add", "arguments": {"a": n}}}
        turns = [{"role": "user", "content": f"add {n}!"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
        rows.append({"messages": turns, "tools": [TOOL]})
        rows.append({"messages": _said(f"hi {n}", "hey") + _said(f"{n}+1?", f"\\boxed{{{n + 1}}}")})
        rows.append(
            {"messages": [{"role": "system", "content": "Be brief."}, *_said(f"{n}+2?", f"\\boxed{{{n + 2}}}")]}
        )
        rows.append(
            {"conversations": [{"from": "human", "value": f"name {n}"}, {"from": "gpt", "value": "It is fine."}]}
        )
        truth = {"style": "rule", "ground_truth": str(n + 3)}
        rows.append({"data_source": "sums", "prompt": [{"role": "user", "content": f"{n}+3?"}], "reward_model": truth})
    rows.append({"chosen": "a", "rejected": "b"})
    (folder / "chats.json").write_text(json.dumps(rows), encoding="utf-8")
    chinese = "".join(
        json.dumps({"prompt": f"{n}加{n}", "response": f"答案是{2 * n}"}, ensure_ascii=False) + "\n" for n in numbers
    )
    (folder / "chinese.jsonl").write_bytes(chinese.encode("gb18030"))


def test_a_messy_folder_is_prepared_checked_and_trained(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    run, output = finish(
        tmp_path / "run",
        "total_steps=3",
        "data=folder",
        f"data.input_dir={tmp_path / 'raw'}",
        f"data.out={tmp_path / 'prepared'}",
        "data.system_prompt=''",
        "data.eval_rows=10",
        "data.near_dedup=0.95",
        "data.check=true",
        f"model.path={tool_model(tmp_path / 'model')}",
        "model.max_prompt_tokens=400",
        "model.max_response_tokens=100",
        "batch_size=4",
    )
    assert run.process.returncode == 0, output
    assert metrics.non_finite(run.rows) is None
    manifest = json.loads((tmp_path / "prepared" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["rejects"] == {"preference": 1}
    assert manifest["multi_turn"] is True
    assert set(manifest["kinds"]) == {"number", "fraction", "choice", "tool_call", "free_text"}
    assert manifest["languages"]["zh"] == 20
    assert set(manifest["formats"]) >= {
        "question_answer",
        "problem_solution",
        "multiple_choice",
        "messages",
        "sharegpt",
        "verl",
    }
    (file,) = run.folder.glob("checkpoints/*/*/buffer/*.jsonl")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 3 * 4 * 4
