"""Statistics of a few seeds: thin over scipy and statsmodels, every interval at 95 %.

A sample is an array [n], one value a seed; NaN is a run that is missing, and is dropped (from both sides of a pair).
Below two values there is no spread, and what needs one is NaN. Equal values have a spread of zero: the interval has
no width, and a test is sure (p is 0 or 1). An infinite value has no interval.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy  # scipy.stats and statsmodels load when first used: training workers never do, and start seconds sooner

ALPHA = 0.05  # two-sided; an interval inside a margin is then two one-sided tests at 2.5 % each
POWER = 0.80  # of the smallest detectable difference, by convention
SMALLEST = 1e-12  # a spread below this is rounding


class Interval(NamedTuple):
    """An estimate with the bounds of its 95 % interval, which are NaN where nothing is known of the spread."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of values [n] with Student's interval of the mean."""
    values = _known(values)
    return _student(values, 1 / math.sqrt(max(len(values), 1)))


def prediction_interval(values: Sequence[float]) -> Interval:
    """Mean of values [n] with the interval that holds one further run: t * s * sqrt(1 + 1/n) either side."""
    values = _known(values)
    return _student(values, math.sqrt(1 + 1 / max(len(values), 1)))


def ratio_interval(values: Sequence[float]) -> Interval:
    """Geometric mean of ratios [n] with Student's interval of the mean logarithm, which one that is infinite or 0 takes
    to itself: there is then no interval."""
    values = _known(values)
    for extreme in (math.inf, 0.0):
        if (values == extreme).any():
            return Interval(extreme, math.nan, math.nan)
    return Interval(*map(float, np.exp(mean_interval(np.log(values)))))


def proportion_interval(successes: int, trials: int) -> Interval:
    """Share of runs that do something, with Clopper and Pearson's exact interval; NaN without a trial."""
    if not trials:
        return Interval(math.nan, math.nan, math.nan)
    low, high = scipy.stats.binomtest(successes, trials).proportion_ci(1 - ALPHA)
    return Interval(successes / trials, float(low), float(high))


def difference(x: Sequence[float], y: Sequence[float], paired: bool) -> Interval:
    """Mean of x [n] less that of y [m] with its interval: Student's on the pairs (n = m), else Welch's."""
    x, y = _samples(x, y, paired)
    if paired:
        return mean_interval(x - y)
    mean = _mean(x) - _mean(y)
    if not _has_spread(x, y):
        return Interval(mean, *(mean, mean) if _countable(x, y) else (math.nan, math.nan))
    low, high = _welch(x, y).confidence_interval(1 - ALPHA)
    return Interval(mean, float(low), float(high))


def difference_test(x: Sequence[float], y: Sequence[float], paired: bool) -> float:
    """Two-sided p of equal means of x [n] and y [m]: the paired t-test (n = m), else Welch's."""
    x, y = _samples(x, y, paired)
    if not _countable(x, y):
        return math.nan
    if not _has_spread(*((x - y,) if paired else (x, y))):
        return float(abs(x.mean() - y.mean()) < SMALLEST)
    test = scipy.stats.ttest_rel(x, y) if paired else _welch(x, y)
    return float(test.pvalue)


def equivalence_test(x: Sequence[float], y: Sequence[float], margin: float, paired: bool) -> float:
    """p of two one-sided t-tests (TOST) that the means of x [n] and y [m] differ by less than the margin; NaN where
    the margin is not above 0 or the values are too few."""
    from statsmodels.stats import weightstats

    x, y = _samples(x, y, paired)
    if not _countable(x, y) or not margin > 0:
        return math.nan
    if not _has_spread(*((x - y,) if paired else (x, y))):
        return float(not abs(x.mean() - y.mean()) < margin)
    if paired:
        return float(weightstats.ttost_paired(x, y, -margin, margin)[0])
    return float(weightstats.ttost_ind(x, y, -margin, margin, usevar="unequal")[0])


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's correction of p values [n] for being n; NaN stays NaN and does not count."""
    from statsmodels.stats.multitest import multipletests

    adjusted = np.array(p_values, dtype=float)
    known = ~np.isnan(adjusted)
    if known.any():
        adjusted[known] = multipletests(adjusted[known], ALPHA, "holm")[1]
    return adjusted


def detectable_difference(x: Sequence[float], y: Sequence[float], paired: bool) -> float:
    """The smallest true difference that as many seeds, spread as x [n] and y [m] are, show with 80 % power."""
    from statsmodels.stats.power import TTestPower

    x, y = _samples(x, y, paired)
    if not _countable(x, y):
        return math.nan
    if not _has_spread(*((x - y,) if paired else (x, y))):
        return 0.0
    test = scipy.stats.ttest_rel(x, y) if paired else _welch(x, y)
    error = scipy.stats.sem(x - y) if paired else math.hypot(scipy.stats.sem(x), scipy.stats.sem(y))
    size = TTestPower().solve_power(nobs=test.df + 1, alpha=ALPHA, power=POWER)  # in standard deviations
    return float(size * math.sqrt(test.df + 1) * error)


def remaining_share(on: Sequence[float], off: Sequence[float], chance: float, paired: bool) -> Interval:
    """Share of the accuracy above chance that remains of `on` [n] in `off` [m]: (off - chance) / (on - chance).

    The interval is that of the difference over the mean of `on` above chance, taken as known: its own error counts
    for the difference's share of it only. NaN where `on` is not above chance.
    """
    gap, room = difference(on, off, paired), _mean(_samples(on, off, paired)[0]) - chance
    if not room > 0:
        return Interval(math.nan, math.nan, math.nan)
    return Interval(1 - gap.mean / room, 1 - gap.high / room, 1 - gap.low / room)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation of x [n] with y [n]: NaN where x is constant, 0 where only y is (no growth)."""
    if len(set(x)) < 2:
        return math.nan
    if len(set(y)) < 2:
        return 0.0
    return round(float(scipy.stats.spearmanr(x, y).statistic), 12)  # 0.9 must not come out as 0.8999999999999998


def rank_correlation_range(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest rank correlation of x [n] with y [n] that there may be if infinite y, times longer
    than anyone waited, were known: these falling or growing with x. Both as rank_correlation where y is finite."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    late = np.isinf(y)
    last, order = y[~late].max(initial=0.0), scipy.stats.rankdata(x)
    low, high = (rank_correlation(x, np.where(late, last + 1 + place, y)) for place in (len(x) - order, order))
    return low, high


def crossing(curve: pd.Series, level: float) -> float:
    """Index at which a curve first falls below a level, linear between its points; NaN where it never does."""
    below = (curve < level).to_numpy()
    if not below.any():
        return math.nan
    last = int(below.argmax())
    if last == 0:
        return float(curve.index[0])
    (x0, x1), (y0, y1) = curve.index[last - 1 : last + 1], curve.iloc[last - 1 : last + 1]
    return float(x0 + (x1 - x0) * (y0 - level) / (y0 - y1))


def _student(values: np.ndarray, scale: float) -> Interval:
    """Mean of values [n] and Student's interval; scale: its standard error, in standard deviations of the values."""
    mean = _mean(values)
    if not _countable(values) or math.isinf(mean):
        return Interval(mean, math.nan, math.nan)
    if not _has_spread(values):
        return Interval(mean, mean, mean)
    low, high = scipy.stats.t.interval(1 - ALPHA, len(values) - 1, mean, values.std(ddof=1) * scale)
    return Interval(mean, float(low), float(high))


def _welch(x: np.ndarray, y: np.ndarray):
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of one without spread: its variance is 0
        return scipy.stats.ttest_ind(x, y, equal_var=False)


def _known(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values[~np.isnan(values)]


def _samples(x: Sequence[float], y: Sequence[float], paired: bool) -> tuple[np.ndarray, np.ndarray]:
    if not paired:
        return _known(x), _known(y)
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    both = ~np.isnan(x) & ~np.isnan(y)
    return x[both], y[both]


def _mean(values: np.ndarray) -> float:
    return math.fsum(values) / len(values) if len(values) else math.nan


def _countable(*samples: np.ndarray) -> bool:
    return all(len(values) >= 2 and np.isfinite(values).all() for values in samples)


def _has_spread(*samples: np.ndarray) -> bool:
    return _countable(*samples) and any(np.ptp(values) > SMALLEST for values in samples)
