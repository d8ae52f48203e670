"""What a user is told about values set by hand that are taken but change the objective."""

from __future__ import annotations

import pytest
from command_line import SMALL
from composing import FACTS, compose_spec

from chord_exp.actions import derive_with_warnings
from chord_exp.cli import main

GPU = ["cluster=gpu_2", "model=qwen3_0_6b", "total_steps=5", "mu_schedule=constant"]


def about_terms(overrides: list[str]) -> list[str]:
    geometry = derive_with_warnings(compose_spec([*GPU, *overrides]), FACTS)
    return [line for line in geometry.warnings if "adds a term" in line]


@pytest.mark.parametrize("override", ["trinity.algorithm.kl_loss_fn=k2", "trinity.algorithm.entropy_loss_fn=default"])
def test_a_hand_set_loss_term_is_a_warning_that_names_it(override):
    (line,) = about_terms([override])
    assert override in line and "μ" in line


@pytest.mark.parametrize(
    "overrides",
    [[], ["trinity.algorithm.kl_loss_fn=none"], ["variant=grpo", "trinity.algorithm.kl_loss_fn=k2"]],
    ids=["unset", "none", "not CHORD"],
)
def test_no_term_or_no_weighting_is_no_warning(overrides):
    assert about_terms(overrides) == []


def test_the_warning_is_printed_when_a_run_starts(place, started, capsys):
    assert main([*SMALL, "trinity.algorithm.entropy_loss_fn=default"]) == 0
    assert "warning: trinity.algorithm.entropy_loss_fn=default adds a term" in capsys.readouterr().err
