"""A sweep from its command line: a grid, every trial of which is checked before the first starts, or tuning."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from chord_exp import actions
from chord_exp.config.composer import ComposedExperiment, Composer
from chord_exp.errors import ConfigError
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.run import new_info, start
from chord_exp.sweep.settings import NODE, Settings
from chord_exp.sweep.trials.labels import labels
from chord_exp.sweep.trials.request import TrialRequests, refuse_equal
from chord_exp.utils.files import claim_folder
from chord_exp.utils.text import warn

SWEEPER = "hydra.sweeper"


def run_sweep(composer: Composer) -> int:
    """Run the sweep that a command line asks for; return the exit code.

    Raises:
        ConfigError, DataError: a trial cannot be run; nothing has started then.
    """
    sweeper = composer.base.hydra.sweeper
    if OmegaConf.select(sweeper, "_target_") is None:
        from chord_exp.sweep.tune.sweeper import tune

        if OmegaConf.select(composer.base, "action") != "run":
            return actions.perform(composer.run())
        return tune(composer)
    _refuse_others(sweeper)
    return _grid(composer)


def launcher_settings(config: DictConfig) -> Settings:
    """Return the checked settings of `hydra.launcher`.

    Raises:
        ConfigError: a value out of its range, or a launcher that is not ours.
    """
    values = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    if not isinstance(values, dict) or "_target_" in values:
        name = config.hydra.runtime.choices.get("hydra/launcher")
        raise ConfigError(
            f"hydra/launcher={name} does not run experiments",
            NODE,
            "use hydra/launcher=local, with hydra.launcher.max_concurrent=1 for one after the other, or ray",
        )
    return Settings.read({str(key): value for key, value in values.items()})


def new_sweep_dir(composer: Composer) -> Path:
    """Make the folder of a sweep where the user named none, and one that is nobody else's."""
    folder, chosen = composer.sweep_dir()
    return folder if chosen else claim_folder(folder)


def _refuse_others(sweeper: DictConfig) -> None:
    if not str(sweeper._target_).endswith(".BasicSweeper"):
        what = f"{sweeper._target_} does not sweep experiments"
        raise ConfigError(what, SWEEPER, "use hydra/sweeper=optuna to tune, or leave it out for a grid")
    if sweeper.max_batch_size is not None:
        key = f"{SWEEPER}.max_batch_size"
        raise ConfigError("sweeps are not cut into batches", key, f"say by {NODE}.max_concurrent how many run at once")


def _grid(composer: Composer) -> int:
    jobs = composer.grid()
    names = labels(jobs)

    def compose_all(folder: Path) -> list[ComposedExperiment]:
        return [composer.trial(job, n, name, folder) for n, (job, name) in enumerate(zip(jobs, names, strict=True))]

    wanted, chosen = composer.sweep_dir()
    if chosen:
        SweepFolder(wanted).refuse_used()
    experiments = compose_all(wanted)
    asked = {experiment.command.action for experiment in experiments}
    if "run" not in asked:
        return max(actions.perform(experiment) for experiment in experiments)
    if other := sorted(asked - {"run"}):
        raise ConfigError(f"action={other[0]} is no trial", "action", "leave it out of a sweep")
    settings = launcher_settings(composer.base)
    requests = TrialRequests(settings.cpus_per_trial, settings.memory_per_trial)
    folder = SweepFolder(new_sweep_dir(composer))
    try:
        if folder.path != wanted:
            # another sweep of this name took the folder in the same second
            experiments = compose_all(folder.path)
        numbered = enumerate(zip(experiments, names, strict=True))
        asked_for = [requests.make(experiment, number, name) for number, (experiment, name) in numbered]
        refuse_equal(asked_for)
        warn(dict.fromkeys(warning for request in asked_for for warning in request.launch.warnings))
        info = new_info(settings, composer.asked.words)
        return start(folder, asked_for, info, OmegaConf.to_yaml(composer.base)).exit_code
    except BaseException:
        if not folder.exists():
            folder.abandon()
        raise
