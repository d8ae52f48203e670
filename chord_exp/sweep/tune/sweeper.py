"""A tuned sweep from its command line to its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from chord_exp.config.composer import Composer
from chord_exp.config.hydra_errors import CompositionError
from chord_exp.errors import RUN_FAILED, ConfigError
from chord_exp.sweep.command import launcher_settings, new_sweep_dir
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.progress import SweepProgress
from chord_exp.sweep.run import Finished, follow, new_info, open_backend, refuse_misfit
from chord_exp.sweep.scheduling.scheduler import Scheduler
from chord_exp.sweep.scheduling.trial import TrialRequest
from chord_exp.sweep.settings import Settings
from chord_exp.sweep.show.live import plain_console
from chord_exp.sweep.trials import labels
from chord_exp.sweep.trials.request import TrialRequests
from chord_exp.sweep.tune.best import COMPARED, BestTrial, Result, Start, counts, find_start
from chord_exp.sweep.tune.settings import TuneSettings
from chord_exp.sweep.tune.space import Dimension, dimension, grid
from chord_exp.sweep.tune.study import OBJECTIVES, SPACE, Journal
from chord_exp.sweep.tune.tuner import Tuner

KIND = "optuna"


@dataclass(frozen=True)
class Plan:
    """What a tuned sweep is, before its first trial."""

    settings: TuneSettings
    space: list[Dimension]
    # the overrides of every trial: what the sweep starts from, then what the user fixed
    fixed: list[str]
    start: Start
    # the values of COMPARED
    about: dict[str, str]
    # points to try
    total: int


def tune(composer: Composer) -> int:
    """Run a tuned sweep, or go on with the one that `hydra.sweep.dir` holds; return the exit code.

    Raises:
        ConfigError, DataError: it cannot be run.
    """
    given = launcher_settings(composer.base)
    settings = TuneSettings.read(OmegaConf.to_container(composer.base.hydra.sweeper))  # type: ignore[arg-type]
    wanted, _ = composer.sweep_dir()
    plan = make_plan(composer, settings, SweepFolder(wanted))
    folder = SweepFolder(new_sweep_dir(composer))
    requests = TrialRequests(given.cpus_per_trial, given.memory_per_trial)

    def request(number: int, values: Mapping[str, str]) -> TrialRequest:
        overrides = [*plan.fixed, *(f"{key}={value}" for key, value in values.items())]
        label = _label(values)
        return requests.make(composer.trial(overrides, number, label, folder.path), number, label)

    try:
        probe = None
        try:
            probe = request(0, _probe(plan.space))
        except CompositionError:
            raise  # no point has another key
        except ConfigError:
            pass  # this point is refused; others may not be
        return _run_to_end(plan, folder, given, probe, request, composer)
    except BaseException:
        if not folder.exists():
            folder.abandon()
        raise


def make_plan(composer: Composer, settings: TuneSettings, folder: SweepFolder) -> Plan:
    """Decide on the space and on where it starts.

    Raises:
        ConfigError: there is no space, or a key that cannot be tuned.
    """
    config = composer.base
    overrides = composer.overrides([f"{key}={value}" for key, value in settings.params.items()])
    swept = [override for override in overrides if override.is_sweep_override()]
    fixed = [str(override.input_line) for override in overrides if not override.is_sweep_override()]
    if not swept:
        raise ConfigError(
            "there is nothing to tune",
            "hydra.sweeper.params",
            "give a space, such as 'mu_peak=interval(0.1,0.9)', or experiment=tune_mu",
        )
    about = {key: str(OmegaConf.select(config, key)) for key in COMPARED}
    start = _recorded_start(folder) or find_start(settings.start_from, settings.warm_start, folder.path, about)
    taken = {override.key_or_group for override in overrides}
    started = [f"{key}={value}" for key, value in start.overrides.items() if key.lstrip("+") not in taken]
    fixed = [*started, *fixed]
    base = composer.compose(fixed)
    space = [dimension(override, lambda key: OmegaConf.select(base, key)) for override in swept]
    if settings.sampler == "cmaes" and any(axis.choices for axis in space):
        raise ConfigError(
            "cmaes takes numbers between two ends, and no choices",
            "hydra.sweeper.sampler",
            "use interval() or range() for every key, or hydra.sweeper.sampler=tpe",
        )
    total = settings.n_trials or 0
    if settings.sampler == "grid":
        size = len(grid(space))
        total = min(total or size, size)
    return Plan(settings, space, fixed, start, about, total)


def _recorded_start(folder: SweepFolder) -> Start | None:
    """What the sweep that is gone on with started from, whatever has finished since."""
    if not folder.exists():
        return None
    info = folder.info()
    if info.kind != KIND:
        raise ConfigError(
            f"{folder.path} already holds a sweep that was not tuned", "hydra.sweep.dir", "give another folder"
        )
    recorded = Result.load(folder.path).start or {}
    sweep = recorded.get("sweep")
    return Start(dict(recorded.get("overrides", {})), Path(sweep) if sweep else None, "goes on")


def _run_to_end(
    plan: Plan,
    folder: SweepFolder,
    given: Settings,
    probe: TrialRequest | None,
    request: Callable[[int, Mapping[str, str]], TrialRequest],
    composer: Composer,
) -> int:
    attributes = {
        SPACE: {axis.key: axis.describe() for axis in plan.space},
        OBJECTIVES: [str(target) for target in plan.settings.targets],
    }
    new = not folder.exists()
    info = new_info(given, composer.asked.words, KIND) if new else folder.info()
    with open_backend(given, folder, info.id) as backend:
        scheduler, trials = Scheduler(backend, given.limits), folder.trials()
        if probe is not None:
            refuse_misfit(scheduler, probe)
        planned_steps = sum(probe.stages.values()) if probe is not None else 1
        journal = Journal(folder.path, plan.settings, planned_steps, attributes)
        if new:
            if plan.settings.sampler == "grid":
                for point in grid(plan.space)[: plan.total]:
                    journal.study.enqueue_trial(point, skip_if_exists=True)
            result_of(plan, journal, Finished([], interrupted=True)).save(folder.path)
            folder.begin(info, OmegaConf.to_yaml(composer.base))
        console = plain_console()

        def say(text: str) -> None:
            console.print(text, highlight=False, markup=False, soft_wrap=True)

        say(plan.start.why)
        progress = SweepProgress(followed=[target.key for target in plan.settings.targets])
        tuner = Tuner(journal, plan.space, plan.settings, plan.total, request, folder, scheduler, progress, say)
        tuner.reconcile(trials)
        finished = follow(scheduler, folder, trials, tuner.each, console, progress)
        tuner.settle(finished.trials)
        result = result_of(plan, journal, finished)
        result.save(folder.path)
    _show(result, folder, say)
    return finished.exit_code or (0 if result.best else RUN_FAILED)


def result_of(plan: Plan, journal: Journal, finished: Finished) -> Result:
    """What the sweep has found."""
    folders = {trial.number: trial.name for trial in finished.trials}
    done = (
        [frozen for frozen in journal.study.best_trials if frozen.number in folders] if _any_complete(journal) else []
    )
    if len(plan.settings.targets) == 1:
        # of equals the first
        done = sorted(done, key=lambda frozen: frozen.number)[:1]
    # after the sweep nothing runs: what the study calls running was stopped, and a resume goes on with it
    states = [frozen.state.name.lower().replace("running", "unfinished") for frozen in journal.trials()]
    return Result(
        finished=not finished.interrupted,
        objectives=[str(target) for target in plan.settings.targets],
        best=[
            BestTrial(frozen.number, folders[frozen.number], list(frozen.values), _texts(plan, frozen.params))
            for frozen in done
        ],
        about=plan.about,
        start=plan.start.recorded(),
        trials=counts(states),
        cwd=str(Path.cwd()),
    )


def _any_complete(journal: Journal) -> bool:
    return any(frozen.state.name == "COMPLETE" for frozen in journal.trials())


def _texts(plan: Plan, params: Mapping[str, Any]) -> dict[str, str]:
    """Values of a point as overrides write them."""
    return {
        axis.key: str(params[axis.key]) if axis.choices or axis.whole else repr(float(params[axis.key]))
        for axis in plan.space
    }


def _probe(space: Sequence[Dimension]) -> dict[str, str]:
    """A point of the space: the first choice, or the lower end, of each key."""
    return {
        axis.key: axis.choices[0] if axis.choices else str(int(axis.low)) if axis.whole else repr(float(axis.low))
        for axis in space
    }


def _label(values: Mapping[str, str]) -> str:
    """A short label of a point; the exact values are in the trial's overrides."""
    short = {}
    for key, value in values.items():
        try:
            text = value if value.lstrip("-").isdigit() else f"{float(value):.3g}"
        except ValueError:
            text = value
        short[key.lstrip("+").rpartition(".")[2]] = text
    return labels.label(short)


def _show(result: Result, folder: SweepFolder, say: Callable[[str], None]) -> None:
    tally = ", ".join(f"{number} {state}" for state, number in result.trials.items())
    say(f"tuned: {tally}")
    for trial in result.best:
        values = ", ".join(f"{text} {value:.4g}" for text, value in zip(result.objectives, trial.values, strict=True))
        point = " ".join(f"{key}={value}" for key, value in trial.params.items())
        say(f"  {trial.trial}: {values}: {point}")
    if len(result.best) == 1 and result.finished:
        say(f"  start another sweep from it: hydra.sweeper.start_from={folder.path}")
