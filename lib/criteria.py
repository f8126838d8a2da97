"""What a criterion and a comparison are, how each is decided, and what they say together. Values by seed -> verdict.

Two kinds of criterion. What a run shows or does not show (it fits; its error grows) is asked of each seed: such a
claim says that networks can, and every run is a demonstration of its own. What is said of an accuracy on average
(it is chance; a regularizer's part is marginal) is asked of the 95 % interval of the mean: inside the margin the
criterion holds, outside it fails, across its edge the seeds are too few to say.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from lib.data import CLASSES
from lib.statistics import (
    Interval,
    detectable_difference,
    difference,
    difference_test,
    equivalence_test,
    holm,
    mean_interval,
    remaining_share,
)

MIN_SEEDS = 2  # below this nothing is known about the spread
PAPER_CHANCE, IMAGENET_CHANCE = 1 / CLASSES["cifar10"], 1 / CLASSES["imagenet"]
QUESTION = ["criterion", "quantity"]  # columns of criteria_frame that name a criterion, whatever the profile
SHARE = "share of accuracy above chance that remains"
MOST_NAMED = 2  # failed criteria that a line has room for

VERDICTS = {
    "replicated": "✔",
    "partly": "◐",
    "not replicated": "✘",
    "inconclusive": "?",
    "not run": "—",
}


@dataclass(frozen=True)
class Margin:
    """A margin and why it is that."""

    value: float
    why: str


@dataclass(frozen=True)
class Criterion:
    """One check: of what, which quantity by seed (NaN: not run), the range [low, high] it must lie in and why.

    runs: group and network ('': all of the group's) of the arms that it rests on; paper: the paper's value.
    interval: of the mean, where the criterion is asked of that; None where it is asked of each seed.
    headline: it decides whether the claim's centre stands: Inception's, the only network in all of the paper's
        figures on CIFAR-10.
    unsettled: why what ran cannot say, and leaves the criterion undecided; '' where it can.
    caveat: what else is to be known of the runs, whatever they say; '' where there is nothing.
    """

    what: str
    quantity: str
    runs: tuple[str, str]
    values: pd.Series
    why: str
    low: float = -math.inf
    high: float = math.inf
    paper: float = math.nan
    interval: Interval | None = None
    headline: bool = False
    unsettled: str = ""
    caveat: str = ""

    @property
    def known(self) -> pd.Series:
        """The seeds that ran."""
        return self.values.dropna()

    @property
    def inside(self) -> int:
        """How many seeds lie in the range."""
        return int(self.known.between(self.low, self.high).sum())

    @property
    def holds(self) -> str:
        """'yes', 'no', 'mixed' (some seeds only), 'undecided' (too few seeds to say, or unsettled) or 'not run'."""
        return "undecided" if self.unsettled and len(self.known) else self.otherwise

    @property
    def otherwise(self) -> str:
        """The same, were it not for what leaves it unsettled."""
        if self.known.empty:
            return "not run"
        if len(self.known) < MIN_SEEDS:
            return "undecided"
        mean, low, high = self.interval or Interval(math.inf, math.nan, math.nan)
        if math.isnan(low) and mean in (0, math.inf):  # asked of each seed, or with a time that never came
            return "yes" if self.inside == len(self.known) else "mixed" if self.inside else "no"
        if self.low <= low and high <= self.high:
            return "yes"
        return "no" if high < self.low or low > self.high else "undecided"


@dataclass(frozen=True)
class Comparison:
    """A test accuracy with something (on) and without it (off), one value a seed; and the paper's two values.

    paired: the seeds share images and batches, so that their differences can be taken one by one.
    margin: the share of accuracy above chance that must remain without it, or where not is_share a difference, which
        the gain must not exceed, or where is_gain must reach.
    is_best: the accuracy with it is the best of many, of which that without it is one: no difference is no hypothesis.
    unsettled, caveat: as a criterion's.
    without: how the runs without it are called.
    """

    text: str
    runs: tuple[str, str]
    on: pd.Series
    off: pd.Series
    paired: bool
    margin: Margin
    paper_on: float = math.nan
    paper_off: float = math.nan
    is_share: bool = True
    headline: bool = False
    is_gain: bool = False
    is_best: bool = False
    paper_chance: float = PAPER_CHANCE
    unsettled: str = ""
    without: str = "without it"
    caveat: str = ""

    @property
    def paper_share(self) -> float:
        """The share of the paper's accuracy above chance that remains without it."""
        return (self.paper_off - self.paper_chance) / (self.paper_on - self.paper_chance)

    def margin_points(self, chance: float) -> float:
        """The margin as a difference of accuracies; that of a share is a share of our mean above chance."""
        if self.is_share:
            return (1 - self.margin.value) * (self.on.mean() - chance)
        return self.margin.value

    def criterion(self, chance: float) -> Criterion:
        """That what is lost without it is no more than marginal; or that stopping early gains nothing, or something."""
        shared = {"runs": self.runs, "why": self.margin.why, "headline": self.headline}
        shared |= {"unsettled": self.unsettled, "caveat": self.caveat}
        if self.is_share:
            return Criterion(
                f"{self.text}: {self.without}",
                SHARE,
                values=(self.off - chance) / (self.on - chance),
                low=self.margin.value,
                paper=self.paper_share,
                interval=remaining_share(self.on, self.off, chance, self.paired),
                **shared,
            )
        return Criterion(
            self.text,
            "gain in test accuracy",
            values=self.on - self.off,
            paper=self.paper_on - self.paper_off,
            interval=difference(self.on, self.off, self.paired),
            **{"low" if self.is_gain else "high": self.margin.value},
            **shared,
        )


def criteria_frame(criteria: Iterable[Criterion]) -> pd.DataFrame:
    """One row per criterion: what it asks, the paper's value, the seeds' values, and what they say.

    Columns: criterion, quantity, group, model (of its arms), values, paper, ours, interval_low and interval_high (95 %
    of the mean), seeds, inside (how many are), asked_of, required_low and required_high, why, holds, unsettled,
    otherwise (holds, were it not for that), caveat, headline.
    """
    rows = []
    for criterion in criteria:
        mean, low, high = criterion.interval or mean_interval(criterion.values)
        rows.append(
            {
                "criterion": criterion.what,
                "quantity": criterion.quantity,
                "group": criterion.runs[0],
                "model": criterion.runs[1],
                "values": tuple(criterion.known),
                "paper": criterion.paper,
                "ours": mean,
                "interval_low": low,
                "interval_high": high,
                "seeds": len(criterion.known),
                "inside": criterion.inside,
                "asked_of": "each seed" if criterion.interval is None else "the interval",
                "required_low": criterion.low,
                "required_high": criterion.high,
                "why": criterion.why,
                "holds": criterion.holds,
                "unsettled": criterion.unsettled,
                "otherwise": criterion.otherwise,
                "caveat": criterion.caveat,
                "headline": criterion.headline,
            }
        )
    return pd.DataFrame(rows)


def comparisons_frame(comparisons: Iterable[Comparison], chance: float) -> pd.DataFrame:
    """One row per comparison of a claim: its difference on - off with all that the seeds can say of it.

    Columns: comparison, group, model, paired, seeds, difference, low, high (95 %), p (NaN where no difference
    is no hypothesis), p_holm (within the claim), margin (a difference), p_equivalence (NaN where a gain is asked for),
    share, share_low, share_high, detectable, paper (its difference), unsettled, caveat.
    """
    rows = []
    for each in comparisons:
        samples = each.on.to_numpy(), each.off.to_numpy(), each.paired
        margin, gap = each.margin_points(chance), difference(*samples)
        share = remaining_share(*samples[:2], chance, each.paired)
        rows.append(
            {"comparison": each.text, "group": each.runs[0], "model": each.runs[1]}
            | {"paired": each.paired, "seeds": min(each.on.count(), each.off.count())}
            | dict(zip(("difference", "low", "high"), gap, strict=True))
            | {"p": math.nan if each.is_best else difference_test(*samples), "p_holm": math.nan, "margin": margin}
            | {"p_equivalence": math.nan if each.is_gain else equivalence_test(*samples[:2], margin, each.paired)}
            | dict(zip(("share", "share_low", "share_high"), share, strict=True))
            | {"detectable": detectable_difference(*samples), "paper": each.paper_on - each.paper_off}
            | {"unsettled": each.unsettled, "caveat": each.caveat}
        )
    result = pd.DataFrame(rows)
    return result if result.empty else result.assign(p_holm=holm(result["p"]))


def tally(criteria: pd.DataFrame, named: bool = True) -> str:
    """How many criteria hold, fail, hold in some seeds only, are undecided and were not run, in words; named: and
    which fail, where a line has room for them, with their caveats. The criteria's own table has them all."""
    words = {"no": "failed", "mixed": "in some seeds", "undecided": "undecided", "not run": "not run"}
    counts = criteria["holds"].value_counts()
    others = {holds: f"{counts[holds]} {text}" for holds, text in words.items() if holds in counts}
    failed = criteria.loc[criteria["holds"] == "no", ["criterion", "caveat"]]
    if named and 0 < len(failed) <= MOST_NAMED:
        named_failed = [f"{name} [{caveat}]" if caveat else name for name, caveat in failed.to_numpy()]
        others["no"] += f" ({'; '.join(named_failed)})"
    return ", ".join([f"{counts.get('yes', 0)} of {len(criteria)} criteria hold", *others.values()])


def verdict(criteria: pd.DataFrame) -> str:
    """One of VERDICTS for a claim's criteria.

    'not run' where no criterion has a value. The headline criterion decides first: the claim is 'not replicated'
    where it fails, 'inconclusive' where it is undecided. Where it stands, the claim is 'replicated' if all others
    do, 'partly' if one fails or holds in some seeds only, the headline included, and else 'inconclusive'.
    """
    if (criteria["holds"] == "not run").all():
        return "not run"
    headline = criteria.loc[criteria["headline"], "holds"].iloc[0]
    if headline in ("no", "undecided", "not run"):
        return "not replicated" if headline == "no" else "inconclusive"
    if (criteria["holds"] == "yes").all():
        return "replicated"
    return "partly" if criteria["holds"].isin(["no", "mixed"]).any() else "inconclusive"


def overall(verdicts: list[str]) -> str:
    """One of VERDICTS for all claims: theirs where they agree, 'inconclusive' while one is undecided, else 'partly'."""
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "inconclusive" if {"inconclusive", "not run"} & set(verdicts) else "partly"
