import math
from dataclasses import replace

import pytest
import torch

from lib.config import InputError
from lib.corruption import (
    channel_moments,
    corrupt_labels,
    gaussian_pixels,
    random_pixels,
    randomize,
    shuffle_pixels,
)
from lib.splits import Dataset, Split


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_label_noise_rate_within_binomial_bounds(probability, num_classes):
    labels = torch.arange(20_000) % num_classes
    noisy = corrupt_labels(labels, probability, num_classes, seeded())
    rate = probability * (1 - 1 / num_classes)
    changed = (noisy != labels).float().mean().item()
    assert abs(changed - rate) <= 5 * math.sqrt(rate * (1 - rate) / len(labels))
    assert noisy.min() >= 0
    assert noisy.max() < num_classes


def test_random_labels_are_uniform_and_independent_of_the_true_ones():
    labels = torch.zeros(50_000, dtype=torch.int64)
    counts = corrupt_labels(labels, 1.0, 10, seeded()).bincount(minlength=10)
    chi_square = ((counts - 5000) ** 2 / 5000).sum()
    assert chi_square < 33.7  # 99.99 % quantile of chi-square with 9 degrees of freedom


def test_labels_replaced_at_a_low_rate_are_replaced_at_a_higher_one():
    labels = torch.arange(5000) % 10
    low, high = (corrupt_labels(labels, p, 10, seeded(3)) for p in (0.3, 0.7))
    replaced = low != labels
    assert torch.equal(high[replaced], low[replaced])


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan"), "0.5", None, True])
def test_rate_outside_its_range_is_refused(probability):
    with pytest.raises(InputError, match="0 to 1"):
        corrupt_labels(torch.zeros(3, dtype=torch.int64), probability, 10, seeded())


def test_permutation_moves_positions_and_keeps_channels_together():
    images = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    permutation = torch.randperm(20, generator=seeded())
    shuffled = shuffle_pixels(images, permutation)
    for position, origin in enumerate(permutation.tolist()):
        assert torch.equal(shuffled[:, :, position // 5, position % 5], images[:, :, origin // 5, origin % 5])


def test_a_permutation_of_all_values_moves_them_across_channels():
    images = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    permutation = torch.randperm(60, generator=seeded())
    assert torch.equal(shuffle_pixels(images, permutation).flatten(1), images.flatten(1)[:, permutation])


@pytest.mark.parametrize("across_channels", [False, True])
def test_shuffled_pixels_share_one_permutation_over_train_and_test(colours, across_channels):
    marker = torch.arange(28 * 28).view(28, 28) % 251  # positions, as far as uint8 tells them apart
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    images[:, :, 2:30, 2:30] = marker.to(torch.uint8)
    same = Dataset(**vars(colours) | {"train": Split(images, torch.zeros(4, dtype=torch.int64))})
    same = Dataset(**vars(same) | {"test": same.train})
    result = randomize(same, "shuffled", 0.0, seed=1, across_channels=across_channels)
    every = torch.cat([result.train.images, result.changed_test.images])
    assert torch.equal(every, every[:1].expand_as(every))
    assert not torch.equal(every[0, 0], marker.to(torch.uint8))
    assert torch.equal(every[0, 0], every[0, 1]) != across_channels


def test_random_pixels_keep_each_images_pixels_and_differ_between_images(colours):
    images = colours.train.images[:20]
    changed = random_pixels(images, seeded())
    assert torch.equal(
        images.flatten(2).transpose(1, 2).sort(dim=1).values[..., 0],
        changed.flatten(2).transpose(1, 2).sort(dim=1).values[..., 0],
    )
    whole = (images.int() * torch.tensor([1, 256, 65536]).view(3, 1, 1)).sum(1).flatten(1)  # channels together
    whole_changed = (changed.int() * torch.tensor([1, 256, 65536]).view(3, 1, 1)).sum(1).flatten(1)
    assert torch.equal(whole.sort(dim=1).values, whole_changed.sort(dim=1).values)
    twins = random_pixels(images[:1].expand(2, -1, -1, -1), seeded())
    assert not torch.equal(twins[0], twins[1])


def test_random_pixels_across_channels_keep_each_images_values_and_no_channels(colours):
    images = colours.train.images[:20].clone()
    images[:, 0] = 0
    changed = random_pixels(images, seeded(), across_channels=True)
    assert torch.equal(images.flatten(1).sort(dim=1).values, changed.flatten(1).sort(dim=1).values)
    black = (changed == 0).flatten(2).double().mean(2)  # a third of the values, in every channel
    assert (black - (images == 0).flatten(1).double().mean(1, keepdim=True)).abs().max() < 0.1
    twins = random_pixels(images[:1].expand(2, -1, -1, -1), seeded(), across_channels=True)
    assert not torch.equal(twins[0], twins[1])


def test_gaussian_pixels_have_the_moments_of_each_channel():
    mean, std = torch.tensor([10.0, 120.0, 250.0]), torch.tensor([5.0, 60.0, 90.0])
    noise = gaussian_pixels(torch.empty(5000, 3, 8, 8), mean, std, seeded()).double()
    count = 5000 * 64
    assert ((noise.mean((0, 2, 3)) - mean).abs() < 5 * std / math.sqrt(count) + 1e-3).all()
    assert ((noise.var((0, 2, 3)) - std**2 - 1 / 12).abs() < 5 * std**2 * math.sqrt(2 / count)).all()  # 1/12: rounding


def test_channel_moments_are_those_of_the_pixels(colours):
    mean, std = channel_moments(colours.train.images)
    pixels = colours.train.images.double()
    torch.testing.assert_close(mean.double(), pixels.mean((0, 2, 3)), rtol=0, atol=1e-4)
    torch.testing.assert_close(std.double(), pixels.std((0, 2, 3), correction=0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("pixels", ["original", "shuffled", "random", "gaussian"])
def test_randomize_is_seeded_keeps_its_input_and_the_original_test_set(colours, pixels):
    before = colours.train.images.clone(), colours.train.labels.clone(), colours.test.images.clone()
    first, again, other = (randomize(colours, pixels, 0.5, seed) for seed in (1, 1, 2))
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.train.labels, again.train.labels)
    assert not torch.equal(first.train.labels, other.train.labels)
    assert torch.equal(before[0], colours.train.images)
    assert torch.equal(before[1], colours.train.labels)
    assert torch.equal(first.test.images, before[2])
    assert torch.equal(first.test.labels, colours.test.labels)
    assert (first.changed_test is None) == (pixels == "original")
    if first.changed_test:
        assert torch.equal(first.changed_test.labels, colours.test.labels)


def test_unknown_pixels_are_refused(colours):
    with pytest.raises(InputError, match="allowed: original, shuffled, random, gaussian"):
        randomize(colours, "blurred", 0.0, 0)


@pytest.mark.parametrize("pixels", ["original", "gaussian"])
def test_only_permuted_pixels_move_across_channels(colours, pixels):
    with pytest.raises(InputError, match=r"across channels .*allowed: shuffled, random"):
        randomize(colours, pixels, 0.0, 0, across_channels=True)


def test_gaussian_images_have_the_moments_of_the_training_images(colours):
    dark = replace(colours, train=replace(colours.train, images=colours.train.images // 4))
    mean, std = channel_moments(dark.train.images)
    noise = randomize(dark, "gaussian", 0.0, 0).train.images.double()
    assert torch.allclose(noise.mean((0, 2, 3)), mean.double(), rtol=0.02)
    assert torch.allclose(noise.std((0, 2, 3)), std.double(), rtol=0.02)


def test_images_beyond_a_chunk_keep_their_own_pixels(colours, monkeypatch):
    monkeypatch.setattr("lib.corruption.CHUNK", 7)
    images = colours.train.images[:20]
    changed = random_pixels(images, seeded())
    assert torch.equal(images.flatten(2).sort(dim=2).values, changed.flatten(2).sort(dim=2).values)
