"""The paper's CIFAR-10 networks (its appendix A), to the parameter, and torchvision's Inception V3.

Every network maps images [N, 3, S, S], as lib/inputs.py makes them, to logits [N, classes]. The paper states neither
initialization nor batch-norm constants: weights are He-normal, biases zero, where nothing else is asked for, batch
norm as PyTorch has it, in Inception V3 as torchvision does.
"""

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.config import InputError, one_of

# Stages of the small Inception: (1x1 filters, 3x3 filters) of an Inception module,
# or one number, the 3x3 stride-2 filters of a downsampling module.
INCEPTION_STAGES = ((32, 32), (32, 48), 80, (112, 48), (96, 64), (80, 80), (48, 96), 96, (176, 160), (176, 160))
MODELS = ("inception", "inception_no_bn", "alexnet", "mlp_3x512", "mlp_1x512", "inception_v3")
HAS_DROPOUT = ("alexnet", "mlp_3x512", "mlp_1x512", "inception_v3")
LRN = {  # AlexNet's local response normalization: window, alpha summed over it, beta (k is 1)
    "tutorial": (9, 0.001, 0.75),  # TensorFlow's CIFAR-10 tutorial
    "default": (11, 11.0, 0.5),  # tf.nn.lrn where nothing is said: radius 5, alpha 1
}
INITIALIZATIONS = ("He", "tutorial")
# TensorFlow's CIFAR-10 tutorial, for AlexNet's layers: the weights' standard deviation, the biases.
TUTORIAL_WEIGHTS = ((0.05, 0.0), (0.05, 0.1), (0.04, 0.1), (0.04, 0.1), (1 / 192, 0.0))
V3_MIN_SIZE = 75  # pixels: Inception V3's last feature map is 1x1 then
_RANDOM_STATE = threading.Lock()


class ShiftBatchNorm(nn.BatchNorm2d):
    """Batch norm that learns a shift and no scale: one parameter a filter, as the paper's count requires."""

    def __init__(self, channels: int):
        super().__init__(channels)
        del self.weight
        self.register_buffer("weight", torch.ones(channels), persistent=False)


class ImageConv(nn.Conv2d):
    """A convolution of images, whose three channels a GPU's matrix units cannot take: there it is given more, of
    zeros."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, C, H', W']."""
        if not x.is_cuda:
            return super().forward(x)
        zeros = (0, 0, 0, 0, 0, -self.in_channels % 8)  # no rows, no columns, channels up to a multiple of 8
        return F.conv2d(F.pad(x, zeros), F.pad(self.weight, zeros), self.bias, self.stride, self.padding)


class _Join(torch.autograd.Function):
    """torch.cat of channels, whose gradients go back each in memory of its own, in the layout of what was joined.

    As slices of one tensor, which torch.cat would send, they make batch norm's backward pass on a CPU 20 times as
    slow, and a convolution on a GPU copies them twice.
    """

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        last = all(part.is_contiguous(memory_format=torch.channels_last) for part in parts)
        ctx.layout = torch.channels_last if last else torch.contiguous_format
        ctx.sizes = [part.shape[1] for part in parts]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.contiguous(memory_format=ctx.layout) for part in gradient.split(ctx.sizes, dim=1))


class Concatenate(nn.Module):
    """Runs branches side by side on one input and concatenates their channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, sum of the branches' channels, H', W']."""
        return _Join.apply(*(branch(x) for branch in self.branches))


def inception(num_classes: int, width: float, batch_norm: bool = True) -> nn.Sequential:
    """The paper's small Inception: 1,649,402 parameters at width 1, with or without batch norm.

    Its module is convolution, batch norm, ReLU. Norm and ReLU work channel by channel, so they follow the
    concatenation of the convolutions here: the same function in fewer and, in memory, contiguous steps. (A
    max-pool of ReLU outputs is unchanged by another ReLU.)
    """

    def conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
        # At stride 2 the padding puts the row of zeros before the image, TensorFlow's SAME behind it: mirrored.
        return nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=not batch_norm)

    def norm(channels: int) -> list[nn.Module]:
        return [ShiftBatchNorm(channels)] if batch_norm else []

    channels = _scaled(96, width)
    first = ImageConv(3, channels, 3, padding=1, bias=not batch_norm)
    layers: list[nn.Module] = [nn.Sequential(first, *norm(channels), nn.ReLU(inplace=True))]
    for stage in INCEPTION_STAGES:
        if isinstance(stage, tuple):
            ones, threes = (_scaled(filters, width) for filters in stage)
            branches = conv(channels, ones, 1), conv(channels, threes, 3)
            channels = ones + threes
            layers.append(nn.Sequential(Concatenate(*branches), *norm(channels), nn.ReLU(inplace=True)))
        else:
            filters = _scaled(stage, width)
            branch = nn.Sequential(conv(channels, filters, 3, stride=2), *norm(filters))
            layers.append(nn.Sequential(Concatenate(branch, nn.MaxPool2d(3, 2, padding=1)), nn.ReLU(inplace=True)))
            channels += filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


class LocalResponseNorm(nn.Module):
    """Across-channel response normalization, x / (1 + alpha / size * sum of squares in the window) ** beta.

    Equal to torch.nn.LocalResponseNorm with the same constants, one of LRN, whose average pooling is several times
    slower than the 1x1 convolution with a banded matrix used here.
    """

    def __init__(self, channels: int, constants: str = "tutorial"):
        super().__init__()
        size, alpha, self.beta = LRN[constants]
        index = torch.arange(channels)
        band = (index[:, None] - index[None, :]).abs() <= size // 2
        self.register_buffer("band", (alpha / size) * band.float()[:, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        scale = F.conv2d(x * x, self.band).to(self.band.dtype)  # not in bf16: it may be close to 1
        scale = (scale + 1).rsqrt()  # scale ** -1/2
        if self.beta == 0.75:
            scale = scale * scale.sqrt()  # from two square roots, cheaper than pow
        return x * scale.to(x.dtype)


class Dropout(nn.Module):
    """Zeroes units with probability p and scales the others by 1 / (1 - p), while training.

    Draws from each network's own generator, so that what a network in a Stack draws does not depend on its
    neighbours; nn.Dropout knows torch's global generator only.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.generators: list[torch.Generator | None] = [None]  # one a network; None: the global one

    def forward(self, x: Tensor) -> Tensor:
        """[N, units] or [K, N, units] -> the same shape."""
        if not self.training:
            return x
        count = x.numel() // len(self.generators)
        draws = [torch.rand(count, generator=generator, device=x.device) for generator in self.generators]
        return x * (torch.cat(draws).view(x.shape) >= self.p) / (1 - self.p)


def alexnet(num_classes: int, image_size: int, width: float, dropout: float, lrn: str) -> nn.Sequential:
    """The paper's small AlexNet: 1,387,786 parameters at width 1 on 28x28 images.

    ReLU follows the max-pool here, with which it commutes: the same function and gradients, bit for bit, on a quarter
    of the values.
    """
    channels, hidden1, hidden2 = (_scaled(units, width) for units in (64, 384, 192))
    layers: list[nn.Module] = []
    for kind, channels_in in ((ImageConv, 3), (nn.Conv2d, channels)):
        layers += [kind(channels_in, channels, 5, padding=2)]
        layers += [nn.MaxPool2d(3, stride=2, ceil_mode=True)]  # ceil_mode: TF's SAME where the side is even
        layers += [nn.ReLU(inplace=True), LocalResponseNorm(channels, lrn)]
    size = image_size // 4
    layers += [nn.Flatten(), *_hidden(channels * size * size, hidden1, dropout), *_hidden(hidden1, hidden2, dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden2, num_classes))


def mlp(num_classes: int, image_size: int, width: float, dropout: float, depth: int) -> nn.Sequential:
    """`depth` hidden layers of 512 ReLU units: 1,209,866 parameters at depth 1, 1,735,178 at depth 3."""
    units, layers, inputs = _scaled(512, width), [nn.Flatten(-3)], 3 * image_size * image_size
    for _ in range(depth):
        layers += _hidden(inputs, units, dropout)
        inputs = units
    return nn.Sequential(*layers, nn.Linear(inputs, num_classes))


class Enlarge(nn.Module):
    """Images smaller than `size` enlarged to it, bilinear between pixels; others as they are."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, max(H, size), max(W, size)]."""
        if min(x.shape[-2:]) >= self.size:
            return x
        return F.interpolate(x, size=[max(side, self.size) for side in x.shape[-2:]], mode="bilinear")


def inception_v3(num_classes: int, width: float, dropout: float) -> nn.Sequential:
    """torchvision's Inception V3 (Szegedy et al., 2016) without the auxiliary head: 23,834,568 parameters at width 1
    for 1,000 classes; for images of any size.

    Raises:
        InputError: a width that is not a multiple of 1/16, as all its numbers of filters are of 16.
    """
    from torchvision.models import inception as v3  # a second to import, for those who need it

    if width <= 0 or 16 * width % 1:
        raise InputError(f"width {width:g} is not allowed for inception_v3: a multiple of 1/16")

    def conv(channels_in: int, channels_out: int, **options: int) -> nn.Module:
        channels_in = channels_in if channels_in == 3 else round(channels_in * width)
        return v3.BasicConv2d(channels_in, round(channels_out * width), **options)

    modules = v3.InceptionA, v3.InceptionB, v3.InceptionC, v3.InceptionD, v3.InceptionE, v3.InceptionAux
    blocks = [conv, *(functools.partial(module, conv_block=conv) for module in modules)]
    network = v3.Inception3(aux_logits=False, inception_blocks=blocks, init_weights=False)
    network.fc = nn.Linear(round(network.fc.in_features * width), num_classes)
    network.dropout = Dropout(dropout) if dropout else nn.Identity()
    return nn.Sequential(Enlarge(V3_MIN_SIZE), network)


@contextlib.contextmanager
def random_state(seed: int) -> Iterator[None]:
    """torch's global random state at a seed, for one thread at a time; afterwards it is what it was."""
    with _RANDOM_STATE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_model(
    name: str,
    num_classes: int = 10,
    image_size: int = 28,
    width: float = 1.0,
    dropout: float = 0.0,
    lrn: str = "tutorial",
    initialization: str = "He",
) -> nn.Sequential:
    """Build and initialize a network from torch's global random state.

    Args:
        name: one of MODELS.
        num_classes: logits.
        image_size: height and width of the input in pixels.
        width: factor on the number of filters and hidden units; 1 is the paper's network.
        dropout: probability of zeroing an input of Inception V3's last layer, or a hidden fully connected unit of the
            other networks in HAS_DROPOUT; the rest take none.
        lrn: one of LRN, the constants of AlexNet's local response normalization; the other networks have none.
        initialization: one of INITIALIZATIONS, "tutorial" for AlexNet alone.

    Raises:
        InputError: unknown name, constants or initialization, dropout or an initialization for a network that takes
            none, or a width that Inception V3 cannot have.
    """
    one_of("model", name, MODELS)
    one_of("lrn", lrn, LRN)
    one_of(f"initialization of {name}", initialization, INITIALIZATIONS if name == "alexnet" else INITIALIZATIONS[:1])
    if dropout and name not in HAS_DROPOUT:
        raise InputError(f"model {name!r} takes no dropout; allowed for: {', '.join(HAS_DROPOUT)}")
    if name == "inception_v3":
        model = inception_v3(num_classes, width, dropout)
    elif name.startswith("inception"):
        model = inception(num_classes, width, batch_norm=name == "inception")
    elif name == "alexnet":
        model = alexnet(num_classes, image_size, width, dropout, lrn)
    else:
        model = mlp(num_classes, image_size, width, dropout, depth=3 if name == "mlp_3x512" else 1)
    return model.apply(_he_normal) if initialization == "He" else _tutorial_weights(model)


class StackedLinear(nn.Module):
    """K linear layers in one batched matrix product: [K, N, in] -> [K, N, out]."""

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().t() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        """[K, N, in] -> [K, N, out]."""
        return torch.baddbmm(self.bias, x, self.weight)


class Stack(nn.Module):
    """K networks of one architecture as one: [K, N, 3, S, S] -> [K, N, classes].

    The linear layers of fully connected networks become batched matrix products. A network with convolutions
    goes alone, K = 1: the grouped convolutions of several are slower than one after the other.
    """

    def __init__(self, networks: Sequence[nn.Sequential]):
        super().__init__()
        self.batched = can_be_stacked(networks[0])
        if len(networks) > 1 and not self.batched:
            raise ValueError("networks with convolutions cannot be stacked")
        self.layers = nn.Sequential(*map(_side_by_side, zip(*networks, strict=True))) if self.batched else networks[0]

    def forward(self, images: Tensor) -> Tensor:
        """[K, N, 3, S, S] -> [K, N, classes]."""
        if self.batched:
            return self.layers(images)
        return self.layers(images[0].contiguous(memory_format=torch.channels_last))[None]

    def member(self, index: int) -> dict[str, Tensor]:
        """Parameters and buffers of one of the networks, by name: views, so that copying into them sets them."""
        return {name: tensor[index] if self.batched else tensor for name, tensor in self.layers.state_dict().items()}


def can_be_stacked(network: nn.Sequential) -> bool:
    """Whether the network has only layers that Stack can compute side by side."""
    return all(isinstance(layer, nn.Flatten | nn.Linear | nn.ReLU | Dropout) for layer in network)


def _side_by_side(layers: tuple[nn.Module, ...]) -> nn.Module:
    return StackedLinear(layers) if isinstance(layers[0], nn.Linear) else layers[0]


def count_parameters(model: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in model.parameters())


@functools.cache
def flops_per_image(name: str, width: float = 1.0) -> int:
    """Floating-point operations of a forward and a backward pass over an image of 28x28 pixels, in convolutions and
    linear layers: two a multiplication, and backward twice as many but for the image, whose gradient nobody wants."""
    multiplications = []
    with random_state(0):
        model = build_model(name, width=width).eval()  # batch norm of one value has no variance
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda m, _, out: multiplications.append(m.weight[0].numel() * out.numel()))
    model(torch.zeros(1, 3, 28, 28))
    return 2 * (3 * sum(multiplications) - multiplications[0])


def _scaled(units: int, width: float) -> int:
    """Units at a width, in multiples of 8 (as all of the paper's are): others are slow on every processor."""
    return max(8, 8 * round(units * width / 8))


def _hidden(inputs: int, units: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(inputs, units), nn.ReLU(inplace=True), *([Dropout(dropout)] if dropout else [])]


def _he_normal(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _tutorial_weights(network: nn.Sequential) -> nn.Sequential:
    """Normal weights, those beyond two standard deviations drawn again, as TensorFlow's truncated_normal does."""
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer, (deviation, bias) in zip(layers, TUTORIAL_WEIGHTS, strict=True):
        nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        nn.init.constant_(layer.bias, bias)
    return network
