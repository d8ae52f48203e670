"""The configuration under check, with the sizes that its rules share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, isfinite
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.trinity_config.loss_arguments import STOCK_CHORD_LOSS
from chord_exp.trinity_config.plugin_names import CHORD_ALGORITHM

ERROR, WARNING = "error", "warning"
CHORD = "mix_chord"
# our keys, and where a Trinity file has them
_TRINITY_KEYS = {
    "cluster.engine_num": "explorer.rollout_model",
    "cluster.ulysses_sequence_parallel_size": "trainer.ulysses_sequence_parallel_size",
    "cluster.max_token_len_per_gpu": "trainer.max_token_len_per_gpu",
}
AUXILIARY = "buffer.trainer_input.auxiliary_buffers"


@dataclass(frozen=True)
class Finding:
    """One thing that a user should know."""

    # ERROR: it fails or trains something else; WARNING: it works, perhaps not as meant
    severity: str
    # dotted key at fault
    key: str
    # the fault, with its numbers
    what: str
    # what to do
    fix: str


def of_refusal(error: ConfigError) -> Finding:
    """Return the refusal of one of this package's own checks as a finding about the keys of a Trinity file."""
    key = _TRINITY_KEYS.get(error.where, error.where)
    return Finding(ERROR, key, error.what.replace("cluster.", ""), error.fix.replace("cluster.", ""))


@dataclass(frozen=True)
class Rows:
    """What is known about the folder that a buffer reads."""

    # number of rows; None when nobody can count them
    count: int | None
    # keys of the first row; None when unknown
    keys: tuple[str, ...] | None
    # the path is that of a file
    is_file: bool = False
    # a path of this machine that is not there
    missing: bool = False
    # relative to the folder of whichever process reads it
    relative: bool = False
    # names of the files in it that were looked at
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A configuration (of one stage), and facts from outside of it."""

    values: Mapping[str, Any]
    # verl before 0.8 scales the loss of a micro-batch by itself
    verl_legacy: bool = False
    # by dotted key of the path
    rows: Mapping[str, Rows] = field(default_factory=dict)

    def get(self, path: str, default: Any = None) -> Any:
        """The value at a dotted path; Trinity treats null like nothing."""
        value = _lookup(self.values, path)
        return default if value is None else value

    def section(self, path: str) -> Mapping[str, Any]:
        """The keys below a dotted path; none where there is something else."""
        value = self.get(path)
        return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}

    def members(self, path: str) -> list[Any]:
        """The list at a dotted path; empty where there is something else."""
        value = self.get(path)
        return value if isinstance(value, list) else []

    def whole(self, path: str, default: int) -> int:
        """A whole number at a dotted path; what is no number is reported by another rule and read as the default."""
        value = self.get(path, default)
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    def number(self, path: str, default: float) -> float:
        """A number at a dotted path, likewise."""
        value = self.get(path, default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if is_number and isfinite(value) else default

    @property
    def is_chord(self) -> bool:
        """Whether it trains by CHORD."""
        return self.get("algorithm.algorithm_type") in (CHORD, CHORD_ALGORITHM)

    @property
    def policy_loss(self) -> str:
        """The loss in use."""
        return str(self.get("algorithm.policy_loss_fn", STOCK_CHORD_LOSS if self.is_chord else ""))

    @property
    def usual_rows(self) -> int:
        """U that the explorer makes in a step."""
        return self.whole("buffer.batch_size", 1) * self.whole("algorithm.repeat_times", 8 if self.is_chord else 1)

    @property
    def batch_rows(self) -> int:
        """T that the trainer takes in a step."""
        return self.whole("buffer.train_batch_size", 0) or self.usual_rows

    @property
    def expert_ratio(self) -> float:
        """rho as Trinity reads it."""
        return self.number("algorithm.sample_strategy_args.expert_data_ratio", 0.5)

    @property
    def expert_rows(self) -> int:
        """E that Trinity's sample strategy takes in a step."""
        return ceil(self.expert_ratio * self.batch_rows)

    @property
    def steps(self) -> int | None:
        """Steps of the training; None when epochs decide."""
        given = [self.get(key) for key in ("trainer.total_steps", "buffer.total_steps")]
        known = [value for value in given if isinstance(value, int) and not isinstance(value, bool)]
        return min(known) if known else None

    @property
    def gpus(self) -> int | None:
        """GPUs of the whole cluster; None when Trinity asks Ray."""
        nodes, each = self.whole("cluster.node_num", 0), self.whole("cluster.gpu_per_node", 0)
        return nodes * each or None

    @property
    def engine_gpus(self) -> int:
        """GPUs of the inference engines, the auxiliary models' too."""
        if self.get("mode", "both") == "train":
            return 0
        models = [self.section("explorer.rollout_model"), *self.members("explorer.auxiliary_models")]
        return sum(_gpus_of(model) for model in models if isinstance(model, Mapping))

    @property
    def trainer_gpus(self) -> int | None:
        """GPUs that the engines leave; None when the cluster is not described."""
        if self.gpus is None:
            return None
        return 1 if self.get("mode", "both") == "colocate" else self.gpus - self.engine_gpus

    @property
    def sequence(self) -> int:
        """Trainer GPUs that share one row."""
        return max(1, self.whole("trainer.ulysses_sequence_parallel_size", 1))

    @property
    def data_parallel_size(self) -> int | None:
        """D; None when the cluster is not described or cannot be divided."""
        trainer = self.trainer_gpus
        return None if trainer is None or trainer < 1 or trainer % self.sequence else trainer // self.sequence


def _lookup(tree: Any, path: str) -> Any:
    """The value at a dotted path, list positions included, or None."""
    for key in path.split("."):
        if isinstance(tree, Mapping):
            tree = tree.get(key)
        elif isinstance(tree, list) and key.isdigit() and int(key) < len(tree):
            tree = tree[int(key)]
        else:
            return None
    return tree


def _gpus_of(model: Mapping[str, Any]) -> int:
    if model.get("engine_type") in ("external", "tinker"):
        return 0
    product = 1
    for key in ("engine_num", "tensor_parallel_size", "data_parallel_size", "pipeline_parallel_size"):
        value = model.get(key)
        product *= value if isinstance(value, int) and not isinstance(value, bool) else 1
    return product
