"""The Optuna study of a tuned sweep: its journal in the sweep's folder, its sampler and its pruner."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from chord_exp.errors import ConfigError
from chord_exp.sweep.tune.settings import TuneSettings

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import JournalStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

JOURNAL = "optuna.journal"
STUDY = "sweep"
# user attributes of the study: what a resumed sweep must agree with
SPACE, OBJECTIVES = "space", "objectives"
# user attributes of a trial: why it never ran, why it failed, and that it was cut off before its folder was made
REFUSED, ERROR, LOST = "refused", "error", "lost"


class _HeldElsewhere:
    """The journal's lock: who holds `sweep.lock` is the only writer, and a killed process leaves nothing behind."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


class Journal:
    """The study, with its trials by number: those that another process asked for, too."""

    def __init__(self, folder: Path, settings: TuneSettings, planned_steps: int, attributes: Mapping[str, Any]) -> None:
        """Open the study of a sweep folder, or begin it; the caller holds the sweep's lock.

        Args:
            planned_steps: of a trial; what Hyperband spreads its brackets over.
            attributes: SPACE and OBJECTIVES.

        Raises:
            ConfigError: the study there is of another space or other objectives.
        """
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        file = folder / JOURNAL
        _end_last_line(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            backend = JournalFileBackend(str(file), lock_obj=cast(Any, _HeldElsewhere()))
            self.storage: JournalStorage = JournalStorage(backend)
            self.study: Study = optuna.create_study(
                study_name=STUDY,
                storage=self.storage,
                load_if_exists=True,
                directions=["maximize" if target.maximize else "minimize" for target in settings.targets],
                pruner=_pruner(settings, planned_steps),
            )
            # the same seed again would draw the same points again
            self.study.sampler = _sampler(settings, settings.seed + len(self.study.get_trials(deepcopy=False)))
        self._id = self.storage.get_study_id_from_name(STUDY)
        self._agree(attributes, folder)

    def _agree(self, attributes: Mapping[str, Any], folder: Path) -> None:
        known = self.study.user_attrs
        for name, value in attributes.items():
            if name not in known:
                self.study.set_user_attr(name, value)
            elif known[name] != value:
                raise ConfigError(
                    f"{folder} was tuned with other {name}: {known[name]} and not {value}",
                    "hydra.sweep.dir",
                    "repeat its command word for word, or give another folder",
                )

    def trials(self) -> list[FrozenTrial]:
        """Return all trials of the study, by number."""
        return self.study.get_trials(deepcopy=False)

    def state(self, number: int) -> FrozenTrial:
        """Return one of them, as it is now."""
        return self.trials()[number]

    def trial(self, number: int) -> Trial:
        """Return one that is not finished, whichever process asked for it: to report, prune and note something with."""
        from optuna.trial import Trial

        return Trial(self.study, self.storage.get_trial_id_from_study_id_trial_number(self._id, number))


def _sampler(settings: TuneSettings, seed: int) -> BaseSampler:
    from optuna import samplers

    if settings.sampler == "tpe":
        return samplers.TPESampler(n_startup_trials=settings.n_startup_trials, constant_liar=True, seed=seed)
    if settings.sampler == "cmaes":
        return samplers.CmaEsSampler(n_startup_trials=max(1, settings.n_startup_trials), seed=seed)
    # the points of a grid are queued beforehand, and nothing is left to choose
    return samplers.RandomSampler(seed=seed)


def _pruner(settings: TuneSettings, planned_steps: int) -> BasePruner:
    from optuna import pruners

    least, factor = settings.min_steps, settings.reduction_factor
    if settings.pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=factor)
    if settings.pruner == "hyperband":
        most = max(planned_steps, least)
        return pruners.HyperbandPruner(min_resource=least, max_resource=most, reduction_factor=factor)
    if settings.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=settings.n_startup_trials, n_warmup_steps=least - 1)
    return pruners.NopPruner()


def _end_last_line(file: Path) -> None:
    """Take away a line that a kill cut short: the next one would be glued to it."""
    if file.exists():
        data = file.read_bytes()
        if data and not data.endswith(b"\n"):
            os.truncate(file, data.rfind(b"\n") + 1)
