"""Batches of images that lie in a file: threads read ahead of the training, which need not wait for the disk."""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from lib.splits import ImageFile

AHEAD = 4  # batches in reading at once


class Feed:
    """The images of K runs, batch by batch.

    Args:
        files: of each run.
        pin: whether batches go into pinned memory, from which a GPU fetches them while it computes.
    """

    def __init__(self, files: Sequence[ImageFile], pin: bool):
        self.files, self.pin = files, pin
        self.pool = ThreadPoolExecutor(AHEAD)
        self.batches: Iterable[Tensor] = iter(())
        self.reading: deque[Future] = deque()

    def begin(self, order: Tensor, parts: Sequence[slice]) -> None:
        """Start reading: for each batch the images at these columns of order [K, N]."""
        self.reading.clear()
        self.batches = iter([order[:, part] for part in parts])
        for _ in range(AHEAD):
            self._read_one_more()

    def next(self) -> Tensor:
        """The next batch, [K, N, 3, H, W] uint8."""
        batch = self.reading.popleft().result()
        self._read_one_more()
        return batch

    def _read_one_more(self) -> None:
        index = next(self.batches, None)
        if index is not None:
            self.reading.append(self.pool.submit(self._read, index))

    def _read(self, index: Tensor) -> Tensor:
        batch = torch.stack([file[rows].read() for file, rows in zip(self.files, index, strict=True)])
        return batch.pin_memory() if self.pin else batch
