"""One run as a job of a Ray cluster, `hydra/launcher=ray` without `-m`: it goes on when who started it has ended.

The job is what a trial of a sweep is: the same worker, the same files, the same admission. In its folder `job.json`
says on which cluster it runs, and `trial.json` how often it was started.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from chord_exp import actions
from chord_exp.config.composer import Composer
from chord_exp.errors import INTERRUPTED, ConfigError, RunFailed
from chord_exp.launch import summary
from chord_exp.launch.progress import Progress
from chord_exp.launch.run import EXIT_CODES
from chord_exp.run_files import metrics
from chord_exp.run_files.names import LOGS, METRICS
from chord_exp.run_files.record import RESUME, RUNS
from chord_exp.sweep.backends import worker
from chord_exp.sweep.backends.ray_jobs import RayJobs
from chord_exp.sweep.command import launcher_settings
from chord_exp.sweep.folder import SweepFolder, SweepInfo
from chord_exp.sweep.progress import TrialProgress
from chord_exp.sweep.run import new_info, refuse_misfit
from chord_exp.sweep.scheduling import trial as states
from chord_exp.sweep.scheduling.attempt_end import classify_attempt, read_record
from chord_exp.sweep.scheduling.scheduler import GRACE, Scheduler
from chord_exp.sweep.scheduling.trial import Trial
from chord_exp.sweep.settings import Settings
from chord_exp.sweep.trials.request import TrialRequests
from chord_exp.utils.files import claim_folder, write_atomically
from chord_exp.utils.text import warn

JOB, KIND = "job.json", "job"
LOOK_SECONDS = 0.5


def run_as_job(composer: Composer) -> int:
    """Submit the run of a command line and follow it; return its exit code, 130 where only the following ended.

    Raises:
        ConfigError, DataError: it cannot be run; nothing was submitted then.
    """
    experiment = composer.run()
    if experiment.command.action != "run":
        return actions.perform(experiment)
    if experiment.spec.resume:
        fix = f"{RESUME} {experiment.run_dir} goes on with it, where it ran before"
        raise ConfigError("resume=true does not submit a job", "resume", fix)
    actions.refuse_folder(experiment)
    settings = launcher_settings(composer.base)
    requests = TrialRequests(settings.cpus_per_trial, settings.memory_per_trial)
    request = requests.make(experiment, 0, "")
    warn(request.launch.warnings)
    if not experiment.run_dir_chosen:
        experiment = replace(experiment, run_dir=claim_folder(experiment.run_dir))
        request = requests.make(experiment, 0, "")
    folder = SweepFolder(experiment.run_dir)
    info = new_info(settings, composer.asked.words, KIND)
    trial = folder.add(request)
    write_atomically(folder.path / JOB, json.dumps(asdict(info), indent=1))
    try:
        with _connected(settings, folder, info) as backend:
            refuse_misfit(Scheduler(backend, settings.limits), request)
            return _start_and_follow(backend, trial)
    except ConfigError:
        # refused before it began: nothing stays of it
        shutil.rmtree(folder.path)
        raise


def resume(run_dir: Path) -> int:
    """Follow the job of a folder, or submit it again from its last checkpoint; return the run's exit code."""
    info, trial = read(run_dir)
    with _connected(Settings.read(info.settings), SweepFolder(run_dir), info) as backend:
        if _goes_on(backend, trial):
            return follow(backend, trial)
        if trial.state == states.SUCCEEDED:
            return _conclude(Console(), trial)
        return _start_and_follow(backend, trial)


def stop(run_dir: Path, *, at_once: bool) -> bool:
    """Have the job finish its step, save and end, and wait for that; return whether there was one to stop."""
    info, trial = read(run_dir)
    with _connected(Settings.read(info.settings), SweepFolder(run_dir), info) as backend:
        if not _goes_on(backend, trial):
            return False
        backend.stop(trial, 0.0 if at_once else GRACE)
        while _goes_on(backend, trial):
            backend.wait(LOOK_SECONDS)
        return True


def read(run_dir: Path) -> tuple[SweepInfo, Trial]:
    """Return what the folder of a job says of it.

    Raises:
        ConfigError, ChordExpError: there is none, or it is damaged.
    """
    try:
        info = SweepInfo(**json.loads((run_dir / JOB).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{run_dir / JOB} cannot be read: {error}", str(run_dir)) from error
    return info, Trial.load(run_dir)


@contextmanager
def _connected(settings: Settings, folder: SweepFolder, info: SweepInfo) -> Iterator[RayJobs]:
    """The cluster of the job. A head that was started for it ends with the job, not with this program."""
    backend = RayJobs.connect(settings, folder, info.id)
    try:
        yield backend
    finally:
        backend.close(keep_head=Trial.load(folder.path).state in states.ACTIVE)


def _goes_on(backend: RayJobs, trial: Trial) -> bool:
    """Whether the trial's job has not ended; an end is noted."""
    if trial.state not in states.ACTIVE:
        return False
    ended = backend.ended([trial])
    if not ended:
        return True
    end = classify_attempt(trial, ended[0][1])
    trial.error, trial.ended = end.error, backend.now()
    trial.move(end.state)
    trial.save()
    return False


def _start_and_follow(backend: RayJobs, trial: Trial) -> int:
    if trial.state != states.QUEUED:
        trial.move(states.QUEUED)
    trial.attempt += 1
    trial.started, trial.ended, trial.error = backend.now(), None, ""
    trial.move(states.STARTING)
    trial.save()
    trial.handle = backend.start(trial)
    trial.move(states.RUNNING)
    trial.save()
    return follow(backend, trial)


def follow(backend: RayJobs, trial: Trial) -> int:
    """Show the run until it ends; return its exit code, 130 where Ctrl-C ends the showing alone."""
    console = Console()
    for line in (f"{trial.run_dir}", f"job {trial.handle}; Ctrl-C leaves it running, {RUNS} stop ends it"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    progress = TrialProgress(trial)
    try:
        with Progress(console, progress.state) as view:
            while _goes_on(backend, trial):
                progress.read_on()
                view.show()
                backend.wait(LOOK_SECONDS)
            progress.read_on()
            view.show()
    except KeyboardInterrupt:
        for verb in ("show", "stop", "resume"):
            console.print(f"it goes on: {RUNS} {verb} {trial.run_dir}", highlight=False, markup=False, soft_wrap=True)
        return INTERRUPTED
    return _conclude(console, trial)


def _conclude(console: Console, trial: Trial) -> int:
    """Say how the run ended; return its exit code."""
    record = read_record(trial.run_dir)
    if record is None:
        raise RunFailed(
            f"the job ended before there was a run: {trial.error}",
            str(trial.run_dir / LOGS / worker.LOG),
            f"mend it, then {RESUME} {trial.run_dir}",
        )
    summary.show(console, record, metrics.read(trial.run_dir / METRICS), trial.run_dir)
    return EXIT_CODES[record.status]
