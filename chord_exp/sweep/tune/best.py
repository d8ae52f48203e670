"""The result of a tuned sweep, `best.json`, and the values that a later sweep starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.utils.files import write_atomically

BEST = "best.json"
NONE = "none"
# what two sweeps must share for the best values of one to mean something in the other
COMPARED = ("model.name", "data.name", "variant")


@dataclass(frozen=True)
class BestTrial:
    """A trial that no other beats."""

    number: int
    # name of its folder
    trial: str
    # a value for each objective
    values: list[float]
    # the tuned keys, as overrides write them
    params: dict[str, str]


@dataclass(frozen=True)
class Result:
    """What `best.json` holds."""

    # whether every point was tried; False after Ctrl-C
    finished: bool
    # `maximize accuracy`, one or several
    objectives: list[str]
    # one trial, or with several objectives the Pareto front; empty when none succeeded
    best: list[BestTrial]
    # the values of COMPARED
    about: dict[str, str]
    # what the sweep itself started from: folder of the sweep before and the overrides taken from it
    start: dict[str, Any] | None = None
    # how many trials ended how
    trials: dict[str, int] = field(default_factory=dict)
    # the folder that the command was given in, which relative paths of it are meant from
    cwd: str = ""

    def overrides(self) -> dict[str, str]:
        """Return what a later sweep starts from: the best values of this one, on top of what this one started from."""
        carried = dict(self.start["overrides"]) if self.start else {}
        return {**carried, **self.best[0].params}

    def save(self, folder: Path) -> None:
        """Write it whole or not at all."""
        write_atomically(folder / BEST, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read the `best.json` of a sweep.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        try:
            values = json.loads((folder / BEST).read_text(encoding="utf-8"))
            values["best"] = [BestTrial(**trial) for trial in values["best"]]
            return cls(**values)
        except FileNotFoundError:
            raise ConfigError(
                f"{folder} holds no result of a tuned sweep: no {BEST}",
                "hydra.sweeper.start_from",
                "give the folder of a finished sweep of hydra/sweeper=optuna, or none",
            ) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{folder / BEST} is damaged: {error}", "hydra.sweeper.start_from") from error


@dataclass(frozen=True)
class Start:
    """Where a sweep starts."""

    # override values by key; empty for the configuration's own
    overrides: dict[str, str]
    # the sweep they are from
    sweep: Path | None
    # a line for people
    why: str

    def recorded(self) -> dict[str, Any] | None:
        """Return what `best.json` and `sweep.json` keep of it."""
        return {"sweep": str(self.sweep), "overrides": self.overrides} if self.sweep else None


def find_start(start_from: str | None, warm_start: str | None, sweep_dir: Path, about: Mapping[str, str]) -> Start:
    """Find the values that a sweep starts from.

    Args:
        start_from: folder of a sweep, which must have a result; `none`; or null to look for the newest finished sweep
            of `warm_start`.
        warm_start: name of the experiment that is tuned before this one.
        sweep_dir: of the new sweep, `multirun/NAME/TIME`: the others lie beside its NAME.
        about: the values of COMPARED of the new sweep; with `warm_start` they must agree.

    Raises:
        ConfigError: `start_from` names no sweep with one best trial.
    """
    if start_from == NONE or (start_from is None and warm_start is None):
        return Start({}, None, "starts from the configuration's own values")
    if start_from is not None:
        folder = Path(start_from).expanduser().absolute()
        result = Result.load(folder)
        if len(result.best) != 1:
            what = "no trial that succeeded" if not result.best else f"{len(result.best)} best trials, none above all"
            raise ConfigError(f"{folder} has {what}", "hydra.sweeper.start_from", "choose another sweep, or none")
        return _start(folder, result)
    place = sweep_dir.absolute().parent.parent / str(warm_start)
    for file in sorted(place.glob(f"*/{BEST}"), key=lambda file: file.parent.name, reverse=True):
        result = Result.load(file.parent)
        if result.finished and len(result.best) == 1 and result.about == dict(about):
            return _start(file.parent, result)
    what = ", ".join(f"{key}={value}" for key, value in about.items())
    return Start({}, None, f"starts from the configuration's own values: no finished sweep in {place} of {what}")


def _start(folder: Path, result: Result) -> Start:
    overrides = result.overrides()
    text = " ".join(f"{key}={value}" for key, value in overrides.items())
    return Start(overrides, folder, f"starts from the best of {folder}: {text}")


def counts(states: Sequence[str]) -> dict[str, int]:
    """Count how often each state occurs, in order of the first."""
    return {state: list(states).count(state) for state in dict.fromkeys(states)}
