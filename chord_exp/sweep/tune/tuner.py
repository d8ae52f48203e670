"""Ask the study for points, give them to the scheduler, and tell the study what became of them.

Everything that matters is on disk before it is acted on, in the journal or in a trial's folder, so that a killed sweep
is taken up by `reconcile`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from chord_exp.errors import ConfigError, DataError
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.progress import SweepProgress, TrialProgress
from chord_exp.sweep.run import refuse_misfit
from chord_exp.sweep.scheduling.resources import Footprint
from chord_exp.sweep.scheduling.scheduler import GRACE, Event, Scheduler
from chord_exp.sweep.scheduling.trial import ENDED, FAILED, PRUNED, STOPPED, STOPPING, SUCCEEDED, Trial, TrialRequest
from chord_exp.sweep.tune.objective_values import objective_values
from chord_exp.sweep.tune.settings import TuneSettings
from chord_exp.sweep.tune.space import Dimension
from chord_exp.sweep.tune.study import ERROR, LOST, REFUSED, Journal

# so many points refused before any was accepted: the configuration is wrong, not the points
REFUSED_AT_START = 5


class Tuner:
    """The `each` of `run_loop` for a tuned sweep. Trials have the numbers of the study's."""

    def __init__(
        self,
        journal: Journal,
        space: Sequence[Dimension],
        settings: TuneSettings,
        total: int,
        request: Callable[[int, Mapping[str, str]], TrialRequest],
        folder: SweepFolder,
        scheduler: Scheduler,
        progress: SweepProgress,
        say: Callable[[str], None],
    ) -> None:
        """
        Args:
            total: points to try.
            request: composes and checks the experiment of a point, given its number and its override values.
            progress: of the trials; it follows the objectives.
            say: prints a line.
        """
        self._progress = progress
        self._journal, self._space, self._settings, self._total = journal, space, settings, total
        self._request, self._folder, self._scheduler, self._say = request, folder, scheduler, say
        self._footprint: Footprint | None = None
        self._accepted = 0
        self._refused = 0
        self._asked = 0

    def reconcile(self, trials: Sequence[Trial]) -> None:
        """Bring the study up to what the trials' folders say, where the sweep was cut off between the two.

        A point whose folder was never made is failed and queued again; nothing stays running that does not run.
        """
        from optuna.trial import TrialState

        by_number = {trial.number: trial for trial in trials}
        self._accepted = len(by_number)
        for frozen in self._journal.trials():
            if frozen.state != TrialState.RUNNING:
                continue
            trial = by_number.get(frozen.number)
            if trial is not None:
                self._tell(trial)
                continue
            self._journal.trial(frozen.number).set_user_attr(LOST, True)
            self._journal.study.tell(frozen.number, state=TrialState.FAIL)
            if len(frozen.params) == len(self._space):
                self._journal.study.enqueue_trial(frozen.params)
        taken = [frozen for frozen in self._journal.trials() if frozen.state != TrialState.WAITING]
        self._asked = sum(LOST not in frozen.user_attrs for frozen in taken)

    def each(self, events: Sequence[Event]) -> bool:
        """Tell, report, prune and ask; return whether more points may come."""
        for event in events:
            if event.after in ENDED:
                self._tell(event.trial)
        for trial in self._scheduler.active:
            self._report(trial)
        while self._asked < self._total and self._has_room():
            self._ask()
        return self._asked < self._total

    def settle(self, trials: Sequence[Trial]) -> None:
        """Tell what ended while the sweep was being stopped."""
        for trial in trials:
            self._tell(trial)

    def _has_room(self) -> bool:
        """A point is asked for when it can start: the later, the more results it knows of."""
        if self._scheduler.queued:
            return False
        return self._footprint is None or self._scheduler.pool.fits(self._footprint)

    def _ask(self) -> None:
        asked = self._journal.study.ask()
        self._asked += 1
        values = {dimension.key: dimension.suggest(asked) for dimension in self._space}
        try:
            request = self._request(asked.number, values)
            refuse_misfit(self._scheduler, request)
        except (ConfigError, DataError) as error:
            self._refuse(asked.number, values, error)
            return
        self._accepted += 1
        self._footprint = request.footprint
        self._scheduler.submit(self._folder.add(request))

    def _refuse(self, number: int, values: Mapping[str, str], error: Exception) -> None:
        from optuna.trial import TrialState

        self._journal.trial(number).set_user_attr(REFUSED, str(error))
        self._journal.study.tell(number, state=TrialState.FAIL)
        self._refused += 1
        point = " ".join(f"{key}={value}" for key, value in values.items())
        if self._accepted == 0 and self._refused >= min(REFUSED_AT_START, self._total):
            raise ConfigError(f"every point so far was refused; {point}: {error}", "hydra.sweeper.params")
        self._say(f"{number}: refused, {point}: {error}")

    def _read(self, trial: Trial) -> TrialProgress:
        progress = self._progress.of(trial)
        progress.read_on()
        return progress

    def _report(self, trial: Trial) -> None:
        if self._settings.pruner == "none" or trial.state == STOPPING:
            return
        values = self._read(trial).values[self._settings.targets[0].key]
        asked = self._journal.trial(trial.number)
        reported = self._journal.state(trial.number).last_step or 0
        for step in sorted(step for step in values if step > reported):
            asked.report(values[step], step)
            # the last step is all that stopping could save
            if asked.should_prune() and step < trial.planned_steps:
                self._say(
                    f"{trial.name}: not promising at step {step} ({self._settings.targets[0]}: {values[step]:.4g})"
                )
                self._scheduler.stop(trial, GRACE, stops_as=PRUNED)
                return

    def _tell(self, trial: Trial) -> None:
        """Tell the study how a trial ended; one that still goes on, or that a resume goes on with, is left."""
        from optuna.trial import TrialState

        if trial.state not in ENDED or trial.state == STOPPED:
            return
        if self._journal.state(trial.number).state != TrialState.RUNNING:
            return
        worth = objective_values(self._read(trial), self._settings.targets, self._settings.objective_value)
        if trial.state == SUCCEEDED and worth is not None:
            self._journal.study.tell(trial.number, worth)
        elif trial.state == PRUNED:
            self._journal.study.tell(trial.number, state=TrialState.PRUNED)
        else:
            missing = ", ".join(target.key for target in self._settings.targets)
            why = trial.error if trial.state == FAILED else f"it never logged {missing}"
            self._journal.trial(trial.number).set_user_attr(ERROR, why)
            self._journal.study.tell(trial.number, state=TrialState.FAIL)
