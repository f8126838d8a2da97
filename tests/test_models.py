import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lib.config import InputError
from lib.models import (
    LRN,
    MODELS,
    TUTORIAL_WEIGHTS,
    Concatenate,
    LocalResponseNorm,
    ShiftBatchNorm,
    Stack,
    build_model,
    count_parameters,
    flops_per_image,
)

PARAMETERS = {  # the paper's, for 28x28x3 images and 10 classes
    "inception": 1_649_402,
    "inception_no_bn": 1_649_402,
    "alexnet": 1_387_786,
    "mlp_3x512": 1_735_178,
    "mlp_1x512": 1_209_866,
}
STAGES = {  # output of every stage for one image, batch axis left out
    "inception": [
        (96, 28, 28), (64, 28, 28), (80, 28, 28), (160, 14, 14), (160, 14, 14), (160, 14, 14), (160, 14, 14),
        (144, 14, 14), (240, 7, 7), (336, 7, 7), (336, 7, 7), (336, 1, 1), (336,), (10,),
    ],
    "alexnet": [
        (64, 28, 28), (64, 14, 14), (64, 14, 14), (64, 14, 14), (64, 14, 14), (64, 7, 7), (64, 7, 7), (64, 7, 7),
        (3136,), (384,), (384,), (192,), (192,), (10,),
    ],
    "mlp_3x512": [(2352,), (512,), (512,), (512,), (512,), (512,), (512,), (10,)],
    "mlp_1x512": [(2352,), (512,), (512,), (10,)],
}  # fmt: skip
STAGES["inception_no_bn"] = STAGES["inception"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_the_papers(name):
    assert count_parameters(build_model(name)) == PARAMETERS[name]


def test_tutorial_weights_are_alexnets_alone():
    layers = [layer for layer in build_model("alexnet", initialization="tutorial") if hasattr(layer, "weight")]
    assert len(layers) == len(TUTORIAL_WEIGHTS)
    for layer, (deviation, bias) in zip(layers, TUTORIAL_WEIGHTS, strict=True):
        assert layer.bias.tolist() == pytest.approx([bias] * len(layer.bias))
        assert layer.weight.abs().max() <= 2 * deviation
        # A normal distribution cut off at two standard deviations keeps 0.88 of its deviation.
        assert layer.weight.std().item() == pytest.approx(0.88 * deviation, rel=0.06)
    with pytest.raises(InputError, match="initialization of mlp_1x512"):
        build_model("mlp_1x512", initialization="tutorial")


@pytest.mark.parametrize("name", STAGES)
def test_stage_shapes(name):
    x, shapes = torch.randn(2, 3, 28, 28), []
    for layer in build_model(name):
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == STAGES[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_other_sizes_classes_and_widths(name):
    narrow = build_model(name, num_classes=100, image_size=56, width=0.25)
    assert narrow(torch.randn(2, 3, 56, 56)).shape == (2, 100)
    odd = build_model(name, num_classes=100, image_size=42, width=0.25)  # its feature maps have odd sides
    assert odd(torch.randn(2, 3, 42, 42)).shape == (2, 100)
    assert count_parameters(build_model(name, width=0.25)) < 0.3 * PARAMETERS[name]


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient(name):
    model = build_model(name, width=0.25)
    nn.functional.cross_entropy(model(torch.randn(8, 3, 28, 28)), torch.arange(8)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_inception_v3_is_torchvisions():
    """23.8 million parameters: the published 27.2 million less the auxiliary head's."""
    from torchvision.models import inception_v3

    model = build_model("inception_v3", num_classes=1000, dropout=0.2)
    assert count_parameters(model) == 23_834_568
    theirs = inception_v3(weights=None, aux_logits=False, init_weights=False)
    theirs.load_state_dict(model[1].state_dict())
    images = torch.randn(2, 3, 80, 80)
    torch.testing.assert_close(model.eval()(images), theirs.eval()(images))


def test_inception_v3_takes_small_images_and_sixteenths_of_its_width():
    narrow = build_model("inception_v3", num_classes=7, width=1 / 16)
    assert narrow(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert narrow[0](torch.randn(2, 3, 64, 64)).shape == (2, 3, 75, 75)
    assert narrow[0](torch.randn(2, 3, 96, 96)).shape == (2, 3, 96, 96)
    for width in (0.1, 0.0, -1.0):
        with pytest.raises(InputError, match=r"width .* is not allowed for inception_v3: a multiple of 1/16"):
            build_model("inception_v3", width=width)


def test_inception_v3_drops_inputs_of_its_last_layer_while_it_trains():
    model = build_model("inception_v3", width=1 / 16, dropout=0.5)
    seen = []
    model[1].dropout.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    images = torch.randn(4, 3, 75, 75)
    model(images)
    model.eval()(images)
    (trained, dropped), (evaluated, same) = seen
    assert 0.3 < (dropped[trained != 0] == 0).float().mean() < 0.7
    assert torch.equal(evaluated, same)


def test_initialization_follows_the_global_seed_and_scale_is_he():
    torch.manual_seed(1)
    first = build_model("alexnet")
    torch.manual_seed(1)
    again = build_model("alexnet")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    weight = first[9].weight  # 3136 inputs
    assert abs(weight.std().item() / (2 / 3136) ** 0.5 - 1) < 0.01


def test_shift_batch_norm_is_batch_norm_without_a_scale():
    x = torch.randn(16, 5, 4, 4) * 3 + 1
    ours, torchs = ShiftBatchNorm(5), nn.BatchNorm2d(5)
    for norm in (ours, torchs):
        norm.bias.data.copy_(torch.arange(5.0))
    assert [name for name, _ in ours.named_parameters()] == ["bias"]
    torch.testing.assert_close(ours(x), torchs(x))
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(x))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_concatenation_sends_back_gradients_in_the_layout_of_the_images(layout):
    x = torch.randn(8, 6, 5, 5).to(memory_format=layout).requires_grad_()
    seen = []

    class Watched(nn.Module):
        def forward(self, x):
            y = x.clone()
            y.register_hook(lambda gradient: seen.append(gradient.is_contiguous(memory_format=layout)))
            return y

    wide = torch.randn(8, 12, 5, 5).to(memory_format=layout)
    joined = Concatenate(Watched(), Watched())(x)
    assert torch.equal(joined, torch.cat([x, x], dim=1))
    (gradient,) = torch.autograd.grad((joined * wide).sum(), x)
    assert seen == [True, True]
    torch.testing.assert_close(gradient, wide[:, :6] + wide[:, 6:])


def test_inception_without_batch_norm_has_a_bias_in_its_place():
    assert not any(isinstance(m, nn.BatchNorm2d) for m in build_model("inception_no_bn").modules())
    assert all(m.bias is None for m in build_model("inception").modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("constants", LRN)
def test_local_response_norm_keeps_doubles(constants):
    x = torch.randn(4, 16, 7, 7, dtype=torch.float64) * 20
    reference = nn.LocalResponseNorm(*LRN[constants], k=1.0)
    ours = LocalResponseNorm(16, constants).double()(x)
    torch.testing.assert_close(ours, reference(x), rtol=1e-8, atol=0)  # its constants are of single precision


@pytest.mark.parametrize("constants", LRN)
@pytest.mark.parametrize("channels", [4, 16, 64])
def test_local_response_norm_equals_torchs(channels, constants):
    x = torch.randn(4, channels, 7, 7, dtype=torch.float32) * 20
    ours = LocalResponseNorm(channels, constants)
    reference = nn.LocalResponseNorm(*LRN[constants], k=1.0)
    torch.testing.assert_close(ours(x), reference(x), rtol=1e-5, atol=1e-5)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad((ours(x) ** 2).sum(), x)
    (expected,) = torch.autograd.grad((reference(x) ** 2).sum(), x)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("constants", "radius", "alpha", "beta"), [("tutorial", 4, 0.001 / 9, 0.75), ("default", 5, 1.0, 0.5)]
)
def test_local_response_norm_is_tensorflows(constants, radius, alpha, beta):
    x = torch.randn(2, 16, 3, 3) * 20
    near = torch.stack([(x[:, max(0, c - radius) : c + radius + 1] ** 2).sum(1) for c in range(16)], dim=1)
    expected = x / (1 + alpha * near) ** beta
    torch.testing.assert_close(LocalResponseNorm(16, constants)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["alexnet", "mlp_3x512", "mlp_1x512"])
def test_dropout_acts_in_training_only_and_adds_no_parameter(name):
    model = build_model(name, dropout=0.5)
    x = torch.randn(4, 3, 28, 28)
    assert count_parameters(model) == PARAMETERS[name]
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("arguments", [{"name": "resnet"}, {"name": "inception", "dropout": 0.5}])
def test_wrong_networks_are_refused_naming_what_is_allowed(arguments):
    with pytest.raises(InputError, match="allowed"):
        build_model(**arguments)


@pytest.mark.parametrize("name", ["mlp_3x512", "mlp_1x512"])
def test_stacked_networks_compute_what_each_computes(name):
    networks = [build_model(name, width=0.2).eval() for _ in range(3)]
    images = torch.randn(3, 5, 3, 28, 28)
    expected = torch.stack([network(part) for network, part in zip(networks, images, strict=True)])
    stack = Stack(networks).eval()
    torch.testing.assert_close(stack(images), expected, rtol=1e-4, atol=1e-5)
    assert count_parameters(stack) == 3 * count_parameters(networks[0])
    stack.member(1)["1.weight"].zero_()  # a view: the other networks stay as they are
    changed = stack(images)
    assert not torch.allclose(changed[1], expected[1], atol=1e-3)
    torch.testing.assert_close(changed[[0, 2]], expected[[0, 2]], rtol=1e-4, atol=1e-5)


def test_networks_with_convolutions_go_alone():
    network = build_model("inception", width=0.1).eval()
    images = torch.randn(1, 2, 3, 28, 28)
    torch.testing.assert_close(Stack([network])(images)[0], network(images[0]))
    with pytest.raises(ValueError, match="convolutions"):
        Stack([network, network])


def test_dropout_draws_from_each_networks_own_generator():
    stack = Stack([build_model("mlp_1x512", width=0.2, dropout=0.5)] * 2)
    images = torch.randn(1, 4, 3, 28, 28).expand(2, -1, -1, -1, -1)
    dropout = next(layer for layer in stack.layers if hasattr(layer, "generators"))

    def outputs(*seeds):
        dropout.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return stack(images)

    first, second = outputs(1, 2)
    assert not torch.allclose(first, second)
    assert torch.equal(outputs(3, 2)[1], second)
    assert torch.equal(outputs(1, 3)[0], first)


@pytest.mark.parametrize("name", ["inception", "mlp_3x512"])
def test_work_per_image_is_what_torch_counts(name):
    model = build_model(name, width=0.5)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 28, 28)).sum().backward()
    assert flops_per_image(name, width=0.5) == counter.get_total_flops()


def test_counting_work_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    assert flops_per_image.__wrapped__("alexnet", width=0.1) > 0
    assert torch.equal(torch.get_rng_state(), state)


def test_relu_after_the_max_pool_is_relu_before_it():
    after = build_model("alexnet", width=0.25)
    before = nn.Sequential(*after)
    for place in (1, 5):
        before[place], before[place + 1] = before[place + 1], before[place]
    images, labels = torch.randn(16, 3, 28, 28), torch.arange(16) % 10
    gradients = []
    for network in (before, after):
        network.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert [type(before[place]) for place in (1, 2)] == [nn.ReLU, nn.MaxPool2d]
    assert torch.equal(before(images), after(images))
    assert all(map(torch.equal, *gradients))
