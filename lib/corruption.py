"""The paper's randomizations: pure functions tensor -> tensor, randomness only from the generator handed in.

Everything is drawn once, before training, and stays fixed over the epochs. The paper does not say whether
channels move together (here: either way, by default yes), nor whether the Gaussian is per channel (here: yes), nor
whether the images are cropped first (here: yes, so that all randomizations show the network the same number of pixels).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.config import InputError, one_of
from lib.preprocessing import center_crop, crop_size
from lib.splits import Dataset, Split, in_memory

PIXELS = ("original", "shuffled", "random", "gaussian")
PERMUTED = ("shuffled", "random")  # those that keep an image's values and move them
CHUNK = 4096  # images permuted at a time, to bound the memory of the index tensors


def corrupt_labels(labels: Tensor, probability: float, num_classes: int, generator: torch.Generator) -> Tensor:
    """Replace each label [N] int64, independently with the given probability, by a uniformly random class.

    A draw may hit the true class again, so a fraction probability * (1 - 1/num_classes) really changes.
    From one generator state, the labels replaced at a low probability are among those replaced at a higher one.

    Raises:
        InputError: probability outside [0, 1].
    """
    check_probability(probability)
    replaced = torch.rand(len(labels), generator=generator) < probability
    return torch.where(replaced, torch.randint(num_classes, labels.shape, generator=generator), labels)


def check_probability(probability: float) -> None:
    """Refuse a corruption rate that is no probability.

    Raises:
        InputError: outside [0, 1], or not a number.
    """
    if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise InputError(f"corruption rate {probability!r} is outside the allowed range 0 to 1")


def shuffle_pixels(images: Tensor, permutation: Tensor) -> Tensor:
    """Apply one permutation to every image [N, C, H, W]: of its H * W positions, where channels move together, or of
    all its C * H * W values."""
    return images.reshape(len(images), -1, len(permutation))[:, :, permutation].view(images.shape)


def random_pixels(images: Tensor, generator: torch.Generator, across_channels: bool = False) -> Tensor:
    """Apply to every image [N, C, H, W] a permutation of its own: of the positions, where channels move together, or
    of all C * H * W values."""
    result = torch.empty(images.shape, dtype=images.dtype)
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        values = chunk.flatten(1).unsqueeze(1) if across_channels else chunk.flatten(2)
        order = torch.rand(len(values), 1, values.shape[2], generator=generator).argsort(dim=2)
        result[start : start + CHUNK] = values.gather(2, order.expand_as(values)).view(chunk.shape)
    return result


def gaussian_pixels(images: Tensor, mean: Tensor, std: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise in the shape of images [N, C, H, W], with the given mean and std [C] per channel.

    Rounded to whole grey levels but not clipped to 0..255, which would change its moments: int16.
    """
    noise = torch.empty(images.shape, dtype=torch.int16)
    for start in range(0, len(images), CHUNK):
        part = noise[start : start + CHUNK]
        normal = torch.randn(part.shape, generator=generator)
        part.copy_((normal * std[:, None, None] + mean[:, None, None]).round())
    return noise


def channel_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] of each channel over images [N, C, H, W] uint8, in grey levels."""
    levels = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)]).double()
    share = counts / counts.sum(dim=1, keepdim=True)
    mean = share @ levels
    return mean.float(), (share @ levels**2 - mean**2).sqrt().float()


@dataclass(frozen=True)
class Randomized:
    """What a run trains and is tested on: the changed training set, the original test set and, where pixels
    were changed, the test set changed in the same way."""

    train: Split
    test: Split
    changed_test: Split | None


def randomize(
    dataset: Dataset,
    pixels: str,
    label_corruption: float,
    seed: int,
    size: int | None = None,
    across_channels: bool = False,
) -> Randomized:
    """Apply one of PIXELS and a label corruption rate to a data set; all draws follow from the seed.

    Test labels always stay clean, as in the paper. Changed images are cropped to `size`, by default crop_size's;
    original ones are not. Those PERMUTED keep every pixel's colour, unless values move across channels, too.

    Raises:
        InputError: unknown kind of pixels, a rate outside [0, 1], or values to move across channels in images that are
            not permuted.
    """
    one_of("pixel randomization", pixels, PIXELS)
    if across_channels:
        one_of("pixel randomization across channels", pixels, PERMUTED)
    train, test = dataset.train, dataset.test
    generator = torch.Generator().manual_seed(seed)
    labels = corrupt_labels(train.labels, label_corruption, len(dataset.classes), generator)
    if pixels == "original":
        return Randomized(Split(train.images, labels), test, None)
    size = size or crop_size(train.images.shape[-1])
    images, test_images = (center_crop(in_memory(split.images), size) for split in (train, test))
    if pixels == "shuffled":
        moved = images[0].numel() if across_channels else size * size
        permutation = torch.randperm(moved, generator=generator)
        changed = shuffle_pixels(images, permutation), shuffle_pixels(test_images, permutation)
    elif pixels == "random":
        changed = (random_pixels(part, generator, across_channels) for part in (images, test_images))
    else:
        moments = channel_moments(images)
        changed = (gaussian_pixels(part, *moments, generator) for part in (images, test_images))
    train_images, changed_test_images = changed
    return Randomized(Split(train_images, labels), test, Split(changed_test_images, test.labels))
