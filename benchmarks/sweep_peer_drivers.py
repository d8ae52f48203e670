"""The same fake trials driven by chord_exp and by Ray Tune, each as its documentation says.

    python benchmarks/sweep_peer_drivers.py CONTENDER start|resume FOLDER WORDS_OF_A_TRIAL...

Run by sweep_peers.py, with RAY_ADDRESS (and CHORD_BENCH_JOBS, of the Jobs API) of a head. Contenders:
    chord_exp       each trial a job, admitted with all its GPUs
    tune            a placement group of all its GPUs for each trial, which its actors draw from
    tune_reserved   as tune, the trial being a program of its own that joins the cluster, as Trinity-RFT is
    tune_free       the same, but the trial reserves no GPU in Tune
Tune saves a checkpoint with each `save` steps, tries a trial again twice, and resumes by `Tuner.restore`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fake_trials import Words, command, fake_command, launch_of, work


def chord_exp(action: str, folder: Path, trials: list[Words], kind: str) -> int:
    """Sweep by chord_exp's Ray backend."""
    import hydra

    from chord_exp.config import compose
    from chord_exp.sweep import run
    from chord_exp.sweep.backends import ray_jobs
    from chord_exp.sweep.folder import SweepFolder
    from chord_exp.sweep.scheduling.resources import Footprint
    from chord_exp.sweep.scheduling.trial import TrialRequest
    from chord_exp.sweep.settings import Settings

    ray_jobs.worker_command = fake_command(ray_jobs.worker_command)
    if action == "resume":
        return run.resume(SweepFolder(folder)).exit_code
    compose.register_schema()
    with hydra.initialize_config_module("chord_exp.conf", version_base="1.3"):
        launcher = hydra.compose("config", ["hydra/launcher=ray"], return_hydra_config=True).hydra.launcher
    settings = Settings.read({**launcher, "address": os.environ["CHORD_BENCH_JOBS"]})
    requests = [
        TrialRequest(
            number,
            "",
            folder / str(number),
            Footprint(words.gpus, 0.5, joins=True),
            launch_of(words.write(), words.steps),
        )
        for number, words in enumerate(trials)
    ]
    return run.start(SweepFolder(folder), requests, run.new_info(settings, sys.argv), "").exit_code


def ray_tune(action: str, folder: Path, trials: list[Words], kind: str) -> int:
    """Sweep by Ray Tune."""
    import ray
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        words, place = trials[config["number"]], folder / str(config["number"])
        begin, checkpoint = 0, tune.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as kept:
                begin = int(Path(kept, "step").read_text())

        def on_step(step: int) -> None:
            if step % words.save:
                tune.report({"step": step})
                return
            with tempfile.TemporaryDirectory() as draft:
                Path(draft, "step").write_text(str(step))
                tune.report({"step": step}, checkpoint=tune.Checkpoint.from_directory(draft))

        if kind == "tune":
            work(place, words, begin, on_step)
            return
        # a program of its own: it has its own checkpoints, in the trial's folder
        address = ray.get_runtime_context().gcs_address
        subprocess.run(
            command("work", str(place), *words.write()), env={**os.environ, "RAY_ADDRESS": address}, check=True
        )

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        # the head of the group is the trial itself; the GPUs are for its actors
        gpus = 0 if kind == "tune_free" else trials[config["number"]].gpus
        return tune.PlacementGroupFactory([{"CPU": 0.5}, *({"GPU": 1} for _ in range(gpus))])

    ray.init()
    able = tune.with_resources(trainable, resources)
    stored = folder / "tune"
    if action == "resume":
        tuner = tune.Tuner.restore(str(stored), able, resume_unfinished=True, resume_errored=True)
    else:
        tuner = tune.Tuner(
            able,
            param_space={"number": tune.grid_search(list(range(len(trials))))},
            run_config=tune.RunConfig(
                name="tune", storage_path=str(folder), failure_config=tune.FailureConfig(max_failures=2), verbose=1
            ),
        )
    return int(tuner.fit().num_errors > 0)


def main() -> int:
    """Drive; returns the exit code."""
    contender, action, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    trials = [Words.read(words.split()) for words in sys.argv[4:]]
    drive = chord_exp if contender == "chord_exp" else ray_tune
    return drive(action, folder, trials, contender)


if __name__ == "__main__":
    sys.exit(main())
