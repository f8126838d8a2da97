import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from lib import statistics
from lib.statistics import (
    ALPHA,
    crossing,
    detectable_difference,
    difference,
    difference_test,
    equivalence_test,
    holm,
    mean_interval,
    prediction_interval,
    proportion_interval,
    rank_correlation,
    rank_correlation_range,
    ratio_interval,
    remaining_share,
)

NAN = math.nan
X, Y = [0.71, 0.74, 0.69, 0.75], [0.66, 0.73, 0.64, 0.70]
PAIRED = pytest.mark.parametrize("paired", [True, False])


def test_interval_of_three_values_is_students():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    half = 4.302653 * 1 / math.sqrt(3)  # t quantile 0.975 with 2 degrees of freedom, printed tables
    assert (mean, low, high) == pytest.approx((2, 2 - half, 2 + half), abs=1e-5)
    assert prediction_interval([1.0, 2.0, 3.0]).high == pytest.approx(2 + 4.302653 * math.sqrt(4 / 3), abs=1e-5)


@pytest.mark.parametrize("interval", [mean_interval, prediction_interval])
def test_intervals_of_one_equal_missing_and_infinite_values(interval):
    assert interval([0.5]).mean == 0.5
    assert all(map(math.isnan, interval([0.5])[1:]))
    assert all(map(math.isnan, interval([])))
    assert interval([0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert interval([0.4, NAN, 0.6]) == interval([0.4, 0.6])
    assert interval([1.0, math.inf]).mean == math.inf
    assert all(map(math.isnan, interval([1.0, math.inf])[1:]))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_intervals_hold_what_they_promise(count):
    """Simulated: 95 % of the mean's intervals hold the mean, 95 % of the prediction intervals one further run."""
    draws = np.random.default_rng(0).normal(size=(2000, count + 1))
    means = [mean_interval(row[:-1]) for row in draws]
    runs = [prediction_interval(row[:-1]) for row in draws]
    assert np.mean([low <= 0 <= high for _, low, high in means]) == pytest.approx(1 - ALPHA, abs=0.015)
    inside = [low <= row[-1] <= high for (_, low, high), row in zip(runs, draws, strict=True)]
    assert np.mean(inside) == pytest.approx(1 - ALPHA, abs=0.015)


def test_difference_is_scipys_and_statsmodels():
    assert difference(X, Y, True)[1:] == pytest.approx(scipy.stats.ttest_rel(X, Y).confidence_interval())
    welch = CompareMeans(DescrStatsW(X), DescrStatsW(Y)).tconfint_diff(usevar="unequal")
    assert difference(X, Y, False)[1:] == pytest.approx(welch)
    assert difference(X, Y, True).mean == pytest.approx(np.mean(X) - np.mean(Y))


@PAIRED
def test_interval_and_tests_tell_one_story(paired):
    """p < 5 % where the interval leaves out zero; TOST at 2.5 % where it lies inside the margin."""
    _, low, high = difference(X, Y, paired)
    assert (difference_test(X, Y, paired) < ALPHA) == (low > 0 or high < 0)
    edge = max(abs(low), abs(high))
    assert equivalence_test(X, Y, edge * 1.001, paired) < ALPHA / 2 < equivalence_test(X, Y, edge * 0.999, paired)


@pytest.mark.filterwarnings("error")
def test_a_sample_without_spread_has_a_variance_of_zero():
    ones, others = [1.0, 1.0, 1.0], [0.90, 0.95, 0.94]
    low, high = mean_interval(others)[1:]
    found = difference(ones, others, paired=False)
    assert found[1:] == pytest.approx((1 - high, 1 - low))
    assert difference_test(ones, others, paired=False) == pytest.approx(difference_test(ones, others, paired=True))


def test_pairing_uses_what_seeds_share():
    together = np.array([0.5, 0.6, 0.7])
    assert difference_test(together + [0.01, 0.011, 0.012], together, True) < 0.01
    assert difference_test(together + [0.01, 0.011, 0.012], together, False) > 0.5


@PAIRED
def test_one_seed_says_nothing(paired):
    assert difference([0.5], [0.4], paired).mean == pytest.approx(0.1)
    assert all(map(math.isnan, difference([0.5], [0.4], paired)[1:]))
    assert math.isnan(difference_test([0.5], [0.4], paired))
    assert math.isnan(equivalence_test([0.5], [0.4], 1, paired))
    assert math.isnan(detectable_difference([0.5], [0.4], paired))
    assert math.isnan(difference_test([NAN, 0.5], [0.4, NAN], paired))
    assert math.isnan(equivalence_test(X, Y, NAN, paired))


@PAIRED
def test_no_spread_is_certainty(paired):
    same, other = [0.5, 0.5], [0.4, 0.4]
    assert difference(same, other, paired) == pytest.approx((0.1, 0.1, 0.1))
    assert (difference_test(same, same, paired), difference_test(same, other, paired)) == (1, 0)
    assert (equivalence_test(same, other, 0.2, paired), equivalence_test(same, other, 0.05, paired)) == (0, 1)
    assert detectable_difference(same, other, paired) == 0


def test_missing_runs_take_their_partners_along_only_where_paired():
    with_gap = [NAN, *X[1:]]
    assert difference(with_gap, Y, True) == difference(X[1:], Y[1:], True)
    assert difference(with_gap, Y, False) == difference(X[1:], Y, False)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_detectable_difference_is_detected_as_often_as_promised(count):
    random = np.random.default_rng(1)
    size = TTestPower().solve_power(nobs=count, alpha=ALPHA, power=statistics.POWER)
    x, y = random.normal(size=(2, count))
    assert detectable_difference(x, y, True) == pytest.approx(size * np.std(x - y, ddof=1))
    draws = random.normal(size, 1, size=(4000, count))
    found = scipy.stats.ttest_1samp(draws, 0, axis=1).pvalue < ALPHA
    assert found.mean() == pytest.approx(statistics.POWER, abs=0.03)


@pytest.mark.parametrize("spread", [1, 10])
def test_detectable_difference_of_independent_runs(spread):
    random = np.random.default_rng(2)
    unit = scipy.stats.zscore(np.arange(6), ddof=1)
    size = detectable_difference(spread * unit, unit, False)
    draws = random.normal(size, spread, (4000, 6)), random.normal(size=(4000, 6))
    found = scipy.stats.ttest_ind(*draws, axis=1, equal_var=False).pvalue < ALPHA
    assert found.mean() == pytest.approx(statistics.POWER, abs=0.03)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, NAN, 0.04])[[0, 2]].tolist() == pytest.approx([0.04, 0.04])
    assert np.isnan(holm([NAN, 0.5])[0])
    assert holm([]).tolist() == []


def test_remaining_share():
    assert remaining_share([0.5, 0.5], [0.3, 0.3], 0.1, True) == pytest.approx((0.5, 0.5, 0.5))
    gap = difference(X, Y, True)
    mean, low, high = remaining_share(X, Y, 0.1, True)
    room = np.mean(X) - 0.1
    assert (mean, low, high) == pytest.approx((1 - gap.mean / room, 1 - gap.high / room, 1 - gap.low / room))
    assert mean == pytest.approx((np.mean(Y) - 0.1) / room)
    assert all(map(math.isnan, remaining_share([0.1, 0.09], [0.3, 0.3], 0.1, True)))
    assert remaining_share([0.5], [0.3], 0.1, False).mean == pytest.approx(0.5)


def test_exact_interval_of_a_proportion():
    assert proportion_interval(2, 2) == pytest.approx((1, math.sqrt(ALPHA / 2), 1))  # p^2 = 2.5 %
    assert proportion_interval(0, 3).high == pytest.approx(1 - (ALPHA / 2) ** (1 / 3))
    assert all(map(math.isnan, proportion_interval(0, 0)))


def test_rank_correlation():
    assert rank_correlation([0, 0.5, 1], [1, 5, 6]) == pytest.approx(1)
    assert rank_correlation([0, 0.5, 1], [6, 5, 1]) == pytest.approx(-1)
    assert rank_correlation([0, 1, 2, 3, 4], [1, 0, 2, 3, 4]) == 0.9
    assert math.isnan(rank_correlation([0.5], [1]))
    assert math.isnan(rank_correlation([1, 1], [0, 1]))
    assert rank_correlation([0, 1], [1, 1]) == 0


def test_rank_correlation_of_times_that_never_came_lies_in_a_range():
    rates, inf = [0, 0.25, 0.5, 0.75, 1], math.inf
    assert rank_correlation_range(rates, [1, 2, 3, 4, 5]) == (1, 1)
    assert rank_correlation_range(rates, [1, 2, 3, 4, inf]) == (1, 1)
    assert rank_correlation_range(rates, [1, 2, 3, inf, inf]) == (0.9, 1)  # as if the two were swapped
    assert rank_correlation_range(rates, [inf] * 5) == (-1, 1)
    assert rank_correlation_range(rates, [inf, 1, 2, 3, 4])[0] == rank_correlation(rates, [9, 1, 2, 3, 4])


def test_crossing_is_linear_between_points():
    curve = pd.Series([1.0, 0.6, 0.2, 0.3], index=[1, 2, 3, 4])
    assert crossing(curve, 0.4) == pytest.approx(2.5)
    assert crossing(curve, 2.0) == 1
    assert math.isnan(crossing(curve, 0.1))


def test_the_mean_of_ratios_is_geometric():
    mean, low, high = ratio_interval([1.0, 4.0, 2.0])
    assert mean == pytest.approx(2)
    assert low * high == pytest.approx(mean**2)
    assert ratio_interval([1.0, 0.0, NAN])[0] == 0
    assert ratio_interval([1.0, 0.0, math.inf])[0] == math.inf
    assert all(map(math.isnan, ratio_interval([1.0, 0.0])[1:]))
