"""The paper's numbers and curves as data frames: printed tables, and figures read off their vector paths.

Zhang, Bengio, Hardt, Recht, Vinyals: Understanding deep learning requires rethinking generalization,
ICLR 2017, arXiv:1611.03530v2. Accuracies are fractions here, also where the paper prints per cent.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib.runs import joined
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

FIG2A = {"full": "augmentation + weight decay + dropout", "wd": "weight decay", "none": "none"}


@functools.cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.csv")


def _regularized(file: str, table: str, switches: Sequence[str]) -> pd.DataFrame:
    """A table with its switches as bools, its accuracies as fractions, and each row's group and arm."""
    frame = _read(file).copy()
    frame[list(switches)] = frame[list(switches)] == "yes"
    frame[[column for column in frame if "accuracy" in column or "top" in column]] /= 100
    arms = [joined({name.replace("_", " "): row[name] for name in switches}) for _, row in frame.iterrows()]
    return frame.assign(group=f"{table}, " + frame["labels"] + " labels", arm=arms)


def table1() -> pd.DataFrame:
    """Table 1, 19 rows: model, labels ('true'/'random'), random_crop, weight_decay (bool), train and test accuracy.

    group and arm name a row as experiments.explicit_regularization does.
    """
    return _regularized("table1_cifar10", "Table 1", ("random_crop", "weight_decay"))


def table2() -> pd.DataFrame:
    """Table 2, 7 rows, Inception V3 on ImageNet: labels, regularizers (bool), accuracies; best_*: the best during
    training. group and arm name a row as experiments.table2 does."""
    return _regularized("table2_imagenet", "Table 2", ("augmentation", "weight_decay", "dropout"))


def table4() -> pd.DataFrame:
    """Table 4, random labels with a regularizer left on: model, regularizer, train_accuracy (NaN: failed), note;
    group and arm as in experiments.explicit_regularization."""
    frame = _read("table4_random_labels_with_regularizers").copy()
    frame["train_accuracy"] /= 100
    return frame.assign(group="Table 4", arm=frame["regularizer"].str.replace("_", " "))


def table4_column(arm: str) -> str:
    """Which of our accuracies an arm of Table 4 is for: its augmented rows give the running one of the mini-batches."""
    return "train_accuracy" if arm == "weight decay" else "running_train_accuracy"


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


def fig2a() -> pd.DataFrame:
    """Fig. 2a: arm (of Table 2, true labels), split, step, accuracy (top-1); Inception V3 on ImageNet."""
    frame = _read("fig2a_imagenet")
    return frame.assign(arm=frame["condition"].map(FIG2A)).drop(columns="condition")


def steps_to_loss(level: float) -> pd.Series:
    """Steps until Fig. 1a's curves fall below a level, interpolated linearly; indexed by randomization."""
    curves = {name: curve.set_index("step")["average_loss"] for name, curve in fig1a().groupby("randomization")}
    return pd.Series({name: crossing(curve, level) for name, curve in curves.items()})


def last_reading(curve: pd.DataFrame) -> float:
    """Accuracy at the end of one curve of Fig. 2: columns step, accuracy."""
    return float(curve.sort_values("step")["accuracy"].iloc[-1])


def contradictions() -> pd.DataFrame:
    """What the paper gives in more than one place: model, quantity, source, value; one row a place.

    Test accuracy of networks trained on true labels without regularizers, and Table 2's row that Fig. 2a corrects.
    """
    what = "test accuracy on true labels, no regularizer"
    plain = table1().query("labels == 'true' and arm == 'none'")
    rows = [(row.model, what, "Table 1", row.test_accuracy) for row in plain.itertuples()]
    clean = fig1c().query("corruption == 0")
    rows += [(row.model, what, "Fig. 1c", 1 - row.test_error) for row in clean.itertuples()]
    curves = fig2b().query("split == 'test'").groupby("model")
    rows += [(model, what, "Fig. 2b", last_reading(curve)) for model, curve in curves]
    imagenet = "training top-1 accuracy on ImageNet, weight decay only"
    table = table2().query("labels == 'true' and not augmentation and weight_decay")
    curve = fig2a().query("arm == 'weight decay' and split == 'train'")
    rows += [("inception_v3", imagenet, "Table 2", float(table["train_top1"].iloc[0]))]
    rows += [("inception_v3", imagenet, "Fig. 2a", last_reading(curve))]
    frame = pd.DataFrame(rows, columns=["model", "quantity", "source", "value"])
    return frame[frame.groupby("model")["value"].transform("count") > 1].reset_index(drop=True)
