import math
from dataclasses import replace

import pandas as pd
import pytest
from scipy import stats

from lib.criteria import (
    VERDICTS,
    Comparison,
    Criterion,
    Margin,
    comparisons_frame,
    criteria_frame,
    overall,
    tally,
    verdict,
)
from lib.statistics import mean_interval

NAN = math.nan


def each_seed(*values, low=0.99, headline=True):
    runs = ("group", "model")
    return Criterion("x", "training accuracy", runs, pd.Series(values, dtype=float), "why", low, headline=headline)


def average(*values, low=0.0, high=1.0, headline=False):
    values = pd.Series(values, dtype=float)
    interval = mean_interval(values)
    return Criterion("y", "share", ("g", "m"), values, "why", low, high, interval=interval, headline=headline)


def compare(on, off, paired=True, margin=0.8, **more):
    on, off = pd.Series(on, dtype=float), pd.Series(off, dtype=float)
    return Comparison("x", ("group", "model"), on, off, paired, Margin(margin, "why"), **more)


@pytest.mark.parametrize(
    ("values", "holds"),
    [((0.99, 1.0), "yes"), ((0.98, 1.0), "mixed"), ((0.1, 0.2), "no"), ((1.0, NAN), "undecided"), ((NAN,), "not run")],
)
def test_what_is_asked_of_each_seed(values, holds):
    assert each_seed(*values).holds == holds


@pytest.mark.parametrize(
    ("values", "otherwise"), [((1, 1), "yes"), ((0, 0), "no"), ((1,), "undecided"), ((), "not run")]
)
def test_what_leaves_a_criterion_unsettled_hides_nothing(values, otherwise):
    criterion = replace(each_seed(*values), unsettled="never", caveat="known")
    row = criteria_frame([criterion]).iloc[0]
    assert (row["holds"], row["otherwise"]) == ("undecided" if values else "not run", otherwise)
    assert row["caveat"] == "known"


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ((0.5, 0.51, 0.52), "yes"),
        ((0.0, 0.0), "yes"),
        ((0.9, 0.99), "undecided"),
        ((1.2, 1.21, 1.22), "no"),
        ((-0.2, -0.21), "no"),
        ((0.5,), "undecided"),
        ((NAN, NAN), "not run"),
        ((math.inf, math.inf), "no"),
    ],
)
def test_what_is_asked_of_the_interval(values, holds):
    assert average(*values).holds == holds


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ((each_seed(1, 1), average(0.5, 0.5)), "replicated"),
        ((each_seed(1, 1), average(1.5, 1.5)), "partly"),
        ((each_seed(1, 1), average(0.1, 0.9)), "inconclusive"),
        ((each_seed(1, 1), average(0.1, 0.9), average(1.5, 1.5)), "partly"),
        ((each_seed(0.5, 1), average(0.5, 0.5)), "partly"),
        ((each_seed(0.5, 0.5), average(0.5, 0.5)), "not replicated"),
        ((each_seed(1), average(0.5, 0.5)), "inconclusive"),
        ((each_seed(), average(0.5, 0.5)), "inconclusive"),
        ((each_seed(1, 1), average()), "inconclusive"),
        ((each_seed(), average()), "not run"),
    ],
)
def test_verdict_of_a_claim(criteria, expected):
    assert verdict(criteria_frame(criteria)) == expected


def test_verdict_of_all_claims():
    assert overall(["replicated"] * 4) == "replicated"
    assert overall(["replicated", "not replicated"]) == overall(["partly", "replicated"]) == "partly"
    assert overall(["replicated", "inconclusive", "partly"]) == "inconclusive"
    assert overall(["not run", "replicated"]) == "inconclusive"
    assert overall(["not run"] * 4) == "not run"


def test_every_verdict_has_a_symbol_of_its_own():
    assert len(set(VERDICTS.values())) == len(VERDICTS) == 5


def test_a_share_is_held_against_its_margin_and_the_paper():
    criterion = compare([0.8, 0.9], [0.7, 0.8], paper_on=0.6, paper_off=0.5).criterion(0.1)
    assert criterion.values.tolist() == pytest.approx([6 / 7, 7 / 8])
    assert criterion.interval.mean == pytest.approx(0.65 / 0.75)
    assert criterion.paper == pytest.approx(0.8)
    assert (criterion.low, criterion.high, criterion.holds) == (0.8, math.inf, "yes")


def test_a_regularizer_that_hurts_is_not_needed():
    assert compare([0.3, 0.31], [0.6, 0.61]).criterion(0.1).holds == "yes"
    assert compare([0.6, 0.61], [0.3, 0.31]).criterion(0.1).holds == "no"
    assert compare([0.6, 0.61], [0.1, 0.3]).criterion(0.1).holds == "undecided"
    assert compare([0.1, 0.1], [0.1, 0.1]).criterion(0.1).holds == "not run"  # nothing above chance to keep


def test_a_gain_is_held_against_its_margin_in_points():
    comparison = compare([0.5, 0.6], [0.5, 0.6], margin=0.01, is_share=False)
    assert comparison.criterion(0.1).holds == "yes"
    assert compare([0.5, 0.6], [0.4, 0.5], margin=0.01, is_share=False).criterion(0.1).holds == "no"
    assert (comparison.margin_points(0.1), compare([0.6], [0.5]).margin_points(0.1)) == (0.01, pytest.approx(0.1))


def test_a_comparison_says_all_that_the_seeds_can_say():
    on, off = [0.71, 0.74, 0.69], [0.66, 0.73, 0.64]
    frame = comparisons_frame([compare(on, off), compare(on, off, paired=False), compare([0.5], [0.4])], 0.1)
    p = [stats.ttest_rel(on, off).pvalue, stats.ttest_ind(on, off, equal_var=False).pvalue]
    assert frame["p"].tolist()[:2] == pytest.approx(p)
    assert frame["p_holm"].tolist()[:2] == pytest.approx([2 * min(p), max(2 * min(p), max(p))])  # two of three have one
    assert frame["difference"].tolist() == pytest.approx([0.11 / 3, 0.11 / 3, 0.1])
    assert frame["seeds"].tolist() == [3, 3, 1]
    assert frame.loc[2, ["low", "p", "p_holm", "p_equivalence", "detectable"]].isna().all()


def test_the_criterion_and_the_equivalence_test_agree():
    """The share's lower bound above its margin is one of the two one-sided tests at half of alpha."""
    for gap in (0.02, 0.05, 0.08, 0.12):
        each = compare([0.71, 0.74, 0.69], [0.71 - gap, 0.74 - gap, 0.70 - gap], margin=0.9)
        p = comparisons_frame([each], 0.1)["p_equivalence"].iloc[0]
        assert (each.criterion(0.1).holds == "yes") == (p < 0.025)


def test_a_comparison_of_other_batches_has_welchs_interval():
    on, off = [0.71, 0.74, 0.69], [0.66, 0.73, 0.64]
    found = compare(on, off, paired=False).criterion(0.1)
    low, high = stats.ttest_ind(on, off, equal_var=False).confidence_interval()
    room = sum(on) / 3 - 0.1
    assert found.interval[1:] == pytest.approx((1 - high / room, 1 - low / room))


def test_what_fails_is_named_where_there_is_room():
    holds = ["yes", "no", "undecided", "no", "no"]
    criteria = pd.DataFrame({"criterion": list("abcde"), "holds": holds, "caveat": ["", "", "", "why", ""]})
    assert tally(criteria) == "1 of 5 criteria hold, 3 failed, 1 undecided"
    assert tally(criteria[:4]) == "1 of 4 criteria hold, 2 failed (b; d [why]), 1 undecided"
    assert tally(criteria[:3]) == "1 of 3 criteria hold, 1 failed (b), 1 undecided"
    assert tally(criteria[3:4]) == "0 of 1 criteria hold, 1 failed (d [why])"
    assert tally(criteria[:3], named=False) == "1 of 3 criteria hold, 1 failed, 1 undecided"
    assert tally(criteria[:1]) == "1 of 1 criteria hold"
