"""What starting a run takes: plain values, all decided before, and kept in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from chord_exp.run_files.names import LAUNCH, TRINITY_CONFIG
from chord_exp.utils.files import write_atomically


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
    # go on in the run's folder
    resume: bool
    # the resolved Trinity config: the text of trinity.yaml
    yaml: str
    stages: tuple[Stage, ...]
    # False for loss=stock, whose logged losses may be NaN on one-sided micro-batches
    check_losses_finite: bool
    # the model that is trained: its folder, or its hub id
    base_model: str = ""
    # of the prepared data: a resumed run must find the same
    data_digest: str = ""
    # its manifest, kept from being replaced while the run goes on
    data_manifest: str = ""
    # checkpoints to keep: the newest, and the best by held-out score; without the latter the trainer sees to the former
    keep_newest: int = 0
    keep_best: int = 0
    overrides: list[str] = field(default_factory=list)
    # readable lines a user should see
    warnings: list[str] = field(default_factory=list)
    # texts that are kept with the run and that nothing reads, by path below its folder: .hydra/config.yaml
    keepsakes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The Trinity config as values."""
        import yaml

        return dict(yaml.safe_load(self.yaml))

    def save(self, run_dir: Path) -> None:
        """Write it into a run's folder.

        Raises:
            OSError: the folder cannot be written.
        """
        values = asdict(self)
        for path, text in {**values.pop("keepsakes"), TRINITY_CONFIG: values.pop("yaml")}.items():
            (run_dir / path).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(run_dir / path, text)
        write_atomically(run_dir / LAUNCH, json.dumps(values, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, run_dir: Path) -> LaunchSpec:
        """Read what `save` wrote.

        Raises:
            OSError, ValueError, TypeError: it is not there, or damaged.
        """
        values = json.loads((run_dir / LAUNCH).read_text(encoding="utf-8"))
        values["stages"] = tuple(Stage(**stage) for stage in values["stages"])
        return cls(yaml=(run_dir / TRINITY_CONFIG).read_text(encoding="utf-8"), **values)
