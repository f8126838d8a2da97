"""A run's data on its device: subset, randomized, as the network takes it.

What fits lies on the device as one tensor, and there is no loader. Photographs that do not fit stay in their file.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lib.config import InputError, cores
from lib.corruption import randomize
from lib.preprocessing import (
    PHOTO_DRAWS,
    augment_photos,
    center_crop,
    crop_size,
    flip_and_rotate,
    random_crop,
    standardize,
    symmetric,
)
from lib.runs import Run
from lib.splits import Dataset, ImageFile, Images, Split, stratified_order, stratified_subset

SEE_ALL = ("inception_v3",)  # networks that see whole images, in -1..1; others see a standardized crop
DRAWS = 4  # random numbers that augmentation takes for an image: two for the crop, one for flip and rotation each
CHUNK = 500  # images standardized at a time
SHARE = 0.25  # of the device's free memory that the images of one split may take; a GPU's graphs have a copy of them


@dataclass(frozen=True)
class Inputs:
    """A run's splits. Images are network inputs, float32; or whole images, uint8, of which network_inputs() or
    augment() makes inputs batch by batch: those of augmented runs and all photographs.

    source names the training images: equal for equal images."""

    train: Split
    validation: Split | None
    monitored: Split  # the test images evaluated after every epoch
    test: Split
    changed_test: Split | None
    source: tuple


class InputMaker:
    """Makes the inputs of runs on one data set; images that several runs share are made and held once."""

    def __init__(self, dataset: Dataset, device: str):
        self.dataset, self.device = dataset, device
        self._images: dict[tuple, Images] = {}

    def make(self, run: Run) -> Inputs:
        """The inputs of a run.

        Raises:
            InputError: settings that the data set cannot take.
        """
        self._check(run)
        subset = stratified_subset(self._train(run), run.train_size, run.seed)
        dataset, size = replace(self.dataset, train=subset), self.size(run)
        randomized = randomize(dataset, run.pixels, run.label_corruption, run.seed, size, run.across_channels)
        train, validation = _hold_out(randomized.train, subset.labels, run.validation_size, run.seed)
        augmented, by_seed = is_augmented(run), run.pixels != "original" or run.train_size or run.validation_size
        sizes = run.train_size, run.validation_size, run.exact_only
        source = (run.pixels, run.across_channels, *sizes, augmented, run.seed if by_seed else None)
        changed = randomized.changed_test
        return Inputs(
            self._split(run, train, ("train", *source), whole=augmented),
            validation and self._split(run, validation, ("validation", *source)),
            self._split(run, stratified_subset(randomized.test, run.test_size, 0), ("test", run.test_size)),
            self._split(run, randomized.test, ("test", None)),
            changed and self._split(run, changed, ("changed test", *source)),
            source,
        )

    def _train(self, run: Run) -> Split:
        if not run.exact_only:
            return self.dataset.train
        kept = torch.ones(len(self.dataset.train), dtype=torch.bool)
        kept[self.dataset.inexact.get("train", [])] = False
        return self.dataset.train.subset(kept.nonzero().flatten())

    def size(self, run: Run) -> int:
        """Height and width of what the run's network sees."""
        return input_size(run.model, self.dataset.train.images.shape[-1])

    def _check(self, run: Run) -> None:
        if run.pixels != "original" and is_augmented(run):
            raise InputError(f"augmentation of {run.pixels} pixels is not defined: use pixels 'original'")
        if run.photo_augmentation and (run.random_crop or run.flip_and_rotate):
            raise InputError("photo_augmentation has a crop and a mirror image of its own: use it alone")
        count = len(self.dataset.classes)
        if run.classes not in (None, count):
            raise InputError(f"a run on {run.classes} classes needs a data set of so many, not of {count}")

    def _split(self, run: Run, split: Split, name: tuple, whole: bool = False) -> Split:
        name = (name, run.model in SEE_ALL)
        if name not in self._images:
            images, is_file = split.images, isinstance(split.images, ImageFile)
            if is_file and fits_in_memory(images, self.device):
                images = images.read()
            if not is_file and not whole:
                images = torch.cat([network_inputs(run.model, part, self.size(run)) for part in images.split(CHUNK)])
            if self.device == "cuda" and isinstance(images, Tensor):
                images = images.to(self.device, memory_format=torch.channels_last)
            self._images[name] = images
        return Split(self._images[name], split.labels.to(self.device))


def fits_in_memory(images: ImageFile, device: str) -> bool:
    """Whether the images may be held in the device's memory, by what can be had of it now, if that is known; on a
    CPU by each of as many processes as train side by side."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
    else:
        try:
            memory = Path("/proc/meminfo").read_text()  # sysconf has no number that counts the page cache as free
        except OSError:  # not on Linux
            return False
        free = 1024 * int(memory.partition("MemAvailable:")[2].split()[0]) // cores()
    return math.prod(images.shape) <= SHARE * free


def input_size(model: str, image_size: int) -> int:
    """Height and width of what a network sees of square images of this size."""
    return image_size if model in SEE_ALL else crop_size(image_size)


def network_inputs(model: str, images: Tensor, size: int) -> Tensor:
    """What a network sees of images [N, 3, H, W] in 0..255, [N, 3, size, size]; float32 images are that already."""
    if images.dtype == torch.float32:
        return images
    return _as_seen(model, images, size)


def _as_seen(model: str, images: Tensor, size: int) -> Tensor:
    return symmetric(images) if model in SEE_ALL else standardize(center_crop(images, size))


def is_augmented(run: Run) -> bool:
    """Whether a run changes its training images from epoch to epoch."""
    return run.random_crop or run.flip_and_rotate or run.photo_augmentation


def draws(run: Run) -> int:
    """How many random numbers in [0, 1) augment() takes for an image."""
    return PHOTO_DRAWS if run.photo_augmentation else DRAWS


def augment(run: Run, images: Tensor, uniform: Tensor) -> Tensor:
    """Network inputs of whole images [N, 3, H, W], from their random numbers in [0, 1), uniform [N, draws(run)]."""
    size = input_size(run.model, images.shape[-1])
    if run.photo_augmentation:
        images = augment_photos(images, uniform)
    if run.flip_and_rotate:
        images = flip_and_rotate(images, uniform[:, 2:])
    if run.random_crop:
        images = random_crop(images, size, uniform[:, :2])
    return _as_seen(run.model, images, size)


def batch_sizes(images: int, batch_size: int | None) -> list[int]:
    """Sizes of an epoch's batches: ceil(images / batch_size) of them, equal but for one image, so that no step is
    made on a handful; None: one batch."""
    steps = math.ceil(images / (batch_size or images))
    size, larger = divmod(images, steps)
    return [size + 1] * larger + [size] * (steps - larger)


def _hold_out(train: Split, labels: Tensor, size: int, seed: int) -> tuple[Split, Split | None]:
    """By true labels: runs that differ in their corruption hold out the same images."""
    if not size:
        return train, None
    if size >= len(train):
        raise InputError(f"validation size {size} leaves nothing of {len(train)} training images")
    order = stratified_order(labels, seed)
    return train.subset(order[size:].sort().values), train.subset(order[:size].sort().values)
