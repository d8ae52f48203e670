"""What the local engine reads from a Trinity config beyond Trinity's own fields."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from chord_exp.errors import ConfigError


@dataclass(frozen=True)
class EngineSettings:
    """Settings carried in `explorer.rollout_model.extra_engine_args`, Trinity's place for engine-specific arguments."""

    # "cpu", "cuda", or "auto": cuda where torch sees a GPU
    device: str = "auto"
    # torch threads of the trainer and of each rollout model; rollouts and training take turns, so both may have all
    threads: int = 1
    # seed of rollouts, data order and dropout
    seed: int = 42

    @classmethod
    def from_config(cls, config: Any) -> EngineSettings:
        """Read the settings from a Trinity `Config`.

        Raises:
            ConfigError: an argument the local engine does not know.
        """
        given = dict(config.explorer.rollout_model.extra_engine_args or {})
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise ConfigError(
                f"the local engine does not know the argument {unknown[0]!r}",
                "explorer.rollout_model.extra_engine_args",
                f"use one of {', '.join(sorted(known))}",
            )
        return cls(**given)

    def torch_device(self) -> Any:
        """The torch device to compute on."""
        import torch

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)
