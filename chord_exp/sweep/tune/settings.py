"""The settings of a tuned sweep. Values live in conf/hydra/sweeper/optuna.yaml and in the experiments named tune_*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chord_exp.config import hydra_node
from chord_exp.errors import ConfigError
from chord_exp.experiment.field_checks import check_min, one_of
from chord_exp.run_files import metrics

NODE = "hydra.sweeper"
SAMPLERS = ("tpe", "random", "grid", "cmaes")
PRUNERS = ("asha", "hyperband", "median", "none")
BEST, LAST = "best", "last"
DIRECTIONS = {"maximize": True, "minimize": False}
# short names for the metrics that are tuned for most often
SHORT = {"accuracy": metrics.ACCURACY, "reward": metrics.REWARD, "loss": "actor/loss"}


@dataclass(frozen=True)
class Objective:
    """A metric of metrics.jsonl and which way is better."""

    key: str
    maximize: bool

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read `maximize METRIC` or `minimize METRIC`; `accuracy`, `reward` and `loss` need no direction.

        Raises:
            ConfigError: it says no direction.
        """
        direction, _, name = str(text).strip().rpartition(" ")
        key = SHORT.get(name, name)
        if direction in DIRECTIONS and key:
            return cls(key, DIRECTIONS[direction])
        if not direction and key in metrics.HIGHER_IS_BETTER:
            return cls(key, metrics.HIGHER_IS_BETTER[key])
        raise _refusal("objectives", f"{text!r} is no objective", f"write 'maximize {name or 'accuracy'}' or minimize")

    def __str__(self) -> str:
        names = {key: name for name, key in SHORT.items()}
        return f"{'maximize' if self.maximize else 'minimize'} {names.get(self.key, self.key)}"


@dataclass(frozen=True)
class TuneSettings:
    """The keys of `hydra.sweeper`.

    Raises:
        ConfigError: an unknown key, a value out of its range, or two that exclude each other.
    """

    # how points are chosen: tpe, random, grid or cmaes
    sampler: str
    # how unpromising trials are stopped early: asha, hyperband, median or none
    pruner: str
    # points to try; null: the whole grid
    n_trials: int | None
    # metrics and their directions
    objectives: list[str]
    # what counts of a trial: its best value after step 0, or its last
    objective_value: str
    # seed of the sampler
    seed: int
    # points at random before the sampler learns from results, and trials before the median pruner judges
    n_startup_trials: int
    # steps before the first trial is judged
    min_steps: int
    # asha, hyperband: one in so many trials goes on to so many times the steps
    reduction_factor: int
    # experiment whose newest finished sweep, if there is one, gives this one the values to start from
    warm_start: str | None
    # folder of a tuned sweep that gives the values to start from; none: the configuration's own; null: see `warm_start`
    start_from: str | None
    # the space: Hydra's sweep words by key
    params: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of(f"{NODE}.sampler", self.sampler, SAMPLERS)
        one_of(f"{NODE}.pruner", self.pruner, PRUNERS)
        one_of(f"{NODE}.objective_value", self.objective_value, (BEST, LAST))
        check_min(self, f"{NODE}.", 0, "seed", "n_startup_trials")
        check_min(self, f"{NODE}.", 1, "n_trials", "min_steps")
        check_min(self, f"{NODE}.", 2, "reduction_factor")
        if self.n_trials is None and self.sampler != "grid":
            raise _refusal("n_trials", f"sampler={self.sampler} never ends by itself", "give a number")
        count = len(self.targets)
        if count == 0:
            raise _refusal("objectives", "there is none", "write [maximize accuracy]")
        if count > 1 and self.pruner != "none":
            raise _refusal(
                "pruner",
                f"pruner={self.pruner} with {count} objectives: Optuna prunes for one objective only",
                "set hydra.sweeper.pruner=none, or give one objective",
            )
        if count > 1 and self.sampler == "cmaes":
            raise _refusal("sampler", f"cmaes takes one objective, not {count}", "use hydra.sweeper.sampler=tpe")

    @property
    def targets(self) -> list[Objective]:
        """The objectives."""
        return [Objective.parse(text) for text in self.objectives]

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> TuneSettings:
        """Read the node `hydra.sweeper`."""
        return hydra_node.read(cls, NODE, values)


def _refusal(key: str, what: str, fix: str) -> ConfigError:
    return ConfigError(f"{NODE}.{key}: {what}", f"{NODE}.{key}", fix)
