"""Time, memory and size of a report: `python benchmarks/report.py [--runs 100] [--steps 1000]`. Asserts nothing."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from report_runs import make_run

from chord_exp.report.__main__ import main as write_report

SEEDS = 5


def main() -> None:
    """Make runs, report them, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number in range(given.runs):
            peak = number // SEEDS / given.runs
            make_run(folder / f"{number}", given.steps, seed=number % SEEDS, peak=peak)
        written = sum(file.stat().st_size for file in folder.glob("*/metrics.jsonl"))
        wall, cpu = time.perf_counter(), time.process_time()
        write_report([str(folder)])
        took = f"{time.perf_counter() - wall:.1f} s, {time.process_time() - cpu:.1f} s of CPU"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sizes = ", ".join(f"{file.name} {file.stat().st_size / 1e6:.2f} MB" for file in sorted(folder.glob("report.*")))
        print(f"{given.runs} runs of {given.steps} steps ({written / 1e6:.0f} MB): {took}, {memory:.0f} MB; {sizes}")


if __name__ == "__main__":
    main()
