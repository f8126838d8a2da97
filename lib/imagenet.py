"""The two photograph data sets, ImageNet and Tiny ImageNet, in whichever layout they are found.

Tiny ImageNet is taken from the first of: the extracted original zip, the zip, parquet files as the Hugging Face Hub
serves them, a download. ImageNet, which cannot be downloaded without an account, is taken from the folders train/ and
val/, extracted from the official archives if need be, from Kaggle's archive, extracted, or from parquet files.
"""

import os
import shutil
import sys
from pathlib import Path

from filelock import FileLock

from lib.config import InputError, from_environment
from lib.files import WAY_OUT, NoData, download, make_room, one_line, shards, writable
from lib.packing import packed
from lib.sources import Kaggle, Parquet, Source, Tree, Zip
from lib.splits import Dataset

SIZES = {"imagenet": 299, "tiny-imagenet": 64}  # pixels: what the paper's Inception reads; as published
ALLOWED_SIZES = range(32, 513)
ZIP = "tiny-imagenet-200.zip"
ZIP_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
ZIP_MIRRORS = (f"http://cs231n.stanford.edu/{ZIP}",)
ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz")


def photographs(name: str, root: Path, classes: int | None = None) -> Dataset:
    """'imagenet' or 'tiny-imagenet' from the first source there is under root, decoded once: images in a file,
    [N, 3, S, S] uint8, where S is IMAGE_SIZE.

    Args:
        classes: how many of the classes, evenly spaced over their list; None: all.

    Raises:
        InputError: a wrong IMAGE_SIZE or number of classes, damaged files, or no room for the decoded images.
        NoData: there is none; the message lists what was looked for.
    """
    size = image_size(name)
    source = _imagenet(root / "imagenet") if name == "imagenet" else _tiny_imagenet(root)
    return packed(name, source, size, classes)


def own_size(name: str) -> int:
    """Height and width in pixels of a photograph data set's images where no others are asked for; 0 for all other data
    sets."""
    return SIZES.get(name, 0)


def image_size(name: str) -> int:
    """Height and width in pixels of a photograph data set's images: IMAGE_SIZE, or the data set's own; 0 for all other
    data sets.

    Raises:
        InputError: IMAGE_SIZE is not in ALLOWED_SIZES.
    """
    if not own_size(name):
        return 0
    text = from_environment("IMAGE_SIZE", str(own_size(name)))
    if not text.isdecimal() or int(text) not in ALLOWED_SIZES:
        raise InputError(
            f"IMAGE_SIZE {text!r} is not a whole number of pixels from {ALLOWED_SIZES[0]} to {ALLOWED_SIZES[-1]}"
        )
    return int(text)


def _tiny_imagenet(root: Path) -> Source:
    if (root / "tiny-imagenet-200").is_dir():
        return Tree(root / "tiny-imagenet-200")
    if (root / ZIP).is_file():
        return Zip(root / ZIP)
    if files := _shards(root / "tiny-imagenet"):
        return Parquet(root / "tiny-imagenet", files)
    sought = f"Tiny ImageNet is not to be had. Tried {root}/tiny-imagenet-200, {root}/{ZIP}, "
    return Zip(download(ZIP_MIRRORS, root, ZIP, ZIP_MD5, f"{sought}{root}/tiny-imagenet/*.parquet"))


def _imagenet(folder: Path) -> Source:
    if all((folder / name).is_file() for name in ARCHIVES):
        _extract(folder)
    for layout in (Tree, Kaggle):
        if all((folder / layout.below / split).is_dir() for split in ("train", "val")):
            return layout(folder)
    if files := _shards(folder):
        return Parquet(folder, files)
    raise NoData(
        f"ImageNet is not to be had, and cannot be downloaded without an account. Tried {folder}/train and "
        f"{folder}/val with a folder for each class, {', '.join(ARCHIVES)} in {folder}, Kaggle's {folder}/"
        f"{Kaggle.below}train and val, {folder}/train-*.parquet and val*-*.parquet, the same in {folder}/data. "
        f"{WAY_OUT}"
    )


def _extract(folder: Path) -> None:
    """Extract what is not extracted yet of the official archives, beside them.

    Raises:
        InputError: a damaged archive, no room, or a folder that is not to be written.
    """
    if not _packed_splits(folder):
        return
    if not writable(folder):
        raise InputError(f"{folder} is read-only: extract its archives elsewhere, or make it writable")
    work = folder / "partial"  # a killed extraction leaves nothing that looks whole
    with FileLock(folder / "partial.lock"):
        shutil.rmtree(work, ignore_errors=True)
        missing = _packed_splits(folder)  # another process may have been faster
        make_room(folder, sum((folder / f"ILSVRC2012_img_{split}.tar").stat().st_size for split in missing))
        work.mkdir()
        for name in ARCHIVES:
            (work / name).symlink_to((folder / name).resolve())
        for split in missing:
            _extract_split(work, split)
        shutil.rmtree(work)


def _packed_splits(folder: Path) -> list[str]:
    """Splits that are there as archives only."""
    return [split for split in ("train", "val") if not (folder / split).is_dir()]


def _extract_split(work: Path, split: str) -> None:
    from torchvision.datasets import ImageNet

    print(f"extracting ImageNet's {split} archive in {work.parent}, once", file=sys.stderr)
    try:
        ImageNet(str(work), split)  # checks the archives' md5
    except RuntimeError as error:
        raise InputError(f"an archive in {work.parent} is damaged: {one_line(error)}") from error
    shutil.copy(work / "meta.bin", work.parent / "meta.bin")
    os.replace(work / split, work.parent / split)


def _shards(folder: Path) -> dict[str, list[Path]]:
    """Parquet files by split, in the folder or, as the Hub has them, below data/."""
    names = {"train": "train-*.parquet", "test": "val*-*.parquet"}
    return shards(folder, **names) or shards(folder / "data", **names)
