"""A sweep of fake trials as a process of its own, to be killed: `fake_sweep.py SWEEP_DIR start|resume JSON`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml
from launching import fake_launch

from chord_exp.sweep import run
from chord_exp.sweep.backends import local, ray_jobs
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.scheduling.resources import Footprint
from chord_exp.sweep.scheduling.trial import Trial, TrialRequest
from chord_exp.sweep.settings import Settings
from chord_exp.sweep.trials.labels import folder_name, label

TRIAL = str(Path(__file__).with_name("fake_trial.py"))
LAUNCHERS = Path(__file__).parents[2] / "conf" / "hydra" / "launcher"
DEFAULTS = yaml.safe_load((LAUNCHERS / "local.yaml").read_text(encoding="utf-8"))


def with_fake(command):
    """The same command line with the fake one in place of the worker's module."""

    def changed(trial: Trial) -> list[str]:
        words = command(trial)
        at = words.index("-m")
        return [*words[:at], TRIAL, *words[at + 2 :]]

    return changed


def main() -> int:
    folder, action, text = SweepFolder(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
    local.worker_command = with_fake(local.worker_command)
    ray_jobs.worker_command = with_fake(ray_jobs.worker_command)
    if action == "resume":
        return run.resume(folder).exit_code
    given = json.loads(text)
    settings = Settings.read({**DEFAULTS, **given["settings"]})
    requests = []
    for number, words in enumerate(given["trials"]):
        name = label({"n": str(number)})
        gpus = int(words.get("gpus", 0))
        footprint = Footprint(gpus, float(words.pop("cpus", 0.5)), 0.0, joins=gpus > 0)
        launch = fake_launch([f"{key}={value}" for key, value in words.items()], int(words["steps"]))
        run_dir = folder.path / folder_name(number, name)
        requests.append(TrialRequest(number, name, run_dir, footprint, launch))
    return run.start(folder, requests, run.new_info(settings, sys.argv), "").exit_code


if __name__ == "__main__":
    sys.exit(main())
