"""The paper's claims, each with its criteria, and what records say to them.

How a criterion is decided stands in lib/criteria.py, its margin and when it was fixed in lib/margins.py, how our
numbers are held against the paper's in lib/agreement.py.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib import paper
from lib.corruption import PERMUTED
from lib.criteria import IMAGENET_CHANCE, Comparison, Criterion, Margin
from lib.experiments import (
    ACROSS_CHANNELS,
    CORRUPTION_MODELS,
    HELD_OUT,
    NOISE_OF_FIG_1C,
    TRAINING_VARIANTS,
    UNREGULARIZED,
    group_of,
)
from lib.margins import MARGINS
from lib.runs import OVERFIT_LOSS
from lib.splits import SPLITS
from lib.statistics import (
    mean_interval,
    rank_correlation,
    rank_correlation_range,
    ratio_interval,
    remaining_share,
)
from lib.words import count, in_points, interval, number, percent

ACCURACIES = [f"{split}_accuracy" for split in SPLITS]
COLUMNS = {"train_accuracy": "training accuracy", "test_accuracy": "test accuracy"}
COLUMNS |= {"running_train_accuracy": "running training accuracy"}
MODEL_NAMES = {
    "inception": "Inception",
    "inception_no_bn": "Inception without BN",
    "alexnet": "AlexNet",
    "mlp_3x512": "MLP 3x512",
    "mlp_1x512": "MLP 1x512",
    "inception_v3": "Inception V3",
}


GUESSING = -math.log(IMAGENET_CHANCE)  # the loss of guessing among the most classes that there are


def network_name(model: str, variant: str = "") -> str:
    """A network's name, with the one of experiments.VARIANTS that its settings have."""
    return f"{MODEL_NAMES[model]}, {variant}" if variant else MODEL_NAMES[model]


Criteria = Iterator[Criterion]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: its name (as the notebook's), a title, the claim in a sentence, how it is judged."""

    name: str
    title: str
    statement: str
    criteria: Callable[[pd.DataFrame, float], Criteria]
    comparisons: Callable[[pd.DataFrame, float], Iterator[Comparison]] = lambda frame, chance: iter(())


def arm(frame: pd.DataFrame, group: str, name: str, model: str, column: str) -> pd.Series:
    """One arm's values of a column of experiments.arms_frame, by seed."""
    return rows_of(frame, group, name, model).set_index("seed")[column].sort_index().astype(float)


def rows_of(frame: pd.DataFrame, group: str, name: str, model: str) -> pd.DataFrame:
    """One arm's rows of experiments.arms_frame."""
    return frame[(frame["group"] == group) & (frame["arm"] == name) & (frame["model"] == model)]


IMAGES = ["train_size", "exact_only", "validation_size"]  # settings that decide which images are trained on


def share_batches(*arms: pd.DataFrame) -> bool:
    """Whether arms of one seed see the same images in the same batches."""
    return _same([*IMAGES, "width", "batch_size"], arms)


def _same(settings: list[str], arms: Iterable[pd.DataFrame]) -> bool:
    return len(pd.concat(arms)[settings].astype(float).drop_duplicates()) == 1


def fits(
    what: str,
    runs: tuple[str, str],
    values: pd.Series,
    published: float = math.nan,
    margin: Margin = MARGINS["fitted"],
    headline: bool = False,
    column: str = "train_accuracy",
    caveat: str = "",
) -> Criterion:
    """The criterion that training accuracies, final or running, reach a margin in each seed."""
    bounds = margin.value, math.inf
    how = {"headline": headline, "caveat": caveat}
    return Criterion(what, COLUMNS[column], runs, values, margin.why, *bounds, published, **how)


def at_chance(
    what: str,
    quantity: str,
    values: pd.Series,
    chance: float,
    published: float,
    runs: tuple[str, str],
    unsettled: str,
    margin: Margin = MARGINS["chance"],
) -> Criterion:
    """The criterion that values are those of guessing, on average within a margin; unsettled: by unfitted runs, which
    might as well have learned nothing at all.

    Labels drawn at random favour no class on any test image: on average over the draws, each network is at chance."""
    bounds = chance - margin.value, chance + margin.value
    why = f"{margin.why}. Whatever is learned from random labels is at chance on average: this fails where labels leak"
    return Criterion(what, quantity, runs, values, why, *bounds, published, mean_interval(values), unsettled=unsettled)


def _randomization(frame: pd.DataFrame, chance: float) -> Criteria:
    group, plain = "randomizations", paper.table1().query("arm == 'none'").set_index(["labels", "model"])
    table1 = plain.loc["random"]
    printed = {f"{labels} labels": plain["train_accuracy"][labels, "inception"] for labels in ("true", "random")}
    for name in paper.RANDOMIZATIONS.values():
        values, published = arm(frame, group, name, "inception", "train_accuracy"), printed.get(name, math.nan)
        is_headline = name == "random labels"
        yield fits(f"Inception fits {name}", (group, "inception"), values, published, headline=is_headline)
    group = "random labels"
    for model, label in [(model, name) for model, name in MODEL_NAMES.items() if model in table1.index]:
        train, test = (arm(frame, group, group, model, f"{split}_accuracy") for split in SPLITS)
        if model != "inception":
            published = table1["train_accuracy"][model]
            caveat = _fits_otherwise(_with_variants(frame, NOISE_OF_FIG_1C, group, model))
            yield fits(f"{label} fits random labels", (group, model), train, published, caveat=caveat)
        what, published = f"{label} trained on random labels is at chance", table1["test_accuracy"][model]
        unsettled = unfitted(rows_of(frame, group, group, model))
        yield at_chance(what, COLUMNS["test_accuracy"], test, chance, published, (group, model), unsettled)
    yield from _criteria_of_times(frame)


def _with_variants(frame: pd.DataFrame, comparison: str, name: str, model: str) -> dict[str, pd.Series]:
    """A network's training accuracies in the arm of this name, with each of TRAINING_VARIANTS."""
    groups = {variant: group_of(comparison, variant) for variant in TRAINING_VARIANTS}
    return {variant: arm(frame, group, name, model, "train_accuracy") for variant, group in groups.items()}


def _fits_otherwise(ways: Mapping[str, pd.Series]) -> str:
    """In how many runs on random labels a network fits with each of other settings, which no criterion takes; '' where
    none ran. ways: by the settings' name its training accuracies."""
    parts = []
    for name, values in ways.items():
        fitted, ran = (values >= MARGINS["fitted"].value).sum(), values.count()
        parts += [f"{name} {fitted} of {ran}"] if ran else []
    return f"seeds that fit random labels with other settings: {', '.join(parts)}" if parts else ""


def times_to_overfit(frame: pd.DataFrame) -> pd.DataFrame:
    """Time to overfit of each randomization of Fig. 1a over that of true labels: one row a seed, one column each."""
    times = _overfit_times(frame)
    return times.div(times["true labels"].where(np.isfinite(times["true labels"])), axis=0)


def _overfit_times(frame: pd.DataFrame, moved: str = "") -> pd.DataFrame:
    """moved: the variant of the images whose pixels move."""
    permuted = [paper.RANDOMIZATIONS[f"{pixels}_pixels"] for pixels in PERMUTED]
    groups = dict.fromkeys(paper.RANDOMIZATIONS.values(), "randomizations")
    groups |= dict.fromkeys(permuted, group_of("randomizations", moved))
    return pd.DataFrame({name: arm(frame, group, name, "inception", "overfit_time") for name, group in groups.items()})


def _criteria_of_times(frame: pd.DataFrame) -> Criteria:
    runs, margin = ("randomizations", "inception"), MARGINS["constant factor"]
    times, published = _overfit_times(frame), paper.steps_to_loss(OVERFIT_LOSS)
    noise, true = "random labels", "true labels"
    ratios, unsettled = _over_longest(times)
    across = ratio_interval(_over_longest(_overfit_times(frame, ACROSS_CHANNELS))[0]).mean
    yield Criterion(
        "Random labels are the slowest to overfit",
        "time over the longest other",
        runs,
        ratios,
        "slower than each other one",
        low=1.0,
        paper=published[noise] / published.drop(noise).max(),
        interval=ratio_interval(ratios),
        unsettled=unsettled,
        caveat="" if math.isnan(across) else f"{ACROSS_CHANNELS}: {number(across)}",
    )
    ratios, unsettled = _ratios(times[noise], times[true], settled_above=False)
    yield Criterion(
        "Random labels cost only a constant factor",
        "time over that of true labels",
        runs,
        ratios,
        margin.why,
        low=1.0,
        high=margin.value,
        paper=published[noise] / published[true],
        interval=ratio_interval(ratios),
        unsettled=unsettled,
        caveat=_most_seen(arm(frame, runs[0], noise, runs[1], "epochs"), times[true], margin.value),
    )


def _most_seen(epochs: pd.Series, times: pd.Series, asked: float) -> str:
    """The largest factor over these times that runs of so many epochs can show, where that is less than is asked."""
    most = (epochs / times).max()
    return f"in {epochs.max():.0f} epochs no factor above {number(most)} can be seen" if 0 < most < asked else ""


def _over_longest(times: pd.DataFrame) -> tuple[pd.Series, str]:
    """Times of random labels over the longest other; that they never fit is an answer here."""
    return _ratios(times["random labels"], times.drop(columns="random labels").max(axis=1, skipna=False))


def _ratios(times: pd.Series, others: pd.Series, settled_above: bool = True) -> tuple[pd.Series, str]:
    """Times by seed over others, infinite where they never came, 0 where only the others did not; and in how many seeds
    a time that never came says nothing.

    settled_above: whether it says something that a time never came where the other did.
    """
    ran = times.notna() & others.notna()
    ratios = (times / others).mask(ran & np.isinf(times), math.inf)
    silent = ran & (np.isinf(others) | (np.isinf(times) & (not settled_above)))
    return ratios, f"never overfitted in {silent.sum()} of {ran.sum()} seeds" if silent.any() else ""


def _label_corruption(frame: pd.DataFrame, chance: float) -> Criteria:
    errors, times = paper.fig1c(), paper.fig1b()
    curves = frame[frame["group"] == "corruption"]
    for model in CORRUPTION_MODELS:
        label, rows, runs = MODEL_NAMES[model], curves[curves["model"] == model], ("corruption", model)
        for what, column, published, sign in (
            ("test error", "test_accuracy", errors, -1),
            ("time to overfit", "overfit_time", times, 1),
        ):
            headline = (model, what) == ("inception", "test error")
            yield _grows(f"{label}: {what}", runs, rows, column, sign, published[published["model"] == model], headline)
        least = rows.groupby("seed")["train_accuracy"].apply(_least_fit)
        caveat = _fits_otherwise(_with_variants(frame, "corruption", "1", model))
        yield fits(f"{label} fits at every corruption rate, its least", runs, least, caveat=caveat)
        reference = errors[(errors["model"] == model) & (errors["corruption"] == 1)]["test_error"].iloc[0]
        what, noise = f"{label} is at chance at full corruption", rows_of(frame, "corruption", "1", model)
        error = 1 - arm(frame, "corruption", "1", model, "test_accuracy")
        yield at_chance(what, "test error", error, 1 - chance, reference, runs, unfitted(noise))


def _least_fit(accuracies: pd.Series) -> float:
    """The least training accuracy of a seed's rates; NaN while some did not run, unless it is too low already."""
    least = accuracies.astype(float).min()
    return least if accuracies.notna().all() or least < MARGINS["fitted"].value else math.nan


def _grows(what: str, runs, rows: pd.DataFrame, column: str, sign: int, curve: pd.DataFrame, headline) -> Criterion:
    curves = {
        seed: (part["label_corruption"], sign * part[column].astype(float))
        for seed, part in rows.groupby("seed")
        if part[column].notna().all()
    }
    values = pd.Series({seed: rank_correlation(*each) for seed, each in curves.items()}, dtype=float)
    what, margin = f"{what} grows with the corruption rate", MARGINS["steady"]
    reference = rank_correlation(curve["corruption"], curve.iloc[:, 2])
    caveat = f"over {count(rows['label_corruption'].nunique(), 'rate')}"
    never = _never(curves.values(), margin.value)  # a time that never came is that of a run that did not fit
    unsettled = never if column == "overfit_time" else unfitted(rows[rows["seed"].isin(curves)], unit="runs")
    if any(np.isinf(values).any() for _, values in curves.values()):
        caveat += ", times that never came as equal ones"
    how = {"headline": headline, "unsettled": unsettled, "caveat": caveat}
    return Criterion(what, "rank correlation", runs, values, margin.why, margin.value, math.inf, reference, **how)


def _never(curves: Iterable[tuple[pd.Series, pd.Series]], margin: float) -> str:
    """At how many rates a time never came, from the seed with the fewest to that with the most, where it depends on
    those whether a correlation reaches the margin."""
    curves = list(curves)
    ranges = [rank_correlation_range(*curve) for curve in curves]
    if not any(low < margin <= high for low, high in ranges):
        return ""
    never = [sum(map(math.isinf, times)) for _, times in curves]
    ends = sorted({min(never), max(never)})
    return f"never at {' to '.join(map(str, ends))} of {len(curves[0][1])} rates"


def _explicit_comparisons(frame: pd.DataFrame, chance: float) -> Iterator[Comparison]:
    group = UNREGULARIZED[0]
    published = paper.table1().query("labels == 'true'").set_index(["model", "arm"])[ACCURACIES]
    for model, rows in frame[frame["group"] == group].groupby("model", sort=False):
        # The paper does not state its coefficient of weight decay: its row is held against each of ours.
        regularizers = dict(zip(rows["arm"], rows["regularizers"], strict=True))
        for name in [name for name in regularizers if name != "none"]:
            arms = [(group, each, model) for each in (name, "none")]
            papers = published.reindex([(model, regularizers[name]), (model, "none")])
            headline = (model, name) == ("inception", "random crop + weight decay")
            yield compare(frame, chance, f"{MODEL_NAMES[model]}, {name}", *arms, papers, headline=headline)


def compare(
    frame: pd.DataFrame,
    chance: float,
    text: str,
    on: tuple[str, str, str],
    off: tuple[str, str, str],
    papers: pd.DataFrame | None = None,
    margin: Margin = MARGINS["marginal"],
    names: tuple[str, str] = ("with it", "without it"),
    margins: tuple[str, str] = ("fitted", "chance"),
    **more,
) -> Comparison:
    """The test accuracies of two arms, one with something and one without it: paired where they share batches,
    unsettled where they did not fit.

    Args:
        frame, chance: as a claim's criteria get them.
        text: the comparison's name.
        on, off: group, name and network of the arms with and without it.
        papers: a row for each of them, their training and test accuracy in the paper; None: it has none.
        margin: how much of the accuracy above chance may be lost without it.
        names: what the arms are called.
        margins: names of the MARGINS for having fitted and for being at chance.
        more: of Comparison.
    """
    papers = papers if papers is not None else pd.DataFrame(math.nan, range(2), ACCURACIES)
    (trained, paper_on), (_, paper_off) = papers.to_numpy()
    rows, runs = [rows_of(frame, *each) for each in (on, off)], (on[0], on[2] if on[2] == off[2] else "")
    values, paired = [arm(frame, *each, "test_accuracy") for each in (on, off)], share_batches(*rows)
    if paired:  # what is said of it is said of the pairs
        values = [each.where(values[0].notna() & values[1].notna()) for each in values]
    more |= fitting(*rows, chance, trained, names, margins)
    if not paired:
        more["caveat"] = "; ".join(filter(None, (more["caveat"], _in_pairs(rows, values, chance))))
    return Comparison(text, runs, *values, paired, margin, paper_on, paper_off, without=names[1], **more)


def fitting(
    on: pd.DataFrame,
    off: pd.DataFrame,
    chance: float,
    published: float = math.nan,
    names: tuple[str, str] = ("with it", "without it"),
    margins: tuple[str, str] = ("fitted", "chance"),
) -> dict[str, str]:
    """What is to be said of the fit of a comparison's arms: what leaves it unsettled, and a caveat.

    What runs without something lack in test accuracy is not for generalization alone where they did not fit. What they
    keep of it says little where those with it fitted clearly less than the paper's, whose training accuracy is
    `published`, and nothing where they learned nothing. Of what the paper has not, that it learned but did not fit is
    no more than a caveat: longer runs might gain more by it.
    """
    fitted, guessing = (MARGINS[name] for name in margins)
    less = _below(on, chance + guessing.value, f"{names[0]}: learned nothing")
    if not math.isnan(published):
        short = MARGINS["training accuracy"].value
        least, text = min(fitted.value, published - short), f"fitted over {in_points(short)} less than the paper's"
        less = "; ".join(filter(None, (_below(on, least, f"{names[0]}: {text}"), less)))
    return {
        "unsettled": unfitted(off, names[1], fitted) or less,
        "caveat": "" if less else unfitted(on, names[0], fitted),
    }


def unfitted(rows: pd.DataFrame, which: str = "", margin: Margin = MARGINS["fitted"], unit: str = "seeds") -> str:
    """In how many of its runs a network had not fitted its training images at the end, and how large its loss had grown
    where it was worse than guessing; '' where it had in all.

    which: the runs' name, where it is needed.
    """
    told = _below(rows, margin.value, f"{which}: unfitted at the end" if which else "unfitted at the end", unit)
    worst = rows["train_loss"].astype(float).max()
    return f"{told}, their loss grown to {number(worst)}" if told and worst > GUESSING else told


def _below(rows: pd.DataFrame, accuracy: float, text: str, unit: str = "seeds") -> str:
    """A text and in how many of its runs a network stayed below a training accuracy; '' where it did in none."""
    accuracies = rows["train_accuracy"].astype(float).dropna()
    failed = (accuracies < accuracy).sum()
    return f"{text} in {failed} of {len(accuracies)} {unit}" if failed else ""


def _in_pairs(rows: list[pd.DataFrame], values: list[pd.Series], chance: float) -> str:
    """The interval of the share that remains by pairs of seeds, where each seed has a part of the images of its own and
    both arms of a seed have the same; else ''."""
    if not _same(IMAGES, rows) or rows[0]["train_size"].isna().all():
        return ""
    share = remaining_share(*(each.reindex(values[0].index) for each in values), chance, paired=True)
    found = interval(share.low, share.high, percent)
    return f"the seeds in pairs, which share images: {found}" if math.isfinite(share.low) else ""


def _explicit_regularization(frame: pd.DataFrame, chance: float) -> Criteria:
    for row in paper.table1().query("labels == 'true' and arm == 'none'").itertuples():
        train = arm(frame, row.group, "none", row.model, "train_accuracy")
        text = f"{MODEL_NAMES[row.model]} fits true labels with every regularizer off"
        yield fits(text, (row.group, row.model), train, row.train_accuracy)
    yield from (each.criterion(chance) for each in _explicit_comparisons(frame, chance))
    for row in paper.table4().dropna(subset="train_accuracy").itertuples():
        # One run's failure to converge is no criterion. It is shown beside the paper.
        column, text = paper.table4_column(row.arm), f"{MODEL_NAMES[row.model]} fits random labels with {row.arm}"
        values = arm(frame, row.group, row.arm, row.model, column)
        caveat = _fits_otherwise(other_coefficients(frame, row.group, row.arm, row.model, column))
        yield fits(text, (row.group, row.model), values, row.train_accuracy, column=column, caveat=caveat)


def other_coefficients(frame: pd.DataFrame, group: str, name: str, model: str, column: str) -> dict[str, pd.Series]:
    """An arm's values of a column by seed with other coefficients of weight decay than the main one, by the arm's name:
    the paper does not state its own."""
    rows = frame[(frame["group"] == group) & (frame["model"] == model) & (frame["regularizers"] == name)]
    return {each: arm(frame, group, each, model, column) for each in rows["arm"].unique() if each != name}


def _implicit_comparisons(frame: pd.DataFrame, chance: float) -> Iterator[Comparison]:
    table1 = paper.table1().query("labels == 'true' and arm == 'none'").set_index("model")
    arms = ("batch norm", "on", "inception"), ("batch norm", "off", "inception_no_bn")
    papers = table1.loc[["inception", "inception_no_bn"], ACCURACIES]
    yield compare(frame, chance, "Inception, batch norm", *arms, papers, headline=True)
    fig2b = dict(iter(paper.fig2b().query("split == 'test'").groupby("model")))
    for model in CORRUPTION_MODELS:
        last, best, chosen = (
            arm(frame, "early stopping", HELD_OUT, model, f"{name}_test_accuracy")
            for name in ("last", "best", "early_stopped")
        )
        label, margin, curve = MODEL_NAMES[model], MARGINS["no gain"], fig2b.get(model)
        runs, seen = ("early stopping", model), ()
        if curve is not None:
            seen = curve["accuracy"].max(), paper.last_reading(curve)
        text = f"{label}, stopping where held-out images say"
        yield Comparison(text, runs, chosen, last, True, margin, is_share=False)
        text = f"{label}, stopping at the best test epoch"
        yield Comparison(text, runs, best, last, True, margin, *seen, is_share=False, is_best=True)
    optimizers = frame[frame["group"] == "optimizer"]
    for model, ran in optimizers.groupby("model", sort=False):
        for name in [name for name in dict.fromkeys(ran["arm"]) if name != "SGD"]:
            arms = [("optimizer", each, model) for each in ("SGD", name)]
            text, names = f"{MODEL_NAMES[model]}, SGD against {name}", ("with SGD", "with the latter")
            yield compare(frame, chance, text, *arms, names=names)


def _implicit_regularization(frame: pd.DataFrame, chance: float) -> Criteria:
    reference = paper.table1().query("labels == 'true' and arm == 'none'").set_index("model")["train_accuracy"]
    values = arm(frame, "batch norm", "off", "inception_no_bn", "train_accuracy")
    runs, what = ("batch norm", "inception_no_bn"), "Inception without batch norm fits true labels"
    yield fits(what, runs, values, reference["inception_no_bn"])
    yield from (each.criterion(chance) for each in _implicit_comparisons(frame, chance))


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "randomization",
            "Randomization",
            "Networks fit random labels and random inputs perfectly, though nothing can be learned from random labels.",
            _randomization,
        ),
        Claim(
            "label_corruption",
            "Label corruption",
            "As labels are corrupted step by step, test error and the time to overfit grow steadily.",
            _label_corruption,
        ),
        Claim(
            "explicit_regularization",
            "Explicit regularization",
            "Weight decay, dropout and augmentation help only marginally; networks fit without them, and noise with "
            "them.",
            _explicit_regularization,
            _explicit_comparisons,
        ),
        Claim(
            "implicit_regularization",
            "Implicit regularization",
            "Early stopping, batch norm and, beyond the paper, SGD help only marginally, too.",
            _implicit_regularization,
            _implicit_comparisons,
        ),
    )
}


def with_relative_time(frame: pd.DataFrame) -> pd.DataFrame:
    """One group's rows of a frame, with relative_time: a run's overfit_time over that of its network and seed on true
    labels (Fig. 1b); infinite where the run never overfitted, and unknown where only that on true labels did not."""
    clean = frame[frame["label_corruption"] == 0].set_index(["model", "seed"])["overfit_time"].astype(float)
    known = clean[np.isfinite(clean)]
    reference = pd.Series(frame.set_index(["model", "seed"]).index.map(known.to_dict()), frame.index, dtype=float)
    times = frame["overfit_time"].astype(float)
    return frame.assign(relative_time=(times / reference).mask(np.isinf(times), math.inf))


def with_test_errors(frame: pd.DataFrame, chance: float) -> pd.DataFrame:
    """The frame with test_error, on the test set's own labels, and alike_test_error, on labels corrupted like those
    trained on: with probability p each is drawn anew from all classes, and then met by chance, whatever is predicted.
    """
    accuracy, rate = frame["test_accuracy"].astype(float), frame["label_corruption"].astype(float)
    return frame.assign(test_error=1 - accuracy, alike_test_error=1 - (1 - rate) * accuracy - rate * chance)
