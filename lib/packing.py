"""Decode the photographs of a source once, all to one size, into a memory-mapped file for each split.

A pack is a folder beside the data, or in the cache where the data is not to be written: the images of each split as
one .npy, its labels, which rows of it are images, and meta.json, which appears last. Whatever ends the process, the
next one packs only what is missing; two at once take turns.
"""

import hashlib
import io
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from filelock import FileLock
from PIL import Image, ImageOps
from tqdm import tqdm

from lib.config import CACHE, InputError, cores, redraw_seconds
from lib.files import make_room, one_line, writable
from lib.sources import Chunk, Read, Source
from lib.splits import SPLITS, Dataset, ImageFile, Split, class_indices, fingerprint

UNREADABLE_SHARE = 0.01  # of the images; with more, it is the data set that is damaged
NAMED = 10  # unreadable images whose names are told
CHECKED_BYTES = 1 << 30  # the fingerprint of a pack up to this size is checked whenever it is loaded: about a second


@dataclass(frozen=True)
class Task:
    """A chunk to be decoded, and where in its split it starts."""

    split: str
    start: int
    chunk: Chunk


def packed(name: str, source: Source, size: int, classes: int | None = None) -> Dataset:
    """The source's images, size x size pixels, from its pack, which is made now if there is none.

    Args:
        classes: how many of the classes, evenly spaced over their list; None: all.

    Raises:
        InputError: a damaged pack or source, no room, or a number of classes that is not allowed.
    """
    digest = hashlib.sha256(repr((source.kind, size, classes)).encode())
    for file in source.state:
        digest.update(repr(file).encode())
    pack = f"{name}-{size}-{digest.hexdigest()[:16]}"
    beside, cached = source.folder / "packed" / pack, CACHE / pack
    done = [folder for folder in (beside, cached) if (folder / "meta.json").exists()]
    folder = done[0] if done else beside if writable(source.folder) else cached
    if not done:
        _pack(source, folder, size, classes)
    return _load(name, folder)


def pixels_text(size: int) -> str:
    """The last words of a packed data set's source."""
    return f"at {size}x{size} pixels"


def _load(name: str, folder: Path) -> Dataset:
    damaged = f"the packed images in {folder} are damaged: delete this folder"
    try:
        meta = json.loads((folder / "meta.json").read_text())
        train, test = _splits(folder)
        small = train.images.array.nbytes + test.images.array.nbytes <= CHECKED_BYTES
        is_whole = not small or fingerprint(train, test) == meta["fingerprint"]
        dataset = Dataset(name, train, test, tuple(meta.pop("classes")), **meta)
    except (OSError, EOFError, LookupError, TypeError, ValueError) as error:  # files missing, empty or too short
        raise InputError(damaged) from error
    if not is_whole:
        raise InputError(damaged)
    return dataset


def _splits(folder: Path) -> list[Split]:
    return [
        Split(
            ImageFile(
                np.load(folder / f"{split}_images.npy", mmap_mode="r"),
                torch.from_numpy(np.load(folder / f"{split}_rows.npy")),
            ),
            torch.from_numpy(np.load(folder / f"{split}_labels.npy")),
        )
        for split in SPLITS
    ]


# --- packing ------------------------------------------------------------------------------------------


def _pack(source: Source, folder: Path, size: int, classes: int | None) -> None:
    """Decode what is not decoded yet, leave out what could not be, and write meta.json."""
    kept = class_indices(classes, len(source.keys))
    names = [source.classes[index] for index in kept]  # now: what keeps them from being read must not cost hours
    tasks = _tasks(source, {source.keys[index]: label for label, index in enumerate(kept)})
    make_room(folder, 0)
    with FileLock(folder / "packing.lock"), (folder / "packing.jsonl").open("a+") as log:
        log.seek(0)
        if (folder / "meta.json").exists():  # another process was faster
            return
        reports = _decode_all(tasks, folder, size, log)
        meta = {
            "classes": names,
            "source": f"{source.kind} files, {pixels_text(size)}",
            "note": _leave_out(tasks, reports, folder, log),
            "fingerprint": fingerprint(*_splits(folder)),
        }
        (folder / "meta.partial").write_text(json.dumps(meta))
        os.replace(folder / "meta.partial", folder / "meta.json")


def _tasks(source: Source, labels: dict) -> list[Task]:
    tasks = []
    for split in SPLITS:
        start = 0
        for chunk in source.chunks(split, labels):
            tasks.append(Task(split, start, chunk))
            start += len(chunk.names)
    return tasks


def _decode_all(tasks: list[Task], folder: Path, size: int, log: TextIO) -> dict[int, dict]:
    """Decode every task that the log has no report of; returns the reports of all by the task's number.

    Threads do, not processes: Pillow decodes and resizes outside the interpreter's lock, where nearly all the time of
    a full-size photograph goes.
    """
    reports = _logged(log)
    left = [number for number in range(len(tasks)) if number not in reports]
    sizes = [len(task.chunk.names) for task in tasks]
    total, todo = sum(sizes), sum(sizes[number] for number in left)
    make_room(folder, todo * 3 * size**2)
    if not reports:
        _allocate(tasks, folder, size)
    how = {"desc": f"packing {folder.name}", "mininterval": redraw_seconds(), "leave": False}
    bar = tqdm(total=total, initial=total - todo, **how)
    chunks, decode_one = (tasks[number] for number in left), partial(_decode_chunk, folder, size)
    with bar, ThreadPoolExecutor(cores()) as pool, closing(pool.map(decode_one, chunks)) as decoded:
        for number, report in zip(left, decoded, strict=True):
            reports[number] = report
            log.write(f"\n{json.dumps([number, report])}")  # a line torn by a kill does not spoil the next
            log.flush()
            bar.update(sizes[number])
    return reports


def _logged(log: TextIO) -> dict[int, dict]:
    """Reports of the log by the task's number; a line that a kill has torn is none."""
    reports = {}
    for line in log:
        with suppress(ValueError):
            number, report = json.loads(line)
            reports[number] = report
    return reports


def _allocate(tasks: list[Task], folder: Path, size: int) -> None:
    for split in SPLITS:
        total = sum(len(task.chunk.names) for task in tasks if task.split == split)
        np.lib.format.open_memmap(folder / f"{split}_images.npy", "w+", np.uint8, (total, 3, size, size))


def _decode_chunk(folder: Path, size: int, task: Task) -> dict:
    """Decode a chunk into its place; returns its unreadable images by row, and how many were converted to RGB."""
    path = folder / f"{task.split}_images.npy"
    unreadable, converted = {}, 0
    with path.open("r+b") as file:
        file.seek(np.load(path, mmap_mode="r").offset + task.start * 3 * size**2)
        for row, (name, read) in enumerate(zip(task.chunk.names, task.chunk.read(), strict=True), task.start):
            try:
                pixels, was_rgb = decode(_content(name, read), size)
            except (InputError, MemoryError):
                raise
            except Exception as error:  # whatever a damaged file leads Pillow's many readers to
                pixels, was_rgb = np.zeros((3, size, size), np.uint8), True
                unreadable[row] = f"{name} ({type(error).__name__})"
            file.write(pixels)
            converted += not was_rgb
        file.flush()
        os.fsync(file.fileno())
    return {"unreadable": unreadable, "converted": converted}


def _content(name: str, read: Read) -> bytes:
    """An encoded image, which may be damaged; what keeps the disk from giving it may pass, and is no reason to leave
    it out."""
    try:
        return read()
    except OSError as error:
        raise InputError(f"cannot read {name}: {one_line(error)}; what is packed so far is kept") from error


def decode(data: bytes, size: int) -> tuple[np.ndarray, bool]:
    """Pixels [3, size, size] uint8 of an encoded image, and whether it was RGB before.

    The shorter side is resized to the size and the centre kept; an image of that size stays as it is. A large JPEG
    is decoded at a half, a quarter or an eighth, never below twice the size. Rotation tags are ignored, as
    torchvision does.

    Raises:
        Exception: of many kinds, for a damaged or truncated image.
    """
    with Image.open(io.BytesIO(data)) as image:
        was_rgb = image.mode == "RGB"
        image.draft(None, (2 * size, 2 * size))
        square = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1)), was_rgb


def _leave_out(tasks: list[Task], reports: dict[int, dict], folder: Path, log: TextIO) -> str:
    """Write which rows are images, and their labels; returns a note on those that are not or were converted.

    Raises:
        InputError: too many cannot be read; the log is emptied, so that all are tried again next time.
    """
    unreadable = [name for report in reports.values() for name in report["unreadable"].values()]
    total = sum(len(task.chunk.names) for task in tasks)
    told = ", ".join(unreadable[:NAMED]) + (", ..." if len(unreadable) > NAMED else "")
    lost = f"{len(unreadable):,} of {total:,} images could not be read"
    if len(unreadable) > UNREADABLE_SHARE * total:
        log.truncate(0)
        raise InputError(f"{lost} ({told}); allowed: {UNREADABLE_SHARE:.0%} at most")
    for split in SPLITS:
        _write_rows(tasks, reports, folder, split)
    converted = sum(report["converted"] for report in reports.values())
    notes = [f"{lost} and were left out: {told}."] if unreadable else []
    for note in notes:
        print(note, file=sys.stderr)
    if converted:
        notes.append(f"{converted:,} of {total:,} images were not RGB and were converted.")
    return " ".join(notes)


def _write_rows(tasks: list[Task], reports: dict[int, dict], folder: Path, split: str) -> None:
    """Save the labels of a split's readable images, and their rows in its file.

    Raises:
        InputError: there are none.
    """
    numbers = [number for number, task in enumerate(tasks) if task.split == split]
    labels = np.array([label for number in numbers for label in tasks[number].chunk.labels], np.int64)
    lost = [int(row) for number in numbers for row in reports[number]["unreadable"]]
    rows = np.setdiff1d(np.arange(len(labels)), lost)
    if not len(rows):
        raise InputError(f"{folder.name} has no readable {split} images")
    np.save(folder / f"{split}_rows.npy", rows)
    np.save(folder / f"{split}_labels.npy", labels[rows])
