"""Runs that several tests look at."""

from __future__ import annotations

import pytest
from running import Run, finish


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A whole run of six steps, and what it printed."""
    return finish(tmp_path_factory.mktemp("finished") / "run", "total_steps=6")
