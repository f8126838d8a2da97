import math

import pandas as pd
import pytest

from lib.statistics import binomial_error, crossing, mean_interval, rank_correlation


def test_interval_of_three_values_is_students():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    half = 4.302653 * 1 / math.sqrt(3)  # t quantile 0.975 with 2 degrees of freedom, printed tables
    assert (mean, low, high) == pytest.approx((2, 2 - half, 2 + half), abs=1e-5)


def test_interval_of_one_value_is_unknown_and_of_equal_values_has_no_width():
    assert mean_interval([0.5])[0] == 0.5
    assert all(map(math.isnan, mean_interval([0.5])[1:]))
    assert all(map(math.isnan, mean_interval([])))
    assert mean_interval([0.5, 0.5]) == (0.5, 0.5, 0.5)


def test_rank_correlation():
    assert rank_correlation([0, 0.5, 1], [1, 5, 6]) == pytest.approx(1)
    assert rank_correlation([0, 0.5, 1], [6, 5, 1]) == pytest.approx(-1)
    assert rank_correlation([0, 1, 2, 3, 4], [1, 0, 2, 3, 4]) == 0.9
    assert math.isnan(rank_correlation([0.5], [1]))
    assert math.isnan(rank_correlation([1, 1], [0, 1]))
    assert rank_correlation([0, 1], [1, 1]) == 0


def test_binomial_error():
    assert binomial_error(0.1, 10_000) == pytest.approx(0.003)


def test_crossing_is_linear_between_points():
    curve = pd.Series([1.0, 0.6, 0.2, 0.3], index=[1, 2, 3, 4])
    assert crossing(curve, 0.4) == pytest.approx(2.5)
    assert crossing(curve, 2.0) == 1
    assert math.isnan(crossing(curve, 0.1))
