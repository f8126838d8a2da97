import math

import pytest
import torch

from lib.preprocessing import MAX_ROTATION, center_crop, crop_size, flip_and_rotate, random_crop, standardize


def uniform(count):
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(0))


def test_crop_is_seven_eighths():
    assert [crop_size(size) for size in (32, 64, 256)] == [28, 56, 224]


def test_center_crop_is_central_and_idempotent(colours):
    images = colours.train.images
    cropped = center_crop(images, 28)
    assert torch.equal(cropped, images[:, :, 2:30, 2:30])
    assert center_crop(cropped, 28).data_ptr() == cropped.data_ptr()


def test_random_crops_are_windows_of_their_image_at_all_25_offsets():
    position = torch.arange(32 * 32).view(1, 1, 32, 32).expand(2000, 3, 32, 32)
    crops = random_crop(position, 28, uniform(2000))
    corners = crops[:, 0, 0, 0]
    expected = corners.view(-1, 1, 1, 1) + (torch.arange(28)[:, None] * 32 + torch.arange(28))
    assert torch.equal(crops, expected.expand_as(crops))
    offsets = torch.stack([corners // 32, corners % 32], dim=1).unique(dim=0)
    assert offsets.tolist() == [[row, column] for row in range(5) for column in range(5)]


def test_flip_and_rotate_mirrors_half_and_turns_within_its_bound():
    image = torch.zeros(1, 1, 33, 33)
    image[0, 0, 16, 30] = 1.0  # a dot to the right of the center
    turned = flip_and_rotate(image.expand(500, 1, 33, 33), uniform(500))[:, 0]
    mass = turned.sum((1, 2))
    grid = torch.arange(33.0) - 16
    x = (turned.sum(1) * grid).sum(1) / mass
    y = (turned.sum(2) * grid).sum(1) / mass
    angles = torch.rad2deg(torch.atan2(y, x.abs())).abs()
    assert 0.4 < (x < 0).float().mean() < 0.6
    assert angles.max() <= MAX_ROTATION + 1
    assert angles.max() > MAX_ROTATION - 3
    torch.testing.assert_close(torch.hypot(x, y), torch.full_like(x, 14.0), rtol=0, atol=0.3)


def test_standardize_is_the_published_formula(colours):
    images = colours.train.images[:5, :, :28, :28]
    result = standardize(images)
    for image, out in zip(images.double() / 255, result, strict=True):
        std = max(image.std(correction=0).item(), 1 / math.sqrt(image.numel()))
        torch.testing.assert_close(out.double(), (image - image.mean()) / std, rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", [0, 255])
def test_constant_images_become_zero_not_nan(level):
    assert torch.equal(standardize(torch.full((1, 3, 4, 4), level, dtype=torch.uint8)), torch.zeros(1, 3, 4, 4))
