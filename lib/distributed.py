"""One run over several processes, as torchrun starts them: who this process is, and what all of them agree on.

Every process has the whole state and its part of each batch. Gradients are averaged by DistributedDataParallel;
batch statistics are those of the whole batch, so the run is the one that a single process makes, but for dropout's
masks, of which each process draws its own.
Without torchrun all functions mean one process and cost nothing.
"""

import functools
import os
import sys
from typing import Any, NoReturn

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import Tensor, nn

from lib.config import InputError


def start(device: str) -> None:
    """Join the other processes, if torchrun started this one.

    Raises:
        InputError: more processes than this machine has GPUs.
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return
    if device == "cuda":
        local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= count:
            raise InputError(f"process {local} has no GPU of its own; allowed: --nproc-per-node up to {count}")
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def end(status: int) -> NoReturn:
    """Exit with this status. A process that an error has kept from stop() exits at once: were Python taken down first,
    a thread of gloo that still holds a tensor would abort it, and stop() could wait for processes that wait for it."""
    if dist.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def world() -> int:
    """How many processes train the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 writes what is to be written."""
    return dist.get_rank() if dist.is_initialized() else 0


def part(size: int) -> slice:
    """This process's part of so many things."""
    return slice(size * rank() // world(), size * (rank() + 1) // world())


def agree(value: Any) -> Any:
    """The first process's value, which must be picklable, in all of them."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def total(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if world() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def all_of(values: Tensor) -> Tensor:
    """The values, on the CPU, of every process [processes, ...]."""
    if world() == 1:
        return values[None]
    rows = [torch.empty_like(values) for _ in range(world())]
    dist.all_gather(rows, values)
    return torch.stack(rows)


def synchronize_batch_norm(network: nn.Module) -> None:
    """Let batch norms take their statistics over the batches of all processes.

    As nn.SyncBatchNorm, which has no CPU version; the names in state_dict stay as they are.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = functools.partial(_batch_norm, module)


def _batch_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)
    values, dims = (x.float() if x.dtype == torch.bfloat16 else x), (0, 2, 3)
    count = total(values.new_tensor(values.numel() / values.shape[1]))
    mean = differentiable.all_reduce(values.sum(dims)) / count
    centered = values - mean.view(-1, 1, 1)
    variance = differentiable.all_reduce(centered.square().sum(dims)) / count  # not from squares: digits would cancel
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
        norm.num_batches_tracked += 1
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return (centered * scale.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).to(x.dtype)
