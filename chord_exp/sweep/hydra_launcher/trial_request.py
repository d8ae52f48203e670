"""From a composed experiment to a request for a trial: checked, resolved, and with everything that it will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from chord_exp import actions
from chord_exp.config import compose
from chord_exp.errors import ConfigError
from chord_exp.experiment.geometry import derive
from chord_exp.experiment.spec import DataFacts, ExperimentSpec
from chord_exp.sweep.hydra_launcher.footprint import footprint_of
from chord_exp.sweep.scheduling.trial import TrialRequest


def resolved(spec: ExperimentSpec, debug: bool = False) -> dict[str, Any]:
    """The configuration that `compose.read` makes the same specification of, in any folder and after any edit."""
    return {**asdict(spec), "trinity": dict(spec.trinity), "action": "run", "export_to": None, "debug": debug}


@dataclass(frozen=True)
class CheckedJob:
    """An experiment of a sweep that can be run, as far as its configuration says."""

    # place in the sweep, from 0
    number: int
    label: str
    run_dir: Path
    # as the user would type them
    overrides: tuple[str, ...]
    spec: ExperimentSpec
    debug: bool


def check(config: DictConfig, number: int, label: str, run_dir: Path, overrides: Sequence[str]) -> CheckedJob:
    """Read and check one composed experiment; nothing is written, and no data is looked at.

    Args:
        config: as composed, without Hydra's node.

    Raises:
        ConfigError, DataError: it cannot be run.
    """
    spec, command = compose.read(config)
    if command.action != "run":
        raise ConfigError(f"action={command.action} is no trial", "action", "leave it out of a sweep")
    actions.check(spec, run_dir)
    return CheckedJob(number, label, run_dir, tuple(overrides), spec, command.debug)


class Requests:
    """Makes requests of checked jobs; sizes of data that many share are read once."""

    def __init__(self, cpus: float | None = None, memory: float | None = None) -> None:
        """
        Args:
            cpus, memory: of every trial, in place of the estimates.
        """
        self._cpus, self._memory = cpus, memory
        self._facts: dict[str, DataFacts] = {}

    def make(self, job: CheckedJob) -> TrialRequest:
        """Prepare a job's data where needed, and ask for a trial of it.

        Raises:
            ConfigError, DataError: it cannot be run.
        """
        spec = job.spec
        key = repr((spec.data, spec.model))
        if key not in self._facts:
            self._facts[key] = actions.read_facts(spec, required=True)
        facts = self._facts[key]
        actions.to_trinity(spec, facts, actions.run_folders(spec, job.run_dir))
        stages = derive(spec, facts).stages
        return TrialRequest(
            number=job.number,
            label=job.label,
            run_dir=job.run_dir.absolute(),
            overrides=job.overrides,
            footprint=footprint_of(spec, self._cpus, self._memory),
            config=resolved(spec, job.debug),
            stages={stage.kind if len(stages) > 1 else "": stage.steps for stage in stages},
        )
