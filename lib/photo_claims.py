"""The claims that the paper asks of ImageNet, too (Table 2, Fig. 2a): the same questions to Inception V3.

There is no label corruption on ImageNet in the paper. What it says of early stopping is the opposite there: it helps.
"""

from collections.abc import Iterator

import pandas as pd

from lib import paper
from lib.claims import CLAIMS, MODEL_NAMES, Claim, Criteria, arm, at_chance, compare, fits, rows_of, unfitted
from lib.criteria import IMAGENET_CHANCE, Comparison
from lib.margins import MARGINS
from lib.profiles import PHOTOGRAPHS, V3
from lib.splits import SPLITS

NAME = MODEL_NAMES[V3]


def claims_of(dataset: str) -> dict[str, Claim]:
    """The claims asked of a data set."""
    return PHOTO_CLAIMS if dataset in PHOTOGRAPHS else CLAIMS


def _table2(labels: str, arm: str) -> pd.Series:
    return paper.table2().query(f"labels == '{labels}' and arm == '{arm}'").iloc[0]


def _randomization(frame: pd.DataFrame, chance: float) -> Criteria:
    group, row = "random labels", _table2("random", "none")
    train, test = (arm(frame, group, group, V3, f"{split}_accuracy") for split in SPLITS)
    runs, margin = (group, V3), MARGINS["fitted, ImageNet"]
    yield fits(f"{NAME} fits random labels", runs, train, row["train_top1"], margin, headline=True)
    unsettled = unfitted(rows_of(frame, group, group, V3), margin=margin)
    what, margin = f"{NAME} trained on random labels is at chance", MARGINS["chance, ImageNet"]
    yield at_chance(what, "test accuracy", test, chance, row["test_top1"], runs, unsettled, margin)


def _explicit_comparisons(frame: pd.DataFrame, chance: float) -> Iterator[Comparison]:
    group = "Table 2, true labels"
    published = paper.table2().query("labels == 'true'").set_index("arm")[["train_top1", "test_top1"]]
    how = {"margin": MARGINS["kept, ImageNet"], "margins": ("fitted, ImageNet", "chance, ImageNet")}
    for name in published.index.drop("none"):
        arms, papers = [(group, each, V3) for each in (name, "none")], published.loc[[name, "none"]]
        how |= {"headline": name == published.index[0], "paper_chance": IMAGENET_CHANCE}
        yield compare(frame, chance, f"{NAME}, {name}", *arms, papers, **how)


def _explicit_regularization(frame: pd.DataFrame, chance: float) -> Criteria:
    for row in paper.table2().query("arm == 'none' or labels == 'random'").itertuples():
        text = f"{NAME} fits {row.labels} labels with {'every regularizer off' if row.arm == 'none' else row.arm}"
        train, margin = arm(frame, row.group, row.arm, V3, "train_accuracy"), MARGINS["fitted, ImageNet"]
        yield fits(text, (row.group, V3), train, row.train_top1, margin)
    yield from (each.criterion(chance) for each in _explicit_comparisons(frame, chance))


def _implicit_comparisons(frame: pd.DataFrame, chance: float) -> Iterator[Comparison]:
    group = "early stopping"
    for row in paper.table2().dropna(subset="best_test_top1").itertuples():
        last, best, chosen = (
            arm(frame, group, row.arm, V3, f"{name}_test_accuracy") for name in ("last", "best", "early_stopped")
        )
        margin, text = MARGINS["no gain"], f"{NAME}, {row.arm}"
        how = {"paired": True, "margin": margin, "is_share": False, "is_gain": True}
        seen = {"paper_on": row.best_test_top1, "paper_off": row.test_top1, "headline": row.arm != "none"}
        few = rows_of(frame, group, row.arm, V3)["test_size"].dropna()  # their maximum over the epochs flatters
        flatters = f"epochs were judged by {few.iloc[0]:.0f} images" if len(few) else ""
        seen |= {"unsettled": flatters, "is_best": True}
        yield Comparison(f"{text}, stopping at the best test epoch", (group, V3), best, last, **how, **seen)
        yield Comparison(f"{text}, stopping where held-out images say", (group, V3), chosen, last, **how)


def _implicit_regularization(frame: pd.DataFrame, chance: float) -> Criteria:
    yield from (each.criterion(chance) for each in _implicit_comparisons(frame, chance))


PHOTO_CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "randomization",
            "Randomization",
            "Inception V3 fits random labels on photographs, though nothing can be learned from them.",
            _randomization,
        ),
        Claim(
            "explicit_regularization",
            "Explicit regularization",
            "Without weight decay, dropout and augmentation most of the generalization remains, and with them random "
            "labels are still fitted.",
            _explicit_regularization,
            _explicit_comparisons,
        ),
        Claim(
            "implicit_regularization",
            "Implicit regularization",
            "On ImageNet, unlike on CIFAR-10, stopping early could improve generalization.",
            _implicit_regularization,
            _implicit_comparisons,
        ),
    )
}
