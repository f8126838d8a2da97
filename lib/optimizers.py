"""SGD with momentum, Adam and RMSProp for K networks at once, each with its own learning rate and weight decay.

torch.optim's have one learning rate for all, and its fused kernels fill a GPU only with far more parameters than
one of these networks has. Here a rate is a tensor, so a step can be part of a CUDA graph, and one pass updates the
stacked parameters of all networks, or on a GPU many tensors of one. SGD and Adam equal torch.optim's up to rounding,
RMSProp TensorFlow's.
"""

import math

import torch
from torch import Tensor

from lib.config import one_of

RMSPROP_DECAY, RMSPROP_EPSILON = 0.9, 1.0  # Szegedy et al. (2016), section 8
ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8  # Kingma & Ba's, and torch's, defaults


class Optimizer:
    """What all have: rates [K], weight decays [K], and buffers beside the parameters.

    Weight decay is an L2 term in the gradient of weights, not of biases and of batch norm's scales and shifts (as
    TF-Slim's).
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
        named = zip(self.parameters.items(), gradients, strict=True)
        self._update_all([self._decayed(*item, gradient) for item, gradient in named] if self.decays else gradients)

    def _decayed(self, name: str, parameter: Tensor, gradient: Tensor) -> Tensor:
        is_weight = name.endswith("weight") and parameter.dim() > 1  # a scale has one
        return gradient.addcmul(parameter, _along(self.weight_decays)) if is_weight else gradient

    def _update_all(self, gradients: list[Tensor]) -> None:
        alone = self.rates.is_cuda and len(self.rates) == 1
        (self._update_together if alone else self._update_each)(gradients)

    def _update_each(self, gradients: list[Tensor]) -> None:
        for (name, parameter), gradient in zip(self.parameters.items(), gradients, strict=True):
            self._update(name, parameter, gradient)

    def _update_together(self, gradients: list[Tensor]) -> None:
        """For one network on a GPU, whose tensors are too small for a kernel each."""
        self._update_each(gradients)

    def _all(self, kind: str) -> list[Tensor]:
        return [self.buffers[f"{kind}.{name}"] for name in self.parameters]

    def _update(self, name: str, parameter: Tensor, gradient: Tensor) -> None:
        raise NotImplementedError


class SGD(Optimizer):
    """velocity = momentum * velocity + gradient; parameter -= rate * velocity."""

    kinds = ("velocity",)

    def __init__(self, parameters: dict[str, Tensor], count: int, momentum: float):
        super().__init__(parameters, count)
        self.momentum = momentum

    def _update_together(self, gradients: list[Tensor]) -> None:
        velocities = self._all("velocity")
        torch._foreach_mul_(velocities, self.momentum)
        torch._foreach_add_(velocities, gradients)
        torch._foreach_sub_(list(self.parameters.values()), torch._foreach_mul(velocities, self.rates[0]))

    def _update(self, name: str, parameter: Tensor, gradient: Tensor) -> None:
        velocity = self.buffers[f"velocity.{name}"]
        torch.add(gradient, velocity, alpha=self.momentum, out=velocity)
        parameter.addcmul_(velocity, _along(self.rates), value=-1)


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
        steps = _along(self.buffers["steps"])
        weight1, weight2 = (-torch.expm1(steps * math.log(beta)) for beta in ADAM_BETAS)  # 1 - beta ** steps
        scale = (square / weight2).sqrt_().add_(ADAM_EPSILON)
        rate = _along(self.rates) / weight1
        parameter.sub_(rate * mean / scale)


class RMSProp(Optimizer):
    """TensorFlow's, as Inception V3 was trained: the mean of squares starts at 1, epsilon is under the root and the
    rate inside the velocity; torch.optim.RMSprop differs in all three.

    square = decay * square + (1 - decay) * gradient ** 2
    velocity = momentum * velocity + rate * gradient / sqrt(square + epsilon); parameter -= velocity
    """

    kinds = ("velocity", "less")  # less: square - 1, because what a new run lacks starts at zero

    def __init__(self, parameters: dict[str, Tensor], count: int, momentum: float):
        super().__init__(parameters, count)
        self.momentum = momentum

    def _update(self, name: str, parameter: Tensor, gradient: Tensor) -> None:
        velocity, less = (self.buffers[f"{kind}.{name}"] for kind in self.kinds)
        less.mul_(RMSPROP_DECAY).addcmul_(gradient, gradient, value=1 - RMSPROP_DECAY).sub_(1 - RMSPROP_DECAY)
        step = gradient * torch.rsqrt(less + (1 + RMSPROP_EPSILON)) * _along(self.rates)
        torch.add(step, velocity, alpha=self.momentum, out=velocity)
        parameter.sub_(velocity)

    def _update_together(self, gradients: list[Tensor]) -> None:
        velocities, less = self._all("velocity"), self._all("less")
        torch._foreach_mul_(less, RMSPROP_DECAY)
        torch._foreach_addcmul_(less, gradients, gradients, value=1 - RMSPROP_DECAY)
        torch._foreach_sub_(less, 1 - RMSPROP_DECAY)
        steps = torch._foreach_add(less, 1 + RMSPROP_EPSILON)
        torch._foreach_rsqrt_(steps)
        torch._foreach_mul_(steps, gradients)
        torch._foreach_mul_(steps, self.rates[0])
        torch._foreach_mul_(velocities, self.momentum)
        torch._foreach_add_(velocities, steps)
        torch._foreach_sub_(list(self.parameters.values()), velocities)


def build_optimizer(name: str, parameters: dict[str, Tensor], count: int, momentum: float) -> Optimizer:
    """An optimizer of K = `count` networks.

    Args:
        name: 'sgd', 'adam' or 'rmsprop'.
        parameters: by name; of K networks stacked, [K, ...] of three dimensions; of one, of any shape.
        count: K.
        momentum: of SGD and RMSProp.

    Raises:
        InputError: unknown name.
    """
    one_of("optimizer", name, ("sgd", "adam", "rmsprop"))
    if name == "adam":
        return Adam(parameters, count)
    return (SGD if name == "sgd" else RMSProp)(parameters, count, momentum)


def _along(values: Tensor) -> Tensor:
    """Values [K], one a network, in a shape that broadcasts over a parameter."""
    return values.view(-1, 1, 1) if len(values) > 1 else values[0]
