"""What starts a run, made up for tests that start none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chord_exp.launch.launch_spec import LaunchSpec, Stage


def fake_launch(
    overrides: Sequence[str] = (), steps: int = 1, stages: Mapping[str, int] | None = None, **more: Any
) -> LaunchSpec:
    """A run that only its overrides and its steps tell from others."""
    given: dict[str, Any] = {
        "name": "fake",
        "project": "p",
        "variant": "mu",
        "seed": 0,
        "engine": "local",
        "ray_address": "local",
        "resume": False,
        "yaml": "{}\n",
        "stages": tuple(Stage(name, count) for name, count in (stages or {"": steps}).items()),
        "check_losses_finite": True,
        "overrides": list(overrides),
    }
    return LaunchSpec(**{**given, **more})
