"""From Hydra's sweep words to the space that is tuned."""

from __future__ import annotations

import math

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from chord_exp.errors import ConfigError
from chord_exp.sweep.tune.space import Dimension, dimension, grid

OWN = {"lr": 1e-3, "batch_size": 6, "variant": "mu", "mu_warmup_steps": 0, "debug": False, "mu_peak": 0.6}


def of(text: str) -> Dimension:
    return dimension(OverridesParser.create().parse_override(text), OWN.get)


class Asked:
    """Stands in for an Optuna trial: takes the upper end, and remembers what it was asked."""

    def suggest_categorical(self, name, choices):
        return choices[-1]

    def suggest_int(self, name, low, high, *, step=1, log=False):
        assert isinstance(low, int) and isinstance(high, int) and isinstance(step, int)
        return high

    def suggest_float(self, name, low, high, *, step=None, log=False):
        return high


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mu_peak=interval(0.1,0.9)", Dimension("mu_peak", low=0.1, high=0.9)),
        ("lr=tag(log,interval(1e-6,1e-4))", Dimension("lr", low=1e-6, high=1e-4, log=True)),
        ("lr=tag(log,scale,interval(0.5,2))", Dimension("lr", low=5e-4, high=2e-3, log=True)),
        ("batch_size=interval(2,8)", Dimension("batch_size", low=2, high=8, whole=True)),
        ("batch_size=tag(scale,interval(0.5,2))", Dimension("batch_size", low=3, high=12, whole=True)),
        ("batch_size=range(2,9,3)", Dimension("batch_size", low=2, high=8, step=3, whole=True)),
        ("mu_peak=range(0.1,0.5,0.1)", Dimension("mu_peak", low=0.1, high=0.4, step=0.1)),
        ("mu_peak=0.2,0.4", Dimension("mu_peak", choices=("0.2", "0.4"))),
        ("variant=choice(mu,phi)", Dimension("variant", choices=("mu", "phi"))),
        ("batch_size=tag(scale,choice(0.1,0.5,1))", Dimension("batch_size", choices=("1", "3", "6"))),
        ("lr=tag(scale,choice(0.1,1,3))", Dimension("lr", choices=("0.0001", "0.001", "0.003"))),
        ("mu_warmup_steps=tag(scale,interval(0.5,2))", Dimension("mu_warmup_steps", whole=True)),
        ("+trinity.x=choice('a b',c)", Dimension("+trinity.x", choices=("a\\ b", "c"))),
    ],
)
def test_each_word_of_hydra_s_has_its_dimension(text, expected):
    found = of(text)
    assert (found.key, found.choices, found.log, found.whole) == (
        expected.key,
        expected.choices,
        expected.log,
        expected.whole,
    )
    assert math.isclose(found.low, expected.low) and math.isclose(found.high, expected.high)
    assert found.step == pytest.approx(expected.step)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mu_peak=glob(*)", "no choice, range or interval"),
        ("mu_peak=tag(lgo,interval(0.1,0.2))", "the tag 'lgo' is not known"),
        ("mu_peak=tag(log,interval(0,0.2))", "no log scale from 0"),
        ("mu_peak=interval(0.9,0.1)", "nothing between 0.9 and 0.1"),
        ("mu_peak=range(0.5,0.1)", "is empty"),
        ("variant=tag(scale,interval(1,2))", "needs a number to multiply, and variant is 'mu'"),
        ("debug=tag(scale,choice(1,2))", "needs a number to multiply"),
        ("lr=tag(scale,choice(1,x))", "multiplies numbers only"),
    ],
)
def test_what_makes_no_space_is_refused_with_its_key(text, words):
    with pytest.raises(ConfigError, match=words) as refusal:
        of(text)
    assert text.split("=")[0] in str(refusal.value)


@given(low=st.integers(1, 50), width=st.integers(1, 50), step=st.integers(1, 9))
def test_a_range_has_the_points_that_hydra_would_run(low, width, step):
    override = OverridesParser.create().parse_override(f"batch_size=range({low},{low + width},{step})")
    found = dimension(override, OWN.get)
    assert [str(value) for value in found.grid()] == list(override.sweep_string_iterator())
    assert found.suggest(Asked()) == str(found.grid()[-1])


@given(factor=st.floats(0.01, 100), base=st.integers(1, 1000))
def test_multiples_of_a_whole_number_are_whole_and_never_zero(factor, base):
    override = OverridesParser.create().parse_override(f"n=tag(scale,choice({factor!r}))")
    (choice,) = dimension(override, lambda key: base).choices
    assert int(choice) >= 1 and abs(int(choice) - max(1, base * factor)) <= 0.5 + 1e-6


def test_a_number_is_written_so_that_it_reads_back_the_same():
    assert float(Dimension("lr", low=1e-6, high=1 / 3 * 1e-4).suggest(Asked())) == 1 / 3 * 1e-4


def test_a_grid_is_every_point_once_and_an_interval_has_none():
    points = grid([of("mu_peak=0.2,0.4"), of("batch_size=range(2,6,2)")])
    assert len(points) == 4 and {tuple(point.values()) for point in points} == {
        ("0.2", 2),
        ("0.2", 4),
        ("0.4", 2),
        ("0.4", 4),
    }
    with pytest.raises(ConfigError, match="an interval has no grid"):
        grid([of("mu_peak=interval(0,1)")])
