"""What came of the choices that were tried both ways, in words, from the runs: what lib/deviations.py says of them.

By claim and row of the table of deviations; '—' where there is nothing to tell.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from lib import paper
from lib.agreement import READINGS, readings
from lib.claims import MODEL_NAMES, arm, network_name, rows_of, share_batches, unfitted, with_relative_time
from lib.corruption import PERMUTED
from lib.experiments import (
    ACROSS_CHANNELS,
    CONTROL_MODEL,
    DATA_CONTROL,
    DEFAULT_LRN,
    NOISE_OF_FIG_1C,
    PAPERS_RATE,
    SLOWER,
    TUTORIAL_WEIGHTS,
    UNREGULARIZED,
    VARIANTS,
    group_of,
)
from lib.runs import OVERFIT_LOSS, Run
from lib.statistics import difference
from lib.words import count, count_range, number, percent

# Rows of the table:
PRECISION, EXACT, WEIGHT_DECAY = "arithmetic", "images that are not bit-exact", "weight decay"
PIXELS = "shuffled and random pixels"
SLOWED, SLOWER_DECAY = VARIANTS[SLOWER][0], VARIANTS[SLOWER][1]["decay"]
TEST_LABELS, DECAY = "test labels of Fig. 1c", f"decay of {' and '.join(MODEL_NAMES[model] for model in SLOWED)}"
RESPONSE_NORM, INITIALIZATION = "AlexNet's local response normalization", "initialization"
LEARNING_RATE = "learning rate"
ALEXNETS = {  # what AlexNet ran with both ways: the variant, the setting and its name
    RESPONSE_NORM: (DEFAULT_LRN, "lrn", "constants"),
    INITIALIZATION: (TUTORIAL_WEIGHTS, "initialization", "weights"),
}


def _randomization_found(runs: pd.DataFrame) -> dict[str, str]:
    in_bf16 = runs[runs["arithmetic"].astype(str).str.contains("bf16")]  # elsewhere there is nothing to compare with
    precision = {
        model: (
            rows_of(runs, "precision control", "fp32", model),
            rows_of(in_bf16, "random labels", "random labels", model),
        )
        for model in MODEL_NAMES
    }
    names = "bit-exact images only", "all images"
    exact = {CONTROL_MODEL: [rows_of(runs, DATA_CONTROL, name, CONTROL_MODEL) for name in names]}
    return {
        PIXELS: _moved_pixels(runs),
        PRECISION: _differences(precision, "train_accuracy", "fp32 throughout: training accuracy on random labels"),
        EXACT: _differences(exact, "test_accuracy", "without them: test accuracy"),
    } | _alexnet_found(runs[runs["comparison"] == NOISE_OF_FIG_1C])


def _moved_pixels(runs: pd.DataFrame) -> str:
    """How long Inception takes to fit permuted images at the paper's size, and what it still finds in test images
    changed alike: with pixels that keep their colours, and with values that move across channels."""
    full, published = runs[runs["train_size"].isna()], paper.steps_to_loss(OVERFIT_LOSS)
    parts = {
        f"steps to a loss of {OVERFIT_LOSS:g}": _moved(full, "steps_to_overfit", number, published),
        "test accuracy on images changed alike": _moved(runs, "changed_test_accuracy", percent),
    }
    return "; ".join(f"{text}: {found}" for text, found in parts.items() if found) or "—"


def _moved(runs: pd.DataFrame, column: str, form: Callable, published: Mapping[str, float] | None = None) -> str:
    """Means of a column either way, and the paper's; '' where nothing ran."""
    lines = []
    for name in (paper.RANDOMIZATIONS[f"{pixels}_pixels"] for pixels in PERMUTED):
        found = []
        for variant in ("", ACROSS_CHANNELS):
            values = arm(runs, group_of("randomizations", variant), name, "inception", column).dropna()
            mean = form(values.mean()) if np.isfinite(values).all() else "not in every seed"
            found += [f"{name} {variant}".strip() + f" {mean} ({count(len(values), 'seed')})"] if len(values) else []
        if found and published is not None:
            found.append(f"the paper {form(published[name])}")
        lines += [", ".join(found)] if found else []
    return "; ".join(lines)


def _differences(pairs: Mapping[str, Sequence[pd.DataFrame]], column: str, text: str) -> str:
    """By network what one way adds to the other in a column, in points with its 95 % interval, of the seeds that ran
    both ways, and in how many of these runs it did not fit; '—' where none did."""
    parts = []
    for model, ways in pairs.items():
        both = pd.concat([rows.set_index("seed")[column].astype(float) for rows in ways], axis=1).dropna()
        if len(both):
            mean, low, high = difference(*both.to_numpy().T, paired=share_batches(*ways))
            surety = f" ({100 * low:+.2f} to {100 * high:+.2f})" if len(both) > 1 else ""
            told = unfitted(pd.concat(rows[rows["seed"].isin(both.index)] for rows in ways), unit="runs")
            basis = "; ".join(filter(None, (count(len(both), "seed"), told)))
            parts.append(f"{MODEL_NAMES[model]} {100 * mean:+.2f} points{surety} [{basis}]")
    return f"{text}: {'; '.join(parts)}" if parts else "—"


def _label_corruption_found(runs: pd.DataFrame) -> dict[str, str]:
    ran = runs[runs["model"].isin(SLOWED) & runs["variant"].isin(["", SLOWER]) & runs["key"].notna()]
    distances = readings(runs)
    times = {(row.model, row.variant): row.relative_time for row in distances.itertuples()}
    parts = [
        _overfits(model, rows, times.get((model, variant), math.nan))
        for (model, variant), rows in ran.groupby(["model", "variant"], sort=False)
    ]
    found = {DECAY: "; ".join(parts) or "—", TEST_LABELS: _nearest_reading(distances)}
    timed = pd.concat([with_relative_time(rows) for _, rows in runs.groupby("group", sort=False)])
    return found | _alexnet_found(timed)


def _nearest_reading(distances: pd.DataFrame) -> str:
    """How far from the paper's curve the test errors lie on each kind of labels, at the paper's size."""
    parts = []
    for row in distances[distances["rates"] > 0].itertuples() if len(distances) else ():
        gaps = " and ".join(f"{100 * getattr(row, name):.1f}" for name in READINGS)
        basis = f"{count(row.rates, 'rate')}, {count_range(row.fewest_seeds, row.most_seeds, 'seed')}"
        basis += f", without {count(row.left_out, 'run')} that learned nothing" if row.left_out else ""
        basis += f"; {row.unfitted}" if row.unfitted else ""
        parts.append(f"{network_name(row.model, row.variant)} {gaps} points ({basis})")
    text = f"mean distance from the paper's curve between rates 0 and 1, on {' and on '.join(READINGS.values())}"
    return f"{text}: {'; '.join(parts)}" if parts else "—"


def _overfits(model: str, rows: pd.DataFrame, distance: float) -> str:
    """At how many rates of corruption every seed came to overfit, after how long at the least and the greatest, and how
    far the relative times lie from the paper's: of the seeds that ran at every rate recorded, or seeds would pass for
    rates."""
    times = rows.pivot(index="seed", columns="label_corruption", values="overfit_time").astype(float).dropna()
    what = f"{MODEL_NAMES[model]} with {rows['decay'].iloc[0]:g}"
    if times.empty:
        return f"{what}: no seed ran at every rate recorded"
    means = times.mean()
    reached = means[np.isfinite(means)]
    seeds = f"{count(len(times), 'seed')} that ran at every rate recorded"
    text = f"{what} ({seeds}) overfits in every seed at {len(reached)} of {len(means)} rates"
    if len(reached):
        ends = sorted({reached.index[0], reached.index[-1]})
        text += f", {' and '.join(f'after {reached[rate]:.1f} epochs at {rate:g}' for rate in ends)}"
    if math.isfinite(distance):  # every rate was reached
        rates = count((means.index > 0).sum(), "rate")
        text += f", and its relative times are {distance:.2g} from Fig. 1b's, the mean of {rates} above 0"
    return text


def _explicit_regularization_found(runs: pd.DataFrame) -> dict[str, str]:
    rows = runs[(runs["group"] == UNREGULARIZED[0]) & (runs["dropout"] == 0) & ~runs["random_crop"].astype(bool)]
    ran, parts = rows[rows["key"].notna()], []
    for coefficient in sorted(set(ran["weight_decay"]) - {0.0}):
        ways = {
            model: [part[part["weight_decay"] == each] for each in (coefficient, 0.0)]
            for model, part in ran.groupby("model", sort=False)
        }
        parts.append(_differences(ways, "test_accuracy", f"test accuracy with {coefficient:g} over that without"))
    told = [part for part in parts if part != "—"]
    told = told if len(told) > 1 else []  # with one there is no choice to tell of
    found = {WEIGHT_DECAY: "; ".join(filter(None, [*told, _noise_with_weight_decay(runs)])) or "—"}
    groups = UNREGULARIZED[1], "Table 1, random labels"
    return found | _alexnet_found(runs[runs["comparison"].isin(groups) & (runs["arm"] == "none")])


def _noise_with_weight_decay(runs: pd.DataFrame) -> str:
    """What training accuracy on random labels came to with each coefficient, of networks that ran with several; '' if
    none did."""
    published = paper.table4().query("arm == 'weight decay'").set_index("model")["train_accuracy"]
    noise, parts = runs[(runs["group"] == "Table 4") & (runs["weight_decay"] > 0)], []
    for model, rows in noise.groupby("model", sort=False):
        ways = rows.set_index("weight_decay")["train_accuracy"].astype(float).dropna().groupby(level=0)
        if ways.ngroups > 1:
            each = (f"{percent(part.mean())} with {value:g} [{count(len(part), 'seed')}]" for value, part in ways)
            papers = f"has {percent(published[model])}" if published[model] > 0 else "did not converge"
            parts.append(f"{MODEL_NAMES[model]} {', '.join(each)}, the paper's {papers}")
    return f"training accuracy on random labels: {'; '.join(parts)}" if parts else ""


def _implicit_regularization_found(runs: pd.DataFrame) -> dict[str, str]:
    rows = runs[(runs["comparison"] == "batch norm") & runs["model"].isin(VARIANTS[PAPERS_RATE][0])]
    ran = rows[rows["key"].notna()]
    if PAPERS_RATE not in set(ran["variant"]):
        return {}
    parts = [f"with {rate:g} {_survived(part)}" for rate, part in ran.groupby("learning_rate")]
    return {LEARNING_RATE: f"{MODEL_NAMES[ran['model'].iloc[0]]} {'; '.join(parts)}"}


def _survived(runs: pd.DataFrame) -> str:
    """In how many of the runs the loss left the finite numbers, and when, and the mean test accuracy of the others."""
    lost = runs["outcome"] == "diverged"
    text = f"diverged in {lost.sum()} of {count(len(runs), 'seed')}"
    if lost.any():
        text += f", in epoch {' and '.join(f'{epoch:.0f}' for epoch in sorted(set(runs.loc[lost, 'epochs_run'])))}"
    if lost.all():
        return text
    rest = runs.loc[~lost, "test_accuracy"].astype(float)
    return f"{text}, mean test accuracy of the {'rest' if lost.any() else 'runs'} {percent(rest.mean())}"


def _alexnet_found(runs: pd.DataFrame) -> dict[str, str]:
    """What came of each of ALEXNETS."""
    runs = runs[runs["model"] == "alexnet"]
    return {
        row: _either_way(runs[runs["variant"].isin(["", variant])], setting, noun)
        for row, (variant, setting, noun) in ALEXNETS.items()
    }


def _either_way(runs: pd.DataFrame, setting: str, noun: str) -> str:
    """What AlexNet comes to with either value of a setting, beside the paper's values; '—' where it ran with the
    profile's own only."""
    parts = []
    for what, rate, column, form in (
        ("test accuracy on true labels", 0.0, "test_accuracy", percent),
        ("training accuracy on random labels", 1.0, "train_accuracy", percent),
        (f"time to a loss of {OVERFIT_LOSS:g} on random labels over that on true ones", 1.0, "relative_time", number),
    ):
        rows = runs[runs["label_corruption"] == rate].reindex(columns=[*runs.columns.union([column])])
        values = rows.set_index(setting)[column].astype(float).dropna().groupby(level=0, sort=False)
        if any(value != getattr(Run, setting) for value in values.groups):
            each = (f"{', '.join(map(form, part))} with the {name} {noun}" for name, part in values)
            published = ", ".join(
                f"{form(value)} in {place}" for place, value in _alexnets_in_the_paper(column).items()
            )
            parts.append(f"{what}, seed by seed: {'; '.join(each)}; the paper has {published}")
    return "; ".join(parts) or "—"


def _alexnets_in_the_paper(column: str) -> dict[str, float]:
    """By place the paper's test accuracies on true labels, or its training accuracy or relative time on random ones."""
    if column == "relative_time":
        curve = paper.fig1b().query("model == 'alexnet' and corruption == 1")
        return {"Fig. 1b": curve["relative_time_to_overfit"].iloc[0]}
    if column == "train_accuracy":
        noise = paper.table1().query("model == 'alexnet' and labels == 'random'")
        return {"Table 1": noise["train_accuracy"].iloc[0]}
    places = paper.contradictions().query("model == 'alexnet'")
    return dict(zip(places["source"], places["value"], strict=True))


# By claim: its runs, see experiments.arms_frame -> what came of each row.
FOUND: dict[str, Callable[[pd.DataFrame], dict[str, str]]] = {
    "randomization": _randomization_found,
    "label_corruption": _label_corruption_found,
    "explicit_regularization": _explicit_regularization_found,
    "implicit_regularization": _implicit_regularization_found,
}
