"""A run's data on its device: subset, randomized, standardized. There is no loader: everything is a tensor."""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.config import InputError
from lib.corruption import randomize
from lib.preprocessing import center_crop, crop_size, flip_and_rotate, random_crop, standardize
from lib.runs import Run
from lib.splits import Dataset, Split, stratified_order, stratified_subset

DRAWS = 4  # random numbers that augmentation takes for an image: two for the crop, one for flip and rotation each
CHUNK = 500  # images standardized at a time


@dataclass(frozen=True)
class Inputs:
    """A run's splits. Images are standardized network inputs, but `train`'s of an augmented run: those stay whole,
    uint8, and augment() makes inputs of a batch. source names the training images: equal for equal images."""

    train: Split
    validation: Split | None
    monitored: Split  # the test images evaluated after every epoch
    test: Split
    changed_test: Split | None
    source: tuple

    @functools.cached_property
    def evaluated_train(self) -> Split:
        """The training split as evaluated: center-cropped where training augments it."""
        size = crop_size(self.train.images.shape[-1])
        standard = self.train.images.dtype == torch.float32
        return self.train if standard else Split(_standard(self.train.images, size), self.train.labels)


class InputMaker:
    """Makes the inputs of runs on one data set; images that several runs share are made and held once."""

    def __init__(self, dataset: Dataset, device: str):
        self.dataset, self.device = dataset, device
        self.size = crop_size(dataset.train.images.shape[-1])
        self._images: dict[tuple, Tensor] = {}

    def make(self, run: Run) -> Inputs:
        """The inputs of a run.

        Raises:
            InputError: settings that the data set cannot take.
        """
        augmented = is_augmented(run)
        if run.pixels != "original" and augmented:
            raise InputError(f"augmentation of {run.pixels} pixels is not defined: use pixels 'original'")
        subset = stratified_subset(self.dataset.train, run.train_size, run.seed)
        randomized = randomize(
            Dataset(**vars(self.dataset) | {"train": subset}), run.pixels, run.label_corruption, run.seed
        )
        train, validation = _hold_out(randomized.train, run.validation_size, run.seed)
        by_seed = run.pixels != "original" or run.train_size or run.validation_size
        source = (run.pixels, run.train_size, run.validation_size, augmented, run.seed if by_seed else None)
        changed = randomized.changed_test
        return Inputs(
            self._split(train, ("train", *source), raw=augmented),
            validation and self._split(validation, ("validation", *source)),
            self._split(stratified_subset(randomized.test, run.test_size, 0), ("test", run.test_size)),
            self._split(randomized.test, ("test", None)),
            changed and self._split(changed, ("changed test", *source)),
            source,
        )

    def _split(self, split: Split, name: tuple, raw: bool = False) -> Split:
        if name not in self._images:
            images = split.images if raw else _standard(split.images, self.size)
            if self.device == "cuda":
                images = images.to(self.device, memory_format=torch.channels_last)
            self._images[name] = images
        return Split(self._images[name], split.labels.to(self.device))


def is_augmented(run: Run) -> bool:
    """Whether a run changes its training images from epoch to epoch."""
    return run.random_crop or run.flip_and_rotate


def augment(run: Run, images: Tensor, uniform: Tensor) -> Tensor:
    """Network inputs of whole images [N, 3, H, W], from their random numbers in [0, 1), uniform [N, DRAWS]."""
    size = crop_size(images.shape[-1])
    if run.flip_and_rotate:
        images = flip_and_rotate(images, uniform[:, 2:])
    return standardize(random_crop(images, size, uniform[:, :2]) if run.random_crop else center_crop(images, size))


def batch_sizes(images: int, batch_size: int | None) -> list[int]:
    """Sizes of an epoch's batches: ceil(images / batch_size) of them, equal but for one image, so that no step is
    made on a handful; None: one batch."""
    steps = math.ceil(images / (batch_size or images))
    size, larger = divmod(images, steps)
    return [size + 1] * larger + [size] * (steps - larger)


def _standard(images: Tensor, size: int) -> Tensor:
    return torch.cat([standardize(center_crop(part, size)) for part in images.split(CHUNK)])


def _hold_out(train: Split, size: int, seed: int) -> tuple[Split, Split | None]:
    if not size:
        return train, None
    if size >= len(train):
        raise InputError(f"validation size {size} leaves nothing of {len(train)} training images")
    order = stratified_order(train.labels, seed)
    return train.subset(order[size:].sort().values), train.subset(order[:size].sort().values)
