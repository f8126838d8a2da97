"""What made a record: commit, versions, hardware."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from lib.config import ROOT


@functools.cache
def environment(device: str) -> dict[str, Any]:
    """Commit, versions and hardware of this process."""
    return {
        **dict(zip(("commit", "dirty"), _commit(), strict=True)),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")},
        "device": device,
        "hardware": hardware(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def hardware(device: str) -> str:
    """Name of the GPU or the processor."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return cpu_field("model name") or platform.processor() or platform.machine()


@functools.cache
def cpu_field(name: str) -> str:
    """A field of the first processor in /proc/cpuinfo, or '' where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _commit() -> tuple[str | None, bool | None]:
    """The source's commit, and whether code that bears on results differs from it."""
    try:
        git = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=True)
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        status = git(["git", "status", "--porcelain", "--", "lib", "requirements.txt"]).stdout
        return commit, bool(status.strip())
    except (OSError, subprocess.CalledProcessError):
        return None, None
