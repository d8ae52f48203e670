"""What a sweep costs beside its trials: `python benchmarks/sweep_launch.py [--trials 24] [--no-ray]`, minutes.

Launch: fake trials (`fake_trials.py`: two steps of 0.05 s), swept and bare in turns, medians of the differences.
A swept trial is all from making its folder to its judgement: the real worker with its imports, configuration and lock,
the backend that starts and follows it, and every `trial.json`. Bare is
- on one machine: a process that does the trial and nothing else; and `python -m chord_exp`, up to where it would train;
- on Ray: a job of that same process, asked for its state every `BARE_POLL` seconds, on the same head.

The same by the whole command line: seconds from one trial's start to the next one's, and before the first.
Admission: a poll in which a trial ends and the next one starts, with 10,000 queued, without writing `trial.json`.
Memory: of the sweep's process while its trials go by.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import random
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import yaml
from fake_trials import Words, command, fake_command, launch_of, run
from sweep_scheduler import MACHINES, QUEUED, FakeMachines, classify_by_code, make_trial, mixed, run_to_end

from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.sweep import run as sweep_run
from chord_exp.sweep.backends import ray_jobs
from chord_exp.sweep.backends.local import LocalProcesses, worker_command
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.scheduling.backend import Backend, Exit
from chord_exp.sweep.scheduling.resources import Footprint, Node
from chord_exp.sweep.scheduling.scheduler import POLL_SECONDS, Limits, Scheduler
from chord_exp.sweep.scheduling.trial import SUCCEEDED, Trial, TrialRequest
from chord_exp.sweep.settings import Settings

ROOT = Path(__file__).parents[1]
LOCAL_AIM, RAY_AIM = 0.3, 0.5
BARE_POLL = 0.02
SAMPLE_SECONDS = 0.2
SIMULATED = 2000
MIB = 2**20
SETTINGS = yaml.safe_load((ROOT / "conf" / "hydra" / "launcher" / "local.yaml").read_text(encoding="utf-8"))


def timed(words: Sequence[str]) -> float:
    """Seconds of a command."""
    before = time.perf_counter()
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}")
    return time.perf_counter() - before


class Swept:
    """A sweep by the command line, its trials one at a time."""

    def __init__(self, folder: Path, count: int, *words: str) -> None:
        """Run it to its end."""
        self.folder = folder
        words = (f"seed=range(0,{count})", f"hydra.sweep.dir={folder}", "hydra.launcher.max_concurrent=1", *words)
        began = time.time()
        with open(folder.with_suffix(".log"), "w") as log:
            process = subprocess.Popen(command("sweep", *words), stdout=log, stderr=subprocess.STDOUT)
        seen = psutil.Process(process.pid)
        samples = []
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                samples.append((time.time(), seen.memory_info().rss))
            time.sleep(SAMPLE_SECONDS)
        if process.returncode:
            raise SystemExit(folder.with_suffix(".log").read_text())
        trials = SweepFolder(folder).trials()
        assert all(trial.state == SUCCEEDED and trial.attempt == 1 for trial in trials)
        starts = sorted(trial.started or 0.0 for trial in trials)
        # seconds before the first trial; of each trial, the last one left out: nothing starts after it
        self.before = starts[0] - began
        self.each = [later - earlier for earlier, later in itertools.pairwise(starts)]
        # MiB when so many per cent of the trials had been started
        self.memory = {}
        for share in (10, 50, 100):
            at = starts[max(0, round(share / 100 * count) - 1)]
            self.memory[share] = next((rss for when, rss in samples if when >= at), samples[-1][1]) / MIB


@dataclass(frozen=True)
class Took:
    """What something took."""

    seconds: float
    # of CPU, of this process and of the children that ended meanwhile
    cpu: float = 0.0


def took(act: Callable[[], object]) -> Took:
    """Do something and say what it took."""

    def cpu() -> float:
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    before, used = time.perf_counter(), cpu()
    act()
    return Took(time.perf_counter() - before, cpu() - used)


class OneByOne:
    """A sweep of fake trials that are asked for one at a time, so that bare ones can be timed in between."""

    def __init__(self, folder: Path, backend: Backend, launch: LaunchSpec) -> None:
        """
        Args:
            launch: of every trial.
        """
        self._folder, self._launch, self._count = SweepFolder(folder), launch, 0
        self._scheduler = Scheduler(backend, Limits())

    def trial(self) -> None:
        """Run the next one: its folder is made, it is started, followed and judged."""
        number, self._count = self._count, self._count + 1
        run_dir = self._folder.path / str(number)
        launch = replace(self._launch, overrides=[f"seed={number}"])
        made = self._folder.add(TrialRequest(number, "", run_dir, Footprint(0, 1.0), launch))
        run_to_end(self._scheduler, [made])
        assert made.state == SUCCEEDED and made.attempt == 1, made.error


def bare_job(client: Any, run_dir: Path) -> None:
    """A job of the trial's process alone."""
    job = client.submit_job(entrypoint=f"exec {shlex.join(command('work', str(run_dir)))}")
    while not client.get_job_status(job).is_terminal():
        time.sleep(BARE_POLL)
    assert str(client.get_job_status(job)) == "SUCCEEDED", client.get_job_logs(job)


def tell(title: str, swept: list[Took], bare: list[Took], aim: float | None, *, cpu: bool = True) -> None:
    """Print medians; swept and bare ones were made in turns."""
    more = statistics.median(one.seconds - other.seconds for one, other in zip(swept, bare, strict=True))
    one, other = (statistics.median(took.seconds for took in each) for each in (swept, bare))
    text = f"  over {title}: {more:+.3f} s ({one:.3f} and {other:.3f}, {one / other:.2f} times)"
    if cpu:
        text += f", of CPU {statistics.median(a.cpu - b.cpu for a, b in zip(swept, bare, strict=True)):+.3f} s"
    if aim is not None:
        text += f"; aim {aim} s: {'met' if more <= aim else 'MISSED'}"
    print(text)


def tell_memory(swept: Swept) -> None:
    """Print the memory of the sweep's process."""
    print("  memory of its process:", ", ".join(f"{mib:.2f} MiB at {share}%" for share, mib in swept.memory.items()))


def local(place: Path, count: int, data: list[str]) -> None:
    """Trials on this machine."""
    # the first one prepares the data for all
    timed(command("bare", f"hydra.run.dir={place / 'bare'}", *data))
    few, many = Swept(place / "few", 4, *data), Swept(place / "many", count, *data)
    launch = LaunchSpec.load(next(few.folder.glob("0_*")))
    backend = LocalProcesses(fake_command(worker_command), Node("here", 0, 1.0))
    sweep = OneByOne(place / "local", backend, launch)
    swept, work, bare = [], [], []
    for number in range(count):
        swept.append(took(sweep.trial))
        work.append(took(lambda: timed(command("work", str(place / f"work_{number}")))))  # noqa: B023
        bare.append(took(lambda: timed(command("bare", f"hydra.run.dir={place / f'bare_{number}'}", *data))))  # noqa: B023
    print(f"{count} trials on this machine, a trial")
    tell("a process that does nothing else", swept, work, LOCAL_AIM)
    tell("python -m chord_exp", swept, bare, None)
    each = (many.before - few.before) / (count - 4)
    print(f"  by the command line {statistics.median(many.each):.3f} s a trial, {many.before:.1f} s before the first,")
    print(f"  of which each trial adds {each:.3f} s: it is composed and checked before anything starts")
    tell_memory(many)


def on_ray(place: Path, count: int, data: list[str]) -> None:
    """Trials on a Ray head of our own, on loopback."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    folder = SweepFolder(place / "head")
    folder.path.mkdir()
    settings = Settings.read({**SETTINGS, "backend": "ray", "num_gpus": 4, "num_cpus": 8})
    head = ray_jobs.start_head(folder, settings)
    try:
        from ray.job_submission import JobSubmissionClient

        client = JobSubmissionClient(head.address)
        by_line = Swept(place / "by_line", count, "hydra/launcher=ray", f"hydra.launcher.address={head.address}", *data)
        launch = LaunchSpec.load(next(by_line.folder.glob("0_*")))
        backend = ray_jobs.RayJobs(
            client, head.address, "bench", command=fake_command(ray_jobs.worker_command), say=print
        )
        sweep = OneByOne(place / "ray", backend, launch)
        swept, bare = [], []
        for number in range(count):
            swept.append(took(sweep.trial))
            bare.append(took(lambda: bare_job(client, place / f"job_{number}")))  # noqa: B023
        backend.close()
    finally:
        head.stop()
    print(f"{count} trials on Ray, a trial")
    tell("a job that does nothing else", swept, bare, RAY_AIM, cpu=False)
    print(f"  by the command line {statistics.median(by_line.each):.3f} s a trial")
    tell_memory(by_line)


def admission(repeats: int = 500) -> tuple[float, float]:
    """Median and largest microseconds of a poll that starts a trial, 10,000 queued."""
    draw = random.Random(0)
    backend = FakeMachines(MACHINES, lambda trial: draw.lognormvariate(6, 0.7))
    made = Scheduler(backend, classify=classify_by_code, save=lambda trial: None)
    number = 0
    taken: list[float] = []
    made.poll()
    while len(taken) < repeats:
        while made.queued < QUEUED:
            made.submit(make_trial(number, mixed(draw)))
            number += 1
        started = len(backend.starts)
        before = time.perf_counter()
        made.poll()
        seconds = time.perf_counter() - before
        # the first fills the empty machines
        if len(backend.starts) > started > 0:
            taken.append(seconds)
        backend.wait(POLL_SECONDS)
    return statistics.median(taken) * 1e6, max(taken) * 1e6


class Leaving(FakeMachines):
    """Simulated trials that leave what real ones do; notes this process's memory as they start."""

    def __init__(self, count: int) -> None:
        super().__init__(MACHINES, lambda trial: 60.0 + trial.number % 7, lambda trial: Exit(0))
        self._count = count
        self.memory: dict[int, float] = {}

    def start(self, trial: Trial) -> str:
        """Leave a record of success, and metrics."""
        run(None, trial.run_dir, Words(steps=1, seconds=0.0).write())
        (trial.run_dir / "metrics.jsonl").write_text('{"step": 1, "source": "trainer", "actor/mu": 0.5}\n' * 20)
        (trial.run_dir / "logs").mkdir(exist_ok=True)
        share = 100 * (len(self.starts) + 1) // self._count
        if share in (10, 50, 100):
            self.memory.setdefault(share, psutil.Process().memory_info().rss / MIB)
        return super().start(trial)


def simulated_memory(place: Path, count: int) -> dict[int, float]:
    """MiB of this process at 10, 50 and 100% of a sweep with real folders, judgement and table, without processes."""
    folder = SweepFolder(place / f"simulated_{count}")
    backend = Leaving(count)
    requests = [
        TrialRequest(number, "", folder.path / str(number), Footprint(2), launch_of([f"seed={number}"], 1))
        for number in range(count)
    ]
    kept = sweep_run.make_backend
    sweep_run.make_backend = lambda *given: contextlib.closing(backend)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            sweep_run.start(folder, requests, sweep_run.new_info(Settings.read(SETTINGS), []), "")
    finally:
        sweep_run.make_backend = kept
    return backend.memory


def memory(place: Path) -> None:
    """Print the memory of a long sweep."""
    found = simulated_memory(place, SIMULATED)
    growth = (found[100] - found[10]) / (0.9 * SIMULATED) * 1000
    print(f"{SIMULATED} simulated trials:", ", ".join(f"{mib:.2f} MiB at {share}%" for share, mib in found.items()))
    print(f"  {growth:+.2f} MiB for each 1,000 trials that ended")


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=24, help="real trials of each kind")
    parser.add_argument("--no-ray", action="store_true", help="this machine only")
    parser.add_argument("--only", default="memory,admission,local,ray")
    given = parser.parse_args()
    wanted = given.only.split(",")
    with tempfile.TemporaryDirectory(prefix="chord-bench-") as scratch:
        place = Path(scratch)
        data = [f"data.input_dir={ROOT / 'sft_data'}", f"data.out={place / 'prepared'}"]
        # memory first: what others left free would hide its growth
        parts: dict[str, Callable[[], None]] = {
            "memory": lambda: memory(place),
            "admission": lambda: print(
                "one poll that starts a trial, {} queued: {:.0f} us, at most {:.0f}".format(QUEUED, *admission())
            ),
            "local": lambda: local(place, given.trials, data),
            "ray": lambda: on_ray(place, given.trials, data),
        }
        for name, measure in parts.items():
            if name in wanted and not (name == "ray" and given.no_ray):
                measure()
                sys.stdout.flush()


if __name__ == "__main__":
    main()
