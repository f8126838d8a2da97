"""The training step: K networks on one device, their data, their state, and what moves them on.

Nothing in an epoch waits for the host: data, random orders, learning rates and running sums lie on the device at
fixed addresses. On a CPU the step is run as it stands; on CUDA it is recorded once as a graph for each size of
batch and replayed, also for the next runs, whose data and weights are copied into the same places.

All randomness of an epoch is a function of the run's seed and the epoch's number, whatever trains beside it.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.config import one_of
from lib.inputs import DRAWS, Inputs, augment, batch_sizes, is_augmented
from lib.models import Dropout, Stack, build_model, can_be_stacked
from lib.optimizers import build_optimizer
from lib.provenance import cpu_field
from lib.runs import Run
from lib.splits import Split

STACK = {"cpu": 4, "cuda": 64}  # fully connected networks in one engine; convolutional ones go alone
MICRO_BATCH = 1000  # images whose activations are in memory at once: larger batches sum gradients over these
EVAL_BATCH = {"cpu": 500, "cuda": 2500}
WARM_UP = 3  # steps before a graph is recorded, in which libraries choose their algorithms
AUGMENTATION, DROPOUT = 1 << 40, 1 << 41  # added to an epoch's seed, which alone gives the order of the images

State = dict[str, Tensor]


def plan(run: Run) -> Run:
    """The run without what may differ between the runs of one engine; equal plans can share an engine."""
    free = {"seed": 0, "label_corruption": 0.0, "weight_decay": 0.0, "pixels": "original"}
    schedule = {"learning_rate": 0.0, "decay": 1.0, "epochs": 1, "stop_when_fitted": False}
    return replace(run, **free, **schedule)


def capacity(model: str, device: str) -> int:
    """How many runs of a network one engine takes."""
    return STACK[device] if _is_stackable(model) else 1


@functools.cache
def _is_stackable(model: str) -> bool:
    with torch.random.fork_rng(devices=[]):
        return can_be_stacked(build_model(model, width=0.1))


def initial_state(run: Run, classes: int, size: int) -> State:
    """The state of a run before its first step, from its seed."""
    return {f"network.{name}": tensor for name, tensor in Stack([_network(run, classes, size)]).member(0).items()}


def _network(run: Run, classes: int, size: int) -> torch.nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return build_model(run.model, classes, size, run.width, run.dropout)


class Engine:
    """K runs of one plan in training.

    Args:
        run: any of them, for its plan.
        count: K.
        classes: of the data set.
        size: height and width of the network's input.
        device: 'cpu' or 'cuda'.
    """

    def __init__(self, run: Run, count: int, classes: int, size: int, device: str):
        self.plan, self.count, self.device = plan(run), count, device
        self.stack = Stack([_network(run, classes, size)] * count)
        self.stack.to(device, memory_format=torch.channels_last)
        parameters = dict(self.stack.named_parameters())
        self.optimizer = build_optimizer(run.optimizer, parameters, count, run.momentum)
        self.generators = [torch.Generator(device) for _ in range(count)] if run.dropout else []
        for layer in self.stack.modules():
            if isinstance(layer, Dropout):
                layer.generators = self.generators
        self.position = torch.zeros((), dtype=torch.int64, device=device)  # in the epoch's order
        self.loss = torch.zeros(count, dtype=torch.float64, device=device)  # summed over the epoch so far
        self.correct = torch.zeros(count, dtype=torch.int64, device=device)
        self.graphs: dict[int, Any] = {}  # by size of batch
        self.stream = torch.cuda.Stream() if device == "cuda" else None
        if device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
            torch.backends.cudnn.benchmark = True

    # --- what it trains ---

    def load(self, runs: Sequence[Run], inputs: Sequence[Inputs], states: Sequence[State]) -> None:
        """Put K runs, their data and their states in place; what a state lacks starts at zero."""
        self.runs = tuple(runs)
        if self.stream:
            self.stream.wait_stream(torch.cuda.default_stream())  # where the inputs were made
        with self._on_stream():
            self._load_data(inputs)
            self.optimizer.weight_decays.copy_(torch.tensor([run.weight_decay for run in runs]))
            self._decide("decays", any(run.weight_decay for run in runs))
            if self.stream and not self.graphs:
                self._record()
            for index, state in enumerate(states):
                for name, tensor in self._views(index).items():
                    tensor.copy_(state[name]) if name in state else tensor.zero_()

    def _load_data(self, inputs: Sequence[Inputs]) -> None:
        """All distinct training images behind one another, and where each run's begin."""
        count = len(inputs[0].train)
        images = {data.source: data.train.images for data in inputs}
        first = {source: index * count for index, source in enumerate(images)}
        self.sizes = batch_sizes(count, self.plan.batch_size)
        self._place("images", torch.cat(list(images.values())) if len(images) > 1 else next(iter(images.values())))
        self._place("offset", torch.tensor([[first[data.source]] for data in inputs], device=self.device))
        self._place("labels", torch.stack([data.train.labels for data in inputs]))
        self._place("order", torch.zeros_like(self.labels))
        if is_augmented(self.plan):
            self._place("uniform", torch.zeros(*self.labels.shape, DRAWS, device=self.device))
        held_out = [data.validation for data in inputs if data.validation]
        self.validation = None  # images [K, N, 3, S, S] and labels [K, N]
        if held_out:
            self.validation = Split(*(torch.stack([getattr(s, name) for s in held_out]) for name in vars(held_out[0])))

    def _place(self, name: str, value: Tensor) -> None:
        """Set a tensor: on CUDA where the graphs expect it; where it has another shape, they are void."""
        held = getattr(self, name, None)
        if self.stream and held is not None and (held.shape, held.dtype) == (value.shape, value.dtype):
            held.copy_(value)
        else:
            self.graphs.clear()
            setattr(self, name, value.clone() if self.stream else value)

    def _decide(self, name: str, value: bool) -> None:
        """Set a switch of the optimizer that decides which operations a step has."""
        if getattr(self.optimizer, name) != value:
            self.graphs.clear()
            setattr(self.optimizer, name, value)

    def state(self, index: int) -> State:
        """A copy, on the CPU, of all that one run needs to go on at the point where it stands."""
        with self._on_stream():
            state = {name: tensor.to("cpu", copy=True) for name, tensor in self._views(index).items()}
        return state | ({"generator": self.generators[index].get_state()} if self.generators else {})

    def _views(self, index: int) -> State:
        network = {f"network.{name}": tensor for name, tensor in self.stack.member(index).items()}
        buffers = self.optimizer.buffers.items()
        return network | {f"optimizer.{name}": b[index] if self.stack.batched else b for name, b in buffers}

    # --- an epoch ---

    def begin(self, epochs: Sequence[int]) -> None:
        """Prepare an epoch: `epochs` [K] counts those that each run has behind it."""
        seeds = [run.seed * 1_000_003 + epoch + 1 for run, epoch in zip(self.runs, epochs, strict=True)]  # all differ
        rates = [run.learning_rate * run.decay**epoch for run, epoch in zip(self.runs, epochs, strict=True)]
        count = self.order.shape[1]
        with self._on_stream():
            self.order.copy_(torch.stack([torch.randperm(count, generator=_generator(seed)) for seed in seeds]))
            if is_augmented(self.plan):
                draws = [torch.rand(count, DRAWS, generator=_generator(seed + AUGMENTATION)) for seed in seeds]
                self.uniform.copy_(torch.stack(draws))
            self.optimizer.rates.copy_(torch.tensor(rates))
            for total in (self.position, self.loss, self.correct):
                total.zero_()
        for generator, seed in zip(self.generators, seeds, strict=False):  # none without dropout
            generator.manual_seed(seed + DROPOUT)
        self.stack.train()
        self.done = 0

    def resume(self, step: int, losses: Sequence[float], correct: Sequence[int], states: Sequence[State]) -> None:
        """Go to a step within the epoch just begun, with the sums [K] over what lies before it."""
        self.done = step
        with self._on_stream():
            self.position.fill_(sum(self.sizes[:step]))
            self.loss.copy_(torch.tensor(losses, dtype=torch.float64))
            self.correct.copy_(torch.tensor(correct))
        for generator, state in zip(self.generators, states, strict=False):
            generator.set_state(state["generator"])

    @property
    def steps_left(self) -> int:
        """Steps to the end of the epoch."""
        return len(self.sizes) - self.done

    def step(self) -> None:
        """Train on the next batch; on CUDA this returns before it is done."""
        size = self.sizes[self.done]
        self.done += 1
        with self._on_stream():
            self.graphs[size].replay() if self.stream else self._step(size)

    def _step(self, size: int) -> None:
        parameters, gradients = list(self.optimizer.parameters.values()), []
        for start in range(0, size, MICRO_BATCH):
            columns = self.position + torch.arange(start, min(start + MICRO_BATCH, size), device=self.device)
            order = self.order.index_select(1, columns)
            labels = self.labels.gather(1, order)
            logits = forward(self.plan, self.stack, self._batch(order, columns))
            losses = cross_entropy(logits, labels)
            parts = torch.autograd.grad(losses.sum() / size, parameters)
            gradients = [total + part for total, part in zip(gradients, parts, strict=True)] if gradients else parts
            self.loss += losses.detach()
            self.correct += (logits.argmax(dim=2) == labels).sum(dim=1)
        self.optimizer.step(gradients)
        self.position += size

    def _batch(self, order: Tensor, columns: Tensor) -> Tensor:
        """The images [K, N, 3, S, S] at order [K, N], which stands in these columns [N] of the epoch's."""
        images = self.images[(order + self.offset).flatten()]
        if is_augmented(self.plan):
            images = augment(self.plan, images, self.uniform.index_select(1, columns).flatten(0, 1))
        return images.unflatten(0, order.shape)

    def _record(self) -> None:
        """Record the step as a graph for each size of batch. It spoils the state, which is to be set afterwards."""
        torch.cuda.synchronize()
        self.stack.train()
        pool = torch.cuda.graph_pool_handle()
        for size in sorted(set(self.sizes)):
            for _ in range(WARM_UP):
                self.position.zero_()
                self._step(size)
            self.position.zero_()
            graph = torch.cuda.CUDAGraph()
            for generator in self.generators:
                graph.register_generator_state(generator)
            with torch.cuda.graph(graph, pool=pool, stream=self.stream):
                self._step(size)
            self.graphs[size] = graph

    def totals(self) -> tuple[list[float], list[int]]:
        """Loss and number of correct answers [K], summed over the epoch so far; waits for the device."""
        with self._on_stream():
            return self.loss.tolist(), self.correct.tolist()

    def _on_stream(self) -> contextlib.AbstractContextManager:
        return torch.cuda.stream(self.stream) if self.stream else contextlib.nullcontext()

    # --- evaluation ---

    def evaluate(self, images: Tensor, labels: Tensor, index: int | None = None) -> Tensor:
        """Mean loss and accuracy, in eval mode, of all networks [2, K] or of one [2, 1]; on the device.

        Args:
            images: the same for all [N, 3, S, S], or each its own [K, N, 3, S, S].
            labels: [N] or [K, N].
            index: which network; None: all.
        """
        if self.stream:
            self.stream.wait_stream(torch.cuda.current_stream())  # where the images may still be in the making
        with self._on_stream(), torch.inference_mode():
            stack, count = (self.stack, self.count) if index is None else (self._alone(index), 1)
            self.stack.eval()
            images, labels = images.expand(count, *images.shape[-4:]), labels.expand(count, -1)
            sums = torch.zeros(2, count, dtype=torch.float64, device=self.device)
            parts = (tensor.split(EVAL_BATCH[self.device], dim=1) for tensor in (images, labels))
            for batch, truth in zip(*parts, strict=True):
                logits = forward(self.plan, stack, batch)
                sums += torch.stack([cross_entropy(logits, truth), (logits.argmax(dim=2) == truth).sum(dim=1)])
            return sums / labels.shape[1]

    def read(self, values: Tensor) -> list:
        """What evaluate returned, as numbers; waits for the device."""
        with self._on_stream():
            return values.tolist()

    def _alone(self, index: int) -> Callable[[Tensor], Tensor]:
        """One of the networks by itself: the stack, called with that network's slice of every parameter."""
        if self.count == 1:
            return self.stack
        own = {name: parameter[index : index + 1] for name, parameter in self.stack.named_parameters()}
        return functools.partial(torch.func.functional_call, self.stack, own)


def forward(run: Run, stack: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Logits [K, N, classes] in fp32; convolutions and matrix products in bf16 where run and hardware have it."""
    dtype = autocast_dtype(run, images.device.type)
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False):
        return stack(images).float()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits [K, N, classes] and labels [K, N], summed over the examples: [K]."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape).sum(dim=1)


@functools.cache
def _hardware_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and "avx512_bf16" in cpu_field("flags").split()


def autocast_dtype(run: Run, device: str) -> torch.dtype | None:
    """bfloat16 where a run may use it and the hardware has it; None: fp32 throughout.

    Raises:
        InputError: unknown precision.
    """
    one_of("precision", run.precision, ("auto", "fp32"))
    return torch.bfloat16 if run.precision == "auto" and _hardware_bf16(device) else None


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
