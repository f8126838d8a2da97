"""The paper's numbers and curves as data frames: printed tables, and figures read off their vector paths.

Zhang, Bengio, Hardt, Recht, Vinyals: Understanding deep learning requires rethinking generalization,
ICLR 2017, arXiv:1611.03530v2. Accuracies are fractions here, also where the paper prints per cent.
"""

import functools
from pathlib import Path

import pandas as pd

from lib.statistics import crossing

FOLDER = Path(__file__).parent / "paper"
# The paper's names of Fig. 1a's curves, in the order of its text, and ours.
RANDOMIZATIONS = {
    "true_labels": "true labels",
    "random_labels": "random labels",
    "shuffled_pixels": "shuffled pixels",
    "random_pixels": "random pixels",
    "gaussian_pixels": "gaussian",
}


@functools.cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.csv")


def table1() -> pd.DataFrame:
    """Table 1, 19 rows: model, labels ('true'/'random'), random_crop, weight_decay (bool), train and test accuracy.

    group and arm name a row as experiments.explicit_regularization does.
    """
    frame = _read("table1_cifar10").copy()
    for switch in ("random_crop", "weight_decay"):
        frame[switch] = frame[switch] == "yes"
    switches = {"random crop": frame["random_crop"], "weight decay": frame["weight_decay"]}
    frame["group"] = "Table 1, " + frame["labels"] + " labels"
    frame["arm"] = [" + ".join(name for name, on in switches.items() if on[row]) or "none" for row in frame.index]
    for column in ("train_accuracy", "test_accuracy"):
        frame[column] /= 100
    return frame


def table4() -> pd.DataFrame:
    """Table 4, random labels with a regularizer left on: model, regularizer, train_accuracy (NaN: failed), note;
    group and arm as in experiments.explicit_regularization."""
    frame = _read("table4_random_labels_with_regularizers").copy()
    frame["train_accuracy"] /= 100
    return frame.assign(group="Table 4", arm=frame["regularizer"].str.replace("_", " "))


def fig1a() -> pd.DataFrame:
    """Fig. 1a: randomization, step, average_loss; Inception on CIFAR-10."""
    frame = _read("fig1a_training_loss").copy()
    frame["randomization"] = frame["randomization"].map(RANDOMIZATIONS)
    return frame


def fig1b() -> pd.DataFrame:
    """Fig. 1b: model, corruption, relative_time_to_overfit."""
    return _read("fig1b_label_corruption").copy()


def fig1c() -> pd.DataFrame:
    """Fig. 1c: model, corruption, test_error."""
    return _read("fig1c_label_corruption").copy()


def fig2b() -> pd.DataFrame:
    """Fig. 2b: model (inception, inception_no_bn), split, step, accuracy."""
    return _read("fig2b_batch_norm").copy()


def steps_to_loss(levels: tuple[float, ...]) -> pd.DataFrame:
    """Steps until Fig. 1a's curves fall below each level, interpolated linearly; indexed by randomization."""
    curves = {name: curve.set_index("step")["average_loss"] for name, curve in fig1a().groupby("randomization")}
    return pd.DataFrame({level: {name: crossing(curve, level) for name, curve in curves.items()} for level in levels})
