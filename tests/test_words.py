import math

from lib import words


def test_numbers():
    assert words.percent(0.071, 0) == "7\N{NO-BREAK SPACE}%"
    assert words.percent(0.12347) == "12.35\N{NO-BREAK SPACE}%"
    assert words.percent(float("nan")) == words.number(float("nan")) == "not run"
    assert words.number(1234.5678) == "1,235"
    assert words.number(234.5678) == "235"
    assert [words.number(value) for value in (999.4, 999.6, -999.6)] == ["999", "1,000", "-1,000"]


def test_a_quantity_is_written_in_its_unit():
    assert words.form_of("gain in test accuracy")(0.0303) == "3.03 points"
    assert words.form_of("absolute difference of the test error from the paper's")(0.5) == "50.00 points"
    assert words.form_of("test accuracy") is words.percent
    assert words.form_of("rank correlation")(0.999) == "1.00"
    assert words.form_of("rank correlation")(math.nan) == "not run"


def test_estimates():
    nan = math.nan
    assert (
        words.estimate(0.5, 0.4, 0.6, 2)
        == "50.00\N{NO-BREAK SPACE}% <small>[40.00\N{NO-BREAK SPACE}% to 60.00\N{NO-BREAK SPACE}%], 2 seeds</small>"
    )
    assert words.estimate(0.5, nan, nan, 1) == "50.00\N{NO-BREAK SPACE}% <small>1 seed</small>"
    assert words.estimate(nan, nan, nan, 0) == "not run"
    assert words.estimate(nan, nan, nan, 2) == "— <small>2 seeds</small>"  # they ran, but have no such number
    assert words.form_of("rank correlation")(1.0) == "1.00"
    assert words.form_of("test error")(0.5) == "50.00\N{NO-BREAK SPACE}%"
    assert words.form_of("time over the longest other")(1.2345) == "1.23"


def test_counts():
    assert (words.count(1, "seed"), words.count(2, "seed")) == ("1 seed", "2 seeds")
    assert (words.count_range(1, 1, "seed"), words.count_range(1, 2, "seed")) == ("1 seed", "1 to 2 seeds")
