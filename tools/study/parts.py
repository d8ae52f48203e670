"""What the models of a study can do in each part of its task: greedy accuracy on the test set, as the runs scored it.

    python -m tools.study.parts outputs/study/compare --out outputs/study/parts.csv

One line a run: method, seed, accuracy on two numbers, on a number in words, on both. The last equals what the run
logged of its last step, which is checked.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from chord_exp.launch.kept import hf_of, kept
from chord_exp.report.read.folders import find_runs
from chord_exp.report.read.runs import Run, read_runs
from chord_exp.run_files.history import TEST_ACCURACY
from chord_exp.trinity_config.rows import ROWS_FILE, TEST

COLUMNS = ("method", "seed", "two_numbers", "in_words", "both", "logged")
# of two evaluations of one model by the same sampler
SAME = 1e-6


def build_parser() -> argparse.ArgumentParser:
    """The options of this script."""
    parser = argparse.ArgumentParser(description="Score the parts of the study's task.")
    parser.add_argument("folders", type=Path, nargs="+", help="sweeps of the study")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this script."""
    asked = build_parser().parse_args(arguments)
    runs = [run for run in read_runs(find_runs(asked.folders)) if run.succeeded]
    with open(asked.out, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(map(line_of, runs))
    print(f"{len(runs)} runs in {asked.out}")


def line_of(run: Run) -> dict[str, Any]:
    """Return the line of a run.

    Raises:
        RuntimeError: the accuracy is not the one that the run logged.
    """
    checkpoints = kept(run.path)
    tasksets = run.config["buffer"]["explorer_input"]["eval_tasksets"]
    (folder,) = [taskset["path"] for taskset in tasksets if taskset["name"] == TEST]
    rows = [json.loads(line) for line in Path(folder, ROWS_FILE).read_text("utf-8").splitlines()]
    last = checkpoints[max(checkpoints)]
    scores = list(answers(hf_of(last), rows, run.config["model"]))
    one_number = [len(re.findall(r"\d+", row["prompt"])) == 1 for row in rows]
    logged = float(run.history[TEST_ACCURACY].finite().value[-1])
    both = fmean(scores)
    if abs(both - logged) > SAME:
        raise RuntimeError(f"{run.path}: accuracy {both} here and {logged} in its last evaluation")
    return {
        "method": run.overrides.get("method", ""),
        "seed": run.seed,
        "two_numbers": fmean(score for score, one in zip(scores, one_number, strict=True) if not one),
        "in_words": fmean(score for score, one in zip(scores, one_number, strict=True) if one),
        "both": both,
        "logged": logged,
    }


def answers(folder: Path, rows: Sequence[Mapping[str, str]], limits: Mapping[str, Any]) -> Iterator[float]:
    """Yield the reward of the greedy answer to each row, as the local engine samples it and the run scores it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trinity.common.rewards.math_reward import MathBoxedRewardFn

    from chord_exp.engine.sampler import SamplingParams, sample_group

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    params = SamplingParams(n=1, temperature=0.0, max_tokens=limits["max_response_tokens"])
    score = MathBoxedRewardFn()
    for row in rows:
        asked = [{"role": "user", "content": row["prompt"]}]
        text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer.encode(text, add_special_tokens=False)
        (response,) = sample_group(model, prompt, params, {tokenizer.eos_token_id}, 0)
        answer = tokenizer.decode(response.tokens, skip_special_tokens=True)
        yield score(response=answer, truth=row["answer"])["accuracy"]


if __name__ == "__main__":
    main()
