"""SGD with momentum and Adam for K networks at once, each with its own learning rate and weight decay.

torch.optim's have one learning rate for all, and its fused kernels fill a GPU only with far more parameters than
one of these networks has. Here a rate is a tensor, so a step can be part of a CUDA graph, and one pass updates the
stacked parameters of all networks. Equal to torch.optim's up to rounding.
"""

import math

import torch
from torch import Tensor

from lib.config import one_of

ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8  # Kingma & Ba's, and torch's, defaults


class Optimizer:
    """What both have: rates [K], weight decays [K], and buffers beside the parameters.

    Weight decay is an L2 term in the gradient of weights, not of biases and batch-norm shifts (as TF-Slim's).
    """

    kinds: tuple[str, ...] = ()

    def __init__(self, parameters: dict[str, Tensor], count: int):
        device = next(iter(parameters.values())).device
        self.parameters = parameters
        self.rates, self.weight_decays = torch.zeros(2, count, device=device)
        self.decays = False  # whether any weight decay is above 0: decides which operations a step has
        self.buffers = {
            f"{kind}.{name}": torch.zeros_like(parameter.detach())
            for kind in self.kinds
            for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def step(self, gradients: list[Tensor]) -> None:
        """Update all parameters from their gradients, in the order of `parameters`."""
        for (name, parameter), gradient in zip(self.parameters.items(), gradients, strict=True):
            if self.decays and name.endswith("weight"):
                gradient = gradient.addcmul(parameter, _along(self.weight_decays, parameter))
            self._update(name, parameter, gradient)

    def _update(self, name: str, parameter: Tensor, gradient: Tensor) -> None:
        raise NotImplementedError


class SGD(Optimizer):
    """velocity = momentum * velocity + gradient; parameter -= rate * velocity."""

    kinds = ("velocity",)

    def __init__(self, parameters: dict[str, Tensor], count: int, momentum: float):
        super().__init__(parameters, count)
        self.momentum = momentum

    def _update(self, name: str, parameter: Tensor, gradient: Tensor) -> None:
        velocity = self.buffers[f"velocity.{name}"]
        torch.add(gradient, velocity, alpha=self.momentum, out=velocity)
        parameter.addcmul_(velocity, _along(self.rates, parameter), value=-1)


class Adam(Optimizer):
    """Kingma & Ba (2015), algorithm 1."""

    kinds = ("mean", "square")

    def __init__(self, parameters: dict[str, Tensor], count: int):
        super().__init__(parameters, count)
        self.buffers["steps"] = torch.zeros_like(self.rates)

    def step(self, gradients: list[Tensor]) -> None:
        """Count the step, then update."""
        self.buffers["steps"] += 1
        super().step(gradients)

    def _update(self, name: str, parameter: Tensor, gradient: Tensor) -> None:
        mean, square = (self.buffers[f"{kind}.{name}"] for kind in self.kinds)
        beta1, beta2 = ADAM_BETAS
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        steps = _along(self.buffers["steps"], parameter)
        weight1, weight2 = (-torch.expm1(steps * math.log(beta)) for beta in ADAM_BETAS)  # 1 - beta ** steps
        scale = (square / weight2).sqrt_().add_(ADAM_EPSILON)
        rate = _along(self.rates, parameter) / weight1
        parameter.sub_(rate * mean / scale)


def build_optimizer(name: str, parameters: dict[str, Tensor], count: int, momentum: float) -> Optimizer:
    """An optimizer of K = `count` networks.

    Args:
        name: 'sgd' or 'adam'.
        parameters: by name; of K networks stacked, [K, ...] of three dimensions; of one, of any shape.
        count: K.
        momentum: of SGD.

    Raises:
        InputError: unknown name.
    """
    one_of("optimizer", name, ("sgd", "adam"))
    return SGD(parameters, count, momentum) if name == "sgd" else Adam(parameters, count)


def _along(values: Tensor, parameter: Tensor) -> Tensor:
    """Values [K], one a network, in a shape that broadcasts over a parameter."""
    return values.view(-1, 1, 1) if len(values) > 1 else values[0]
