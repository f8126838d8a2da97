"""Tidy data frame -> Figure. Colour-blind safe, and told apart by line or marker too, so readable in grey.

Figures are drawn on matplotlib Figures of their own, and nothing is shown; STYLE holds for the whole process, so for a
reader's own figures beside them, too. What is drawn over epochs or steps is rows of Study.history; a reference is one
of the paper's figures, see lib/paper.py.
"""

from collections.abc import Collection, Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import Transform
from torch import Tensor

from lib import paper
from lib.claims import MODEL_NAMES, with_test_errors
from lib.words import MISSING, form_of, in_points, percent

COLORS = [sns.color_palette("colorblind")[place] for place in (0, 1, 2, 4, 9, 3, 7)]  # alike ones apart, grey last
DASHES = ["-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 1, 1, 1, 1, 1)), (0, (2, 2))]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
STYLE = {
    "svg.hashsalt": "replication",  # the same figure is the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
HOLLOW = {"color": "0.25", "marker": "D", "markerfacecolor": "none", "linestyle": "none", "markersize": 8}
OURS = {"color": "black", "marker": "o", "linestyle": "none", "markersize": 7}
FULL = {"color": COLORS[3], "marker": "s", "linestyle": "none", "markersize": 6}
AT_MOST_ONE = ("training accuracy", "rank correlation")  # quantities of criteria
UNITS = {percent: "%", in_points: "points"}  # of an axis, as tables write these quantities
NEVER = 1.02  # of a figure's height or width: where a time stands that never came
NEVER_ROW = 0.03  # of its height: between those of one network and of the next, whose markers would hide each other
SEED = Line2D([], [], color=COLORS[0], marker="o", linestyle="none", markersize=4)
matplotlib.rcParams.update(STYLE)


def look(names: Sequence[str], name: str) -> dict[str, object]:
    """Colour, dashes and marker of a name by its place among the names; numbers get colours in order."""
    place, ordered = list(names).index(name), all(isinstance(each, float) for each in names)
    return {
        "color": sns.color_palette("viridis_r", len(names) + 2)[place + 2] if ordered else COLORS[place % len(COLORS)],
        "linestyle": DASHES[place % len(DASHES)],
        "marker": MARKERS[place % len(MARKERS)],
    }


def loss_curves(history: pd.DataFrame, reference: pd.DataFrame | None = None) -> Figure:
    """Training loss by step, one line a seed and randomization; the paper's curves thin in its colour."""
    figure = Figure(figsize=(7.5, 4.2))
    axes = figure.subplots()
    _loss_axes(axes, history, reference)
    axes.set_ylabel("training loss (running mean of the epoch)")
    return figure


def _loss_axes(axes: Axes, history: pd.DataFrame, reference: pd.DataFrame | None) -> None:
    shown, extra = set(history["randomization"]), {}
    if reference is not None:
        shown |= set(reference["randomization"])
    names = [name for name in paper.RANDOMIZATIONS.values() if name in shown]
    if reference is not None:
        thin = {"linewidth": 0.7, "zorder": 1}
        for name, curve in reference.groupby("randomization"):
            axes.plot(curve["step"] / 1000, curve["average_loss"], color=look(names, name)["color"], **thin)
        extra["paper (thin)"] = Line2D([], [], color="0.4", **thin)
    _lines(axes, history.assign(steps=history["step"] / 1000), "randomization", names, "steps", "train_loss")
    axes.set(xlabel="thousand steps", ylim=(0, None))
    _legend(axes, names, extra, missing={*names} - {*history["randomization"]})


def strip(
    frame: pd.DataFrame,
    value: str,
    rows: str,
    label: str,
    reference: Mapping[str, float] | None = None,
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """One dot per seed in a row for each value of the column `rows`, in order of appearance.

    Args:
        frame: tidy; the value's column, where infinite stands for never, and the rows' column.
        value: column on the x axis.
        rows: column that names the rows.
        label: of the x axis.
        reference: the paper's value by row, a hollow diamond.
        lines: named vertical lines.
    """
    names = list(dict.fromkeys(frame[rows]))
    figure = Figure(figsize=(7.5, 1.1 + 0.32 * len(names)))
    axes = figure.subplots()
    handles = {"one seed": SEED}
    for place, name in enumerate(names):
        values = frame.loc[frame[rows] == name, value].astype(float).dropna().to_numpy()
        _dots(axes, values[np.isfinite(values)], place)
        if not len(values):
            _say_missing(axes, place, axes.get_yaxis_transform())
        if len(never := values[np.isinf(values)]):
            _dots(axes, np.full(len(never), NEVER), place, transform=axes.get_yaxis_transform(), clip_on=False)
            handles["at the right edge: never"] = Line2D([], [], linestyle="none")
        if reference and pd.notna(reference.get(name, np.nan)):
            axes.plot(reference[name], place, **HOLLOW)
            handles["paper"] = Line2D([], [], **HOLLOW)
    for place, (name, position) in enumerate((lines or {}).items()):
        style = {"color": "0.4", "linestyle": DASHES[place + 1], "linewidth": 1}
        axes.axvline(position, **style)
        handles[name] = Line2D([], [], **style)
    _name_rows(axes, names, label)
    if not np.isfinite(axes.dataLim.intervalx).all():  # nothing but what never came
        axes.set(xlim=(0, 1), xticks=[])
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    return figure


def forest(rows: pd.DataFrame) -> Figure:
    """Ours with its 95 % interval, every seed a dot, the paper hollow, the margin shaded; a panel for each quantity.

    Args:
        rows: name, quantity, values (of the seeds), ours, interval_low, interval_high, paper, required_low,
            required_high, unsettled ('' where the runs can say something); recorded, recorded_low, recorded_high,
            recorded_unsettled, the same of the recorded runs, or NaN.
    """
    panels = list(rows.groupby("quantity", sort=False))
    rooms = [len(part) + 0.3 for _, part in panels]  # in rows; a panel's axis and the legend come on top
    figure = Figure(figsize=(10, 0.3 + 0.35 * len(panels) + 0.22 * sum(rooms)))
    grid = figure.subplots(len(panels), 1, height_ratios=rooms, squeeze=False)[:, 0]
    for axes, (quantity, part) in zip(grid, panels, strict=True):
        low, high = _limits(part, quantity in AT_MOST_ONE)
        most = 1.0 if quantity in AT_MOST_ONE else high
        for place, row in enumerate(part.itertuples()):
            left, right = max(row.required_low, low), min(row.required_high, most)
            axes.barh(place, right - left, left=left, height=0.8, color="0.88", edgecolor="0.75", zorder=0)
            _seeds(axes, np.asarray(row.values, dtype=float), place + 0.16, (low, high))
            _whiskers(axes, place, row.ours, row.interval_low, row.interval_high, (low, high), OURS)
            recorded = row.recorded, row.recorded_low, row.recorded_high
            _whiskers(axes, place - 0.24, *recorded, (low, high), FULL)
            axes.plot(row.paper, place, **HOLLOW)
        unit = UNITS.get(form_of(quantity))
        _name_rows(axes, list(part["name"]), f"{quantity}, {unit}" if unit else quantity)
        if unit:
            axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        axes.set_xlim(low, high)
        axes.xaxis.label.set_size("small")
        axes.tick_params(axis="x", labelsize="small", pad=2)
    handles = {"one seed": SEED, "mean and 95 % interval": Line2D([], [], **OURS), "paper": Line2D([], [], **HOLLOW)}
    if rows["recorded"].notna().any():
        handles["recorded runs"] = Line2D([], [], **FULL)
    handles["margin"] = Patch(color="0.88")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize="small")
    return figure


def settle(figure: Figure) -> Figure:
    """The figure with its layout worked out and rounded: the solver's last digits vary, and a file's ids with them."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        axes.set_position(np.round(axes.get_position().bounds, 6))
    figure.set_layout_engine("none")
    return figure


def _limits(rows: pd.DataFrame, is_bounded: bool) -> tuple[float, float]:
    """Axis limits around the paper's values, margins and means, and seeds no farther out than those lie apart; means
    that say nothing, no farther, either, where the quantity has no bound, as a share of next to nothing has none.
    Intervals have no say, they may be as wide as a seed or two leave them."""
    means = {"ours": "unsettled", "recorded": "recorded_unsettled"}
    settled = (rows.loc[is_bounded | (rows[why] == ""), mean] for mean, why in means.items())
    numbers = _finite(rows[["paper", "required_low", "required_high"]], *settled)
    others = _finite(rows[[*means]], *map(np.array, rows["values"]))
    reach = np.ptp(numbers)
    numbers = np.append(numbers, others.clip(numbers.min() - reach, numbers.max() + reach))
    room = max(np.ptp(numbers) * 0.25, 0.01)
    return numbers.min() - room, numbers.max() + room


def _finite(*arrays) -> np.ndarray:
    numbers = np.concatenate([np.asarray(array, dtype=float).ravel() for array in arrays])
    return numbers[np.isfinite(numbers)]


def _seeds(axes: Axes, values: np.ndarray, place: float, limits: tuple[float, float]) -> None:
    """A row's seeds as small dots; an arrowhead where there are others beyond the axis."""
    low, high = limits
    _dots(axes, np.where((low <= values) & (values <= high), values, np.nan), place, markersize=3.5)
    for end, beyond, mark in ((low, values < low, "<"), (high, values > high, ">")):
        if beyond.any():
            axes.plot(end, place, mark, color=COLORS[0], markersize=5, clip_on=False)


def _whiskers(axes: Axes, place: float, mean: float, low: float, high: float, limits, style: dict) -> None:
    """A mean, if it is on the axis, and its interval; an arrowhead where the interval goes on beyond the axis."""
    axes.plot(mean if limits[0] <= mean <= limits[1] else np.nan, place, **style)
    if np.isfinite([low, high]).all():
        ends = np.clip([low, high], *limits)
        axes.plot(ends, [place, place], color=style["color"], linewidth=1.6)
        for end, bound, mark in zip(ends, (low, high), "<>", strict=True):
            axes.plot(end, place, mark if end != bound else "|", color=style["color"], clip_on=False)


def _dots(axes: Axes, values: np.ndarray, place: float, markersize: float = 6, **how) -> None:
    """The seeds of a row, spread a little so that equal ones are told apart."""
    offsets = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(len(values))
    axes.plot(values, place + offsets, "o", color=COLORS[0], alpha=0.85, markersize=markersize, **how)


def _say_missing(axes: Axes, place: float = 0.5, transform: Transform | None = None) -> None:
    """In the middle of the axes, or of a row at this place of a transform."""
    axes.text(
        0.5,
        place,
        MISSING,
        transform=transform or axes.transAxes,
        ha="center",
        va="center",
        fontsize="small",
        color="0.4",
    )


def _name_rows(axes: Axes, names: Sequence[str], label: str) -> None:
    axes.set(yticks=range(len(names)), xlabel=label, ylim=(len(names) - 0.5, -0.5))
    axes.set_yticklabels(names)


def corruption_curves(
    frame: pd.DataFrame, value: str, label: str, reference: pd.DataFrame | None = None, chance: float | None = None
) -> Figure:
    """A value over the corruption rate, by network: every seed as a marker, and a line through the mean of the seeds
    that ran at all rates at which any did, broken where a rate has no run.

    Args:
        frame: columns model, seed, label_corruption and the value, NaN where it was not run.
        value: column on the y axis.
        label: of the y axis.
        reference: the paper's curve, columns model, corruption and a third with the value; drawn hollow, dotted.
        chance: a horizontal line.
    """
    figure = Figure(figsize=(7.5, 4.2))
    axes = figure.subplots()
    _corruption_axes(axes, frame, value, reference, chance)
    axes.set(xlabel="share of labels replaced at random", ylabel=label)
    return figure


def _corruption_axes(
    axes: Axes, frame: pd.DataFrame, value: str, reference: pd.DataFrame | None, chance: float | None
) -> None:
    names, extra, edge = list(dict.fromkeys(frame.dropna(subset=value)["model"])), {}, NEVER
    if not names:
        _say_missing(axes)
    for name in names:
        part = frame.loc[frame["model"] == name, ["seed", "label_corruption", value]].astype(float)
        style = look(names, name)
        if len(never := part.loc[np.isinf(part[value]), "label_corruption"]):
            marks = {"marker": style["marker"], "color": style["color"], "linestyle": "none", "markersize": 5}
            axes.plot(never, [edge] * len(never), transform=axes.get_xaxis_transform(), clip_on=False, **marks)
            edge += NEVER_ROW
            extra["at the top: never"] = Line2D([], [], linestyle="none")
        by_seed = part.dropna().pivot(index="seed", columns="label_corruption", values=value)
        mean = by_seed.dropna().mean()  # of the same seeds at every rate
        mean = mean.reindex(sorted(set(part["label_corruption"])))
        axes.plot(mean.index, mean, color=style["color"], linestyle=style["linestyle"])
        axes.plot(part["label_corruption"], part[value], style["marker"], color=style["color"], markersize=5, alpha=0.8)
        if reference is not None:
            curve = reference[reference["model"] == name]
            axes.plot(curve["corruption"], curve.iloc[:, 2], style["marker"], color="0.5", markerfacecolor="none")
            extra["paper (hollow)"] = Line2D([], [], color="0.5", marker="o", markerfacecolor="none", linestyle="none")
    if chance is not None:
        axes.axhline(chance, color="0.4", linewidth=1, linestyle=":")
        extra["chance"] = Line2D([], [], color="0.4", linewidth=1, linestyle=":")
    _legend(axes, names, extra, markers=True)


def epoch_curves(history: pd.DataFrame, value: str, by: str, label: str) -> Figure:
    """A value by epoch: one panel for each network, one line for each seed and value of `by`."""
    panels = list(dict.fromkeys(history["model"]))
    figure = Figure(figsize=(max(7.5, 3.2 * len(panels)), 3.6))
    names = sorted(set(history[by]))
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, max(1, len(panels)))), panels, strict=False):
        _lines(axes, history[history["model"] == panel], by, names, "epoch", value)
        axes.set(title=MODEL_NAMES[panel], xlabel="epoch")
    figure.axes[0].set_ylabel(label)
    _legend(figure.axes[-1], names, {})
    figure.axes[-1].get_legend().set_title(by.replace("_", " "))
    return figure


def batch_norm_curves(history: pd.DataFrame, reference: pd.DataFrame | None = None) -> Figure:
    """Fig. 2b: test and training accuracy by step with and without batch norm, every seed; the paper's in grey."""
    names = [MODEL_NAMES[model] for model in ("inception", "inception_no_bn")]
    if reference is not None:
        reference = reference.assign(name=reference["model"].map(MODEL_NAMES))
    return _both_accuracies(history.assign(name=history["model"].map(MODEL_NAMES)), names, reference)


def _both_accuracies(history: pd.DataFrame, names: Sequence[str], reference: pd.DataFrame | None) -> Figure:
    """Test and training accuracy by step, one line a run of each `name`; the paper's in grey."""
    figure, extra = Figure(figsize=(10, 4)), {}
    for axes, split in zip(figure.subplots(1, 2, sharey=True), ("test", "train"), strict=True):
        if reference is not None:
            for name, curve in reference[reference["split"] == split].groupby("name", sort=False):
                style = {"color": "0.6", "linestyle": look(names, name)["linestyle"], "linewidth": 0.9}
                axes.plot(curve["step"], curve["accuracy"], zorder=1, **style)
                extra[f"paper, {name}"] = Line2D([], [], **style)
        _lines(axes, history, "name", names, "step", f"{split}_accuracy")
        axes.set(title="test" if split == "test" else "training, running", xlabel="step")
    figure.axes[0].set_ylabel("accuracy")
    _legend(figure.axes[0], names, extra, missing={*names} - {*history["name"]})
    return figure


def early_stopping_curves(history: pd.DataFrame, panels: Sequence[str], per: str = "model") -> Figure:
    """Accuracy by epoch on held-out and on test images, a panel for each of these values of `per`; the chosen epoch is
    marked."""
    figure = Figure(figsize=(9, 3.6))
    for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        if panel not in set(history[per]):
            _say_missing(axes)
            axes.set_xticks([])
        for _, run in history[history[per] == panel].groupby("seed"):
            chosen = run.loc[run["validation_accuracy"].idxmax()]
            axes.plot(run["epoch"], run["test_accuracy"], color=COLORS[0])
            axes.plot(run["epoch"], run["validation_accuracy"], color=COLORS[1], linestyle=":", linewidth=1)
            axes.plot(chosen["epoch"], chosen["test_accuracy"], "D", color="black", markersize=6)
        axes.set(title=MODEL_NAMES.get(panel, panel), xlabel="epoch")
    figure.axes[0].set_ylabel("accuracy")
    handles = {
        "test": Line2D([], [], color=COLORS[0]),
        "held out": Line2D([], [], color=COLORS[1], linestyle=":"),
        "epoch chosen on held-out images": Line2D([], [], color="black", marker="D", linestyle="none"),
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return figure


def best_epoch_curves(history: pd.DataFrame, reference: pd.DataFrame | None = None) -> Figure:
    """Fig. 2a: test and training accuracy by step, one line a seed and arm, the best test epoch marked; the paper's in
    grey."""
    names = list(dict.fromkeys(history["arm"]))
    if reference is not None:
        reference = reference.assign(name=reference["arm"])
        names = list(dict.fromkeys([*names, *reference["name"]]))
    figure = _both_accuracies(history.assign(name=history["arm"]), names, reference)
    axes, best_style = figure.axes[0], {"color": "black", "marker": "D", "linestyle": "none"}
    for _, run in history.groupby("key"):
        best = run.loc[run["test_accuracy"].idxmax()]
        axes.plot(best["step"], best["test_accuracy"], markersize=5, **best_style)
    figure.axes[1].legend([Line2D([], [], **best_style)], ["best test epoch"], fontsize="small")
    return figure


def example_grid(rows: Mapping[str, tuple[Tensor, Sequence[str]]]) -> Figure:
    """A row of captioned images for each name: images [N, 3, H, W] in 0..255 (others are clipped), N captions."""
    columns = max(len(captions) for _, captions in rows.values())
    figure = Figure(figsize=(columns + 1.4, 1.25 * len(rows)))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for row, (name, (images, captions)) in zip(grid, rows.items(), strict=True):
        for axes, image, caption in zip(row, images, captions, strict=True):
            axes.imshow(image.clamp(0, 255).byte().permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_title(caption, fontsize=8)
            axes.grid(visible=False)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def overview(
    history: pd.DataFrame,
    corruption: pd.DataFrame | None,
    chance: float,
    sizes: Sequence[str],
    reference: pd.DataFrame | None = None,
) -> Figure:
    """The paper's two pictures: loss on randomized data, and test error against label corruption where it was asked.

    sizes: of the training set of each, in words; reference: the paper's losses.
    """
    figure = Figure(figsize=(10, 3.8))
    left, right = figure.subplots(1, 2) if corruption is not None else (figure.subplots(), None)
    _loss_axes(left, history, reference)
    left.set(title=f"Randomized data, {sizes[0]}", ylabel="training loss")
    if corruption is None:
        return figure
    _corruption_axes(right, with_test_errors(corruption, chance), "test_error", None, 1 - chance)
    right.set(title=f"Label corruption, {sizes[-1]}", xlabel="share of labels replaced", ylabel="test error")
    return figure


def _lines(axes: Axes, frame: pd.DataFrame, by: str, names: Sequence[object], x: str, y: str) -> None:
    """One thin line for each run of each name."""
    if frame.empty:
        _say_missing(axes)
    for name in names:
        style = look(names, name) | {"marker": None}
        for _, run in frame[frame[by] == name].groupby("key"):
            axes.plot(run[x], run[y], linewidth=1.4, alpha=0.85, **style)


def _legend(
    axes: Axes,
    names: Sequence[object],
    extra: Mapping[str, Line2D],
    markers: bool = False,
    missing: Collection[object] = (),
) -> None:
    handles = {}
    for name in names:
        style = look(names, name) | ({} if markers else {"marker": None})
        words = MODEL_NAMES.get(name, name)
        handles[f"{words}: {MISSING}" if name in missing else words] = Line2D([], [], **style)
    handles |= extra
    axes.legend(handles.values(), handles.keys(), fontsize="small")
