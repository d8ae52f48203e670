"""The settings of a sweep: where it runs and what it may take. Values live in conf/hydra/launcher/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chord_exp.config import hydra_node
from chord_exp.experiment.field_checks import check_min, finite, one_of, require
from chord_exp.sweep.scheduling.queue import ORDERS
from chord_exp.sweep.scheduling.scheduler import Limits

NODE = "hydra.launcher"
BACKENDS = ("local", "ray")
AUTO, START = "auto", "start"


@dataclass(frozen=True)
class Settings:
    """The keys of `hydra.launcher`.

    Raises:
        ConfigError: an unknown key, or a value out of its range.
    """

    # local: processes of this machine; ray: jobs of a Ray cluster
    backend: str
    # trials at once; null: as many as fit
    max_concurrent: int | None
    # GPUs that all trials together may hold; null: all there are
    max_gpus: int | None
    # how often a trial is started again after a machine's fault
    retries: int
    # backfill or strict
    order: str
    # backfill: how many trials may start before the one whose turn it is
    patience: int | None
    # CPU cores a trial takes; null: estimated
    cpus_per_trial: float | None
    # memory a trial takes, GiB; null: estimated
    memory_per_trial: float | None
    # ray: address of the cluster's dashboard or head; auto: RAY_ADDRESS or one that runs here; start: a head of our own
    address: str = ""
    # ray, start: address that the head listens on
    bind: str = "127.0.0.1"
    # ray, start: GPUs that the head says it has; null: counted by Ray
    num_gpus: int | None = None
    # ray, start: CPU cores that the head says it has; null: counted by Ray
    num_cpus: int | None = None

    def __post_init__(self) -> None:
        one_of(f"{NODE}.backend", self.backend, BACKENDS)
        one_of(f"{NODE}.order", self.order, ORDERS)
        check_min(self, f"{NODE}.", 0, "max_gpus", "retries", "patience", "num_gpus")
        check_min(self, f"{NODE}.", 1, "max_concurrent", "num_cpus")
        finite(self, f"{NODE}.")
        for key in ("cpus_per_trial", "memory_per_trial"):
            value = getattr(self, key)
            what = f"{NODE}.{key}={value} is no number above 0"
            require(value is None or value > 0, what, f"{NODE}.{key}", "give one, or null for an estimate")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Settings:
        """Read the node `hydra.launcher`, or what `sweep.json` keeps of it."""
        return hydra_node.read(cls, NODE, values)

    @property
    def limits(self) -> Limits:
        """What the scheduler is told."""
        return Limits(self.max_gpus, self.max_concurrent, self.retries, self.order, self.patience)

    def as_dict(self) -> dict[str, Any]:
        """Return what `sweep.json` keeps."""
        return asdict(self)
