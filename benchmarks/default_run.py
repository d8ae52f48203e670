"""The default run against the same arithmetic in one plain process, in one invocation: `make bench`.

The plain process does what the run's actors do, with the same classes and sizes: sample as many prompt groups,
score them, read as many expert rows, make one update, hand the weights over. It has no Ray, no actors, no scheduler, no
buffers. So the ratio of seconds per step is what Trinity's loop costs.

Prints a table; asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chord_exp.run_files import metrics
from chord_exp.sweep.folder import SweepFolder

# left out of the mean: the first steps load code and memory
WARMUP_STEPS = 3


def loop_seconds(folder: Path, overrides: list[str]) -> dict[str, float]:
    """Run the default experiment; seconds from Enter to its first output, to the first step, per step, and in all."""
    started = time.perf_counter()
    # somebody who waits sits at a terminal
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "chord_exp", f"hydra.run.dir={folder}", *overrides]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs)
    os.close(theirs)
    first_output: list[float] = []

    def read() -> None:
        with suppress(OSError), open(ours, "rb", buffering=0) as terminal:  # Linux ends a terminal by an error
            while terminal.read(1 << 16):
                first_output.append(time.perf_counter() - started)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    tail, seen = metrics.Tail(folder / "metrics.jsonl"), {}
    while process.poll() is None:
        for row in tail.new_rows():
            if row["source"] == "trainer":
                seen[row["step"]] = time.perf_counter() - started
        time.sleep(0.01)
    reader.join()
    if process.returncode != 0 or not seen:
        raise SystemExit(f"the run failed with exit code {process.returncode}: see {folder}")
    first, last = min(seen), max(seen)
    warm = min(first + WARMUP_STEPS, last - 1)
    return {
        "first output": first_output[0],
        "to first step": seen[first],
        "per step": (seen[last] - seen[warm]) / (last - warm),
        "in all": time.perf_counter() - started,
    }


def trial_seconds(folder: Path) -> list[float]:
    """Seconds from the start of each of three local trials, one after the other, to its first step."""
    words = ["seed=1,2,3", "total_steps=2", "mu_schedule=constant", "hydra.launcher.max_concurrent=1"]
    command = [sys.executable, "-m", "chord_exp", "-m", *words, f"hydra.sweep.dir={folder}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    taken = []
    for trial in SweepFolder(folder).trials():
        rows = metrics.read(trial.run_dir / "metrics.jsonl")
        taken.append(min(row["wall_time"] for row in rows if row["source"] == "trainer") - trial.started)
    return taken


def showing_seconds(place: Path) -> tuple[float, float]:
    """CPU seconds, the least of five, of `--cfg job` and of an empty application of Hydra's."""
    (place / "empty.py").write_text(
        "import hydra\n@hydra.main(version_base='1.3', config_path=None)\ndef app(config): pass\napp()\n",
        encoding="utf-8",
    )

    def seconds(*words: str) -> float:
        taken = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *words, "--cfg", "job"], cwd=place, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(taken)

    return seconds("-m", "chord_exp"), seconds("empty.py")


def plain_seconds(trinity_yaml: Path, steps: int, scratch: Path) -> dict[str, float]:
    """The same arithmetic in this process; seconds to load, and per step (the median)."""
    started = time.perf_counter()
    from chord_exp.engine.vllm_stub import install

    install()
    import torch
    from trinity.algorithm import ADVANTAGE_FN
    from trinity.buffer import get_buffer_reader
    from trinity.common.config import load_config
    from trinity.common.experience import CustomField, Experience
    from trinity.common.rewards.math_reward import MathBoxedRewardFn

    from chord_exp.engine.rollout import LocalRolloutModel
    from chord_exp.engine.train_engine import LocalTrainEngine
    from chord_exp.plugins.sample_strategy import attach_tokens_of_term

    config = load_config(str(trinity_yaml))
    config.continue_from_checkpoint = False
    config.checkpoint_root_dir = str(scratch)
    config.check_and_update()
    loop = asyncio.new_event_loop()
    model, engine = LocalRolloutModel(config.explorer.rollout_model), LocalTrainEngine(config)
    loop.run_until_complete(model.prepare())
    loop.run_until_complete(engine.prepare())
    name = config.algorithm.sample_strategy_args["sft_dataset_name"]
    expert_config = config.buffer.trainer_input.auxiliary_buffers[name]
    usual_rows = config.buffer.batch_size * config.algorithm.repeat_times
    expert_config.batch_size = config.buffer.train_batch_size - usual_rows
    experts = get_buffer_reader(expert_config)
    taskset = config.buffer.explorer_input.tasksets[0]
    tasks = get_buffer_reader(taskset)
    reward = MathBoxedRewardFn()
    advantage = ADVANTAGE_FN.get(config.algorithm.advantage_fn)(**config.algorithm.advantage_fn_args)
    loaded = time.perf_counter() - started
    fields = [CustomField("is_expert", "expert_mask", torch.bool), CustomField("step", "step", torch.int32)]

    def mark(rows: list[Experience], step: int, *, expert: bool) -> list[Experience]:
        for row in rows:
            row.info = {**(row.info or {}), "is_expert": expert, "step": step}
            row.custom_fields = fields
            if expert:
                row.logprobs = row.advantages = torch.zeros(len(row.tokens) - row.prompt_length)
        return rows

    def one_step(step: int) -> None:
        usual = []
        for number, task in enumerate(loop.run_until_complete(tasks.read())):
            messages = [{"role": "user", "content": task.raw_task[taskset.format.prompt_key]}]
            group = loop.run_until_complete(
                model.chat(messages, n=config.algorithm.repeat_times, temperature=config.model.temperature)
            )
            truth = str(task.raw_task[taskset.format.response_key])
            for run, row in enumerate(group):
                row.reward = sum(reward(response=row.response_text, truth=truth).values())
                row.eid.batch, row.eid.task, row.eid.run = step, number, run
            usual += group
        usual, _ = advantage.process(usual)
        expert = loop.run_until_complete(experts.read())
        rows = mark(usual, step, expert=False) + mark(expert, step, expert=True)
        attach_tokens_of_term(rows)
        loop.run_until_complete(engine.train_step(rows))
        model.model.load_state_dict(engine.model.state_dict())

    seconds = []
    for step in range(1, steps + 1):
        before = time.perf_counter()
        one_step(step)
        seconds.append(time.perf_counter() - before)
    return {"to first step": loaded + seconds[0], "per step": statistics.median(seconds[WARMUP_STEPS:])}


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain-steps", type=int, default=15, help="steps of the plain process")
    parser.add_argument("overrides", nargs="*", help="overrides of the run, such as total_steps=20")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chord-bench-") as scratch:
        folder = Path(scratch, "run")
        loop = loop_seconds(folder, options.overrides)
        # the configuration has prompts for no more steps than the run made
        steps = min(options.plain_steps, max(metrics.series(metrics.read(folder / "metrics.jsonl"), metrics.MU)))
        plain = plain_seconds(folder / "trinity.yaml", steps, Path(scratch, "plain"))
        trials = trial_seconds(Path(scratch, "sweep"))
        shown, empty = showing_seconds(Path(scratch))
    table = Table(title="default run, seconds")
    for column in ("", "Trinity's loop", "plain process", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for key, value in loop.items():
        bare = plain.get(key)
        table.add_row(key, f"{value:.2f}", f"{bare:.2f}" if bare else "-", f"{value / bare:.2f}" if bare else "-")
    table.add_row("first trial of a sweep to its first step", f"{trials[0]:.2f}", "-", "-")
    table.add_row("trials after it", f"{statistics.mean(trials[1:]):.2f}", "-", "-")
    table.add_row("CPU of --cfg job (empty Hydra)", f"{shown:.2f}", f"{empty:.2f}", f"{shown / empty:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
