import itertools

from lib import overview, plots
from lib.claims import CLAIMS
from lib.study import recorded_study


def test_the_readme_is_what_the_records_say():
    """Where it is not: make readme."""
    assert overview.verdicts() in overview.README.read_text()
    assert overview.figure_svg() == overview.FIGURE.read_text()


def test_the_readme_quotes_the_last_bench():
    """Where it does not: make readme."""
    assert "img/s" in overview.speeds()
    assert overview.speeds() in overview.README.read_text()


def test_no_finding_is_told_twice():
    found = overview._findings([recorded_study(claim) for claim in CLAIMS])
    told = [line.partition("): ")[2].rstrip(".") for line in found]
    assert len(told) > 1
    assert not any(one in other for one, other in itertools.permutations(told, 2))


def _arms(runs):
    return set(zip(runs["model"], runs["arm"], strict=True))


def test_each_picture_is_of_the_largest_size_that_has_it_whole():
    shown = overview.pictured([recorded_study(claim) for claim in CLAIMS])
    assert [study.claim.name for study in shown] == list(overview.PICTURED)
    for study in shown:
        group, sizes = overview.PICTURED[study.claim.name], ["paper", "cpu", "quick"]
        larger = [recorded_study(study.claim.name, each) for each in sizes[: sizes.index(study.profile.name)]]
        assert _arms(study.group(group).dropna(subset="key")) == _arms(study.group(group))
        assert all(_arms(each.group(group).dropna(subset="key")) < _arms(each.group(group)) for each in larger)
    own = [recorded_study(claim, "quick") for claim in CLAIMS]
    assert [study.profile.name for study in overview.pictured(own)] == ["quick", "quick"]


def test_a_readme_without_records_says_so(nothing):
    assert "not run yet" in overview.verdicts()
    figure = overview.figure([recorded_study(claim, "quick") for claim in CLAIMS])
    assert len(plots.settle(figure).axes) == 2
