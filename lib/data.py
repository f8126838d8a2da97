"""Load a data set by name, all or some of its classes.

Every data set has the same form, so all that follows works on each of them. scikit-learn's handwritten digits
stand in where CIFAR-10 cannot be had.
"""

import contextlib
import sys

import torch
import torch.nn.functional as F

from lib.cifar10 import cifar10, cifar10_on_disk
from lib.config import InputError, data_root, one_of
from lib.files import NoData
from lib.imagenet import SIZES, photographs
from lib.splits import Dataset, Split, fingerprint, stratified_order

IMAGES = {  # as published
    "cifar10": {"train": 50_000, "test": 10_000},
    "tiny-imagenet": {"train": 100_000, "test": 10_000},
    "imagenet": {"train": 1_281_167, "test": 50_000},
    "digits": {"train": 1_438, "test": 359},
}
CLASSES = {"cifar10": 10, "tiny-imagenet": 200, "imagenet": 1000, "digits": 10}
DATASETS = ("auto", *IMAGES)


def load_dataset(name: str, classes: int | None = None) -> Dataset:
    """Load one of DATASETS from DATA_ROOT, of the photographs all or some of the classes.

    Args:
        name: 'auto' is CIFAR-10 where it can be had, else digits.
        classes: of photographs how many of the classes, evenly spaced over their sorted list and labelled from 0; None:
            all.

    Raises:
        InputError: unknown name, damaged data, no room for the decoded images, a wrong IMAGE_SIZE, or a number of
            classes that is not between 2 and those there are.
        NoData: a data set by name, and none to be had.
    """
    name = resolve_dataset(name)
    if name in SIZES:
        return photographs(name, data_root(), classes)
    return cifar10(data_root()) if name == "cifar10" else _digits()


def at_hand(name: str) -> Dataset | None:
    """CIFAR-10 where it lies whole under DATA_ROOT, without a download; None where it does not, and for all other data
    sets."""
    with contextlib.suppress(InputError):  # pictures are worth no error
        return cifar10_on_disk(data_root()) if name == "cifar10" else None


def resolve_dataset(name: str) -> str:
    """One of DATASETS; for 'auto' 'cifar10', downloaded if need be, or 'digits', and says so if it cannot be had.

    Raises:
        InputError: unknown name, damaged data, or no room for the decoded images.
    """
    if one_of("dataset", name, DATASETS) == "auto":
        try:
            return cifar10(data_root()).name
        except NoData as error:
            print(f"{error}\nDATASET=auto: going on with scikit-learn's handwritten digits.", file=sys.stderr)
            return "digits"
    return name


def _digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels, enlarged to 28x28 and framed to CIFAR's 32x32."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.tensor(bunch.images, dtype=torch.float32)[:, None] * (255 / 16)  # 17 grey levels
    large = F.interpolate(small, size=(28, 28), mode="bilinear").round().to(torch.uint8)
    images = F.pad(large, (2, 2, 2, 2)).expand(-1, 3, -1, -1).contiguous()
    whole = Split(images, torch.tensor(bunch.target))
    order = stratified_order(whole.labels, seed=0)
    cut = round(0.8 * len(whole))
    train, test = whole.subset(order[:cut].sort().values), whole.subset(order[cut:].sort().values)
    classes = tuple(map(str, bunch.target_names))
    return Dataset("digits", train, test, classes, fingerprint(train, test), "scikit-learn's bundled digits")
