"""Photographs as they come, in a folder of files, a zip of it or parquet files: class names and encoded images.

Each source lists its images by split in a fixed order: files by class and then by name, parquet files in their own
order. The validation split is the test set: the paper evaluates there, and the labels of the test images were never
published. Nothing is read until it is asked for.
"""

import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from lib.config import InputError
from lib.files import one_line
from lib.splits import SPLITS

SUFFIXES = (".jpeg", ".jpg", ".png")
WORDS = ("words.txt", "classes.txt", "LOC_synset_mapping.txt")  # lines of a WordNet id and its words
ANNOTATIONS = ("val/val_annotations.txt", "LOC_val_solution.csv")  # Stanford's and Kaggle's: images and their wnids
FILES = 256  # in a chunk
ROWS = 64  # of a parquet file in memory at a time

Read = Callable[[], bytes]  # one encoded image


@dataclass(frozen=True)
class Chunk:
    """Encoded images that are decoded together: names and labels [n], and what reads them, one after the other."""

    names: list[str]
    labels: list[int]
    read: Callable[[], Iterable[Read]]


class Tree:
    """A folder of image files: train/<wnid>/ and val/<wnid>/ with images at any depth; where one of ANNOTATIONS has the
    wnid of each validation image, val/ may be flat."""

    kind, below = "tree", ""  # below the folder: where train/ and val/ are

    def __init__(self, path: Path):
        self.path = self.folder = path

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of every file of the two splits by its path from there on, '/' between its parts."""
        folders = {f"{split}/": f"{self.path}/{self.below}{split}" for split in ("train", "val")}
        return {path: size for split, folder in folders.items() for path, size in _walk(folder, split)}

    @property
    def state(self) -> list[tuple]:
        """What tells these files from others: the images' paths and sizes, which a copy keeps, and the annotations."""
        images = [each for each in self.sizes.items() if each[0].lower().endswith(SUFFIXES)]
        texts = [(name, self._content(name)) for name in ANNOTATIONS]
        return sorted(images + [(name, hashlib.sha256(text).hexdigest()) for name, text in texts if text])

    def read(self, path: str) -> bytes:
        """Content of a file."""
        return (self.path / path).read_bytes()

    @cached_property
    def images(self) -> dict[str, list[tuple[str, str]]]:
        """WordNet id and path of every image by split, sorted.

        Raises:
            InputError: a line of the annotations names no class.
        """
        found = {"train": [], "val": []}
        for path in self.sizes:
            split, _, below = path.partition("/")
            if split in found and path.lower().endswith(SUFFIXES):
                folder = below.partition("/")[0]
                wnid = self._annotated.get(_stem(path), folder) if split == "val" else folder
                found[split].append((sys.intern(wnid), path))
        return {"train": sorted(found["train"]), "test": sorted(found["val"])}

    @cached_property
    def _annotated(self) -> dict[str, str]:
        """WordNet ids of validation images by their names, which Kaggle gives without an ending."""
        wnids = {}
        for file in ANNOTATIONS:
            for name, *rest in (line.replace(",", " ").split() for line in self._lines(file) if line.strip()):
                if not rest:
                    raise InputError(f"{self.path}/{file} is damaged: {name!r} has no class")
                wnids[_stem(name)] = rest[0]
        return wnids

    @cached_property
    def keys(self) -> list[str]:
        """WordNet ids of the classes, sorted. An empty folder is no class.

        Raises:
            InputError: there are no images, or validation images of a class without training images.
        """
        train, test = ({wnid for wnid, _ in self.images[split]} for split in SPLITS)
        if not train or not test:
            raise InputError(f"{self.path} has no images in {self.below}{'val' if train else 'train'}/")
        unknown = sorted(test - train)
        if unknown and (not test & train or unknown[0].lower().endswith(SUFFIXES)):  # something else in classes' place
            needed = f"a folder for each class, or {' or '.join(ANNOTATIONS)} in {self.path}"
            raise InputError(f"{self.path}/{self.below}val needs {needed}: it has {unknown[0]}")
        if unknown:
            raise InputError(f"{self.path}/{self.below}val has images of {unknown[0]!r}, which train/ has none of")
        return sorted(train)

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes: the WordNet id, and its words where a file has them.

        Raises:
            InputError: a damaged file.
        """
        words = {wnid: text for name in WORDS for wnid, text in _pairs(self._lines(name))}
        if not words and (meta := self._content("meta.bin")):  # torchvision's, made while extracting
            try:
                names, _ = torch.load(io.BytesIO(meta), weights_only=True)
            except Exception as error:  # torch raises many kinds
                raise InputError(f"{self.path}/meta.bin is damaged: delete it") from error
            words = {wnid: ", ".join(synonyms) for wnid, synonyms in names.items()}
        return [f"{wnid} {words.get(wnid, '')}".strip() for wnid in self.keys]

    def chunks(self, split: str, labels: dict[str, int]) -> list[Chunk]:
        """The split's images of the classes that labels has, in their order."""
        kept = [(labels[wnid], path) for wnid, path in self.images[split] if wnid in labels]
        return [self._chunk(kept[start : start + FILES]) for start in range(0, len(kept), FILES)]

    def _chunk(self, images: list[tuple[int, str]]) -> Chunk:
        paths = [path for _, path in images]
        where = [self.below + path for path in paths]
        return Chunk(paths, [label for label, _ in images], lambda: (partial(self.read, path) for path in where))

    def _lines(self, path: str) -> list[str]:
        return self._content(path).decode(errors="replace").splitlines()

    def _content(self, path: str) -> bytes:
        with suppress(FileNotFoundError, KeyError):  # a folder's and a zip's word for a missing file
            return self.read(path)
        return b""


class Kaggle(Tree):
    """ImageNet as Kaggle's archive has it: train/ and a flat val/ three folders down, the text files at the top."""

    below = "ILSVRC/Data/CLS-LOC/"


class Zip(Tree):
    """The same folder as a zip file, which is read without extracting it."""

    kind = "zip"

    def __init__(self, path: Path):
        self.path, self.folder = path, path.parent

    @cached_property
    def archive(self) -> zipfile.ZipFile:
        """The open file; threads may read from it at once.

        Raises:
            InputError: it is damaged.
        """
        try:
            return zipfile.ZipFile(self.path)
        except zipfile.BadZipFile as error:
            raise InputError(f"{self.path} is damaged: delete it") from error

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of every file by its path below the zip's one folder."""
        infos = {info.filename.partition("/")[2]: info for info in self.archive.infolist() if not info.is_dir()}
        return {path: info.file_size for path, info in infos.items() if "/." not in f"/{path}"}

    @property
    def state(self) -> list[tuple]:
        """What tells this file from others."""
        return [_state(self.path)]

    def read(self, path: str) -> bytes:
        """Content of a file in the zip."""
        return self.archive.read(f"{self.path.stem}/{path}")


class Parquet:
    """Parquet files as the Hugging Face Hub serves them: a struct column 'image' or 'img' and a column 'label'.

    Args:
        folder: where a classes.txt may lie, else beside the files.
        shards: files by split.
    """

    kind = "parquet"

    def __init__(self, folder: Path, shards: dict[str, list[Path]]):
        self.folder, self.shards = folder, shards

    @property
    def state(self) -> list[tuple]:
        """What tells these files from others."""
        return [_state(path) for paths in self.shards.values() for path in paths]

    @cached_property
    def labels(self) -> dict[Path, list[np.ndarray]]:
        """Labels of every file by row group.

        Raises:
            InputError: a damaged file, or labels that are missing or no whole numbers.
        """
        return {path: _labels(path) for paths in self.shards.values() for path in paths}

    @cached_property
    def keys(self) -> list[int]:
        """The labels of the training images, sorted. A name without images is no class.

        Raises:
            InputError: a split without images, a label that has no class name, or test images of a class without
                training images.
        """
        train, test = (self._found(split) for split in SPLITS)
        if not train or not test:
            raise InputError(f"{self.folder} has no {'test' if train else 'training'} images")
        found = sorted(train | test)
        total = len(self._names) or found[-1] + 1
        if found[0] < 0 or found[-1] >= total:
            raise InputError(f"{self.folder} has labels from {found[0]} to {found[-1]}; allowed: 0 to {total - 1}")
        if test - train:
            raise InputError(f"{self.folder} has test images of label {min(test - train)}, but no training images")
        return sorted(train)

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes: lines of classes.txt, the names in the files' metadata, or the labels."""
        return [self._names[label] if self._names else str(label) for label in self.keys]

    def _found(self, split: str) -> set[int]:
        return {int(label) for path in self.shards[split] for group in self.labels[path] for label in np.unique(group)}

    @cached_property
    def _names(self) -> list[str]:
        first = self.shards["train"][0]
        for path in (self.folder / "classes.txt", first.parent / "classes.txt"):
            if path.is_file():
                return [" ".join(pair) for pair in _pairs(path.read_text().splitlines())]
        with hub_layout(first):
            features = json.loads((pq.read_schema(first).metadata or {}).get(b"huggingface", b"{}"))
            return features.get("info", {}).get("features", {}).get("label", {}).get("names", [])

    def chunks(self, split: str, labels: dict[int, int]) -> list[Chunk]:
        """The split's images of the classes that labels has, in their order; one chunk is of one row group."""
        groups = [(path, *group) for path in self.shards[split] for group in enumerate(self.labels[path])]
        return [chunk for group in groups if (chunk := self._chunk(*group, labels)).names]

    def _chunk(self, path: Path, group: int, found: np.ndarray, labels: dict[int, int]) -> Chunk:
        rows = [row for row, label in enumerate(found.tolist()) if label in labels]
        names = [f"{path.name} row {row} of row group {group}" for row in rows]
        return Chunk(names, [labels[int(found[row])] for row in rows], partial(_images, path, group, set(rows)))


Source = Tree | Parquet


def _walk(folder: str, below: str) -> Iterator[tuple[str, int]]:
    """Path and bytes of every file in a folder that is not hidden."""
    for entry in os.scandir(folder) if os.path.isdir(folder) else ():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, f"{below}{entry.name}/")
        elif entry.is_file():
            yield below + entry.name, entry.stat().st_size


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _state(path: Path) -> tuple[str, int, int]:
    return path.name, path.stat().st_size, path.stat().st_mtime_ns


def _pairs(lines: list[str]) -> list[tuple[str, str]]:
    """WordNet id and words of every line, whether a tab or a space parts them."""
    return [(wnid, " ".join(words)) for wnid, *words in (line.split() for line in lines if line.strip())]


@contextmanager
def hub_layout(path: Path) -> Iterator[None]:
    """Name the file where reading it fails.

    Raises:
        InputError: in place of what was raised in the block.
    """
    try:
        yield
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged or not in the Hub's layout: {one_line(error)}") from error


def _labels(path: Path) -> list[np.ndarray]:
    """Labels of one parquet file by row group."""
    with hub_layout(path), pq.ParquetFile(path) as file:
        groups = [file.read_row_group(group, columns=["label"])["label"] for group in range(file.num_row_groups)]
        if any(group.null_count for group in groups):
            raise ValueError("some labels are missing")
        return [group.cast(pa.int64()).to_numpy() for group in groups]


def _images(path: Path, group: int, rows: set[int]) -> Iterator[Read]:
    """What reads the images of some rows of a row group, a few in memory at a time."""
    with hub_layout(path), pq.ParquetFile(path) as file:
        column = "img" if "img" in file.schema_arrow.names else "image"
        batches = file.iter_batches(ROWS, row_groups=[group], columns=[f"{column}.bytes"], use_threads=False)
        scalars = (scalar for batch in batches for scalar in pc.struct_field(batch.column(0), "bytes"))
        yield from (scalar.as_py for row, scalar in enumerate(scalars) if row in rows)
