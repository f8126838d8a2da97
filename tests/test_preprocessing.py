import math

import pytest
import torch

from lib.preprocessing import (
    LUMA,
    augment_photos,
    center_crop,
    crop_size,
    flip_and_rotate,
    random_crop,
    standardize,
)


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
    assert angles.max() <= 25 + 1
    assert angles.max() > 25 - 3
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


# augment_photos' nine draws: the whole image, not mirrored, each other thing in the middle of its range.
UNCHANGED = {"area": 1, "aspect": 0.5, "x": 0.5, "y": 0.5, "mirror": 0.9}
UNCHANGED |= {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.5}


def photo(**draws):
    """An image [3, 48, 48] of middling colours, and what augment_photos makes of it with these draws."""
    images = torch.randint(90, 160, (1, 3, 48, 48), generator=torch.Generator().manual_seed(0)).float()
    return images[0], augment_photos(images, torch.tensor([list((UNCHANGED | draws).values())]))[0]


def assert_near(seen, expected):
    assert torch.allclose(seen, expected, rtol=0, atol=0.2)


def chroma(image):
    """YIQ's two chroma components [2, 48, 48] of an RGB image."""
    return torch.einsum("ij,jhw->ihw", torch.tensor(LUMA), image)[1:]


def test_photographs_are_mirrored_and_their_colours_changed_as_drawn():
    image, seen = photo()
    assert_near(seen, image)
    assert_near(photo(mirror=0)[1], image.flip(2))
    assert_near(photo(brightness=1)[1], image + 32)
    mean = image.mean((1, 2), keepdim=True)
    assert_near(photo(contrast=0)[1], mean + (image - mean) / 2)
    gray = torch.einsum("j,jhw->hw", torch.tensor(LUMA[0]), image)
    assert_near(photo(saturation=0)[1], gray + (image - gray) / 2)
    seen = photo(hue=1)[1]
    assert_near(torch.einsum("j,jhw->hw", torch.tensor(LUMA[0]), seen), gray)
    (i, q), (i_seen, q_seen) = chroma(image), chroma(seen)
    cosine, sine = math.cos(2 * math.pi * 0.2), math.sin(2 * math.pi * 0.2)
    assert_near(i_seen, cosine * i - sine * q)
    assert_near(q_seen, sine * i + cosine * q)


@pytest.mark.parametrize(
    ("draws", "width", "height", "left", "top"),
    [
        ({"area": 0}, 0.08**0.5, 0.08**0.5, 0.5, 0.5),
        ({"area": 0, "aspect": 1}, (0.08 * 4 / 3) ** 0.5, (0.08 * 3 / 4) ** 0.5, 0.5, 0.5),
        ({"area": 0, "aspect": 0, "x": 0.1, "y": 0.8}, (0.08 * 3 / 4) ** 0.5, (0.08 * 4 / 3) ** 0.5, 0.1, 0.8),
    ],
)
def test_the_window_of_a_photograph_has_the_area_aspect_and_place_drawn(draws, width, height, left, top):
    ramp = torch.arange(48.0)
    images = torch.stack([ramp.expand(48, 48), ramp[:, None].expand(48, 48), torch.zeros(48, 48)])[None] * 4
    columns, rows, _ = augment_photos(images, torch.tensor([list((UNCHANGED | draws).values())]))[0] / 4
    middles = (ramp + 0.5) / 48  # of the pixels, as shares of the image

    def expected(side, place):
        return (place * (1 - side) + side * middles) * 48 - 0.5

    assert_near(columns, expected(width, left).expand(48, 48))
    assert_near(rows, expected(height, top)[:, None].expand(48, 48))
