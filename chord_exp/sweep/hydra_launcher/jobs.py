"""Between Hydra's launcher interface and a sweep: jobs become requests, ended trials become job returns."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict

from chord_exp.errors import INTERRUPTED, RunFailed
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.hydra_launcher.labels import folder_name, labels
from chord_exp.sweep.hydra_launcher.trial_request import CheckedJob, Requests, check
from chord_exp.sweep.run import new_info, start
from chord_exp.sweep.scheduling.trial import PRUNED, SUCCEEDED, Trial
from chord_exp.sweep.settings import Settings


def launch(
    config: DictConfig, loader: ConfigLoader, settings: Mapping[str, Any], jobs: list[list[str]], first: int
) -> list[JobReturn]:
    """Run the jobs of a sweep; all are composed and checked before the first starts.

    Args:
        config: the sweep's configuration, with Hydra's node.
        jobs: the overrides of each job.
        first: number of the first of them in the sweep.

    Raises:
        ConfigError, DataError: a job cannot be run; nothing has started then.
        SystemExit: the sweep was stopped.
    """
    setup_globals()
    given = Settings.read(settings)
    # a sweep in batches (hydra.sweeper.max_batch_size) has a folder for each
    place = Path(str(config.hydra.sweep.dir))
    folder = SweepFolder(place if first == 0 else place / f"from_{first}")
    folder.refuse_used()
    making = Requests(given.cpus_per_trial, given.memory_per_trial)
    try:
        composed = [
            compose_job(config, loader, overrides, first + index, name, folder.path)
            for index, (overrides, name) in enumerate(zip(jobs, labels(jobs), strict=True))
        ]
        # a job that is refused leaves no data of those before it
        requests = [making.make(checked) for checked, _ in composed]
    except BaseException:
        folder.abandon()  # Hydra has made it
        raise
    finished = start(folder, requests, new_info(given, sys.argv[1:]))
    if finished.interrupted:
        raise SystemExit(INTERRUPTED)
    return [_returned(trial, job) for trial, (_, job) in zip(finished.trials, composed, strict=True)]


def compose_job(
    config: DictConfig,
    loader: ConfigLoader,
    overrides: Sequence[str],
    number: int,
    label: str,
    sweep_dir: Path,
) -> tuple[CheckedJob, DictConfig]:
    """Compose one job and check it; returns it, and the composed configuration with Hydra's node."""
    job = loader.load_sweep_config(config, list(overrides))
    with open_dict(job):
        job.hydra.job.id = job.hydra.job.num = number
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(job)
    try:
        subdir = str(OmegaConf.select(job, "hydra.sweep.subdir")).replace("/", "-")
        task = [str(override) for override in job.hydra.overrides.task]
        experiment = job.copy()
        with open_dict(experiment):
            del experiment["hydra"]
        # a name that the user gave to the folders is left alone
        chosen = any(str(word).startswith("hydra.sweep.subdir=") for word in job.hydra.overrides.hydra)
        run_dir = sweep_dir / (subdir if chosen else folder_name(subdir, label))
        return check(experiment, number, label, run_dir, task), job
    finally:
        HydraConfig.instance().cfg = before


def _returned(trial: Trial, job: DictConfig) -> JobReturn:
    result = JobReturn()
    result.overrides = trial.overrides
    result.hydra_cfg = OmegaConf.masked_copy(job, "hydra")
    result.cfg = OmegaConf.masked_copy(job, [str(key) for key in job if key != "hydra"])
    result.working_dir = str(trial.run_dir)
    result.task_name = str(job.hydra.job.name)
    good = trial.state in (SUCCEEDED, PRUNED)
    result.status = JobStatus.COMPLETED if good else JobStatus.FAILED
    result.return_value = (
        0 if good else RunFailed(f"trial {trial.name} {trial.state}: {trial.error}", str(trial.run_dir))
    )
    return result
