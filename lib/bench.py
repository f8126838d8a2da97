"""How fast the engine is, beside a plain training loop on the same machine.

    python -m lib.bench

Every measurement is made in processes of its own, the plain loop and the engine in turn, several times over. Each
gets the whole machine, the way it would be used: the plain loop all cores for its threads and its loader, the
engine the sweep's workers. On a machine that others use, the ratio is the figure to quote.
"""

import argparse
import functools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms
from tqdm import tqdm

from lib.config import DEVICES, ROOT, InputError, cores, from_environment, one_of, resolve_device, run_command
from lib.data import load_dataset, resolve_dataset
from lib.engine import Engine, arithmetic, capacity, initial_state
from lib.experiments import CLAIM_ARMS, runs_of
from lib.inputs import InputMaker
from lib.models import LRN, LocalResponseNorm, build_model, flops_per_image
from lib.preprocessing import crop_size
from lib.profiles import PROFILES, resolve_profile
from lib.provenance import environment
from lib.runs import Run, RunStore
from lib.splits import Dataset
from lib.sweep import train_missing
from lib.training import LANES, NAMES, train
from lib.words import markdown
from lib.worker import local_executor

WARM_UP = 6.0  # seconds from a measurement's order to its start: processes load torch and the data meanwhile
MODELS = PROFILES["paper"].networks("cifar10")
SMALL_IMAGES = ("auto", "cifar10", "digits")
STEPS = {"cpu": 2, "cuda": 100}  # between two looks at the clock
MATRIX = {"cpu": 2048, "cuda": 8192}  # side of the square matrices that the peak is measured with
SAMPLE, SHORTER = 4, 8  # the sweep is measured on every so many-th run, cut to this part of its epochs
THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")
SPAWN = multiprocessing.get_context("spawn")
COLUMNS = (
    "network", "plain loop, img/s", "engine, img/s", "ratio", "engine, GFLOP/s", "of the matrix products' peak",
    "peak memory, plain / engine, GiB",
)  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """What one measurement found: images (or operations) a second, and peak memory in bytes, of all its processes."""

    rate: float
    memory: float


@dataclass(frozen=True)
class Row:
    """One repetition for one network: both speeds, and the matrix products' rate at that time."""

    model: str
    plain: Speed
    engine: Speed
    peak: float

    @property
    def flops(self) -> float:
        """Floating-point operations a second of the engine."""
        return self.engine.rate * flops_per_image(self.model)

    @property
    def memories(self) -> tuple[float, float]:
        """Peak memory of the plain loop and the engine, bytes."""
        return self.plain.memory, self.engine.memory


# --- the plain loop -----------------------------------------------------------------------------------


class Pictures(torch.utils.data.Dataset):
    """A data set as torchvision has it: a PIL image is made and transformed whenever it is asked for."""

    def __init__(self, dataset: Dataset, transform: Callable[[Image.Image], Tensor]):
        self.images, self.labels = dataset.train.images.permute(0, 2, 3, 1).numpy(), dataset.train.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def plain_loop(model: str, dataset_name: str, device: str, clock: "Clock") -> Speed:
    """Train in the usual way: DataLoader, fp32 (a GPU's convolutions in TF32, as torch has it), contiguous tensors,
    all cores; the engine's network, but with torch's own local response normalization."""
    dataset = load_dataset(dataset_name)
    size = crop_size(dataset.train.images.shape[-1])
    steps = [transforms.CenterCrop(size), transforms.ToTensor(), transforms.Lambda(_standardize)]
    workers = max(1, cores() - 1)
    options = {"batch_size": 128, "shuffle": True, "num_workers": workers, "pin_memory": device == "cuda"}
    options |= {"persistent_workers": True, "multiprocessing_context": "fork"}  # as in a script on Linux
    loader = torch.utils.data.DataLoader(Pictures(dataset, transforms.Compose(steps)), **options)
    network = _with_torchs_layers(build_model(model, len(dataset.classes), size)).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def batches() -> Iterator[int]:
        while True:
            for images, labels in loader:
                images, labels = images.to(device), labels.to(device)
                optimizer.zero_grad()
                loss = F.cross_entropy(network(images), labels)
                loss.backward()
                optimizer.step()
                loss.item()
                yield len(labels)

    return clock.speed(batches(), device)


def _standardize(image: Tensor) -> Tensor:
    return (image - image.mean()) / image.std()


def _with_torchs_layers(network: nn.Module) -> nn.Module:
    for name, layer in network.named_children():
        if isinstance(layer, LocalResponseNorm):
            setattr(network, name, nn.LocalResponseNorm(*LRN["tutorial"], k=1.0))
    return network


# --- the engine ---------------------------------------------------------------------------------------


def engine_loop(run: Run, device: str, clock: "Clock") -> Speed:
    """Train as a worker of the sweep does."""
    dataset = load_dataset(run.dataset)
    maker, count, classes = InputMaker(dataset, device), capacity(run.model, device), len(dataset.classes)
    size = maker.size(run)
    runs = [replace(run, seed=seed) for seed in range(count)]
    lanes = [Engine(run, count, classes, size, device) for _ in range(LANES[device] if count == 1 else 1)]
    for lane in lanes:
        lane.load(runs, [maker.make(run)] * count, [initial_state(run, classes, size) for run in runs])

    def steps() -> Iterator[int]:
        while True:
            for lane in lanes:
                lane.begin([0] * count)
            while lanes[0].steps_left:
                sizes = lanes[0].sizes[lanes[0].done :][: STEPS[device]]
                for _ in sizes:
                    for lane in lanes:
                        lane.step()
                for lane in lanes:
                    lane.totals()  # waits for the device
                yield len(lanes) * count * sum(sizes)

    return clock.speed(steps(), device)


def matmul(dtype: torch.dtype, device: str, clock: "Clock") -> Speed:
    """Floating-point operations a second of large square matrix products."""
    side = MATRIX[device]
    left, right = torch.randn(2, side, side, device=device).to(dtype)

    def products() -> Iterator[int]:
        while True:
            float((left @ right)[0, 0])  # waits for the device
            yield 2 * side**3

    return clock.speed(products(), device)


def one_after_the_other(runs: Sequence[Run], device: str) -> None:
    """Train runs in one process, each by itself."""
    dataset = load_dataset(runs[0].dataset)
    for run in runs:
        train(run, dataset, device)


# --- measuring ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """When a measurement starts, in seconds of time.time(), the same in all processes, and how long it takes."""

    start: float
    seconds: float

    def speed(self, pieces: Iterator[int], device: str) -> Speed:
        """Work a second over the pieces that begin after the start, up to the first that ends after the end."""
        next(pieces)  # at least one warms up
        while time.time() < self.start:
            next(pieces)
        done, elapsed, begin = 0, 0.0, time.perf_counter()
        while elapsed < self.seconds:
            done += next(pieces)
            elapsed = time.perf_counter() - begin
        return Speed(done / elapsed, _peak_memory(device))


def _peak_memory(device: str) -> float:
    """Bytes at most, of this process and those it started, in which what they share counts for each; of the GPU where
    it works on one."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    status = [Path(f"/proc/{process}/status").read_text() for process in processes]
    return sum(1024.0 * int(text.partition("VmHWM:")[2].split()[0]) for text in status)


def measure(function: Callable[..., Speed], *arguments: object, device: str, seconds: float, plain: bool) -> Speed:
    """Run a measurement in processes of its own: the sweep's workers, or one with all cores for the plain loop."""
    for name in THREADS:
        os.environ.pop(name, None)  # the sweep's workers set them
    workers = 1 if plain or device == "cuda" else cores()
    with ProcessPoolExecutor(1, SPAWN) if plain else local_executor(workers, device) as pool:
        clock = Clock(time.time() + WARM_UP, seconds)
        futures = [pool.submit(function, *arguments, device, clock) for _ in range(workers)]
        found = [future.result() for future in futures]
    return Speed(sum(one.rate for one in found), sum(one.memory for one in found))


def network_rows(dataset: str, device: str, models: Sequence[str], repeats: int, seconds: float) -> list[Row]:
    """The plain loop and the engine in turn, for every network."""
    how = functools.partial(measure, device=device, seconds=seconds)
    dtype = arithmetic(Run(dataset, "mlp_1x512"), device)
    rows = []
    with tqdm(total=repeats * len(models), leave=False) as bar:
        for _ in range(repeats):
            peak = how(matmul, dtype, plain=False).rate
            for model in models:
                run = Run(dataset, model, batch_size=128, learning_rate=0.01)
                plain = how(plain_loop, model, dataset, plain=True)
                rows.append(Row(model, plain, how(engine_loop, run, plain=False), peak))
                bar.update()
    return rows


def sweep_rates(dataset_name: str, device: str, repeats: int) -> list[tuple[float, float]]:
    """Runs an hour of the sweep and, on a CPU, of one thread that trains one run after the other; measured on a
    sample of one seed's runs of the profile that belongs to the device."""
    profile = resolve_profile("auto", device)
    runs = runs_of(CLAIM_ARMS, profile, dataset_name)
    runs = sorted((run for run in runs if run.seed == 0), key=repr)[::SAMPLE]
    runs = [replace(run, epochs=max(1, run.epochs // SHORTER)) for run in runs]
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            summary = train_missing(runs, load_dataset(dataset_name), RunStore(Path(folder)), device)
        if summary.failed:
            raise InputError(f"runs failed: {'; '.join(summary.failed)}")
        together, alone = time.perf_counter() - start, float("nan")
        if device == "cpu":
            start = time.perf_counter()
            with local_executor(1, device) as pool:
                pool.submit(one_after_the_other, runs, device).result()
            alone = time.perf_counter() - start
        rates.append(tuple(3600 * len(runs) / seconds for seconds in (together, alone)))
    return rates


# --- the table ----------------------------------------------------------------------------------------


def spread(values: Sequence[float], form: str) -> str:
    """Median and, where there are several values, lowest and highest."""
    middle, *ends = (format(value, form) for value in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({ends[0]} to {ends[1]})"


def table(rows: list[Row]) -> str:
    """The networks' table, in Markdown."""
    lines = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        cells = [
            model,
            spread([row.plain.rate for row in own], ",.0f"),
            spread([row.engine.rate for row in own], ",.0f"),
            spread([row.engine.rate / row.plain.rate for row in own], ".1f"),
            spread([row.flops / 1e9 for row in own], ",.0f"),
            spread([row.flops / row.peak for row in own], ".0%"),
            " / ".join(f"{max(memory) / 2**30:.1f}" for memory in zip(*(row.memories for row in own), strict=True)),
        ]
        lines.append(cells)
    return markdown(COLUMNS, lines)


def text(rows: list[Row], rates: list[tuple[float, float]], dataset: str, device: str) -> str:
    """Everything that was measured, in Markdown, with the hardware's name; rates: none where that was left out."""
    repeats = sum(row.model == rows[0].model for row in rows)
    machine = environment(device)
    precision = NAMES[arithmetic(Run(dataset, "mlp_1x512"), device)]
    peak = spread([row.peak / 1e9 for row in rows], ",.0f")
    lines = [
        f"{machine['hardware']}, {machine['cores']} cores, torch {machine['versions']['torch']}, the engine in "
        f"{precision}; {dataset}, batches of 128, full width. Median (lowest to highest) of {repeats} measurements, "
        f"the plain loop and the engine in turn. Matrix products reach {peak} GFLOP/s.",
        "",
        table(rows),
        "",
    ]
    return "\n".join(lines + ([_sweep_line(rates, device), ""] if rates else []))


def _sweep_line(rates: list[tuple[float, float]], device: str) -> str:
    together = [one for one, _ in rates]
    profile = resolve_profile("auto", device).name
    line = f"Of a sample of `{profile}`'s runs, their epochs cut to one in {SHORTER}, the sweep trains "
    line += f"{spread(together, ',.0f')} an hour"
    if device == "cpu":
        ratios = [one / other for one, other in rates]
        line += f", {spread(ratios, '.2f')} times as many as one thread that trains one run after the other"
    return f"{line}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: measure, print the table, write it to report/bench-<device>.md."""
    parser = argparse.ArgumentParser(prog="python -m lib.bench", description="Measure the engine's speed.")
    parser.add_argument("--dataset", default=from_environment("DATASET", "auto"), help=" | ".join(SMALL_IMAGES))
    parser.add_argument("--device", default=from_environment("DEVICE", "auto"), help=" | ".join(DEVICES))
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="MODEL", help=" | ".join(MODELS))
    parser.add_argument("--repeats", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a measurement")
    parser.add_argument("--no-sweep", action="store_true", help="leave out how many runs the sweep trains in an hour")
    parser.add_argument("--output", type=Path, help="file to write; default: report/bench-<device>.md")
    options = parser.parse_args(arguments)
    if options.repeats < 1 or not options.seconds > 0:
        raise InputError("repeats must be at least 1 and seconds above 0")
    for model in options.models:
        one_of("model", model, MODELS)
    one_of("dataset", options.dataset, SMALL_IMAGES)
    device, dataset = resolve_device(options.device), resolve_dataset(options.dataset)
    rows = network_rows(dataset, device, options.models, options.repeats, options.seconds)
    rates = [] if options.no_sweep else sweep_rates(dataset, device, options.repeats)
    found = text(rows, rates, dataset, device)
    print(found)
    (options.output or ROOT / "report" / f"bench-{device}.md").write_text(found)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
