"""Statistics of a few seeds: thin over scipy."""

import math
from collections.abc import Sequence

import pandas as pd
import scipy  # scipy.stats loads when first used: training workers never do, and start a second sooner


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student-t confidence interval of the mean of values [n]; the bounds are NaN below two values.

    Equal values give an interval of no width.
    """
    mean = math.fsum(values) / len(values) if len(values) else math.nan
    if len(values) < 2:
        return mean, math.nan, math.nan
    if math.isinf(mean):
        return mean, math.nan, math.nan
    error = scipy.stats.sem(values)
    if error == 0:
        return mean, mean, mean
    low, high = scipy.stats.t.interval(confidence, len(values) - 1, mean, error)
    return mean, float(low), float(high)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation of x [n] with y [n]: NaN where x is constant, 0 where only y is (no growth)."""
    if len(set(x)) < 2:
        return math.nan
    if len(set(y)) < 2:
        return 0.0
    return round(float(scipy.stats.spearmanr(x, y).statistic), 12)  # 0.9 must not come out as 0.8999999999999998


def binomial_error(share: float, count: int) -> float:
    """Standard error of a share estimated from `count` independent trials."""
    return math.sqrt(share * (1 - share) / count)


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
