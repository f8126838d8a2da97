import contextlib
import functools
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lib import engine
from lib.engine import LEAD, Engine, initial_state, plan
from lib.feed import AHEAD
from lib.inputs import InputMaker, network_inputs


def load(one, runs, dataset):
    maker = InputMaker(dataset, "cpu")
    one.load(runs, [maker.make(run) for run in runs], [initial_state(run, 10, 28) for run in runs])


def losses(one, epochs=2):
    """Summed loss of each run and epoch."""
    found = []
    for epoch in range(epochs):
        one.begin([epoch] * one.count)
        while one.steps_left:
            one.step()
        found.append(one.totals()[0])
    return found


def test_initial_weights_are_those_of_the_seed_in_every_thread(small_run):
    runs = [replace(small_run, seed=seed) for seed in range(16)]
    with ThreadPoolExecutor(4) as threads:
        states = list(threads.map(lambda run: initial_state(run, 10, 28), runs))
    for run, state in zip(runs, states, strict=True):
        alone = initial_state(run, 10, 28)
        assert all(torch.equal(state[name], tensor) for name, tensor in alone.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 3},
        {"label_corruption": 0.5},
        {"learning_rate": 0.5, "decay": 0.9},
        {"weight_decay": 0.1},
        {"pixels": "random", "across_channels": True},
        {"initialization": "tutorial"},
        {"epochs": 9, "stop_when_fitted": True},
    ],
)
def test_a_plan_leaves_out_what_runs_of_an_engine_may_differ_in(small_run, changes):
    assert plan(replace(small_run, **changes)) == plan(small_run)


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0.2},
        {"batch_size": 8},
        {"dropout": 0.1},
        {"optimizer": "adam"},
        {"momentum": 0.0},
        {"random_crop": True},
        {"precision": "fp32"},
        {"train_size": 32},
        {"validation_size": 8},
    ],
)
def test_a_plan_keeps_what_changes_the_step_or_its_shapes(small_run, changes):
    assert plan(replace(small_run, **changes)) != plan(small_run)


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "adam", "learning_rate": 1e-3}, {"dropout": 0.5}, {"model": "inception", "width": 0.1}],
)
def test_an_engine_loaded_anew_is_as_good_as_new(digits, small_run, changes):
    first = replace(small_run, **changes)
    second = replace(first, seed=7, label_corruption=1.0, learning_rate=0.005)
    used, fresh = (Engine(first, 1, 10, 28, "cpu") for _ in range(2))
    load(used, [first], digits)
    losses(used)
    load(used, [second], digits)
    load(fresh, [second], digits)
    assert losses(used) == losses(fresh)


def test_a_state_taken_and_put_back_goes_on_as_if_nothing_had_been(digits, small_run):
    runs = [replace(small_run, seed=seed) for seed in range(3)]
    one = Engine(small_run, 3, 10, 28, "cpu")
    load(one, runs, digits)
    losses(one, epochs=1)
    states, expected = [one.state(index) for index in range(3)], losses(one)
    maker = InputMaker(digits, "cpu")
    one.load(runs[::-1], [maker.make(run) for run in runs[::-1]], states[::-1])
    assert [row[::-1] for row in losses(one)] == expected


def test_learning_rates_are_read_at_every_step(digits, small_run):
    one = Engine(small_run, 2, 10, 28, "cpu")
    load(one, [small_run, replace(small_run, learning_rate=0.02, decay=0.5)], digits)
    one.begin([0, 2])
    torch.testing.assert_close(one.optimizer.rates, torch.tensor([0.01, 0.005]))
    before = one.state(0)
    one.optimizer.rates.zero_()
    one.step()
    after = one.state(0)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("network"))


class Recorder(Engine):
    """An engine that goes CUDA's way on a CPU: a 'graph' knows the addresses at which it was recorded, and replays
    the step only if everything still lies there."""

    recorded = 0

    def __init__(self, *args):
        super().__init__(*args)
        self.stream = self  # something true that can be waited for
        self.events, self.waited = itertools.count(), []

    def wait_stream(self, other):
        pass

    def record_event(self):
        return SimpleNamespace(synchronize=functools.partial(self.waited.append, next(self.events)))

    def _on_stream(self):
        return contextlib.nullcontext()

    def _record(self):
        self.recorded += 1
        for size in set(self.sizes):
            self._step(size)  # a warm-up, which spoils the state
            self.position.zero_()
            self.graphs[size] = Graph(self, size)


class Graph:
    def __init__(self, one, size):
        self.one, self.size, self.places = one, size, self.addresses(one)

    @staticmethod
    def addresses(one):
        names = ("images", "labels", "offset", "order", "position", "loss", "correct")
        tensors = [getattr(one, name) for name in names]
        tensors += [*one.stack.state_dict().values(), *one.optimizer.buffers.values()]
        tensors += [one.optimizer.rates, one.optimizer.weight_decays]
        return [tensor.data_ptr() for tensor in tensors], one.optimizer.decays

    def replay(self):
        assert self.addresses(self.one) == self.places
        self.one._step(self.size)


@pytest.fixture
def no_streams(monkeypatch):
    monkeypatch.setattr(torch.cuda, "default_stream", lambda: None)


@pytest.mark.parametrize("fed", [False, True])
def test_the_host_waits_for_a_step_some_way_back(small_run, fed):
    """On CUDA handing over a step takes no time: else a stop would be noticed at the end of an epoch only."""
    one = Recorder(small_run, 1, 10, 28, "cpu")
    one.feed = fed or None
    for _ in range((AHEAD if fed else LEAD) + 3):
        one._stay_near()
    assert one.waited == [0, 1, 2]


@pytest.mark.parametrize("model", ["mlp_1x512", "alexnet", "inception"])
def test_graphs_serve_all_runs_of_a_plan(digits, small_run, no_streams, model):
    first = replace(small_run, model=model, train_size=50)  # batches of two sizes
    one = Recorder(first, 1, 10, 28, "cpu")
    others = [{"label_corruption": 1.0}, {"seed": 5, "pixels": "gaussian"}]
    others += [{"initialization": "tutorial"}] * (model == "alexnet")
    for run in (first, *(replace(first, **changes) for changes in others)):
        plain = Engine(run, 1, 10, 28, "cpu")
        load(one, [run], digits)
        load(plain, [run], digits)
        assert losses(one) == losses(plain)
    assert one.recorded == 1
    assert set(one.graphs) == {13, 12}


def test_graphs_are_recorded_anew_where_the_step_is_another(digits, small_run, no_streams):
    one = Recorder(small_run, 2, 10, 28, "cpu")
    runs = [small_run, replace(small_run, seed=1)]
    load(one, runs, digits)
    load(one, [replace(run, weight_decay=0.1) for run in runs], digits)  # an operation more
    load(one, [small_run, replace(small_run, label_corruption=0.5)], digits)  # one set of images for both
    assert one.recorded == 3


class Asked(TorchDispatchMode):
    """Notes the operations that a graph cannot hold: they read a value, or copy one from, the host."""

    HOSTS = ("_local_scalar_dense", "lift_fresh", "_linalg_check_errors", "nonzero", "is_nonzero", "equal")

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.name().split("::")[1].split(".")[0]
        self.found |= {name} & set(self.HOSTS)
        return operation(*args, **(kwargs or {}))


def test_what_a_graph_cannot_hold_is_noticed():
    with Asked() as asked:
        torch.linalg.inv(torch.eye(3)).sum().item()
        torch.tensor([1.0])
    assert asked.found == {"_linalg_check_errors", "_local_scalar_dense", "lift_fresh"}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "inception", "width": 0.1, "random_crop": True, "weight_decay": 0.1},
        {"model": "inception_no_bn", "width": 0.1, "flip_and_rotate": True},
        {"model": "alexnet", "width": 0.1, "optimizer": "adam"},
        {"model": "alexnet", "width": 0.1, "lrn": "default"},
        {"dropout": 0.5},
        {"model": "inception_v3", "width": 1 / 16, "optimizer": "rmsprop", "photo_augmentation": True, "dropout": 0.2},
    ],
    ids=lambda changes: changes.get("model"),
)
def test_a_step_asks_nothing_of_the_host(digits, small_run, changes):
    """So that on CUDA it can be recorded as a graph, once warm-up steps have made what is made but once."""
    run, maker = replace(small_run, train_size=12, batch_size=6, **changes), InputMaker(digits, "cpu")
    one = Engine(run, 1, 10, maker.size(run), "cpu")
    one.load([run], [maker.make(run)], [initial_state(run, 10, maker.size(run))])
    one.begin([0])
    one.step()
    with Asked() as asked:
        one.step()
    assert asked.found == set()


@pytest.mark.parametrize(
    ("vendor", "flags", "faster"),
    [
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx512f", False),
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16", True),
        ("", "", False),
    ],
)
def test_a_cpu_computes_in_bf16_where_that_is_faster(small_run, monkeypatch, vendor, flags, faster):
    monkeypatch.setattr(engine, "cpu_field", {"vendor_id": vendor, "flags": flags}.get)
    monkeypatch.setattr(engine, "_bf16_is_faster", engine._bf16_is_faster.__wrapped__)
    assert engine.arithmetic(small_run, "cpu") == (torch.bfloat16 if faster else torch.float32)
    assert engine.arithmetic(replace(small_run, precision="fp32"), "cpu") == torch.float32


def test_capacity_depends_on_the_network():
    assert engine.capacity("mlp_3x512", "cuda") == engine.STACK["cuda"]
    assert [engine.capacity(name, "cuda") for name in ("inception", "inception_no_bn", "alexnet")] == [1, 1, 1]


@pytest.mark.parametrize("count", [1, 2])
def test_whole_images_are_evaluated_as_their_inputs_are(digits, small_run, count):
    """Those of augmented runs and photographs are made into inputs on the way."""
    runs = [replace(small_run, seed=seed) for seed in range(count)]
    one = Engine(small_run, count, 10, 28, "cpu")
    load(one, runs, digits)
    whole, labels = digits.test.images, digits.test.labels
    expected = one.evaluate(network_inputs("mlp_1x512", whole, 28), labels)
    assert torch.equal(one.evaluate(whole, labels), expected)
    own = torch.stack([whole] * count)
    assert torch.equal(one.evaluate(own, torch.stack([labels] * count)), expected)
    assert (expected[1] <= expected[2]).all()


def test_top_5_looks_among_the_five_largest_outputs(digits, small_run):
    one = Engine(small_run, 1, 10, 28, "cpu")
    load(one, [small_run], digits)
    inputs = network_inputs("mlp_1x512", digits.test.images, 28)
    order = one.stack(inputs[None])[0].argsort(dim=1, descending=True)
    for place, found in ((0, [1.0, 1.0]), (4, [0.0, 1.0]), (5, [0.0, 0.0])):
        values = one.evaluate(inputs, order[:, place])[1:, 0]
        assert values.tolist() == pytest.approx(found, abs=0.02)  # in bf16 a few outputs are equal
