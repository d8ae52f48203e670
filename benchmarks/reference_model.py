"""What the reference model costs that Trinity's own mix_chord loads and no term of CHORD reads.

    .venv-real/bin/python benchmarks/reference_model.py

Two runs of the real vLLM and verl on this CPU, one after the other, with a random model large enough to be seen: the
same loss by Trinity's `mix_chord` and by this package's algorithm type. Prints the time of a step, of its parts, and
the memory that is the trainer process's own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import chord_exp.tiny
from chord_exp.launch import processes
from chord_exp.run_files import metrics

TINY = Path(chord_exp.tiny.__file__).parent / "model"
WORDS = ["cluster=real_cpu", "cluster.runner_per_model=1", "data.eval_rows=8", "batch_size=2", "repeat_times=4"]
# a KL term of weight 0 is what makes Trinity's own type keep its reference model
RUNS = {"without": [], "with": ["trinity.algorithm.kl_loss_fn=k2", "trinity.algorithm.kl_loss_fn_args.kl_coef=0.0"]}
PARTS = ("time/step", "time/ref", "time/update_actor")


def write_model(folder: Path, hidden: int, layers: int) -> int:
    """Write a random model with the tiny one's tokenizer; returns its parameters."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    heads = {"num_attention_heads": hidden // 32, "num_key_value_heads": hidden // 32}
    shape = {"hidden_size": hidden, "intermediate_size": 3 * hidden, "num_hidden_layers": layers, **heads}
    config = AutoConfig.from_pretrained(TINY, **shape)
    config.layer_types = ["full_attention"] * layers
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def measure(folder: Path, words: list[str]) -> tuple[dict[str, float], int]:
    """Run once; returns medians of the steps after the first, seconds, and the trainer's largest own memory, bytes."""
    command = [sys.executable, "-m", "chord_exp", *WORDS, *words, f"hydra.run.dir={folder}"]
    largest = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.5)
            if (folder / "run.json").exists():
                run_id = json.loads((folder / "run.json").read_text())["run_id"]
                largest = max([largest, *map(own_memory, processes.of_run(run_id))])
    if process.returncode:
        sys.exit(f"the run failed: {folder}")
    rows = metrics.read(folder / "metrics.jsonl")
    steps = {part: list(metrics.series(rows, part).values())[1:] for part in PARTS}
    return {part: statistics.median(values) for part, values in steps.items() if values}, largest


def own_memory(process: psutil.Process) -> int:
    """Memory of a trainer worker that no other process shares, bytes; 0 of any other process."""
    try:
        return process.memory_full_info().uss if "WorkerDict" in " ".join(process.cmdline()) else 0
    except psutil.Error:
        return 0


def main() -> None:
    """Print one line a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=768, help="width of the model (default: 768)")
    parser.add_argument("--layers", type=int, default=12, help="its layers (default: 12)")
    parser.add_argument("--steps", type=int, default=4, help="steps a run (default: 4)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chord-reference-") as place:
        os.chdir(place)
        count = write_model(Path("model"), arguments.hidden, arguments.layers)
        print(f"a model of {count / 1e6:.0f} million parameters, {arguments.steps} steps")
        for name, words in RUNS.items():
            words = [f"model.path={place}/model", f"total_steps={arguments.steps}", *words]
            times, memory = measure(Path(place, name).absolute(), words)
            shown = ", ".join(f"{part.partition('/')[2]} {seconds:.2f} s" for part, seconds in times.items())
            print(f"{name} a reference model: {shown}; the trainer's own memory {memory / 2**20:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
