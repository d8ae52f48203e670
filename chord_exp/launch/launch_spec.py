"""What starting a run takes: plain values, all decided before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One of Trinity's stages. Its `name` is empty where there is only one."""

    name: str
    planned_steps: int


@dataclass(frozen=True)
class LaunchSpec:
    """Everything that starting a run takes; plain values, decided before."""

    name: str
    project: str
    variant: str
    seed: int
    # "local" or "verl"
    engine: str
    ray_address: str
    resume: bool
    # the resolved Trinity config, as values and as text
    config: dict[str, Any]
    yaml: str
    stages: tuple[Stage, ...]
    # False for loss=stock, whose logged losses may be NaN on one-sided micro-batches
    check_losses_finite: bool
    overrides: list[str] = field(default_factory=list)
