"""The settings of a tuned sweep as the option file gives them, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chord_exp.conf
import yaml

from chord_exp.sweep.tune.settings import TuneSettings

OPTION = Path(chord_exp.conf.__file__).parent / "hydra" / "sweeper" / "optuna.yaml"


def settings(**changes: Any) -> TuneSettings:
    """The settings, some of them changed."""
    return TuneSettings.read({**yaml.safe_load(OPTION.read_text(encoding="utf-8")), **changes})
