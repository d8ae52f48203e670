"""μ over steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chord_exp.errors import ConfigError
from chord_exp.experiment.schedule import MuSchedule, mu_at, values

steps = st.integers(0, 50)
weights = st.floats(0, 1)


@given(step=st.integers(0, 120), warmup=steps, decay=st.integers(1, 50), peak=weights, valley=weights)
def test_mu_is_that_of_trinity(step, warmup, decay, peak, valley):
    chord = pytest.importorskip("trinity.algorithm.policy_loss_fn.chord_policy_loss")
    expected = chord.mu_schedule_function(step, warmup, decay, peak, valley)
    assert mu_at(step, MuSchedule(warmup, decay, peak, valley)) == pytest.approx(expected, abs=1e-12)


def test_the_seed_schedule_passes_through_its_corners():
    schedule = MuSchedule(100, 300, 0.6, 0.05)
    mu = values(schedule, 500)
    assert len(mu) == 500
    assert mu[0] == pytest.approx(0.006)
    assert mu[99] == pytest.approx(0.6)
    assert mu[249] == pytest.approx((0.6 + 0.05) / 2)
    assert mu[399] == mu[499] == 0.05
    assert max(mu) == mu[99]


def test_a_constant_schedule_is_constant():
    assert set(values(MuSchedule(0, 0, 0.1, 0.1), 10)) == {0.1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 0, 0.5, 0.1), ["0.5", "0.1", "mu_decay_steps"]),
        ((0, 5, 1.5, 0.1), ["1.5", "mu_peak"]),
        ((0, 5, 0.5, -0.1), ["-0.1", "mu_valley"]),
        ((0, 5, float("nan"), 0.1), ["nan", "mu_peak"]),
        ((-1, 5, 0.5, 0.1), ["-1", "mu_warmup_steps"]),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused(arguments, words):
    with pytest.raises(ConfigError) as refusal:
        MuSchedule(*arguments)
    assert all(word in str(refusal.value) for word in words)
