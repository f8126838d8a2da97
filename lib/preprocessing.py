"""From uint8 images to network inputs: crop, augmentation, per-image standardization.

Tensor in, tensor out, a whole batch at a time. Augmentation takes its random numbers as an argument, so it asks
nothing of the host and can be part of a CUDA graph.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ROTATION = 25.0  # degrees, the paper's appendix E
# Random crops and colours of photographs, as TF-Slim's Inception preprocessing of the time has them, but for the
# least area: 8 % as Szegedy et al. (2015) and torchvision state it, where that code has 5 %.
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32 / 255, (0.5, 1.5), (0.5, 1.5), 0.2  # hue in turns
LUMA = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))  # RGB to NTSC's YIQ
PHOTO_DRAWS = 9  # random numbers that augment_photos takes for an image


def crop_size(size: int) -> int:
    """Side of the crop the networks see: 7/8 of the image, the paper's 28 of 32 pixels."""
    return size * 7 // 8


def center_crop(images: Tensor, size: int) -> Tensor:
    """The central size x size window of images [N, C, H, W]; images of that size come back as they are."""
    top, left = ((side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def random_crop(images: Tensor, size: int, uniform: Tensor) -> Tensor:
    """A size x size window of each image [N, C, H, W], placed by its two numbers in [0, 1), uniform [N, 2]."""
    count, channels, height, width = images.shape
    top = (uniform[:, 0] * (height - size + 1)).long().view(-1, 1, 1, 1)
    left = (uniform[:, 1] * (width - size + 1)).long().view(-1, 1, 1, 1)
    span = torch.arange(size, device=images.device)
    rows = (top + span[:, None]).expand(count, channels, size, width)
    columns = (left + span).expand(count, channels, size, size)
    return images.gather(2, rows).gather(3, columns)


def flip_and_rotate(images: Tensor, uniform: Tensor) -> Tensor:
    """Mirror each image [N, C, H, W] with probability 1/2 and rotate it by up to MAX_ROTATION degrees, as its two
    numbers in [0, 1) say, uniform [N, 2].

    Returns float32; bilinear between pixels, corners that turn into view are black.
    """
    mirror = torch.where(uniform[:, 0] < 0.5, -1.0, 1.0)
    angle = (2 * uniform[:, 1] - 1) * math.radians(MAX_ROTATION)
    zero = torch.zeros_like(angle)
    rows = [mirror * angle.cos(), -angle.sin(), zero, mirror * angle.sin(), angle.cos(), zero]
    matrix = torch.stack(rows, dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False)


def augment_photos(images: Tensor, uniform: Tensor) -> Tensor:
    """A random window of each photograph [N, 3, S, S], enlarged to S x S, half of them mirrored, with another
    brightness, contrast, saturation and hue, as its nine numbers in [0, 1) say, uniform [N, PHOTO_DRAWS].

    Returns float32 in 0..255.
    """
    return _change_colours(_resized_crop(images, uniform[:, :5]), uniform[:, 5:])


def _resized_crop(images: Tensor, uniform: Tensor) -> Tensor:
    """Windows of random area, aspect, place and handedness, uniform [N, 5]; bilinear between pixels."""
    area = AREA[0] + uniform[:, 0] * (AREA[1] - AREA[0])
    aspect = (math.log(ASPECT[0]) + uniform[:, 1] * math.log(ASPECT[1] / ASPECT[0])).exp()
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)  # shares of the image
    x, y = (1 - width) * (2 * uniform[:, 2] - 1), (1 - height) * (2 * uniform[:, 3] - 1)
    mirror, zero = torch.where(uniform[:, 4] < 0.5, -1.0, 1.0), torch.zeros_like(area)
    matrix = torch.stack([mirror * width, zero, x, zero, height, y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def _change_colours(images: Tensor, uniform: Tensor) -> Tensor:
    """Saturation and hue are scale and angle of the two chroma components of YIQ, uniform [N, 4]."""
    turn = 2 * math.pi * HUE * (2 * uniform[:, 3] - 1)
    brightness = 255 * BRIGHTNESS * (2 * uniform[:, 0] - 1)
    contrast = CONTRAST[0] + uniform[:, 1] * (CONTRAST[1] - CONTRAST[0])
    saturation = SATURATION[0] + uniform[:, 2] * (SATURATION[1] - SATURATION[0])
    one, zero = torch.ones_like(turn), torch.zeros_like(turn)
    cosine, sine = saturation * turn.cos(), saturation * turn.sin()
    chroma = torch.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], dim=1).view(-1, 3, 3)
    luma, inverse = _luma(images.device)
    colours = inverse @ chroma @ luma
    images = (colours @ images.flatten(2)).view(images.shape)
    mean = images.mean(dim=(2, 3), keepdim=True)
    contrast, brightness = (value.view(-1, 1, 1, 1) for value in (contrast, brightness))
    return ((images - mean) * contrast + mean + brightness).clamp(0, 255)


@functools.cache
def _luma(device: torch.device) -> tuple[Tensor, Tensor]:
    """LUMA and its inverse, made once: a CUDA graph can hold neither a copy from the host nor an inversion."""
    luma = torch.tensor(LUMA)
    return luma.to(device), torch.linalg.inv(luma).to(device)


def symmetric(images: Tensor) -> Tensor:
    """Images in 0..255, of any shape and number type, as float32 in -1..1: TF-Slim's Inception preprocessing."""
    return images.float() / 127.5 - 1


def standardize(images: Tensor) -> Tensor:
    """Images / 255, minus the image's mean, over max(std, 1 / sqrt(values)), all over the whole image.

    Takes [N, C, H, W] of any number type in 0..255 (Gaussian images may lie outside), returns float32.
    TensorFlow's tf.image.per_image_standardization, which the paper uses.
    """
    pixels = images.float() / 255
    values = pixels[0].numel()
    std, mean = torch.std_mean(pixels, dim=(1, 2, 3), correction=0, keepdim=True)
    return (pixels - mean) / std.clamp_min(values**-0.5)
