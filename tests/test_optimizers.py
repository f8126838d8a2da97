import pytest
import torch

from lib.config import InputError
from lib.optimizers import build_optimizer


class RMSProp(torch.optim.Optimizer):
    """TensorFlow's kernel, ApplyRMSProp, for one tensor at a time: ms starts at 1, mom at 0."""

    def __init__(self, groups, lr):
        super().__init__(groups, {"lr": lr, "weight_decay": 0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p] or {"ms": torch.ones_like(p), "mom": torch.zeros_like(p)}
                grad = p.grad + group["weight_decay"] * p
                ms = state["ms"] + (grad * grad - state["ms"]) * (1 - 0.9)
                mom = state["mom"] * 0.9 + group["lr"] * grad / (ms + 1.0).sqrt()
                self.state[p] = {"ms": ms, "mom": mom}
                p.sub_(mom)


REFERENCES = {
    "sgd": lambda groups, rate: torch.optim.SGD(groups, lr=rate, momentum=0.9),
    "adam": lambda groups, rate: torch.optim.Adam(groups, lr=rate),
    "rmsprop": lambda groups, rate: RMSProp(groups, lr=rate),
}


def networks(count, seed=0):
    """Parameters of `count` small networks, stacked."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (5, 4), "0.bias": (1, 4)}
    return {name: torch.randn(count, *shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("decays", [(0.0, 0.0, 0.0), (0.1, 0.0, 0.02)])
def test_each_network_is_updated_as_torch_would_with_its_own_rate_and_decay(name, decays):
    rates = [[0.1, 0.01, 0.003], [0.05, 0.02, 0.003]]
    stacked = networks(3)
    optimizer = build_optimizer(name, stacked, 3, momentum=0.9)
    optimizer.weight_decays.copy_(torch.tensor(decays))
    optimizer.decays = any(decays)
    references = []
    for k, decay in enumerate(decays):
        own = {key: torch.nn.Parameter(tensor[k].clone()) for key, tensor in stacked.items()}
        groups = [{"params": [own["0.weight"]], "weight_decay": decay}, {"params": [own["0.bias"]], "weight_decay": 0}]
        references.append((own, REFERENCES[name](groups, 0.0)))
    for step in range(6):
        gradients = networks(3, seed=step + 1)
        rate = torch.tensor(rates[step // 3])
        optimizer.rates.copy_(rate)
        optimizer.step(list(gradients.values()))
        for k, (own, reference) in enumerate(references):
            for group in reference.param_groups:
                group["lr"] = rate[k].item()
            for key, parameter in own.items():
                parameter.grad = gradients[key][k]
            reference.step()
    for k, (own, _) in enumerate(references):
        for key, parameter in own.items():
            torch.testing.assert_close(stacked[key][k], parameter.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", REFERENCES)
def test_one_network_may_have_parameters_of_any_shape(name):
    parameters = {"a.weight": torch.ones(4, 3, 2, 2), "a.bias": torch.ones(4)}
    optimizer = build_optimizer(name, parameters, 1, momentum=0.9)
    optimizer.rates.fill_(0.5)
    optimizer.step([torch.ones_like(p) for p in parameters.values()])
    change = 0.5 / 2**0.5 if name == "rmsprop" else 0.5  # 1 + epsilon under the root
    torch.testing.assert_close(parameters["a.weight"], torch.full((4, 3, 2, 2), 1 - change))
    torch.testing.assert_close(parameters["a.bias"], torch.full((4,), 1 - change))


def test_scales_of_batch_norm_do_not_decay():
    parameters = {"norm.weight": torch.ones(4), "conv.weight": torch.ones(4, 3, 2, 2)}
    optimizer = build_optimizer("rmsprop", parameters, 1, momentum=0.9)
    optimizer.rates.fill_(0.5)
    optimizer.weight_decays.fill_(0.1)
    optimizer.decays = True
    optimizer.step([torch.zeros_like(p) for p in parameters.values()])
    assert torch.equal(parameters["norm.weight"], torch.ones(4))
    assert (parameters["conv.weight"] < 1).all()


@pytest.mark.parametrize("name", REFERENCES)
def test_a_step_keeps_every_tensor_in_its_place(name):
    """What a CUDA graph relies on."""
    parameters = networks(2)
    optimizer = build_optimizer(name, parameters, 2, momentum=0.9)
    tensors = [*parameters.values(), *optimizer.buffers.values(), optimizer.rates]
    before = [tensor.data_ptr() for tensor in tensors]
    optimizer.step(list(networks(2, seed=1).values()))
    after = [*optimizer.parameters.values(), *optimizer.buffers.values(), optimizer.rates]
    assert [tensor.data_ptr() for tensor in after] == before


def test_unknown_optimizer_is_refused():
    with pytest.raises(InputError, match="allowed: sgd, adam, rmsprop"):
        build_optimizer("lbfgs", networks(1), 1, 0.9)


@pytest.mark.parametrize("name", REFERENCES)
def test_all_tensors_of_a_network_together_are_updated_as_one_by_one(name, monkeypatch):
    one_by_one, together = (build_optimizer(name, networks(1), 1, momentum=0.9) for _ in range(2))
    monkeypatch.setattr(together, "_update_all", together._update_together)
    for optimizer in (one_by_one, together):
        optimizer.rates.fill_(0.1)
        optimizer.weight_decays.fill_(0.1)
        optimizer.decays = True
    for step in range(6):
        gradients = list(networks(1, seed=step + 1).values())
        one_by_one.step(gradients)
        together.step(gradients)
    torch.testing.assert_close(together.parameters, one_by_one.parameters)
    torch.testing.assert_close(together.buffers, one_by_one.buffers)
