"""From uint8 images to network inputs: crop, augmentation, per-image standardization.

Tensor in, tensor out, a whole batch at a time. Augmentation takes its random numbers as an argument, so it asks
nothing of the host and can be part of a CUDA graph.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ROTATION = 25.0  # degrees, the paper's appendix E


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


def standardize(images: Tensor) -> Tensor:
    """Images / 255, minus the image's mean, over max(std, 1 / sqrt(values)), all over the whole image.

    Takes [N, C, H, W] of any number type in 0..255 (Gaussian images may lie outside), returns float32.
    TensorFlow's tf.image.per_image_standardization, which the paper uses.
    """
    pixels = images.float() / 255
    values = pixels[0].numel()
    std, mean = torch.std_mean(pixels, dim=(1, 2, 3), correction=0, keepdim=True)
    return (pixels - mean) / std.clamp_min(values**-0.5)
