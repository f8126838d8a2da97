"""The training loop, one for CPU and CUDA.

Data lie on the device as tensors and there is no loader. All randomness of an epoch is a function of the run's
seed and the epoch's number, so a run resumed from its checkpoint equals one that never stopped: on a CPU, with
the same number of threads, bit for bit.
"""

import datetime
import functools
import importlib.metadata
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.config import ROOT, InputError
from lib.corruption import randomize
from lib.data import Dataset, Split, stratified_order, stratified_subset
from lib.models import build_model, count_parameters
from lib.preprocessing import center_crop, crop_size, flip_and_rotate, random_crop, standardize
from lib.runs import HISTORY_COLUMNS, OVERFIT_LOSS, REACHED, Record, Run

NEARLY_FITTED = 0.99  # running accuracy from which the costly full pass over the training set is worth making
EVAL_BATCH = 500
MICRO_BATCH = 1000  # images whose activations are in memory at once: full-batch gradients are summed over these


class Interrupted(Exception):
    """Training was asked to stop; its checkpoint holds the last finished epoch."""


@dataclass
class Progress:
    """The state that a checkpoint carries beside the weights and the optimizer's."""

    history: dict[str, list[float | None]]
    reached: dict[str, int | None]
    seconds: float = 0.0


def train(
    run: Run,
    dataset: Dataset,
    device: str = "cpu",
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Record:
    """Train one run to its end and return its record.

    Args:
        run: the settings.
        dataset: the run's data set, whole; the run's subset is taken here.
        device: 'cpu' or 'cuda'.
        checkpoint: file that is written after every epoch, and gone on from if it exists.
        on_epoch: called after every epoch with the number of epochs done and its training loss.
        interrupted: asked before every step; True raises Interrupted.

    Raises:
        InputError: settings that no network or data set can take.
        Interrupted: as asked.
    """
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        machine = environment(device)  # now: the source may change while a run trains
        data = _prepare(run, dataset, device)
        torch.manual_seed(run.seed)
        size = crop_size(dataset.train.images.shape[-1])
        model = build_model(run.model, len(dataset.classes), size, run.width, run.dropout)
        model = model.to(device, memory_format=torch.channels_last)
        optimizer = _optimizer(run, model)
        progress = _resume(checkpoint, run, dataset, model, optimizer)
        outcome = _outcome(run, progress)
        while outcome is None:
            start = time.perf_counter()
            epoch = len(progress.history["epoch"])
            _set_learning_rate(optimizer, run.learning_rate * run.decay**epoch)
            loss, accuracy = _train_epoch(run, model, optimizer, data, epoch, interrupted)
            _log_epoch(run, model, data, progress, loss, accuracy, time.perf_counter() - start)
            outcome = _outcome(run, progress)
            _save_checkpoint(checkpoint, run, dataset, model, optimizer, progress)
            on_epoch(epoch + 1, loss)
        start = time.perf_counter()
        final = _final(run, model, data)
        progress.seconds += time.perf_counter() - start
        provenance = {
            "started": started,
            "seconds": round(progress.seconds, 2),
            "parameters": count_parameters(model),
            "steps_per_epoch": data.steps_per_epoch,
            "train_images": len(data.train),
            "precision": "bf16" if _autocast_dtype(run, device) else "fp32",
            "data": {"source": dataset.source, "note": dataset.note},
            **machine,
        }
        return Record(run, dataset.fingerprint, outcome, final, progress.reached, progress.history, provenance)


# --- data ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Data:
    """A run's images on its device. Without augmentation they are standardized once, here; with it they stay
    as they are, and `augment` makes network inputs of a batch."""

    train: Split
    validation: Split | None
    monitored: Split
    test: Split
    changed_test: Split | None
    batch_size: int
    augment: Callable[[Tensor, torch.Generator], Tensor] | None

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train) / self.batch_size)


def _prepare(run: Run, dataset: Dataset, device: str) -> _Data:
    size = crop_size(dataset.train.images.shape[-1])
    if run.pixels != "original" and (run.random_crop or run.flip_and_rotate):
        raise InputError(f"augmentation of {run.pixels} pixels is not defined: use pixels 'original'")

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        if run.flip_and_rotate:
            images = flip_and_rotate(images, generator)
        crop = random_crop(images, size, generator) if run.random_crop else center_crop(images, size)
        return standardize(crop)

    def inputs(split: Split | None) -> Split | None:
        if split is None:
            return None
        parts = [standardize(center_crop(part, size)) for part in split.images.split(EVAL_BATCH)]
        return Split(torch.cat(parts).to(device), split.labels.to(device))

    augmented = run.random_crop or run.flip_and_rotate
    subset = Dataset(**vars(dataset) | {"train": stratified_subset(dataset.train, run.train_size, run.seed)})
    randomized = randomize(subset, run.pixels, run.label_corruption, run.seed)
    train, validation = _hold_out(randomized.train, run.validation_size, run.seed)
    return _Data(
        Split(train.images.to(device), train.labels.to(device)) if augmented else inputs(train),
        inputs(validation),
        inputs(stratified_subset(randomized.test, run.test_size, 0)),
        inputs(randomized.test),
        inputs(randomized.changed_test),
        run.batch_size or len(train),
        augment if augmented else None,
    )


def _hold_out(train: Split, size: int, seed: int) -> tuple[Split, Split | None]:
    if not size:
        return train, None
    if size >= len(train):
        raise InputError(f"validation size {size} leaves nothing of {len(train)} training images")
    order = stratified_order(train.labels, seed)
    return train.subset(order[size:].sort().values), train.subset(order[:size].sort().values)


# --- one epoch ----------------------------------------------------------------------------------------


def _optimizer(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or Adam; weight decay acts on weights, not on biases and batch-norm shifts (as TF-Slim's)."""
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": run.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    if run.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=run.learning_rate, momentum=run.momentum, fused=True)
    if run.optimizer == "adam":
        return torch.optim.Adam(groups, lr=run.learning_rate, fused=True)
    raise InputError(f"unknown optimizer {run.optimizer!r}; allowed: sgd, adam")


def _set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _train_epoch(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, data: _Data, epoch: int, interrupted: Callable
) -> tuple[float, float]:
    """One pass over the training set in a fresh random order; returns its running mean loss and accuracy."""
    device = data.train.labels.device
    seed = run.seed * 1_000_003 + epoch + 1  # no two of these for fewer than a million epochs
    torch.manual_seed(seed)  # dropout
    order_generator, augment_generator = (torch.Generator().manual_seed(seed + part) for part in (0, 1 << 40))
    order = torch.randperm(len(data.train), generator=order_generator).to(device)
    total_loss = torch.zeros((), device=device)
    total_correct = torch.zeros((), dtype=torch.int64, device=device)
    model.train()
    for batch in order.tensor_split(data.steps_per_epoch):  # of nearly equal size: no step on a handful of images
        if interrupted():
            raise Interrupted(run.label())
        optimizer.zero_grad()
        for index in batch.split(MICRO_BATCH):
            images, labels = data.train.images[index], data.train.labels[index]
            if data.augment:
                images = data.augment(images, augment_generator)
            logits = _forward(run, model, images)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            (loss / len(batch)).backward()
            total_loss += loss.detach()
            total_correct += (logits.argmax(dim=1) == labels).sum()
        optimizer.step()
    return total_loss.item() / len(order), total_correct.item() / len(order)


def _forward(run: Run, model: nn.Module, images: Tensor) -> Tensor:
    """Logits in fp32; convolutions and matrix products in bf16 where the run and the hardware have it."""
    dtype = _autocast_dtype(run, images.device.type)
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
        return model(images.contiguous(memory_format=torch.channels_last)).float()


@functools.cache
def _hardware_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and "avx512_bf16" in _cpu_field("flags").split()


def _autocast_dtype(run: Run, device: str) -> torch.dtype | None:
    if run.precision not in ("auto", "fp32"):
        raise InputError(f"unknown precision {run.precision!r}; allowed: auto, fp32")
    return torch.bfloat16 if run.precision == "auto" and _hardware_bf16(device) else None


def _evaluate(run: Run, model: nn.Module, split: Split) -> tuple[float, float]:
    """Mean loss and accuracy over a split, in eval mode."""
    model.eval()
    total_loss = torch.zeros((), device=split.labels.device)
    total_correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    with torch.inference_mode():
        for images, labels in zip(split.images.split(EVAL_BATCH), split.labels.split(EVAL_BATCH), strict=True):
            logits = _forward(run, model, images)
            total_loss += F.cross_entropy(logits, labels, reduction="sum")
            total_correct += (logits.argmax(dim=1) == labels).sum()
    return total_loss.item() / len(split), total_correct.item() / len(split)


def _evaluate_train(run: Run, model: nn.Module, data: _Data) -> tuple[float, float]:
    """The same over the training images, center-cropped where training augments them."""
    if not data.augment:
        return _evaluate(run, model, data.train)
    size = crop_size(data.train.images.shape[-1])
    parts = [standardize(center_crop(part, size)) for part in data.train.images.split(EVAL_BATCH)]
    return _evaluate(run, model, Split(torch.cat(parts), data.train.labels))


# --- bookkeeping --------------------------------------------------------------------------------------


def _fresh_progress() -> Progress:
    return Progress({column: [] for column in HISTORY_COLUMNS}, dict.fromkeys(REACHED))


def _log_epoch(
    run: Run, model: nn.Module, data: _Data, progress: Progress, loss: float, accuracy: float, seconds: float
) -> None:
    """Evaluate after an epoch and append to the history; note when the run overfits and when it is fitted."""
    start, epochs = time.perf_counter(), len(progress.history["epoch"]) + 1
    validation = _evaluate(run, model, data.validation) if data.validation else (None, None)
    test = _evaluate(run, model, data.monitored)
    eval_accuracy = None
    if accuracy >= NEARLY_FITTED and progress.reached["fitted_epochs"] is None:
        eval_accuracy = _evaluate_train(run, model, data)[1]
    for goal, met in (("overfit", loss < OVERFIT_LOSS), ("fitted", eval_accuracy == 1.0)):
        if met and progress.reached[f"{goal}_epochs"] is None:
            progress.reached |= {f"{goal}_epochs": epochs, f"{goal}_steps": epochs * data.steps_per_epoch}
    seconds += time.perf_counter() - start
    progress.seconds += seconds
    rate = run.learning_rate * run.decay ** (epochs - 1)
    row = (epochs, rate, loss, accuracy, eval_accuracy, *validation, *test, round(seconds, 3))
    for column, value in zip(progress.history.values(), row, strict=True):
        column.append(value)


def _outcome(run: Run, progress: Progress) -> str | None:
    """Why the run is over, or None while it is not."""
    losses = progress.history["train_loss"]
    if losses and not math.isfinite(losses[-1]):
        return "diverged"
    if run.stop_when_fitted and None not in progress.reached.values():
        return "fitted"
    return "epochs" if len(losses) >= run.epochs else None


def _final(run: Run, model: nn.Module, data: _Data) -> dict[str, float | None]:
    """The final evaluation; see Record.final."""
    values = {}
    for name, split in (("test", data.test), ("changed_test", data.changed_test)):
        values[f"{name}_loss"], values[f"{name}_accuracy"] = _evaluate(run, model, split) if split else (None, None)
    train_loss, train_accuracy = _evaluate_train(run, model, data)
    return {"train_loss": train_loss, "train_accuracy": train_accuracy} | values


def _save_checkpoint(
    path: Path | None, run: Run, dataset: Dataset, model: nn.Module, optimizer: torch.optim.Optimizer, state: Progress
) -> None:
    if path is None:
        return
    partial = path.with_suffix(".partial")
    weights = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({"key": run.key(dataset.fingerprint), "progress": vars(state), **weights}, partial)
    os.replace(partial, path)


def _resume(
    path: Path | None, run: Run, dataset: Dataset, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress:
    """Load a checkpoint of this very run into model and optimizer; an unreadable one is as good as none."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True) if path and path.exists() else None
    except Exception:  # torch raises many kinds on a damaged file
        state = None
    if state is None or state["key"] != run.key(dataset.fingerprint):
        return _fresh_progress()
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])


# --- provenance ---------------------------------------------------------------------------------------


@functools.cache
def environment(device: str) -> dict[str, Any]:
    """Commit, versions and hardware of this process."""
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        **dict(zip(("commit", "dirty"), _commit(), strict=True)),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")},
        "device": device,
        "hardware": gpu or _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _commit() -> tuple[str | None, bool | None]:
    """The source's commit, and whether code that bears on results differs from it."""
    try:
        git = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=True)
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        status = git(["git", "status", "--porcelain", "--", "lib", "requirements.txt"]).stdout
        return commit, bool(status.strip())
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _cpu_name() -> str:
    return _cpu_field("model name") or platform.processor() or platform.machine()


@functools.cache
def _cpu_field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
