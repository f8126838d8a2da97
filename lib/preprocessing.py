"""From uint8 images to network inputs: crop, augmentation, per-image standardization.

Tensor in, tensor out, a whole batch at a time; randomness only from the generator handed in.
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


def random_crop(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A uniformly placed size x size window of each image [N, C, H, W], drawn for every image by itself."""
    count, channels, height, width = images.shape
    device = images.device
    top = torch.randint(height - size + 1, (count, 1, 1, 1), generator=generator).to(device)
    left = torch.randint(width - size + 1, (count, 1, 1, 1), generator=generator).to(device)
    span = torch.arange(size, device=device)
    rows = (top + span[:, None]).expand(count, channels, size, width)
    columns = (left + span).expand(count, channels, size, size)
    return images.gather(2, rows).gather(3, columns)


def flip_and_rotate(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image [N, C, H, W] with probability 1/2 and rotate it by up to MAX_ROTATION degrees.

    Returns float32; bilinear between pixels, corners that turn into view are black.
    """
    count = len(images)
    mirror = 1.0 - 2.0 * torch.randint(2, (count,), generator=generator)
    angle = (2 * torch.rand(count, generator=generator) - 1) * math.radians(MAX_ROTATION)
    zero = torch.zeros(count)
    rows = [mirror * angle.cos(), -angle.sin(), zero, mirror * angle.sin(), angle.cos(), zero]
    matrix = torch.stack(rows, dim=1).view(count, 2, 3).to(images.device)
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
