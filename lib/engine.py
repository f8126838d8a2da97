"""The training step: K networks on one device, their data, their state, and what moves them on.

Nothing in an epoch waits for the host: data, random orders, learning rates and running sums lie on the device at
fixed addresses. On a CPU the step is run as it stands; on CUDA it is recorded once as a graph for each size of
batch and replayed, also for the next runs, whose data and weights are copied into the same places. Images that do
not fit on the device are fed to it batch by batch, ahead of time. A run of several processes (lib/distributed.py)
is run as it stands on CUDA, too.

All randomness of an epoch is a function of the run's seed and the epoch's number, whatever trains beside it.
"""

import contextlib
import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from lib import distributed
from lib.config import InputError, one_of
from lib.feed import AHEAD, Feed
from lib.inputs import Inputs, augment, batch_sizes, draws, is_augmented, network_inputs
from lib.models import Dropout, Stack, build_model, can_be_stacked, random_state
from lib.optimizers import build_optimizer
from lib.provenance import cpu_field
from lib.runs import Run
from lib.splits import ImageFile, Images, Split, in_memory

STACK = {"cpu": 4, "cuda": 64}  # fully connected networks in one engine; convolutional ones go alone
MICRO_BATCH = 1000  # images whose activations are in memory at once: larger batches sum gradients over these
EVAL_BATCH = {"cpu": 500, "cuda": 2500}
EVAL_PIXELS = {"cpu": 500 * 64**2, "cuda": 2500 * 128**2}  # larger images go in smaller batches
TOP = 5  # the largest outputs among which ImageNet's second accuracy looks for the label
LEAD = 32  # steps that the host may be ahead of the GPU: a stop is noticed after as many
WARM_UP = 3  # steps before a graph is recorded, in which libraries choose their algorithms
# Added to an epoch's seed, which alone gives the order of the images. A CPU's generator takes its low 32 bits only: the
# numbers that augment, and dropout's, are there those that the order was shuffled by, which it shows too little of to
# matter.
AUGMENTATION, DROPOUT = 1 << 40, 1 << 41
PROCESS = 0x9E3779B1  # times a process's number, for masks of its own: an odd one, which no seed is near in 32 bits

State = dict[str, Tensor]


def plan(run: Run) -> Run:
    """The run without what may differ between the runs of one engine; equal plans can share an engine, on photographs
    if their pixels are changed alike, too (no claim changes them there)."""
    free = {"seed": 0, "label_corruption": 0.0, "weight_decay": 0.0, "pixels": "original", "across_channels": False}
    free |= {"initialization": Run.initialization}  # the weights come with each run's state
    schedule = {"learning_rate": 0.0, "decay": 1.0, "epochs": 1, "stop_when_fitted": False}
    return replace(run, **free, **schedule)


def capacity(model: str, device: str) -> int:
    """How many runs of a network one engine takes."""
    return STACK[device] if _is_stackable(model) else 1


@functools.cache
def _is_stackable(model: str) -> bool:
    with random_state(0):
        return can_be_stacked(build_model(model, width=0.125))


def initial_state(run: Run, classes: int, size: int) -> State:
    """The state of a run before its first step, from its seed."""
    return {f"network.{name}": tensor for name, tensor in Stack([_network(run, classes, size)]).member(0).items()}


def _network(run: Run, classes: int, size: int) -> torch.nn.Sequential:
    with random_state(run.seed):
        network = build_model(run.model, classes, size, run.width, run.dropout, run.lrn, run.initialization)
        return network.to(weights_dtype(run))


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
        self.plan, self.count, self.size, self.device = plan(run), count, size, device
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
        self.feed: Feed | None = None  # of images that are not on the device
        self.under_way: deque[torch.cuda.Event] = deque()  # when the last steps were done there
        self.shared = None  # the stack as part of a run of several processes
        if distributed.world() > 1:
            distributed.synchronize_batch_norm(self.stack)
            self.shared = DistributedDataParallel(self.stack, broadcast_buffers=False)  # they are equal
        self.stream = torch.cuda.Stream() if device == "cuda" and not self.shared else None
        if device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False  # sums of products, too
            torch.backends.cudnn.benchmark = True

    # --- what it trains ---

    def load(self, runs: Sequence[Run], inputs: Sequence[Inputs], states: Sequence[State]) -> None:
        """Put K runs, their data and their states in place; what a state lacks of the optimizer's starts at zero.

        Raises:
            InputError: a batch that processes cannot share: it has fewer images than there are of them, or their
                parts differ in how many micro-batches they are computed in.
        """
        self.runs = tuple(runs)
        if self.stream:
            self.stream.wait_stream(torch.cuda.default_stream())  # where the inputs were made
        with self._on_stream():
            self._load_data(inputs)
            self.optimizer.weight_decays.copy_(torch.tensor([run.weight_decay for run in runs]))
            decays = any(run.weight_decay for run in runs)
            if decays != self.optimizer.decays:  # decides which operations a step has
                self.graphs.clear()
                self.optimizer.decays = decays
            if self.stream and not self.graphs:
                self._record()
            for index, state in enumerate(states):
                for name, tensor in self._views(index).items():
                    fresh = name.startswith("optimizer.") and name not in state
                    tensor.zero_() if fresh else tensor.copy_(state[name])

    def _load_data(self, inputs: Sequence[Inputs]) -> None:
        """The training images, and the places of everything that goes with them."""
        count, world = len(inputs[0].train), distributed.world()
        self.sizes = batch_sizes(count, self.plan.batch_size)
        for size in self.sizes:  # the processes must take part in as many sums of gradients
            least, most = (math.ceil(part / MICRO_BATCH) for part in (size // world, size / world))
            if least < most:
                raise InputError(f"a batch of {size} images cannot be shared by {world} processes")
        self._place("labels", torch.stack([data.train.labels for data in inputs]))
        self._place("order", torch.zeros_like(self.labels))
        self._load_images([data.train.images for data in inputs], [data.source for data in inputs])
        if is_augmented(self.plan):
            self._place("uniform", torch.zeros(*self.labels.shape, draws(self.plan), device=self.device))
        held_out = [data.validation for data in inputs if data.validation]
        self.validation = held_out[0] if held_out else None
        if len(held_out) > 1:  # images [K, N, 3, S, S] and labels [K, N]
            images = torch.stack([in_memory(split.images) for split in held_out])
            self.validation = Split(images, torch.stack([split.labels for split in held_out]))

    def _load_images(self, images: Sequence[Images], sources: Sequence[tuple]) -> None:
        """All distinct images behind one another, and where each run's begin; of images in files, room for a batch."""
        distinct = dict(zip(sources, images, strict=True))
        first = {source: index * len(images[0]) for index, source in enumerate(distinct)}
        self._place("offset", torch.tensor([[first[source]] for source in sources], device=self.device))
        self.feed = Feed(images, pin=self.device == "cuda") if isinstance(images[0], ImageFile) else None
        if self.feed:
            shape = self.count, max(self.sizes), *images[0].shape[1:]
            self._place("images", torch.empty(shape, dtype=images[0].dtype, device=self.device))
        else:
            self._place("images", torch.cat(list(distinct.values())) if len(distinct) > 1 else images[0])

    def _place(self, name: str, value: Tensor) -> None:
        """Set a tensor: on CUDA where the graphs expect it; where it has another shape, they are void."""
        held = getattr(self, name, None)
        if self.stream and held is not None and (held.shape, held.dtype) == (value.shape, value.dtype):
            held.copy_(value)
        else:
            self.graphs.clear()
            setattr(self, name, value.clone() if self.stream else value)

    def state(self, index: int) -> State:
        """A copy, on the CPU, of all that one run needs to go on at the point where it stands."""
        with self._on_stream():
            state = {name: tensor.to("cpu", copy=True) for name, tensor in self._views(index).items()}
        return state | (
            {"generators": distributed.all_of(self.generators[index].get_state())} if self.generators else {}
        )

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
        self.sequence = torch.stack([torch.randperm(count, generator=_generator(seed)) for seed in seeds])
        with self._on_stream():
            self.order.copy_(self.sequence)
            if is_augmented(self.plan):
                shape = count, draws(self.plan)
                numbers = [torch.rand(shape, generator=_generator(seed + AUGMENTATION)) for seed in seeds]
                self.uniform.copy_(torch.stack(numbers))
            self.optimizer.rates.copy_(torch.tensor(rates))
            for total in (self.position, self.loss, self.correct):
                total.zero_()
        for generator, seed in zip(self.generators, seeds, strict=False):  # none without dropout
            generator.manual_seed(seed + DROPOUT + PROCESS * distributed.rank())
        self.stack.train()
        self._go_to(0)

    def resume(self, step: int, losses: Sequence[float], correct: Sequence[int], states: Sequence[State]) -> None:
        """Go to a step within the epoch just begun, with the sums [K] over what lies before it."""
        self._go_to(step)
        with self._on_stream():
            self.position.fill_(sum(self.sizes[:step]))
            if distributed.rank() == 0:  # they are of all processes, and summed over these again
                self.loss.copy_(torch.tensor(losses, dtype=torch.float64))
                self.correct.copy_(torch.tensor(correct))
        for generator, state in zip(self.generators, states, strict=False):
            if distributed.rank() < len(state["generators"]):  # there may have been fewer processes
                generator.set_state(state["generators"][distributed.rank()].clone())  # a view's offset would be lost

    def _go_to(self, step: int) -> None:
        """Count the steps from here; images from files are read from here."""
        self.done = step
        if self.feed:
            starts = itertools.accumulate(self.sizes[:-1], initial=0)
            parts = [(start, distributed.part(size)) for start, size in zip(starts, self.sizes, strict=True)]
            self.feed.begin(self.sequence, [slice(s + part.start, s + part.stop) for s, part in parts[step:]])

    @property
    def steps_left(self) -> int:
        """Steps to the end of the epoch."""
        return len(self.sizes) - self.done

    def step(self) -> None:
        """Train on the next batch; on CUDA this returns before it is done."""
        size = self.sizes[self.done]
        self.done += 1
        with self._on_stream():
            if self.feed:
                batch = self.feed.next()
                self.images[:, : batch.shape[1]].copy_(batch, non_blocking=True)
            self.graphs[size].replay() if self.stream else self._step(size)
        if self.stream:
            self._stay_near()

    def _stay_near(self) -> None:
        """Wait for a step some steps ago: a host far ahead of the GPU would hold ever more batches that it has fed, and
        with a whole epoch handed over it would notice late that it is to stop."""
        self.under_way.append(self.stream.record_event())
        if len(self.under_way) > (AHEAD if self.feed else LEAD):
            self.under_way.popleft().synchronize()

    def _step(self, size: int) -> None:
        mine, gradients = distributed.part(size), []
        for start in range(mine.start, mine.stop, MICRO_BATCH):
            stop = min(start + MICRO_BATCH, mine.stop)
            columns = self.position + torch.arange(start, stop, device=self.device)
            order = self.order.index_select(1, columns)
            labels = self.labels.gather(1, order)
            fed = self.images[:, start - mine.start : stop - mine.start] if self.feed else None
            logits = forward(self.plan, self.shared or self.stack, self._batch(order, columns, fed))
            losses = cross_entropy(logits, labels)
            parts = self._gradients(losses.sum() / size)
            gradients = [total + part for total, part in zip(gradients, parts, strict=True)] if gradients else parts
            self.loss += losses.detach()
            self.correct += (logits.argmax(dim=2) == labels).sum(dim=1)
        self.optimizer.step(gradients)
        self.position += size

    def _gradients(self, loss: Tensor) -> Sequence[Tensor]:
        """Of this loss; of the sum of all processes' losses in a run of several."""
        parameters = list(self.optimizer.parameters.values())
        if not self.shared:
            return torch.autograd.grad(loss, parameters)
        self.shared.zero_grad()
        (loss * distributed.world()).backward()  # DistributedDataParallel takes the mean of the processes' gradients
        return [parameter.grad for parameter in parameters]

    def _batch(self, order: Tensor, columns: Tensor, fed: Tensor | None) -> Tensor:
        """The images [K, N, 3, S, S] at order [K, N], which stands in these columns [N] of the epoch's; made of the
        images [K, N, 3, H, W] that were fed, if any."""
        images = self.images[(order + self.offset).flatten()] if fed is None else fed.flatten(0, 1)
        if is_augmented(self.plan):
            images = augment(self.plan, images, self.uniform.index_select(1, columns).flatten(0, 1))
        return network_inputs(self.plan.model, images, self.size).unflatten(0, order.shape)

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
            return distributed.total(self.loss).tolist(), distributed.total(self.correct).tolist()

    def _on_stream(self) -> contextlib.AbstractContextManager:
        return torch.cuda.stream(self.stream) if self.stream else contextlib.nullcontext()

    # --- evaluation ---

    def evaluate(self, images: Images, labels: Tensor, index: int | None = None) -> Tensor:
        """Mean loss, accuracy and top-5 accuracy, in eval mode, of all networks [3, K] or of one [3, 1]; on the device.

        Args:
            images: the same for all [N, 3, H, W], or each its own [K, N, 3, H, W].
            labels: [N] or [K, N].
            index: which network; None: all.
        """
        if self.stream:
            self.stream.wait_stream(torch.cuda.current_stream())  # where the images may still be in the making
        with self._on_stream(), torch.inference_mode():
            stack, count = (self.stack, self.count) if index is None else (self._alone(index), 1)
            self.stack.eval()
            sums = torch.zeros(3, count, dtype=torch.float64, device=self.device)
            for batch, truth in self._chunks(images, labels.expand(count, -1)):
                logits = forward(self.plan, stack, batch)
                best = logits.topk(min(TOP, logits.shape[2]), dim=2).indices == truth.unsqueeze(2)
                correct = (logits.argmax(dim=2) == truth).sum(dim=1)
                sums += torch.stack([cross_entropy(logits, truth), correct, best.any(dim=2).sum(dim=1)])
            return distributed.total(sums) / labels.shape[-1]

    def _chunks(self, images: Images, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's batches of inputs [K, n, 3, S, S] and labels [K, n], of labels [K, N] in all."""
        size = max(1, min(EVAL_BATCH[self.device], EVAL_PIXELS[self.device] // self.size**2))
        starts = range(0, labels.shape[1], size)
        for start in starts[distributed.rank() :: distributed.world()]:
            chunk = slice(start, start + size)
            batch = images[chunk] if len(images.shape) == 4 else images[:, chunk]
            batch = in_memory(batch).to(self.device, non_blocking=True)
            seen = network_inputs(self.plan.model, batch.flatten(0, -4), self.size).unflatten(0, batch.shape[:-3])
            yield seen.expand(len(labels), *seen.shape[-4:]), labels[:, chunk]

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
    """Logits [K, N, classes] in the weights' precision; convolutions and matrix products in that of arithmetic()."""
    dtype, weights = arithmetic(run, images.device.type), weights_dtype(run)
    with torch.autocast(images.device.type, dtype, enabled=dtype == torch.bfloat16, cache_enabled=False):
        return stack(images.to(weights)).to(weights)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits [K, N, classes] and labels [K, N], summed over the examples: [K]."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape).sum(dim=1)


@functools.cache
def _bf16_is_faster(device: str) -> bool:
    """Whether the hardware multiplies in bf16, and faster than in fp32: Intel's vector units do the former only. A
    Sapphire Rapids without its matrix units (AMX) trains AlexNet on 908 images a second in bf16, on 1,534 in fp32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = cpu_field("flags").split()
    vectors = "avx512_bf16" in flags and cpu_field("vendor_id") == "AuthenticAMD"
    return torch.backends.mkldnn.is_available() and (vectors or "amx_bf16" in flags)


def arithmetic(run: Run, device: str) -> torch.dtype:
    """What convolutions and matrix products are computed in: bfloat16 where a run may use it and it is the faster.

    Raises:
        InputError: unknown precision.
    """
    one_of("precision", run.precision, ("auto", "fp32", "fp64"))
    return torch.bfloat16 if run.precision == "auto" and _bf16_is_faster(device) else weights_dtype(run)


def weights_dtype(run: Run) -> torch.dtype:
    """What all else is computed in."""
    return torch.float64 if run.precision == "fp64" else torch.float32


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
