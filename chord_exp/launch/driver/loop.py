"""Drive Trinity's actors through one stage: what `trinity.cli.launcher` does, except that a failure is raised."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from trinity.common.config import Config
from trinity.common.constants import SyncMethod
from trinity.manager.synchronizer import Synchronizer

SHUTDOWN_SECONDS = 30
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class ActorClasses:
    """The explorer and trainer to use: local or Trinity's GPU ones."""

    explorer: Any
    trainer: Any


@dataclass
class StageResult:
    """How far a stage came, and whether a stop cut off something that was planned: steps, or an evaluation."""

    completed_steps: int
    stopped: bool


class _Stage:
    """One stage's actors and the waiting for them."""

    def __init__(self, stop: threading.Event, look: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            look: called again and again while something is waited for.
        """
        self.stop, self._look = stop, look

    def wait(self, references: Sequence[Any], on_stop: Callable[[], None] | None = None) -> bool:
        """Wait for every reference, raising the first error of any.

        Args:
            on_stop: called once when a stop is asked for; the first reference is then waited for, however long it
                takes. Without it the wait ends at once.

        Returns:
            True if a stop was asked for meanwhile.
        """
        pending, asked = list(references), False
        while pending:
            done, pending = ray.wait(pending, num_returns=1, timeout=POLL_SECONDS)
            ray.get(done)
            self._look()
            if not self.stop.is_set():
                continue
            if on_stop is None:
                return True
            if not asked:
                on_stop()
                asked = True
            if references[0] not in pending:
                return True
        return asked


def run_stage(
    config: Config,
    classes: ActorClasses,
    stop: threading.Event,
    announce: Callable[[str], None],
    look: Callable[[], None],
) -> StageResult:
    """Run one checked Trinity config to its end.

    Args:
        config: after `check_and_update`.
        stop: set it to finish the current step, save and return.
        announce: told in a few words what is going on.
        look: called again and again meanwhile.

    Raises:
        Exception: whatever ended the explorer or the trainer; `ray.exceptions.RayTaskError` carries its cause.
    """
    stage = _Stage(stop, look)
    if config.mode == "train":
        return _train_alone(stage, config, classes, announce)
    return _explore_and_train(stage, config, classes, announce)


def _explore_and_train(
    stage: _Stage, config: Config, classes: ActorClasses, announce: Callable[[str], None]
) -> StageResult:
    announce("loading models")
    explorer, trainer = classes.explorer.get_actor(config), classes.trainer.get_actor(config)
    if stage.wait([explorer.prepare.remote(), trainer.prepare.remote()]):
        return StageResult(0, stopped=True)
    announce("evaluating the base model")
    if _first_sync(stage, config, explorer, trainer):
        return StageResult(0, stopped=True)
    announce("training")
    stage.wait(
        [trainer.train.remote(), explorer.explore.remote()],
        on_stop=lambda: trainer.request_stop.remote(),
    )
    completed = ray.get(trainer.completed_steps.remote())
    stopped = _cut_short(stage, config, completed)
    if not stopped and config.buffer.explorer_input.eval_tasksets:
        announce("evaluating the trained model")
        stopped = stage.wait([explorer.evaluate.remote()])
    announce("shutting down")
    ray.wait([explorer.shutdown.remote(), trainer.shutdown.remote()], num_returns=2, timeout=SHUTDOWN_SECONDS)
    return StageResult(completed, stopped)


def _first_sync(stage: _Stage, config: Config, explorer: Any, trainer: Any) -> bool:
    """Give the explorer the trainer's weights; returns whether a stop was asked for."""
    if config.synchronizer.sync_method == SyncMethod.NCCL:
        synchronizer = Synchronizer.get_actor(namespace=config.ray_namespace)
        ray.get(synchronizer.coordinate_weight_sync_setup.remote())
        return stage.wait([explorer.sync_weight.remote(), trainer.sync_weight.remote()])
    # Trinity starts both at once: on resume the explorer may then find the synchroniser still empty and explore with
    # the base model's weights
    return stage.wait([trainer.sync_weight.remote()]) or stage.wait([explorer.sync_weight.remote()])


def _train_alone(stage: _Stage, config: Config, classes: ActorClasses, announce: Callable[[str], None]) -> StageResult:
    """A stage without rollouts (SFT): only the trainer."""
    announce("loading models")
    trainer = classes.trainer.get_actor(config)
    if stage.wait([trainer.prepare.remote()]) or stage.wait([trainer.sync_weight.remote()]):
        return StageResult(0, stopped=True)
    announce("training")
    stage.wait([trainer.train.remote()], on_stop=lambda: trainer.request_stop.remote())
    completed = ray.get(trainer.completed_steps.remote())
    ray.wait([trainer.shutdown.remote()], timeout=SHUTDOWN_SECONDS)
    return StageResult(completed, _cut_short(stage, config, completed))


def _cut_short(stage: _Stage, config: Config, completed: int) -> bool:
    """Return whether a stop ended the training; one asked for in its last step has not."""
    return stage.stop.is_set() and completed < config.trainer.total_steps


def benchmark(
    config: Config, classes: ActorClasses, stop: threading.Event, announce: Callable[[str], None], step: int
) -> bool:
    """Evaluate the base model and the checkpoint of `step`, for a stage whose training had no explorer.

    Args:
        config: a checked config in mode `bench`.

    Returns:
        Whether a stop was asked for before the end.
    """
    announce("evaluating before and after")
    explorer = classes.explorer.get_actor(config)
    stage = _Stage(stop)
    stopped = stage.wait([explorer.prepare.remote()]) or stage.wait([explorer.evaluate_checkpoint.remote(step)])
    ray.wait([explorer.shutdown.remote()], timeout=SHUTDOWN_SECONDS)
    return stopped


def score(
    config: Config,
    classes: ActorClasses,
    stop: threading.Event,
    announce: Callable[[str], None],
    steps: Sequence[int],
    write: Callable[[dict[str, Any]], None],
) -> bool:
    """Have checkpoints answer the prompts of every evaluation task set.

    Args:
        config: a checked config in mode `bench`.
        steps: of the checkpoints; 0, the model that the config names, comes first.
        write: takes each answer, with its step, and what was lost: `{"step", "sampling", "lost", "error"}`.

    Returns:
        Whether a stop was asked for before the end.
    """
    announce("loading models")
    explorer = classes.explorer.get_actor(config)
    stage = _Stage(stop)
    if stage.wait([explorer.prepare.remote()]):
        return True
    for step in steps:
        for number, taskset in enumerate(config.buffer.explorer_input.eval_tasksets):
            announce(f"{f'step {step}' if step else 'the model'}: {taskset.name} answers")
            reference = explorer.answers.remote(step, number)
            if stage.wait([reference]):
                return True
            items, lost, error = ray.get(reference)
            for item in items:
                write({"step": step, **item})
            if lost:
                write({"step": step, "sampling": taskset.name, "lost": lost, "error": error})
    ray.wait([explorer.shutdown.remote()], timeout=SHUTDOWN_SECONDS)
    return False
