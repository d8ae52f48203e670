"""The raw numbers of the local study: a line a run, from which the plots and tables of docs/study.md are made.

    python -m tools.study.numbers outputs/study --out outputs/study/numbers.csv

What a model can do in each part of the task is asked again of its last checkpoint, greedily, on the test set; together
it must be what the run logged of its last step.
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
from chord_exp.report.figures.budget import budget
from chord_exp.report.figures.compare import best_score, chosen_score
from chord_exp.report.read.folders import find_runs
from chord_exp.report.read.runs import Run, read_runs
from chord_exp.run_files.history import ACCURACY, ENTROPY, TEST_ACCURACY
from chord_exp.trinity_config.rows import ROWS_FILE, TEST
from tools.study.run import COMPARE, EQUAL_FLOPS, TUNE, TUNED

SWEEPS = (TUNE, COMPARE, EQUAL_FLOPS)
COLUMNS = (
    *("sweep", "method", "seed", *TUNED),
    # what was spent: steps, rows and tokens trained on, floating-point operations, seconds of this machine
    *("steps", "samples", "tokens", "flops", "seconds"),
    # accuracy at the step that was best on the evaluation set: there, and on the test set
    *("evaluated", "tested", "at_step"),
    # of the last step, on the test set: all, and each part; mean entropy of the rollouts of the last ten steps
    *("last", "two_numbers", "in_words", "entropy"),
)
# of two evaluations of one model by the same sampler
SAME = 1e-6
LAST_STEPS = 10


def build_parser() -> argparse.ArgumentParser:
    """The options of this script."""
    parser = argparse.ArgumentParser(description="Write the raw numbers of the local study.")
    parser.add_argument("study", type=Path, help="folder of the study")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this script."""
    asked = build_parser().parse_args(arguments)
    lines = [
        {"sweep": name, **line_of(run, by_part=name != TUNE)}
        for name in SWEEPS
        if (asked.study / name).exists()
        for run in read_runs(find_runs([asked.study / name]))
        if run.succeeded
    ]
    with open(asked.out, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows({key: _short(value) for key, value in line.items()} for line in lines)
    print(f"{len(lines)} runs in {asked.out}")


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def line_of(run: Run, *, by_part: bool) -> dict[str, Any]:
    """Return the line of a run.

    Args:
        by_part: score each part of the task, which takes seconds.

    Raises:
        RuntimeError: the accuracy is not the one that the run logged.
    """
    spent, best, tested = budget(run).total, best_score(run, ACCURACY), chosen_score(run)
    last = float(run.history[TEST_ACCURACY].finite().value[-1])
    # an SFT run logs the entropy of expert rows
    entropy = run.history[ENTROPY].finite() if run.overrides.get("method") != "sft" else None
    return {
        "method": run.overrides.get("method", "sft_then_grpo"),
        "seed": run.seed,
        **{key: run.settings.get(key, "") for key in TUNED},
        **{name: getattr(spent, name) for name in ("steps", "samples", "tokens", "flops", "seconds")},
        "evaluated": best.value if best else "",
        "tested": tested.value if tested else "",
        "at_step": tested.at if tested else "",
        "last": last,
        **(parts(run, last) if by_part else {}),
        "entropy": float(entropy.value[-LAST_STEPS:].mean()) if entropy is not None and len(entropy) else "",
    }


def parts(run: Run, logged: float) -> dict[str, float]:
    """Return the accuracy of a run's last checkpoint on each part of the test set.

    Raises:
        RuntimeError: together they are not what the run logged.
    """
    checkpoints = kept(run.path)
    tasksets = run.config["buffer"]["explorer_input"]["eval_tasksets"]
    (folder,) = [taskset["path"] for taskset in tasksets if taskset["name"] == TEST]
    rows = [json.loads(line) for line in Path(folder, ROWS_FILE).read_text("utf-8").splitlines()]
    scores = list(answers(hf_of(checkpoints[max(checkpoints)]), rows, run.config["model"]))
    if abs(fmean(scores) - logged) > SAME:
        raise RuntimeError(f"{run.path}: accuracy {fmean(scores)} here and {logged} in its last evaluation")
    one_number = [len(re.findall(r"\d+", row["prompt"])) == 1 for row in rows]
    return {
        "two_numbers": fmean(score for score, one in zip(scores, one_number, strict=True) if not one),
        "in_words": fmean(score for score, one in zip(scores, one_number, strict=True) if one),
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
