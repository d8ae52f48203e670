"""Sweeps on Ray by chord_exp, Ray Tune and hydra-ray-launcher: the same fake trials, time and what is lost.

    python benchmarks/sweep_peers.py [--only chord_exp,tune] [--scenes time,deadlock] [--hydra-ray PYTHON]

Each contender gets a fresh head with 4 logical GPUs on loopback for each scene, on ports of its own:
- time: 6 trials that each take 2 GPUs; wall time over the lower bound, which is three rounds of a trial
- deadlock: 3 trials that each take 2 GPUs and then 2 more; how many end within the limit
- driver: SIGKILL to the sweep's own process when two trials run, then its resume
- trial: SIGKILL to the process of a running trial
A trial takes its GPUs by actors of its own, as Trinity-RFT does (`fake_trials.py`). Ray Tune is measured with
trials that run inside it (`tune`), where its placement groups hold, and with trials that are programs of their own, as
a run of Trinity-RFT is; those reserve their GPUs in Tune as well, or none (`tune_reserved`, `tune_free`: the scene
`deadlock` only). hydra-ray-launcher runs its jobs as Ray tasks, whose GPUs actors of theirs cannot draw from: trials do
with the task's GPUs and make no actors (`hydra_ray`), or make them beside (`hydra_ray_reserved`, `hydra_ray_free`).

hydra-ray-launcher needs cloudpickle 2 and so an environment of its own:
    python3.11 -m venv VENV && VENV/bin/pip install "ray[default]==2.60.0" hydra-ray-launcher==1.2.2
and `--hydra-ray VENV/bin/python`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import psutil
from fake_trials import LOAD_SECONDS, Words
from rich.console import Console
from rich.table import Table
from sweep_launch import SETTINGS

from chord_exp.launch.cluster.private_ray import Head
from chord_exp.sweep.backends import ray_jobs
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.settings import Settings

HERE = Path(__file__).parent
GPUS, CPUS = 4, 8
LIMIT_SECONDS = 300.0
# a deadlock is called so after this, and the slowest that does not took a tenth of it
DEADLOCK_SECONDS = 90.0
# how long trials are watched for going on without their driver
ORPHAN_SECONDS = 10.0
CONTENDERS = ("chord_exp", "tune", "tune_reserved", "tune_free", "hydra_ray", "hydra_ray_reserved", "hydra_ray_free")
SCENES = ("time", "deadlock", "driver", "trial")
# what deadlocks, or holds GPUs twice, is not asked further
DEADLOCK_ONLY = ("tune_reserved", "tune_free", "hydra_ray_reserved", "hydra_ray_free")
SHORT, LONG, LONGER = (Words(steps, seconds=0.3, gpus=2) for steps in (5, 30, 100))


class TooLong(Exception):
    """Something did not happen within its time."""


@dataclass
class Run:
    """A sweep of a contender in a scene: its head, its folder and the process that drives it."""

    contender: str
    python: str
    folder: Path
    trials: list[Words]
    head: Head
    process: subprocess.Popen[bytes] | None = None

    def drive(self, action: str) -> None:
        """Start the driving process."""
        words = self._hydra_ray() if self.contender.startswith("hydra_ray") else self._other(action)
        with open(self.folder.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder.parent,
                env={**os.environ, "RAY_ADDRESS": self.gcs, "CHORD_BENCH_JOBS": self.head.address},
                start_new_session=True,
            )

    def _other(self, action: str) -> list[str]:
        texts = [" ".join(trial.write()) for trial in self.trials]
        return [self.python, str(HERE / "sweep_peer_drivers.py"), self.contender, action, str(self.folder), *texts]

    def _hydra_ray(self) -> list[str]:
        # as shipped it hands a memory size to ray.init, which refuses that with an address: null takes it out
        init = [f"hydra.launcher.ray.init.address='{self.gcs}'", "+hydra.launcher.ray.init.object_store_memory=null"]
        gpus = 0 if self.contender == "hydra_ray_free" else self.trials[0].gpus
        numbers = ",".join(str(number) for number in range(len(self.trials)))
        texts = "|".join(" ".join(trial.write()) for trial in self.trials)
        return [
            self.python,
            str(HERE / "sweep_peer_hydra.py"),
            "-m",
            "hydra/launcher=ray",
            *init,
            f"+hydra.launcher.ray.remote.num_gpus={gpus}",
            "+hydra.launcher.ray.remote.num_cpus=0.5",
            f"hydra.sweep.dir={self.folder}/hydra",
            f"folder={self.folder}",
            f"number={numbers}",
            f"words='{texts}'",
        ]

    @property
    def gcs(self) -> str:
        """HOST:PORT of the head's own service."""
        process = self.head.process()
        assert process is not None
        (port,) = (word.partition("=")[2] for word in process.cmdline() if word.startswith("--port="))
        return f"127.0.0.1:{port}"

    def wait(self, seconds: float) -> int:
        """The driver's exit code.

        Raises:
            TooLong: it still runs.
        """
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TooLong from None

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something.

        Raises:
            TooLong: the driver ended before, or it took too long.
        """
        deadline = time.monotonic() + LIMIT_SECONDS
        while not condition():
            assert self.process is not None
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TooLong
            time.sleep(0.1)

    def notes(self, number: int, file: str) -> list[tuple[int, int]]:
        """Step and process of each start, or of each step, of a trial."""
        try:
            lines = (self.folder / str(number) / file).read_text().splitlines()
        except OSError:
            return []
        return [(int(words[0]), int(words[2])) for words in map(str.split, lines) if len(words) == 3]

    def finished(self) -> list[int]:
        """Trials that made their last step."""
        return [
            number
            for number, trial in enumerate(self.trials)
            if (trial.steps,) in {(s,) for s, _ in self.steps(number)}
        ]

    def steps(self, number: int) -> list[tuple[int, int]]:
        """Steps of a trial, as often as they were made."""
        return self.notes(number, "steps.txt")

    def lost(self) -> str:
        """What it cost: trials that never ended, starts beyond the first, steps made twice."""
        numbers = range(len(self.trials))
        again = [step for number in numbers for step, _ in self.notes(number, "starts.txt")[1:]]
        # a trial saves with its last step
        done = sum(
            step == trial.steps
            for number, trial in enumerate(self.trials)
            for step, _ in self.notes(number, "starts.txt")[1:]
        )
        twice = sum(len(self.steps(number)) - len({step for step, _ in self.steps(number)}) for number in numbers)
        from_0 = sum(step == 0 for step in again)
        text = f"{len(self.finished())} of {len(self.trials)} ended"
        if again:
            text += f", {len(again)} started again ({from_0} from step 0, {done} that had ended), {twice} steps twice"
        return text

    def end(self) -> None:
        """Nothing stays."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.head.stop()


@contextlib.contextmanager
def running(contender: str, python: str, place: Path, trials: list[Words]) -> Iterator[Run]:
    """A head with the first driver not started yet."""
    folder = SweepFolder(Path(tempfile.mkdtemp(dir=place)))
    settings = Settings.read({**SETTINGS, "backend": "ray", "num_gpus": GPUS, "num_cpus": CPUS})
    # a peer's Ray is that of its own environment
    with mock.patch.object(sys, "executable", python):
        head = ray_jobs.start_head(folder, settings)
    run = Run(contender, python, folder.path / "sweep", trials, head)
    try:
        yield run
    finally:
        run.end()


def in_time(run: Run) -> str:
    """Six trials of 2 GPUs, two at once: seconds over the lower bound."""
    bound = 3 * (LONG.steps * LONG.seconds + 2 * LOAD_SECONDS)
    before = time.perf_counter()
    run.drive("start")
    code = run.wait(LIMIT_SECONDS)
    seconds = time.perf_counter() - before
    if code or len(run.finished()) < len(run.trials):
        return failed(run, code)
    return f"{seconds:.1f} s, {seconds / bound:.2f} x bound"


def deadlock(run: Run) -> str:
    """Three trials of 2 + 2 GPUs on 4."""
    run.drive("start")
    before = time.perf_counter()
    try:
        code = run.wait(DEADLOCK_SECONDS)
    except TooLong:
        started = sum(bool(run.notes(number, "starts.txt")) for number in range(len(run.trials)))
        return f"stuck: {started} started, {len(run.finished())} ended in {DEADLOCK_SECONDS:.0f} s"
    if code or len(run.finished()) < len(run.trials):
        return failed(run, code)
    return f"none, {time.perf_counter() - before:.1f} s"


def kill_driver(run: Run) -> str:
    """One trial has ended, two run, two wait: the driver is killed, and its resume takes over."""
    run.drive("start")
    run.until(lambda: 0 in run.finished() and all(len(run.steps(number)) > 5 for number in (1, 2)))
    assert not {1, 2} & set(run.finished()), "the trials are too short for this machine"
    assert run.process is not None
    run.process.kill()
    run.process.wait()
    made = [len(run.steps(number)) for number in (1, 2)]
    time.sleep(ORPHAN_SECONDS)
    went_on = sum(len(run.steps(number)) > before + 5 for number, before in zip((1, 2), made, strict=True))
    run.drive("resume")
    code = run.wait(LIMIT_SECONDS)
    return f"{went_on} of 2 went on; then {run.lost()}" + (f", exit code {code}" if code else "")


def kill_trial(run: Run) -> str:
    """Two run, one is killed after its 13th step."""
    run.drive("start")
    run.until(lambda: len(run.steps(1)) > 12)
    with contextlib.suppress(ProcessLookupError):
        os.kill(run.steps(1)[-1][1], signal.SIGKILL)
    code = run.wait(LIMIT_SECONDS)
    return run.lost() + (f", exit code {code}" if code else "")


def failed(run: Run, code: int) -> str:
    """What a driver's last words were."""
    said = run.folder.with_suffix(".log").read_text(errors="replace").strip().splitlines()
    return f"exit code {code}, {len(run.finished())} of {len(run.trials)} ended: {said[-1] if said else ''}"[:200]


PLAYS: dict[str, tuple[Callable[[Run], str], list[Words]]] = {
    "time": (in_time, [LONG] * 6),
    "deadlock": (deadlock, [Words(steps=2, seconds=0.2, gpus=4)] * 3),
    "driver": (kill_driver, [SHORT, LONGER, LONGER, SHORT, SHORT]),
    "trial": (kill_trial, [SHORT, LONG, LONG, SHORT]),
}


def missing(contender: str, python: str) -> str:
    """What to install for a contender; empty if it is there."""
    if contender == "chord_exp":
        return ""
    if contender.startswith("tune"):
        wanted = ("pandas", "pyarrow", "fsspec", "requests", "pydantic")
        return "" if all(find_spec(name) for name in wanted) else 'pip install "ray[tune]==2.60.0"'
    done = subprocess.run([python, "-c", "import hydra_plugins.hydra_ray_launcher"], capture_output=True)
    needs = 'python3.11 -m venv VENV && VENV/bin/pip install "ray[default]==2.60.0" hydra-ray-launcher==1.2.2'
    return "" if done.returncode == 0 else f"{needs}, then --hydra-ray VENV/bin/python"


def main() -> None:
    """Play all scenes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders")
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--hydra-ray", default=sys.executable, help="Python of an environment with hydra-ray-launcher")
    parser.add_argument("--keep", action="store_true", help="keep the folders with all logs")
    given = parser.parse_args()
    # a head on loopback is nobody else's, and takes 127.0.0.1 for its own address
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0"}
    results: dict[tuple[str, str], str] = {}
    place = Path(tempfile.mkdtemp(prefix="chord-bench-"))
    contenders, scenes = given.only.split(","), given.scenes.split(",")
    for contender, scene in itertools.product(contenders, scenes):
        python = given.hydra_ray if contender.startswith("hydra_ray") else sys.executable
        if contender in DEADLOCK_ONLY and scene != "deadlock":
            continue
        if needs := missing(contender, python):
            if scene == scenes[0] or contender in DEADLOCK_ONLY:
                print(f"{contender}: not installed: {needs}")
            continue
        play, trials = PLAYS[scene]
        if contender == "hydra_ray":
            trials = [replace(trial, own=0) for trial in trials]
        with running(contender, python, place, trials) as run:
            try:
                results[contender, scene] = play(run)
            except TooLong:
                results[contender, scene] = f"not played, or not within {LIMIT_SECONDS:.0f} s: {run.lost()}"
        print(f"{contender}, {scene}: {results[contender, scene]}", flush=True)
    table = Table(title=f"the same trials on a head with {GPUS} logical GPUs, {psutil.cpu_count()} cores")
    for column in ("", *scenes):
        table.add_column(column)
    for contender in contenders:
        table.add_row(contender, *(results.get((contender, scene), "-") for scene in scenes))
    Console(width=200).print(table)
    if given.keep:
        print(f"folders and logs: {place}")
    else:
        subprocess.run(["rm", "-rf", str(place)], check=True)


if __name__ == "__main__":
    main()
