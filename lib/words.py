"""How numbers, counts and tables are written: texts for pages, figures and the README. Values -> str."""

import math
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

MISSING = "not run"
UNASKED = "not asked"  # of this profile or data set


def percent(value: float, decimals: int = 2) -> str:
    """A fraction as per cent; 'not run' where missing."""
    return MISSING if pd.isna(value) else f"{100 * value:z.{decimals}f}\N{NO-BREAK SPACE}%"


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, from 1,000 up whole; 'not run' where missing, 'never' for an
    infinite time."""
    if pd.isna(value) or math.isinf(value):
        return MISSING if pd.isna(value) else "never"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.{digits}g}"


def points(value: float) -> str:
    """A difference of accuracies in points; 'not run' where missing."""
    return MISSING if pd.isna(value) else f"{100 * value:z.2f}"


def in_points(value: float) -> str:
    """The same with its unit."""
    return MISSING if pd.isna(value) else f"{points(value)} points"


def gap(value: float, form: Callable[[float], str]) -> str:
    """A difference of two numbers that are written so: that of shares is in points."""
    return in_points(value) if form is percent else form(value)


def form_of(quantity: str) -> Callable[[float], str]:
    """How a number of this quantity is written: shares in per cent, what is gained or lacks in points, correlations
    with two decimals, all else short.
    """
    if "correlation" in quantity:
        return lambda value: MISSING if pd.isna(value) else f"{value:.2f}"
    if re.search("gain|adds|absolute difference", quantity):
        return in_points
    return percent if re.search("accuracy|error|share|top-", quantity) else number


def mean_text(mean: float, seeds: int, form: Callable[[float], str]) -> str:
    """A mean; 'not run' without a seed, and a dash where the seeds have none: what remains of nothing is no share."""
    return MISSING if not seeds else "—" if pd.isna(mean) else form(mean)


def estimate(mean: float, low: float, high: float, seeds: int, form: Callable[[float], str] = percent) -> str:
    """A mean, its 95 % interval and the number of seeds; 'not run' without a seed, no interval below two."""
    if not seeds:
        return MISSING
    interval = f"[{form(low)} to {form(high)}], " if np.isfinite([low, high]).all() else ""
    return f"{mean_text(mean, seeds, form)} <small>{interval}{count(seeds, 'seed')}</small>"


def interval(low: float, high: float, form: Callable[[float], str]) -> str:
    """Two bounds as text; a dash where they are not known."""
    return f"{form(low)} to {form(high)}" if np.isfinite([low, high]).all() else "—"


def count(number: int, noun: str) -> str:
    """So many of something, in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def count_range(fewest: int, most: int, noun: str) -> str:
    """From so many to so many of something, in words."""
    return count(most, noun) if fewest == most else f"{fewest} to {count(most, noun)}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[0].upper() + text[1:]


def p_value(value: float) -> str:
    """A p as text; a dash where there is none."""
    return "—" if pd.isna(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
