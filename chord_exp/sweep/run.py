"""A sweep from its requests to its closing table, and on again after it was cut off."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass

from rich.console import Console

from chord_exp.errors import INTERRUPTED, RUN_FAILED, SUCCEEDED, ConfigError
from chord_exp.run_files import record
from chord_exp.run_files.record import RESUME
from chord_exp.run_files.tracker_sync import sync_command
from chord_exp.sweep.backends.local import LocalProcesses
from chord_exp.sweep.folder import SweepFolder, SweepInfo
from chord_exp.sweep.progress import SweepProgress
from chord_exp.sweep.run_loop import run_loop
from chord_exp.sweep.scheduling import trial as states
from chord_exp.sweep.scheduling.backend import Backend
from chord_exp.sweep.scheduling.scheduler import Event, Scheduler
from chord_exp.sweep.scheduling.trial import Trial, TrialRequest
from chord_exp.sweep.settings import Settings
from chord_exp.sweep.show.live import Watch

GRID = "grid"
# states that a resume leaves as they are
DONE = (states.SUCCEEDED, states.PRUNED, states.FAILED)


@dataclass(frozen=True)
class Finished:
    """How a sweep ended."""

    trials: list[Trial]
    # before its end: by Ctrl-C, by a signal or by `runs stop`
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """0 when every trial succeeded or was pruned, 1 when any did not, 130 when the sweep was stopped."""
        if self.interrupted:
            return INTERRUPTED
        good = all(trial.state in (states.SUCCEEDED, states.PRUNED) for trial in self.trials)
        return SUCCEEDED if good else RUN_FAILED


@contextmanager
def open_backend(settings: Settings, folder: SweepFolder, sweep_id: str) -> Iterator[Backend]:
    """Be the process that drives a sweep, with the place where its trials run; in the end let go of both.

    A sweep that is refused before it began leaves nothing.

    Raises:
        ConfigError: another process drives it, or no cluster answers.
    """
    with folder.hold_lock():
        try:
            with make_backend(settings, folder, sweep_id) as backend:
                yield backend
        except ConfigError:
            if not folder.exists():
                folder.abandon()
            raise


def make_backend(settings: Settings, folder: SweepFolder, sweep_id: str) -> AbstractContextManager[Backend]:
    """The place where a sweep's trials run; on leaving the context it lets go of what it started.

    Raises:
        ConfigError: no cluster answers.
    """
    if settings.backend == "local":
        return closing(LocalProcesses())
    from chord_exp.sweep.backends.ray_jobs import RayJobs

    return closing(RayJobs.connect(settings, folder, sweep_id))


def new_info(settings: Settings, command: Sequence[str], kind: str = GRID) -> SweepInfo:
    """What `sweep.json` will hold of a new sweep."""
    return SweepInfo(uuid.uuid4().hex[:8], record.utc_now(), settings.as_dict(), kind, list(command))


def start(folder: SweepFolder, requests: Sequence[TrialRequest], info: SweepInfo, config: str) -> Finished:
    """Run trials in a new sweep folder.

    Args:
        config: see `SweepFolder.begin`.

    Raises:
        ConfigError: the folder holds a sweep, a trial can never start, or no cluster answers; nothing has started then.
    """
    folder.refuse_used()
    settings = Settings.read(info.settings)
    with open_backend(settings, folder, info.id) as backend:
        scheduler = Scheduler(backend, settings.limits)
        for request in requests:
            refuse_misfit(scheduler, request)
        trials = [folder.add(request) for request in requests]
        folder.begin(info, config)
        return follow(scheduler, folder, trials)


def resume(folder: SweepFolder, *, failed_too: bool = False) -> Finished:
    """Go on with a sweep whose process is no more: find what runs, finish the rest, leave what is done.

    Args:
        failed_too: try failed trials again as well.

    Raises:
        ConfigError: no sweep is there, another process drives it, or its sweeper must go on with it.
    """
    info = folder.info()
    if info.kind != GRID:
        raise ConfigError(
            f"{folder.path} is a sweep of {info.kind}, which decides on its trials as it goes",
            "SWEEP_DIR",
            f"repeat its command with hydra.sweep.dir={folder.path}",
        )
    settings = Settings.read(info.settings)
    with folder.hold_lock():
        trials = folder.trials()
        for trial in trials:
            if failed_too and trial.state == states.FAILED:
                trial.move(states.QUEUED)
                trial.infra_failures = 0
                trial.save()
        if all(trial.state in DONE for trial in trials):  # no cluster is needed to say so
            watch = Watch(folder.path.name, SweepProgress(trials))
            watch.end()
            return Finished(trials, interrupted=False)
        with make_backend(settings, folder, info.id) as backend:
            return follow(Scheduler(backend, settings.limits), folder, trials)


def follow(
    scheduler: Scheduler,
    folder: SweepFolder,
    trials: Sequence[Trial],
    each: Callable[[list[Event]], bool] | None = None,
    console: Console | None = None,
    progress: SweepProgress | None = None,
) -> Finished:
    """Take over trials, show them, and see everything to its end; prints the closing table.

    Args:
        each: see `run_loop`; trials that it submits are shown and returned as well.
        progress: where `each` reads what the trials' metrics say, so that it is read once.
    """
    progress = progress or SweepProgress()
    for trial in trials:
        progress.of(trial)
    watch = Watch(folder.path.name, progress, console)
    watch.say(f"sweep of {len(trials)} trials: {folder.path}" if trials else f"sweep: {folder.path}")
    with watch:
        scheduler.adopt(trials)
        interrupted = run_loop(scheduler, folder, watch, each)
    watch.end()
    if command := sync_command(folder.path, "*/"):
        watch.say(f"upload to WandB: {command}")
    if interrupted:
        watch.say(f"go on with: {RESUME} {folder.path}")
    return Finished([known.trial for known in progress.all()], interrupted)


def refuse_misfit(scheduler: Scheduler, request: TrialRequest) -> None:
    """A trial that would wait for ever is refused before anything starts.

    Raises:
        ConfigError: it would.
    """
    if reason := scheduler.pool.why_unschedulable(request.footprint):
        raise ConfigError(
            f"trial {request.run_dir.name} can never start: {reason}",
            "cluster",
            "choose a smaller cluster=, more machines (hydra/launcher=ray), or set hydra.launcher.cpus_per_trial and "
            "memory_per_trial where the estimate is wrong",
        )
