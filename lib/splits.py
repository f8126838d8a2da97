"""What every data set is made of: images and labels, in memory or in a file, and how to take some of them."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lib.config import InputError

SPLITS = ("train", "test")  # that every data set has
CHUNK = 1000  # images read at a time


class ImageFile:
    """Images in a memory-mapped file, or some of them: [N, 3, H, W] uint8. Nothing is read until read() is called.

    Args:
        array: np.load(..., mmap_mode="r") of the whole file.
        rows: which of its images, [N] int64; None: all.
    """

    dtype = torch.uint8

    def __init__(self, array: np.ndarray, rows: Tensor | None = None):
        self.array = array
        self.rows = torch.arange(len(array)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """[N, 3, H, W]."""
        return torch.Size((len(self), *self.array.shape[1:]))

    def __getitem__(self, index: Tensor | slice) -> "ImageFile":
        """Some of them, still in the file."""
        return ImageFile(self.array, self.rows[index])

    def read(self) -> Tensor:
        """All of them, in memory."""
        return torch.from_numpy(self.array[self.rows.numpy()])


Images = Tensor | ImageFile


def in_memory(images: Images) -> Tensor:
    """The images as a tensor; a tensor as it is."""
    return images.read() if isinstance(images, ImageFile) else images


@dataclass(frozen=True)
class Split:
    """images [N, 3, H, W], uint8 (int16 for Gaussian noise), in memory or in a file; labels [N], int64."""

    images: Images
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> "Split":
        """The examples at index [M] int64."""
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Dataset:
    """A data set with class names, the SHA-256 of all its arrays, and where and in what state it was found.

    inexact: rows of the images that differ from the published ones, by split; only of a whole data set.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    source: str
    note: str = ""
    inexact: dict[str, list[int]] = field(default_factory=dict)


def stratified_subset(split: Split, size: int | None, seed: int) -> Split:
    """`size` examples with the class shares of the whole, drawn with the seed, in their original order; None: all.

    Raises:
        InputError: size is not between 1 and the number of examples.
    """
    if size is None:
        return split
    if not 1 <= size <= len(split):
        raise InputError(f"subset of {size!r} examples is outside the allowed range 1 to {len(split)}")
    return split.subset(stratified_order(split.labels, seed)[:size].sort().values)


def stratified_order(labels: Tensor, seed: int) -> Tensor:
    """A random order of the examples [N] in which every prefix has nearly the class shares of the whole."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    quantile = torch.empty(len(labels), dtype=torch.float64)
    for members in (order[labels[order] == label] for label in labels.unique()):
        quantile[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return order[quantile[order].argsort(stable=True)]


def class_indices(count: int | None, total: int) -> list[int]:
    """Which `count` of `total` classes, evenly spaced over their list; None: all.

    Raises:
        InputError: count is not between 2 and total.
    """
    if count is None:
        return list(range(total))
    if not 2 <= count <= total:
        raise InputError(f"{count!r} classes are outside the allowed range 2 to {total}, the number that there is")
    return [i * total // count for i in range(count)]


def fingerprint(train: Split, test: Split) -> str:
    """SHA-256 over the bytes of train images, train labels, test images and test labels, in this order."""
    digest = hashlib.sha256()
    for split in (train, test):
        for start in range(0, len(split), CHUNK):
            digest.update(in_memory(split.images[start : start + CHUNK]).contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().data)
    return digest.hexdigest()
