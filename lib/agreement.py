"""Our runs against the paper's numbers, row by row: Tables 1, 2 and 4, Fig. 1a to 1c, 2a and 2b.

Whether a claim holds is asked in lib/claims.py; here it is asked whether the numbers come out the same. The paper
has one run for each and no error bar, so three things are asked of its value: does ours differ in the same
direction, does the paper's lie in our 95 % prediction interval for one run, and do the two agree within a margin.
Only runs at the paper's size can answer.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count, product

import numpy as np
import pandas as pd

from lib import paper
from lib.claims import (
    COLUMNS,
    MODEL_NAMES,
    arm,
    other_coefficients,
    rows_of,
    times_to_overfit,
    unfitted,
    with_relative_time,
    with_test_errors,
)
from lib.criteria import MIN_SEEDS, PAPER_CHANCE, Margin
from lib.experiments import ACROSS_CHANNELS, TRAINING_VARIANTS, UNREGULARIZED, group_of
from lib.margins import MARGINS
from lib.profiles import V3
from lib.runs import OVERFIT_LOSS, Record
from lib.splits import SPLITS
from lib.statistics import (
    Interval,
    equivalence_test,
    mean_interval,
    prediction_interval,
    proportion_interval,
    rank_correlation,
)
from lib.words import in_points, number, percent

TABLE2_COLUMNS = (  # of paper.table2, of runs_frame, what it is
    ("train_top1", "train_accuracy", "training top-1"),
    ("train_top5", "train_top5_accuracy", "training top-5"),
    ("test_top1", "test_accuracy", "test top-1"),
    ("test_top5", "test_top5_accuracy", "test top-5"),
    ("best_test_top1", "best_test_accuracy", "best test top-1"),
    ("best_test_top5", "best_test_top5_accuracy", "best test top-5"),
)
READINGS = {  # of Fig. 1c, columns of claims.with_test_errors
    "test_error": "the test set's own labels",
    "alike_test_error": "labels corrupted like those trained on",
}


@dataclass(frozen=True)
class Row:
    """A number of the paper's, ours by seed, and the margin within which they agree.

    scale: 'difference'; 'ratio', whose margin is a factor and which is compared by logarithms; 'distance', ours from
        the paper's curve, whose own is 0; 'share' of the seeds, 1 or 0 each, of which the interval is the exact one.
    runs: group and network of the arms that it rests on.
    note: what else is to be known of our value; '' where there is nothing. is_unsettled: whether, for that, it says
        nothing.
    contrast: by seed, what the row adds to its baseline, the values themselves where they are an effect;
        paper_contrast: the same of the paper's.
    """

    source: str
    text: str
    runs: tuple[str, str]
    values: pd.Series
    paper: float
    margin: Margin
    scale: str = "difference"
    contrast: pd.Series | None = None
    paper_contrast: float = math.nan
    note: str = ""
    is_unsettled: bool = False

    @property
    def offsets(self) -> np.ndarray:
        """Ours less the paper's by seed, as logarithms where ratios are compared."""
        values = self.values.dropna().to_numpy(dtype=float)
        if self.scale == "ratio":
            return np.log(values) - math.log(self.paper)
        return values - self.paper

    @property
    def interval(self) -> Interval:
        """The mean of the offsets with its 95 % interval."""
        if self.scale == "share" and len(self.offsets):
            values = self.values.dropna()
            return Interval(*(bound - self.paper for bound in proportion_interval(int(values.sum()), len(values))))
        return mean_interval(self.offsets)

    @property
    def bound(self) -> float:
        """The margin on the scale of the offsets."""
        return math.log(self.margin.value) if self.scale == "ratio" else self.margin.value

    @property
    def direction(self) -> str:
        """'same' or 'opposite' to the paper's, 'unclear' where our interval has both or the seeds are too few for one,
        or '' where there is none to compare."""
        if self.contrast is None or self.contrast.dropna().empty or not abs(self.paper_contrast) > 0:
            return ""
        ends = [bound * self.paper_contrast for bound in mean_interval(self.contrast)[1:]]
        return "same" if min(ends) > 0 else "opposite" if max(ends) < 0 else "unclear"

    @property
    def in_one_run(self) -> bool | None:
        """Whether the paper's value lies in our prediction interval for one run; None where that is unknown."""
        _, low, high = prediction_interval(self.offsets)
        return None if self.scale in ("distance", "share") or math.isnan(low) else low <= 0 <= high

    @property
    def verdict(self) -> str:
        """One of criteria.VERDICTS: decided by the interval of the offset and the margin.

        Inside: 'replicated', but 'partly' where the direction is opposite, and 'inconclusive' where that of an effect
        is unclear. Outside, or a time that never came: 'not replicated', but 'partly' where one run of ours may well
        give the paper's value. Across the edge, too few seeds, or unsettled: 'inconclusive'.
        """
        mean, low, high = self.interval
        if not len(self.offsets):
            return "not run"
        if len(self.offsets) < MIN_SEEDS or self.is_unsettled:
            return "inconclusive"
        if -self.bound <= low and high <= self.bound:
            unclear = self.contrast is self.values and self.direction == "unclear"
            return "partly" if self.direction == "opposite" else "inconclusive" if unclear else "replicated"
        if math.isinf(mean) or low > self.bound or high < -self.bound:
            return "partly" if self.in_one_run else "not replicated"
        return "inconclusive"


def rows_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """One row per Row, on its own scale.

    Columns: source, row, group, model (of its arms), scale, paper, ours (mean), low and high (95 % of the mean),
    run_low and run_high (95 % for one run), in_one_run, seeds, offset (a ratio where ratios are compared), margin, why,
    p_equivalence, direction, verdict, note.
    """
    result = []
    for row in rows:
        is_ratio = row.scale == "ratio"
        back = np.exp if is_ratio else float
        offset, run = row.interval, prediction_interval(row.offsets)
        note = "; ".join(filter(None, (row.note, _doubt(row))))
        result.append(
            {
                "source": row.source,
                "row": row.text,
                "group": row.runs[0],
                "model": row.runs[1],
                "scale": row.scale,
                "paper": row.paper,
            }
            | {
                name: float(row.paper * np.exp(x) if is_ratio else row.paper + x)
                for name, x in zip(("ours", "low", "high", "run_low", "run_high"), (*offset, *run[1:]), strict=True)
            }
            | {"in_one_run": row.in_one_run, "seeds": len(row.offsets)}
            | {"offset": back(offset.mean), "margin": row.margin.value, "why": row.margin.why}
            | {"p_equivalence": math.nan if row.scale == "share" else _equivalence(row)}
            | {"direction": row.direction, "verdict": row.verdict, "note": note}
        )
    return pd.DataFrame(result)


def _doubt(row: Row) -> str:
    """What the seeds say where their interval is too wide to say it, or how many would be enough; '' elsewhere."""
    outside = np.sign(row.offsets) * (np.abs(row.offsets) > row.bound)
    if row.verdict != "inconclusive" or row.is_unsettled or len(outside) < MIN_SEEDS:
        return ""
    if row.scale == "share":
        enough = next(n for n in count(MIN_SEEDS) if proportion_interval(0, n).high <= row.bound)
        return f"{enough} seeds alike would decide it"
    return "every seed is outside the margin, on the same side" if abs(outside.sum()) == len(outside) else ""


def _equivalence(row: Row) -> float:
    return equivalence_test(row.offsets, np.zeros(len(row.offsets)), row.bound, paired=True)


def _accuracies(frame: pd.DataFrame, row, group: str) -> Iterator[Row]:
    """A row of Table 1: training and test accuracy; with a note where ours did not fit, and of other coefficients."""
    short = unfitted(rows_of(frame, group, row.arm, row.model))
    for split in SPLITS:
        column, margin = f"{split}_accuracy", MARGINS["training accuracy" if split == "train" else "accuracy"]
        values = arm(frame, group, row.arm, row.model, column)
        text = f"{MODEL_NAMES[row.model]}, {row.arm}: {COLUMNS[column]}"
        note = "; ".join(filter(None, (short, _with_others(frame, group, row, column))))
        yield Row("Table 1", text, (group, row.model), values, getattr(row, column), margin, note=note)


def _with_others(frame: pd.DataFrame, group: str, row, column: str) -> str:
    """What a row of the paper's with weight decay comes to with other coefficients; '' where none ran."""
    others = other_coefficients(frame, group, row.arm, row.model, column)
    return "; ".join(f"{name}: {percent(values.mean())}" for name, values in others.items() if values.count())


def _across_channels(frame: pd.DataFrame, name: str, true: pd.Series) -> str:
    """How many times as many steps as unchanged images those take whose values move across channels; '' where no such
    runs are asked for or recorded."""
    steps = arm(frame, group_of("randomizations", ACROSS_CHANNELS), name, "inception", "steps_to_overfit")
    ratio = (steps / true).mean()
    return "" if math.isnan(ratio) else f"{ACROSS_CHANNELS}: {number(ratio)}"


def _randomization(frame: pd.DataFrame) -> Iterator[Row]:
    source, runs, factor = "Fig. 1a", ("randomizations", "inception"), MARGINS["time factor"]
    steps = paper.steps_to_loss(OVERFIT_LOSS)
    times = times_to_overfit(frame)[list(steps.index)]
    order = times.dropna().apply(lambda seed: rank_correlation(steps.to_numpy(), seed.to_numpy()), axis=1)
    order = pd.Series(order, dtype=float)
    yield Row(source, "order of the five times to overfit: rank correlation", runs, order, 1.0, MARGINS["order"])
    values = arm(frame, "randomizations", "true labels", "inception", "steps_to_overfit")
    yield Row(source, "steps to overfit on true labels", runs, values, steps["true labels"], factor, "ratio")
    for name, ratio in (steps / steps["true labels"]).drop("true labels").items():
        text, longer = f"time to overfit on {name} over that on true labels", np.log(times[name])
        note = _across_channels(frame, name, values)
        yield Row(source, text, runs, times[name], ratio, factor, "ratio", longer, math.log(ratio), note)
    for row in paper.table1().query("labels == 'random'").itertuples():
        group = "random labels"
        train, test = _accuracies(frame, row._replace(arm=group), group)
        yield train
        yield replace(test, is_unsettled=bool(test.note))  # what learned nothing at all is at chance, too


def _label_corruption(frame: pd.DataFrame) -> Iterator[Row]:
    frames = {
        name: with_test_errors(with_relative_time(frame[frame["group"] == group_of("corruption", name)]), PAPER_CHANCE)
        for name in ("", *TRAINING_VARIANTS)
    }
    parts = [("Fig. 1b", "relative time to overfit", paper.fig1b(), "relative_time", "time", "largest time")]
    for column, text in READINGS.items():
        parts.append(("Fig. 1c", f"test error on {text}", paper.fig1c(), column, "accuracy", "largest"))
    for source, what, curves, column, mean, largest in parts:
        for model, curve in curves.groupby("model", sort=False):
            runs, rates, margins = ("corruption", model), "all rates", (MARGINS[mean], MARGINS[largest])
            if column == "relative_time":  # at 0 it is 1 by definition
                curve, rates = curve[curve["corruption"] > 0], "all rates above 0"
                margins = [_of_its_rise(margin, curves, model) for margin in margins]
            gaps = {name: _gaps(rows[rows["model"] == model], curve, column) for name, rows in frames.items()}
            ran, form = gaps[""].shape[1], number if column == "relative_time" else in_points
            told = [f"at {ran} of these {len(curve)} rates"] if ran < len(curve) and len(gaps[""]) else []
            told += [f"the paper has one value at {rates}" for rates in _twice(curve)]
            text = f"{MODEL_NAMES[model]}: absolute difference of the {what} from the paper's,"
            for how, over, margin in (("mean over", "mean", margins[0]), ("largest of", "max", margins[1])):
                values = {name: each.agg(over, axis=1) for name, each in gaps.items() if each.shape[1] >= ran}
                ours, others = values.pop(""), {name: each.mean() for name, each in values.items()}
                note = "; ".join(told + [f"{name}: {form(gap)}" for name, gap in others.items() if math.isfinite(gap)])
                yield Row(source, f"{text} {how} {rates}", runs, ours, 0.0, margin, "distance", note=note)


def _twice(curve: pd.DataFrame) -> list[str]:
    """Neighbouring rates at which a curve has one value, in words."""
    rates, rises = curve["corruption"].to_numpy(), np.diff(curve.iloc[:, -1])
    return [f"{rates[i]:g} and {rates[i + 1]:g}" for i in np.flatnonzero(rises == 0)]


def _of_its_rise(margin: Margin, curves: pd.DataFrame, model: str) -> Margin:
    """A margin of Inception's relative times for another network's, whose curve in Fig. 1b rises less."""
    rises = curves.groupby("model")["relative_time_to_overfit"].max() - 1
    share = rises[model] / rises["inception"]
    why = f"{margin.why}; times {share:.2f}, as this curve rises by so much of Inception's"
    return Margin(share * margin.value, why if share != 1 else margin.why)


def _gaps(rows: pd.DataFrame, curve: pd.DataFrame, column: str) -> pd.DataFrame:
    """Absolute differences from the paper's curve: one row a seed that ran at every rate, one column a rate."""
    ours = rows.pivot_table(index="seed", columns="label_corruption", values=column, dropna=False).astype(float)
    published = curve.set_index("corruption").iloc[:, -1]
    rates = [rate for rate in ours.columns if rate in published.index]
    return (ours[rates] - published[rates]).abs().dropna()


def _explicit_regularization(frame: pd.DataFrame) -> Iterator[Row]:
    table1 = paper.table1().query("labels == 'true'")
    plain = table1.query("arm == 'none'").set_index("model")["test_accuracy"]
    for row in table1.itertuples():
        train, test = _accuracies(frame, row, row.group)
        adds = test.values - arm(frame, row.group, "none", row.model, "test_accuracy")
        yield train
        yield replace(test, contrast=adds, paper_contrast=row.test_accuracy - plain[row.model])
    noise = paper.table1().query("labels == 'random'").set_index("model")["group"]
    for row in paper.table4().itertuples():
        column, label, runs = paper.table4_column(row.arm), MODEL_NAMES[row.model], (row.group, row.model)
        values = arm(frame, row.group, row.arm, row.model, column)
        if math.isnan(row.train_accuracy):
            fitted = (values >= MARGINS["fitted"].value).where(values.notna()).astype(float)
            text = f"{label}, {row.arm} on random labels: share of runs that fit (the paper's did not)"
            note = unfitted(rows_of(frame, noise[row.model], "none", row.model), "without it")
            yield Row("Table 4", text, runs, fitted, 0.0, MARGINS["failure"], "share", note=note)
        else:
            text = f"{label}, {row.arm} on random labels: {COLUMNS[column]}"
            note = _with_others(frame, row.group, row, column)
            yield Row("Table 4", text, runs, values, row.train_accuracy, MARGINS["training accuracy"], note=note)


def _implicit_regularization(frame: pd.DataFrame) -> Iterator[Row]:
    curves = paper.fig2b().query("split == 'test'").groupby("model")
    published = {model: paper.last_reading(curve) for model, curve in curves}
    arms = {"inception": "on", "inception_no_bn": "off"}
    ours = {model: arm(frame, "batch norm", name, model, "test_accuracy") for model, name in arms.items()}
    for model, values in ours.items():
        text = f"{MODEL_NAMES[model]}: test accuracy at the end"
        yield Row("Fig. 2b", text, ("batch norm", model), values, published[model], MARGINS["accuracy"])
    gap, reference = ours["inception"] - ours["inception_no_bn"], published["inception"] - published["inception_no_bn"]
    text = "what batch norm adds to Inception's test accuracy"
    yield Row(
        "Fig. 2b", text, ("batch norm", "inception"), gap, reference, MARGINS["accuracy"], "difference", gap, reference
    )


def _table2(frame: pd.DataFrame, row, group: str, name: str) -> Iterator[Row]:
    """A row of Table 2, held against the arm of this group and name: top-1 and top-5, training and test, and the best
    test accuracies where the paper has them."""
    label = f"{MODEL_NAMES[V3]}, {row.labels} labels, {row.arm}"
    for column, ours, what in TABLE2_COLUMNS:
        values, published = arm(frame, group, name, V3, ours), getattr(row, column)
        margin = MARGINS["training accuracy" if "train" in column else "accuracy"]
        if not math.isnan(published):
            yield Row("Table 2", f"{label}: {what}", (group, V3), values, published, margin)


def _photo_randomization(frame: pd.DataFrame) -> Iterator[Row]:
    for row in paper.table2().query("labels == 'random' and arm == 'none'").itertuples():
        yield from _table2(frame, row, "random labels", "random labels")


def _photo_explicit_regularization(frame: pd.DataFrame) -> Iterator[Row]:
    for row in paper.table2().itertuples():
        yield from _table2(frame, row, row.group, row.arm)


def _photo_implicit_regularization(frame: pd.DataFrame) -> Iterator[Row]:
    for name, curve in paper.fig2a().query("split == 'test'").groupby("arm", sort=False):
        values, text = arm(frame, "Fig. 2a", name, V3, "last_test_accuracy"), f"{name}: test accuracy at the end"
        yield Row("Fig. 2a", text, ("Fig. 2a", V3), values, paper.last_reading(curve), MARGINS["accuracy"])
    for row in paper.table2().dropna(subset="best_test_top1").itertuples():
        last, best = (arm(frame, "Fig. 2a", row.arm, V3, f"{each}_test_accuracy") for each in ("last", "best"))
        gain, published = best - last, row.best_test_top1 - row.test_top1
        text, runs = f"{row.arm}: what stopping at the best test epoch gains", ("Fig. 2a", V3)
        yield Row("Table 2", text, runs, gain, published, MARGINS["no gain"], "difference", gain, published)


PHOTO_ROWS = {
    "randomization": _photo_randomization,
    "explicit_regularization": _photo_explicit_regularization,
    "implicit_regularization": _photo_implicit_regularization,
}
ROWS = {
    "randomization": _randomization,
    "label_corruption": _label_corruption,
    "explicit_regularization": _explicit_regularization,
    "implicit_regularization": _implicit_regularization,
}


def against_paper(claim: str, frame: pd.DataFrame, on_photographs: bool = False) -> pd.DataFrame:
    """rows_frame of a claim's rows, from its experiments.arms_frame: those on ImageNet or those on CIFAR-10."""
    return rows_frame((PHOTO_ROWS if on_photographs else ROWS)[claim](frame))


def reproduction(old: Iterable[Record], new: Iterable[Record]) -> dict[str, float]:
    """How runs trained again compare with their records: how many there are in both, how many of them are equal in
    every epoch and every final value, and the largest differences of final accuracies (NaN without a pair)."""
    recorded = {record.run: record for record in old}
    pairs = [(recorded[record.run], record) for record in new if record.run in recorded]
    equal = [_results(first) == _results(second) for first, second in pairs]
    result = {"runs": len(pairs), "equal": sum(equal)}
    for split in SPLITS:
        column = f"{split}_accuracy"
        gaps = pd.Series([abs(first.final[column] - second.final[column]) for first, second in pairs], dtype=float)
        result[column] = gaps.max()
    return result


def _results(record: Record) -> tuple:
    """What training gave, in the columns that every record has."""
    history = {name: values for name, values in record.history.items() if name not in ("seconds", "test_top5_accuracy")}
    return history, {name: value for name, value in record.final.items() if "top5" not in name}, record.outcome


def contradictions(frame: pd.DataFrame) -> pd.DataFrame:
    """Where the paper disagrees with itself, and which of its values ours agrees with, from claim 3's arms_frame.

    Columns: model, quantity, places (source -> value), group (one of experiments.UNREGULARIZED) and variant of our
    runs, ours, run_low and run_high (95 % for one run), seeds, nearest and inside (the sources nearest to our mean, and
    inside that interval).
    """
    result = []
    published = paper.contradictions().groupby(["model", "quantity"], sort=False)
    for ((model, quantity), places), runs, variant in product(published, UNREGULARIZED, ("", *TRAINING_VARIANTS)):
        group = group_of(runs, variant)
        if group != UNREGULARIZED[0] and rows_of(frame, group, "none", model).empty:
            continue  # not the profile's, or of other networks
        values = arm(frame, group, "none", model, "test_accuracy")
        mean, low, high = prediction_interval(values)
        nearest = places.iloc[(places["value"] - mean).abs().argmin()]["source"] if values.notna().any() else ""
        inside = list(places.loc[places["value"].between(low, high), "source"])
        result.append(
            {"model": model, "quantity": quantity, "group": runs, "variant": variant}
            | {"places": dict(zip(places["source"], places["value"], strict=True))}
            | {"ours": mean, "run_low": low, "run_high": high, "seeds": values.count()}
            | {"nearest": nearest, "inside": inside}
        )
    return pd.DataFrame(result)


def readings(frame: pd.DataFrame) -> pd.DataFrame:
    """Fig. 1c's test error read in two ways, as that on the test set's own labels and on labels corrupted like those
    trained on: how far our seeds lie from the paper's curve on average at the rates between 0 and 1, where the two
    differ; and how far the relative times to overfit lie from Fig. 1b's, at all rates above 0. From claim 2's
    arms_frame; a row for each network and variant of settings that ran at such a rate, at the paper's size. Errors of
    runs that learned nothing are left out: they are those of guessing on any labels, and tell of neither.

    Columns: model, variant, rates (how many between 0 and 1), fewest_seeds and most_seeds (at one of these rates, or
    at 1 where there are none), left_out (how many runs), unfitted (in how many of the others, in words), relative_time
    and each of READINGS, the mean absolute differences, and the largest rate's under the same name with 'largest_'
    before it.
    """
    times, errors = (curve.set_index(["model", "corruption"]).iloc[:, 0] for curve in (paper.fig1b(), paper.fig1c()))
    published = pd.DataFrame({"relative_time": times} | dict.fromkeys(READINGS, errors))
    result = []
    full = frame[frame["key"].notna() & frame["train_size"].isna() & (frame["dataset"] == "cifar10")]
    for (model, variant), every in full.groupby(["model", "variant"], sort=False):
        rows = with_test_errors(with_relative_time(every), PAPER_CHANCE)
        rows = rows[rows["label_corruption"] > 0]
        silent = (rows["label_corruption"] < 1) & (rows["train_accuracy"] <= PAPER_CHANCE + MARGINS["chance"].value)
        rows.loc[silent | (rows["label_corruption"] == 1), list(READINGS)] = math.nan  # the same at 1
        apart = (rows[list(published)] - published.loc[model].loc[rows["label_corruption"]].to_numpy()).abs()
        gaps = apart.groupby(rows["label_corruption"]).mean().dropna(how="all")
        if len(gaps):
            counts = {"rates": gaps[list(READINGS)].notna().all(axis=1).sum(), "left_out": silent.sum()}
            counts["unfitted"] = unfitted(rows[(rows["label_corruption"] < 1) & ~silent], unit="runs")
            seeds = rows[~silent].groupby("label_corruption")["seed"].nunique()
            seeds = seeds[seeds.index < 1] if counts["rates"] else seeds
            counts |= {"fewest_seeds": min(seeds, default=0), "most_seeds": max(seeds, default=0)}
            sizes = gaps.mean().to_dict() | gaps.max().add_prefix("largest_").to_dict()
            result.append({"model": model, "variant": variant} | counts | sizes)
    return pd.DataFrame(result)
