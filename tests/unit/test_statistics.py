"""Statistics over seeds, against values worked out from their definitions (Agarwal et al. 2021)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from chord_exp.utils import statistics as st


def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end():
    assert st.interquartile_interval([0, 1, 2, 3, 4, 5, 6, 100]).value == pytest.approx((2 + 3 + 4 + 5) / 4)
    # over runs and tasks together: 2 x 4 scores, two go at each end
    assert st.interquartile_interval(np.array([[0.0, 10.0, 3.0, 4.0], [-9.0, 5.0, 100.0, 6.0]])).value == pytest.approx(
        4.5
    )


def test_three_seeds_of_one_task_have_nothing_to_cut():
    assert st.interquartile_interval([1, 2, 6]).value == 3


def test_the_interval_of_the_interquartile_mean_is_blind_to_one_wild_seed():
    tame, wild = [0.5, 0.51, 0.52, 0.53], [0.5, 0.51, 0.52, 9.0]
    assert st.interquartile_interval(wild).value == st.interquartile_interval(tame).value == pytest.approx(0.515)
    assert st.interquartile_interval(tame).low >= 0.5


def test_the_bootstrap_of_three_scores_agrees_with_all_27_draws():
    scores = [0.1, 0.4, 0.9]
    means = [np.mean(draw) for draw in itertools.product(scores, repeat=3)]
    found = st.bootstrap(scores, level=0.5)
    assert found.value == pytest.approx(np.mean(scores))
    # the percentiles of Hesterberg for three observations, with t = 0.816: the normal distribution below -1
    expected = np.quantile(means, [0.1587, 1 - 0.1587], method="inverted_cdf")
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.count == 3


def test_tasks_are_resampled_each_by_itself_and_never_mixed():
    # every run of a task scores the same: whatever is drawn, the mean is the same; mixing tasks would spread it
    found = st.bootstrap(np.array([[0.0, 1.0]] * 4))
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)
    # two tasks that rise together by run: strata are drawn independently, so halves of both ends occur
    seen: list[float] = []

    def note(draws):
        seen.extend(np.ravel(draws.mean(axis=(-2, -1))))
        return draws.mean(axis=(-2, -1))

    st.bootstrap(np.array([[0.0, 0.0], [1.0, 1.0]]), note)
    assert set(seen) == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_values_are_those_of_rliable():
    # scores and values of tests/rliable/metrics_test.py in github.com/google-research/rliable
    x, y = np.array([[1, 2], [2, 2], [1, 1], [2, 1]]), np.array([[1, 1], [2, 2], [3, 3]])
    assert [st.bootstrap(scores).value for scores in (x, y)] == [1.5, 2]
    assert [st.interquartile_interval(scores).value for scores in (x, y)] == [1.5, 2]
    assert st.probability_of_improvement(x, y) == pytest.approx(1 / 3)
    # and of its tests/library_test.py: an estimate lies within its interval
    many = np.arange(5 * 16).reshape(5, 16)
    for found in (st.bootstrap(many), st.interquartile_interval(many)):
        assert found.low < found.value == 39.5 < found.high


@pytest.mark.parametrize(
    ("degrees", "probability", "value"),
    [(1, 0.975, 12.706), (2, 0.975, 4.303), (2, 0.9, 1.886), (4, 0.975, 2.776), (9, 0.95, 1.833), (29, 0.975, 2.045)],
)
def test_quantiles_are_those_of_students_table(degrees, probability, value):
    assert st.student_t(probability, degrees) == pytest.approx(value, abs=6e-4)


def test_percentiles_go_to_those_of_the_normal_distribution_as_seeds_grow():
    tails = [st.tail(count) for count in (2, 5, 10, 1000)]
    assert tails == sorted(tails) and tails[1] == pytest.approx(0.00096, abs=1e-5)
    assert tails[-1] == pytest.approx(0.025, abs=2e-4)


def test_an_interval_of_five_seeds_holds_the_mean_in_nine_of_ten_cases():
    random = np.random.default_rng(0)
    held = [(found := st.bootstrap(random.normal(size=5))).low <= 0 <= found.high for _ in range(400)]
    # plain percentiles: in 85%
    assert np.mean(held) > 0.9


def test_one_seed_has_no_interval():
    assert st.bootstrap([0.7]) == st.Interval(0.7, 0.7, 0.7, 1)


def test_a_band_is_the_bootstrap_of_each_step():
    curves = np.random.default_rng(0).normal(size=(6, 3))
    middle, low, high = st.band(curves, resamples=20_000)
    assert middle == pytest.approx(curves.mean(axis=0))
    for step in range(3):
        alone = st.bootstrap(curves[:, step], seed=1)
        assert (low[step], high[step]) == pytest.approx((alone.low, alone.high), abs=0.08)


def test_the_probability_of_improvement_counts_pairs_and_halves_ties():
    # pairs: 1>0, 1=1, 3>0, 3>1
    assert st.probability_of_improvement([1, 3], [0, 1]) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert st.probability_of_improvement([1, 2], [1, 2]) == 0.5
    two_tasks = st.probability_of_improvement(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert two_tasks == 0.5


def test_differences_are_paired_by_seed_where_seeds_are_shared():
    # the seeds differ widely and the method adds 0.1 to each: only pairs can see it
    theirs = {seed: float(seed) for seed in range(5)}
    found = st.difference({seed: score + 0.1 for seed, score in theirs.items()}, theirs)
    assert found.paired and found.count == 5
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    assert found.verdict == "higher"
    unpaired = st.difference({seed + 10: score + 0.1 for seed, score in theirs.items()}, theirs)
    assert not unpaired.paired and unpaired.value == pytest.approx(0.1)
    assert unpaired.verdict == "no difference shown"


def test_an_interval_that_holds_0_is_no_difference():
    theirs = dict.fromkeys(range(6), 0.5)
    assert st.difference({**theirs, 0: 0.9, 1: 0.3}, theirs).verdict == "no difference shown"
    assert st.difference(dict.fromkeys(range(6), 0.4), theirs).verdict == "lower"


def test_few_seeds_of_one_sign_are_no_evidence():
    assert st.difference({1: 0.9, 2: 0.9, 3: 0.9}, {1: 0.1, 2: 0.2, 3: 0.3}).verdict == "too few seeds"


def test_a_share_has_the_interval_of_wilson():
    # the textbook's 95% interval of 8 successes in 10
    assert st.wilson_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert st.wilson_interval(0.0, 20)[0] == 0.0


def test_no_scores_are_refused():
    with pytest.raises(ValueError, match="no scores"):
        st.interquartile_interval([])
    with pytest.raises(ValueError, match="no scores"):
        st.difference({}, {1: 0.5})
