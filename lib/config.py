"""What the user may choose, where it comes from, and how a wrong choice is refused.

PROFILE, DATASET and DEVICE, which `make` sets in the environment, are lower-cased notebook parameters, too.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote

import torch

ROOT = Path(__file__).resolve().parent.parent
RECORDED = (ROOT / "report" / "runs").resolve()  # the records that come with the repository
RETRAINED = (ROOT / "report" / "retrained").resolve()  # those of RETRAIN=1
NOTEBOOKS = ROOT / "notebooks"
CACHE = ROOT / ".cache"  # decoded data sets
DEVICES = ("auto", "cpu", "cuda")


class InputError(ValueError):
    """A wrong input: the message is one line that names the value and what is allowed."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook in place of a traceback."""
        return [f"error: {self}"]


def from_environment(name: str, default: str) -> str:
    """Value of an environment variable; unset and empty both mean the default."""
    return os.environ.get(name) or default


def path_from_environment(name: str, default: str) -> Path:
    """A folder named by an environment variable; relative paths start at the repository's root, wherever the process
    runs (notebooks run in their own folder); errors as folder_of's."""
    return folder_of(from_environment(name, default), ROOT)


def folder_of(text: str, start: Path) -> Path:
    """A folder by its name; relative ones start at `start`.

    Raises:
        InputError: ~ of an unknown user, or a character that no name has.
    """
    try:
        return (start / Path(text).expanduser()).resolve()
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{text!r} is no name of a folder: {error}") from error


def from_notebooks(path: Path) -> str:
    """A link to a file or folder as it holds in a notebook in JupyterLab."""
    return quote(Path(os.path.relpath(path, NOTEBOOKS)).as_posix())


def data_root() -> Path:
    """Folder of the user's data sets."""
    return path_from_environment("DATA_ROOT", "data")


def retrains() -> bool:
    """Whether all is to be trained again, beside the records: RETRAIN=1.

    Raises:
        InputError: RETRAIN is neither 0 nor 1.
    """
    return one_of("RETRAIN", from_environment("RETRAIN", "0"), ("0", "1")) == "1"


def is_offline() -> bool:
    """Whether nothing is to be downloaded: OFFLINE=1.

    Raises:
        InputError: OFFLINE is neither 0 nor 1.
    """
    return one_of("OFFLINE", from_environment("OFFLINE", "0"), ("0", "1")) == "1"


def store_root(given: str = "") -> Path:
    """Folder of the records: the one given, else STORE; those of RETRAIN=1 have one of their own.

    Raises:
        InputError: RETRAIN=1 with the repository's own records as the store, or no name of a folder.
    """
    default = path_from_environment("STORE", str(RETRAINED if retrains() else RECORDED))
    store = folder_of(given, Path.cwd()) if given else default
    if retrains() and store == RECORDED:
        raise InputError(f"RETRAIN=1 trains beside the records in {RECORDED}: name another STORE, or none")
    return store


def cores() -> int:
    """Processor cores that this process may use: on a shared machine not all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def redraw_seconds() -> float:
    """How often a progress bar is drawn: often where somebody looks on, seldom where each time is a line of a log."""
    return 0.5 if sys.stderr.isatty() or "ipykernel" in sys.modules else 30.0


def one_of(what: str, value: object, allowed: Iterable[object]) -> object:
    """Return value if it is allowed.

    Raises:
        InputError: it is not.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        raise InputError(f"unknown {what} {value!r}; allowed: {', '.join(map(str, allowed))}")
    return value


def resolve_device(name: str) -> str:
    """'cpu' or 'cuda' for one of DEVICES.

    Raises:
        InputError: unknown name, or CUDA where there is none.
    """
    one_of("device", name, DEVICES)
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("device 'cuda' asked for, but torch finds no CUDA GPU here; allowed: auto, cpu")
    return "cuda" if available and name != "cpu" else "cpu"


def parse_parameter(text: str) -> tuple[str, object]:
    """Split 'name=value'; the value is read as JSON where it is JSON (1e-3, [0, 0.5], true), else as a string.

    Raises:
        InputError: no '=' in the text.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"parameter {text!r} is not of the form name=value")
    try:
        return name.strip(), json.loads(value)
    except (ValueError, RecursionError):  # not JSON, a number too long, lists too deep
        return name.strip(), value


def ends() -> list[int]:
    """The signals that ask to end: Ctrl-C, a kill and a closed terminal, unless that is to be ignored (nohup)."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


def run_command(main: Callable[[], int]) -> int:
    """Run a command line: a wrong input or a full disk is one line on stderr and exit status 2, no traceback; Ctrl-C,
    a kill or a closed terminal is one line and 130; where nobody reads on, 141 as for other programs."""
    for number in ends():
        signal.signal(number, signal.default_int_handler)  # they end as gently as Ctrl-C
    try:
        return main()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be written there is dropped
        return 141
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what was finished is recorded; the same command goes on from there", file=sys.stderr)
        return 130
