"""What made a record: commit, versions, hardware."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from lib import distributed
from lib.config import ROOT, cores


@functools.cache
def environment(device: str) -> dict[str, Any]:
    """Commit, versions and hardware of this process, and how many share a run."""
    commit, dirty = _commit()
    return {
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")},
        "device": device,
        "hardware": hardware(device),
        "cores": cores(),
        "processes": distributed.world(),
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
    """The source's commit, and whether code that bears on results differs from it; of a copy without its repository
    what the environment variable SOURCE_COMMIT says, whose setter answers for the copy."""
    try:
        own = os.environ | {"GIT_CEILING_DIRECTORIES": str(ROOT.parent)}  # not of a repository that the copy lies in
        git = functools.partial(subprocess.run, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        status = git(["git", "status", "--porcelain", "--", "lib", "requirements.txt"]).stdout
        return commit, bool(status.strip())
    except (OSError, subprocess.CalledProcessError):
        commit = os.environ.get("SOURCE_COMMIT")
        return commit, False if commit else None
