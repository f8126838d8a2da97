import io

import numpy as np
import pandas as pd
import pytest
import torch
from test_runs import make_record

from lib import paper, plots
from lib.runs import Run, history_frame, runs_frame

BOUNDS = ["interval_low", "interval_high", "recorded", "recorded_low", "recorded_high"]
SETTLED = {"unsettled": "", "recorded_unsettled": ""}


@pytest.fixture
def records():
    runs = [Run("digits", "inception", seed=seed, pixels=p) for seed in (0, 1) for p in ("original", "gaussian")]
    return [make_record(run) for run in runs]


def svg(figure):
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def test_the_same_figure_is_the_same_file(records):
    history = history_frame(records)
    assert svg(plots.loss_curves(history)) == svg(plots.loss_curves(history))


def test_a_settled_figure_is_rounded_and_moves_no_more(records):
    figure = plots.settle(plots.loss_curves(history_frame(records)))
    bounds = figure.axes[0].get_position().bounds
    assert bounds == tuple(np.round(bounds, 6))
    figure.draw_without_rendering()
    assert figure.axes[0].get_position().bounds == bounds


def test_loss_curves_show_every_seed_and_the_paper_behind(records):
    axes = plots.loss_curves(history_frame(records), paper.fig1a()).axes[0]
    assert len(axes.lines) == 4 + 5
    drawn = {"true labels", "gaussian"}
    names = [name if name in drawn else f"{name}: not run" for name in paper.RANDOMIZATIONS.values()]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [*names, "paper (thin)"]


def test_batch_norm_curves_name_the_network_that_was_not_run(records):
    for reference, more in ((None, []), (paper.fig2b(), ["paper, Inception", "paper, Inception without BN"])):
        texts = plots.batch_norm_curves(history_frame(records), reference).axes[0].get_legend().get_texts()
        names = ["Inception", "Inception without BN: not run", *more]
        assert sorted(text.get_text() for text in texts) == sorted(names)


def test_strip_has_a_dot_for_each_seed_and_the_papers_diamond(records):
    figure = plots.strip(runs_frame(records), "test_accuracy", "randomization", "accuracy", {"gaussian": 0.5})
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in dots) == 4
    assert [line.get_marker() for line in figure.axes[0].lines].count("D") == 1


def test_a_row_of_a_strip_without_a_run_says_so(records):
    frame = runs_frame(records)
    frame.loc[frame["randomization"] == "gaussian", "test_accuracy"] = np.nan
    figure = plots.strip(frame, "test_accuracy", "randomization", "accuracy", {"gaussian": 0.5})
    assert [(text.get_text(), text.get_position()[1]) for text in figure.axes[0].texts] == [("not run", 1)]


def test_strip_keeps_what_never_came_at_its_edge(records):
    frame = runs_frame(records).assign(value=[1.0, float("inf"), 2.0, 3.0])
    figure = plots.strip(frame, "value", "randomization", "steps")
    low, high = figure.axes[0].get_xlim()
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert sorted(value for line in dots for value in line.get_xdata()) == [1.0, plots.NEVER, 2.0, 3.0]
    assert (low > 0, high < 4) == (True, True)  # the edge's mark does not stretch the axis
    assert "at the right edge: never" in [text.get_text() for text in figure.legends[0].get_texts()]
    never = plots.strip(frame.assign(value=float("inf")), "value", "randomization", "steps").axes[0]
    assert (never.get_xlim(), list(never.get_xticks())) == ((0, 1), [])  # no steps below 0


def test_forest_has_seeds_margin_paper_and_arrowheads_where_an_interval_goes_on():
    nan = float("nan")
    row = {"name": "x", "quantity": "share", "values": (0.9, 0.95), "ours": 0.925, "paper": 0.96, "required_low": 0.87}
    row |= {"interval_low": 0.6, "interval_high": 0.94, "required_high": float("inf")}
    row |= {"recorded": nan, "recorded_low": nan, "recorded_high": nan} | SETTLED
    other = row | {"name": "y", "quantity": "times", "recorded": 0.93, "recorded_low": 0.92, "recorded_high": 0.94}
    figure = plots.forest(pd.DataFrame([row, other]))
    first, second = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["share, %", "times"]
    marks = [line.get_marker() for line in first.lines]
    assert (marks.count("<"), marks.count(">"), marks.count("|"), marks.count("D")) == (1, 0, 1, 1)
    assert first.patches[0].get_x() == pytest.approx(0.87)
    assert first.patches[0].get_x() + first.patches[0].get_width() == pytest.approx(first.get_xlim()[1])
    dots = [line for line in first.lines if line.get_color() == plots.COLORS[0]]
    assert [len(line.get_xdata()) for line in dots] == [2]
    assert "s" in [line.get_marker() for line in second.lines if np.isfinite(line.get_xdata()).all()]


def test_a_seed_far_out_is_an_arrowhead_and_leaves_the_others_apart():
    row = {"name": "x", "quantity": "share", "ours": 1.67, "paper": 0.93, "required_low": 0.87, "required_high": np.inf}
    row |= SETTLED | dict.fromkeys(BOUNDS, np.nan)
    axes = plots.forest(pd.DataFrame([row | {"values": (0.88, 1064.0)}])).axes[0]
    low, high = axes.get_xlim()
    assert low < 0.87
    assert 1.67 < high < 4
    seeds = [line for line in axes.lines if line.get_color() == plots.COLORS[0]]
    assert [line.get_marker() for line in seeds] == ["o", ">"]
    assert [x for x in seeds[0].get_xdata() if np.isfinite(x)] == [0.88]
    assert list(seeds[1].get_xdata()) == [high]


def test_a_mean_that_says_nothing_stretches_the_axis_of_shares_no_farther_than_a_seed():
    row = {"name": "x", "values": (0.95,), "ours": 0.95, "paper": 0.93, "required_low": 0.87, "required_high": np.inf}
    row |= SETTLED | dict.fromkeys(BOUNDS, np.nan)
    nothing = {"values": (1064.0,), "ours": 1064.0, "interval_low": 900.0, "interval_high": 1200.0}
    nothing |= {"unsettled": "with it: learned nothing in 1 of 1 seeds"}
    for quantity, is_drawn in (("share", False), ("rank correlation", True)):
        axes = plots.forest(pd.DataFrame([row | {"quantity": quantity}, row | nothing | {"quantity": quantity}])).axes[
            0
        ]
        low, high = axes.get_xlim()
        means = [x for line in axes.lines if line.get_color() == "black" for x in line.get_xdata()]
        assert (1064.0 in means, high > 1000) == (is_drawn, is_drawn)
        assert all(low <= x <= high for x in means if np.isfinite(x))
    other = row | {"quantity": "share", "recorded": 1064.0, "recorded_unsettled": nothing["unsettled"]}
    assert plots.forest(pd.DataFrame([other])).axes[0].get_xlim()[1] < 2


def test_corruption_curves_draw_means_and_seeds():
    rates, errors = [0, 0, 1, 1], [0.2, 0.4, 0.8, 1.0]
    frame = pd.DataFrame({"model": "alexnet", "seed": [0, 1, 0, 1], "label_corruption": rates, "error": errors})
    lines = plots.corruption_curves(frame, "error", "error", chance=0.9).axes[0].lines
    assert lines[0].get_ydata().tolist() == pytest.approx([0.3, 0.9])
    assert lines[1].get_ydata().tolist() == errors


def test_a_margin_ends_where_its_quantity_does():
    row = {"name": "x", "values": (0.995,), "ours": 0.995, "paper": 1.0, "required_low": 0.99, "required_high": np.inf}
    row |= SETTLED | dict.fromkeys(BOUNDS, np.nan)
    rows = [row | {"quantity": quantity} for quantity in ("training accuracy", "share that remains")]
    ends = [axes.patches[0].get_x() + axes.patches[0].get_width() for axes in plots.forest(pd.DataFrame(rows)).axes]
    assert ends[0] == pytest.approx(1)
    assert ends[1] > 1


def test_a_forest_has_the_units_of_the_tables():
    row = {"name": "x", "values": (0.01,), "ours": 0.01, "paper": 0.02, "required_low": 0.0, "required_high": 0.03}
    row |= SETTLED | dict.fromkeys(BOUNDS, np.nan)
    quantities = ["test accuracy", "gain in test accuracy", "rank correlation"]
    figure = plots.forest(pd.DataFrame([row | {"quantity": quantity} for quantity in quantities]))
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "test accuracy, %",
        "gain in test accuracy, points",
        "rank correlation",
    ]
    ticks = [axes.xaxis.get_major_formatter().format_ticks([0.01, 0.02]) for axes in figure.axes]
    assert [[float(tick) for tick in each] for each in ticks] == [[1, 2], [1, 2], [0.01, 0.02]]


def test_a_corruption_curve_joins_means_of_the_same_seeds():
    rates, errors = [0, 0, 1, 1], [0.2, 0.4, 0.8, np.nan]
    frame = pd.DataFrame({"model": "alexnet", "seed": [0, 1, 0, 1], "label_corruption": rates, "error": errors})
    line, *_ = plots.corruption_curves(frame, "error", "error").axes[0].lines
    assert line.get_ydata().tolist() == [0.2, 0.8]
    apart = frame.assign(seed=[1, 2, 3, 1]).dropna()
    line, marks, *_ = plots.corruption_curves(apart, "error", "error").axes[0].lines
    assert np.isnan(line.get_ydata()).all()
    assert len(marks.get_ydata()) == 3


def test_a_corruption_curve_does_not_bridge_a_rate_that_was_not_run():
    errors = pd.Series([0.2, np.nan, 0.5, 0.6], [0, 0.1, 0.2, 0.3])
    frame = pd.DataFrame({"model": "alexnet", "seed": 0, "label_corruption": errors.index, "error": errors})
    line, *_ = plots.corruption_curves(frame, "error", "error").axes[0].lines
    assert list(line.get_xdata()) == list(errors.index)
    assert np.array_equal(line.get_ydata(), errors, equal_nan=True)


def test_what_never_came_stands_at_the_top_in_a_row_for_each_network():
    rates, inf = [0, 0.5, 1], np.inf
    times = {"alexnet": [inf, 1.0, inf], "inception": [np.nan] * 3, "mlp_1x512": [1.0, 1.5, inf]}
    frames = [
        pd.DataFrame({"model": model, "seed": 0, "label_corruption": rates, "time": times[model]}) for model in times
    ]
    axes = plots.corruption_curves(pd.concat(frames), "time", "time").axes[0]
    edges = [line for line in axes.lines if line.get_transform() == axes.get_xaxis_transform()]
    assert [list(edge.get_xdata()) for edge in edges] == [[0, 1], [1]]
    heights = [set(edge.get_ydata()) for edge in edges]
    assert heights == [{plots.NEVER}, {plots.NEVER + plots.NEVER_ROW}]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["AlexNet", "MLP 1x512", "at the top: never"]  # what did not run has no name


def test_numbers_get_colours_in_order():
    rates = [0.0, 0.5, 1.0]
    brightness = [sum(plots.look(rates, rate)["color"]) for rate in rates]
    assert brightness == sorted(brightness, reverse=True)


def test_networks_are_told_apart_without_colour():
    names = [name for name in plots.MODEL_NAMES if name != "inception_v3"]  # never in a figure with the others
    looks = [plots.look(names, name) for name in names]
    for part in ("linestyle", "marker", "color"):
        assert len({str(each[part]) for each in looks}) == len(names)


def test_example_grid_clips_and_captions():
    noise = torch.full((2, 3, 8, 8), 300, dtype=torch.int16)
    figure = plots.example_grid({"noise": (noise, ["cat", "dog"])})
    assert [axes.get_title() for axes in figure.axes] == ["cat", "dog"]
    assert figure.axes[0].images[0].get_array().max() == 255


def test_the_epoch_chosen_on_held_out_images_is_marked():
    history = pd.DataFrame({"model": "alexnet", "seed": 0, "epoch": [1, 2, 3], "validation_accuracy": [0.1, 0.9, 0.5]})
    figure = plots.early_stopping_curves(history.assign(test_accuracy=[0.3, 0.2, 0.8]), ["inception", "alexnet"])
    missing, axes = figure.axes
    assert [text.get_text() for text in missing.texts] == ["not run"]
    assert not axes.texts
    (mark,) = [line for line in axes.lines if line.get_marker() == "D"]
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([2], [0.2])
