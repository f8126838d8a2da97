"""Files of data sets and checkpoints: downloaded and checked, with room made for them, written whole or not at all."""

import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

import torch
from filelock import FileLock

from lib.config import InputError, is_offline

ATTEMPTS = 2  # at each mirror
TIMEOUT = 20.0  # seconds without a byte
WAY_OUT = "Set DATA_ROOT to a folder that holds one of these."


class NoData(InputError):
    """The data set is neither here nor to be downloaded."""


def download(urls: Sequence[str], folder: Path, name: str, md5: str, sought: str) -> Path:
    """Download a file into the folder, from the first of its mirrors that serves it intact.

    It gets its name once it is whole: what an interrupted download leaves is begun anew. Processes take turns, and
    those that waited find the file.

    sought: what is not to be had, and where it was looked for, for the message.

    Raises:
        NoData: none does, or OFFLINE=1; the message lists what was tried.
        InputError: the disk is full.
    """
    from torchvision.datasets.utils import check_integrity

    if is_offline():
        raise NoData(f"{sought}; with OFFLINE=1 nothing is downloaded. {WAY_OUT}")
    tried = []
    default_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none: a silent host would hang for ever
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{name}.partial"
        with FileLock(folder / f"{name}.lock"):
            if check_integrity(str(folder / name), md5):
                return folder / name
            for url in urls:
                if not (problem := _fetch(url, partial, md5)):
                    return partial.replace(folder / name)
                tried.append(f"{url} ({problem})")
    except OSError as error:
        tried.append(f"cannot write to {folder} ({one_line(error)})")
    finally:
        socket.setdefaulttimeout(default_timeout)
    raise NoData(f"{sought}, {', '.join(tried)}. {WAY_OUT}")


def _fetch(url: str, path: Path, md5: str) -> str:
    """Download from one mirror; returns what was wrong with the last attempt, '' where the file is there."""
    from torchvision.datasets.utils import download_url

    problem = ""
    for attempt in range(ATTEMPTS):
        time.sleep(attempt)
        try:
            download_url(url, str(path.parent), path.name, md5)
            return ""
        except (OSError, HTTPException, RuntimeError) as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # no other mirror helps
                raise InputError(f"{path.parent} has no room for {path.stem}") from error
            is_sent = isinstance(error, RuntimeError)  # torchvision's, of a wrong md5
            problem = "what it sends is cut off or another file" if is_sent else one_line(error)
    return problem


def make_room(folder: Path, needed: int) -> None:
    """Create a folder and check that it can take `needed` bytes.

    Raises:
        InputError: it cannot be created, or its disk has less room.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create {folder}: {one_line(error)}") from error
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(f"{folder} has {free >> 20} MiB of free disk space; needed: {needed >> 20} MiB")


def save(value: object, path: Path) -> None:
    """torch.save to a file that appears whole or not at all; for one process at a time.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_suffix(".partial")
    try:
        torch.save(value, partial)
    except RuntimeError as error:  # what torch makes of a full disk
        partial.unlink(missing_ok=True)
        raise OSError(f"cannot write {partial}: {one_line(error)}") from error
    os.replace(partial, path)


def shards(folder: Path, **patterns: str) -> dict[str, list[Path]]:
    """Parquet files in a folder by split, from each split's pattern; none where there are none.

    Raises:
        InputError: those of one split only, or not as many as their names say: train-00000-of-00003.
    """
    found = {split: sorted(folder.glob(pattern)) for split, pattern in patterns.items()}
    if not any(found.values()):
        return {}
    if not all(found.values()):
        raise InputError(f"{folder} has parquet files of one split only; needed: {' and '.join(patterns.values())}")
    for files in found.values():
        totals = {int(total) for path in files for total in re.findall(r"-of-(\d+)", path.name)}
        if totals and totals != {len(files)}:  # an interrupted download has left some out
            raise InputError(f"{folder} has {len(files)} files like {files[0].name}; needed: {max(totals)}")
    return found


def writable(folder: Path) -> bool:
    """Whether files may be put there; a folder marked read-only stays as it is, even where root could write."""
    return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or its name."""
    return (str(error) or type(error).__name__).splitlines()[0]
