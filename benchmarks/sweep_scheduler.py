"""How well and how quickly a sweep is scheduled: `python benchmarks/sweep_scheduler.py`; see also sweep_launch.py.

Makespan: 1,000 simulated trials of mixed footprints against the lower bound of list scheduling, which no schedule can
beat: the larger of (GPU seconds of all trials / GPUs) and the longest trial. Decision: one admission with 10,000 trials
queued and a full cluster.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path

from chord_exp.sweep.scheduling.queue import BACKFILL, STRICT
from chord_exp.sweep.scheduling.resources import Footprint, Node
from chord_exp.sweep.scheduling.scheduler import Limits, Scheduler
from chord_exp.sweep.scheduling.trial import SUCCEEDED, Trial

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from fake_machines import FakeMachines, classify_by_code, run_to_end

MACHINES = [Node(f"n{number}", 8, 128) for number in range(4)]
TRIALS, QUEUED = 1000, 10_000


def make_trial(number: int, footprint: Footprint, folder: Path = Path("/sweep")) -> Trial:
    """A trial that waits."""
    return Trial(number, "", folder / str(number), [], footprint, {"": 1})


def mixed(draw: random.Random) -> Footprint:
    """Divisors of a machine, and one in fifty two whole machines."""
    gpus = draw.choices([1, 2, 4, 8, 16], [40, 30, 20, 8, 2])[0]
    return Footprint(gpus, float(gpus), 0.0, 2 if gpus == 16 else 1)


def makespan(order: str, seed: int) -> float:
    """Simulated makespan of 1,000 trials over its lower bound."""
    draw = random.Random(seed)
    trials = [make_trial(number, mixed(draw)) for number in range(TRIALS)]
    seconds = [draw.lognormvariate(6, 0.7) for _ in trials]
    backend = FakeMachines(MACHINES, lambda trial: seconds[trial.number])
    limits = Limits(order=order)
    run_to_end(Scheduler(backend, limits, classify=classify_by_code, save=lambda trial: None), trials)
    assert all(trial.state == SUCCEEDED for trial in trials)
    work = sum(trial.footprint.gpus * taken for trial, taken in zip(trials, seconds, strict=True))
    return backend.now() / max(work / sum(node.gpus for node in MACHINES), max(seconds))


def decision(repeats: int = 200) -> float:
    """Median microseconds of a poll with 10,000 trials queued on full machines: nothing may start."""
    draw = random.Random(0)
    backend = FakeMachines(MACHINES, lambda trial: 1e9)
    made = Scheduler(backend, classify=classify_by_code, save=lambda trial: None)
    for number in range(QUEUED):
        made.submit(make_trial(number, mixed(draw)))
    made.poll()
    taken = []
    for _ in range(repeats):
        before = time.perf_counter()
        made.poll()
        taken.append(time.perf_counter() - before)
    return statistics.median(taken) * 1e6


def main() -> None:
    """Print all figures."""
    for order in (BACKFILL, STRICT):
        ratios = [makespan(order, seed) for seed in range(5)]
        print(f"makespan / lower bound, {order}: median {statistics.median(ratios):.3f}, worst {max(ratios):.3f} of 5")
    print(f"one admission decision, {QUEUED} queued: {decision():.0f} us")


if __name__ == "__main__":
    main()
