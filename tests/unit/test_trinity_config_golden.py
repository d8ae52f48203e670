"""A changed default is a changed golden line; `python tests/golden/make.py` remakes the files."""

from __future__ import annotations

from pathlib import Path

import make
import pytest

from chord_exp.config.hydra_errors import groups

GOLDEN = Path(make.__file__).parent


@pytest.mark.parametrize("name", make.EXPERIMENTS)
def test_the_composed_trinity_configuration_is_the_golden_one(name):
    assert make.golden(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_every_named_experiment_has_a_golden_file_and_the_reverse():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(make.EXPERIMENTS)
    assert set(groups()["experiment"]) <= set(make.EXPERIMENTS)
