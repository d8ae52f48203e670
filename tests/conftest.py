"""For all tests: Trinity imports without vLLM; which tests one worker of pytest-xdist keeps together."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from chord_exp.engine.vllm_stub import install

install()
# no example is too slow on a busy machine
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# fixtures that take many seconds, and that one worker makes once
SHARED = ("finished", "head", "installed", "report")


# before xdist reads the groups
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file of unit tests stays with one worker, for what it imports; so do all tests of a costly fixture."""
    for item in items:
        groups = [name for name in SHARED if name in getattr(item, "fixturenames", ())]
        if not groups and Path(item.path).parent.name == "unit":
            groups = [Path(item.path).stem]
        for name in groups:
            item.add_marker(pytest.mark.xdist_group(name))
