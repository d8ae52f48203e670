"""What starts a run, made up for tests that start none."""

from __future__ import annotations

from collections.abc import Sequence

from chord_exp.launch.launch_spec import LaunchSpec, Stage


def fake_launch(overrides: Sequence[str] = (), steps: int = 1) -> LaunchSpec:
    """A run of one stage that only its overrides and its steps tell from others."""
    stages = (Stage("", steps),)
    return LaunchSpec("fake", "p", "mu", 0, "local", "local", False, "{}\n", stages, True, overrides=list(overrides))
