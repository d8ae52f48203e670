"""Runs the local study of docs/study: tune the baseline, compare all methods at equal steps, then at equal FLOPs.

    python -m tools.study.run --out outputs/study

Goes on where it was stopped. Everything lies below the folder: `data`, the sweeps `tune`, `compare` and `equal_flops`,
a page of each, and `chosen.json`, which holds what the tuning chose.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from chord_exp.errors import INTERRUPTED
from chord_exp.report.figures.budget import budget
from chord_exp.report.figures.compare import best_score, groups
from chord_exp.report.read.folders import find_runs
from chord_exp.report.read.runs import Run, read_runs
from chord_exp.run_files.history import ACCURACY
from tools.study.make_data import write_data

TUNE, COMPARE, EQUAL_FLOPS = "tune", "compare", "equal_flops"
CHOSEN = "chosen.json"
TUNED = ("sft_share", "sft_lr")
# whose floating-point operations the others are given
MEASURE = "chord_mu"
CHEAPER = ("sft", "grpo", "sft_then_grpo")
# the task and its sizes; docs/study says why
SIZES = (
    "data=folder",
    "data.system_prompt=''",
    "data.expert_ratio=0.2",
    "data.eval_rows=60",
    "data.test_rows=100",
    "data.eval_interval=50",
    "model.max_response_tokens=40",
    "batch_size=4",
    "repeat_times=8",
    "expert_data_ratio=0.3333",
    "total_steps=100",
    # as a choice: as mu_peak=0.9 it would outdo the methods whose mu is another
    "mu_schedule=paper_mu",
    "mu_decay_steps=60",
)


def build_parser() -> argparse.ArgumentParser:
    """The options of this script."""
    parser = argparse.ArgumentParser(description="Run the local study.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("words", nargs="*", help="further key=value words for every run")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this script."""
    asked = build_parser().parse_args(arguments)
    out = asked.out.absolute()
    write_data(out / "data")
    words = [*SIZES, f"data.input_dir={out / 'data'}", *asked.words]
    sweep(out / TUNE, "tune_sft_then_grpo", words)
    chosen = best_setting(runs_of(out / TUNE))
    (out / CHOSEN).write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")
    words += [f"{key}={chosen[key]}" for key in TUNED]
    sweep(out / COMPARE, "compare", words)
    steps = equal_steps(runs_of(out / COMPARE))
    for method, count in steps.items():
        sweep(out / EQUAL_FLOPS / method, "compare", [*words, f"method={method}", f"total_steps={count}"])
    for name in (TUNE, COMPARE, EQUAL_FLOPS):
        page(out, name)


def sweep(place: Path, experiment: str, words: Iterable[str]) -> None:
    """Run a sweep, or go on with it.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, "-m", "chord_exp", f"experiment={experiment}", *words, f"hydra.sweep.dir={place}"]
    if place.exists():
        command = [sys.executable, "-m", "chord_exp.runs", "resume", str(place)]
    _call(command)


def page(out: Path, name: str) -> None:
    """Write the page of a sweep, with its Markdown and CSV."""
    folders = [out / name] if name != EQUAL_FLOPS else [out / name, *runs_named(out / COMPARE, MEASURE)]
    _call([sys.executable, "-m", "chord_exp.report", *map(str, folders), "--out", str(out / f"{name}.html")])


def _call(command: Sequence[str]) -> None:
    """Run a command to its end; Ctrl-C reaches it by itself, and it saves before it ends.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with subprocess.Popen(command) as process:
        while process.returncode is None:
            with suppress(KeyboardInterrupt):
                process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def runs_of(folder: Path) -> list[Run]:
    """Return the runs below a folder that did what was planned."""
    return [run for run in read_runs(find_runs([folder])) if run.succeeded]


def runs_named(folder: Path, method: str) -> list[Path]:
    """Return the folders of a method's runs."""
    return [run.path for run in runs_of(folder) if run.overrides.get("method") == method]


def best_setting(runs: Sequence[Run]) -> Mapping[str, str]:
    """Return the tuned keys of the setting that reached most on the evaluation set, in the mean over its seeds."""

    def reached(settings: Sequence[Run]) -> float:
        scores = [score.value for run in settings if (score := best_score(run, ACCURACY)) is not None]
        return sum(scores) / len(scores)

    best = max(groups(runs), key=lambda group: reached(group.runs))
    return {key: best.runs[0].overrides[key] for key in TUNED}


def equal_steps(runs: Sequence[Run]) -> dict[str, int]:
    """Return the steps that give each cheaper method the floating-point operations of MEASURE."""

    def mean(method: str) -> tuple[float, float]:
        spent = [budget(run).total for run in runs if run.overrides.get("method") == method]
        return sum(one.flops for one in spent) / len(spent), spent[0].steps

    wanted = mean(MEASURE)[0]
    return {method: round(wanted / mean(method)[0] * mean(method)[1]) for method in CHEAPER}


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except subprocess.CalledProcessError as error:
        # the command has said why
        sys.exit(error.returncode)
