"""What a run is, what its record holds, and where records live.

A run's key hashes its settings, the data set's fingerprint and the recipe version; the commit, library
versions, hardware and wall time belong to its provenance. One readable JSON file holds one record.
"""

import functools
import hashlib
import json
import math
import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from lib.config import RECORDED, InputError
from lib.files import make_room
from lib.statistics import crossing

RECIPE = 2  # bump by hand when training itself changes: older records then no longer count as these runs
# Settings that came after the recipe's first records: at these values they are no part of a key.
LATER = {"classes": None, "exact_only": False, "photo_augmentation": False}
LATER |= {"lrn": "tutorial", "initialization": "He", "across_channels": False}
NAME_CHARACTERS = 150  # of a record's file name before its key; file systems take 255 bytes, some of them less
NAMED = ("dataset", "model", "seed", "pixels", "label_corruption")  # settings that a run's label has in its own words
OVERFIT_LOSS = 0.05  # the running training loss below which a run counts as overfit (inferred from Fig. 1b)
COPIES = "runs"  # folder beside a report's pages, of copies of the records
STORE_BYTES = 2 << 30  # records and the checkpoints of what is training: most for `paper`, on a GPU


HISTORY_COLUMNS = ("epoch", "learning_rate", "train_loss", "train_accuracy", "eval_train_accuracy")
HISTORY_COLUMNS += ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy", "test_top5_accuracy")
HISTORY_COLUMNS += ("seconds",)
REACHED = ("overfit_epochs", "overfit_steps", "fitted_epochs", "fitted_steps")
RESULT_COLUMNS = ("randomization", "regularizers", "outcome", "epochs_run", "overfit_time", "steps_to_overfit")
RESULT_COLUMNS += ("train_loss", "train_accuracy", "train_top5_accuracy")
RESULT_COLUMNS += ("test_loss", "test_accuracy", "test_top5_accuracy")
RESULT_COLUMNS += ("changed_test_loss", "changed_test_accuracy", "changed_test_top5_accuracy")
RESULT_COLUMNS += (*REACHED, "running_train_accuracy")
RESULT_COLUMNS += ("last_test_accuracy", "best_test_accuracy", "best_test_top5_accuracy")
RESULT_COLUMNS += ("early_stopped_test_accuracy", "arithmetic")


@dataclass(frozen=True)
class Run:
    """Every setting that changes a result, with the paper's values as defaults where it states them."""

    dataset: str
    model: str
    seed: int = 0  # initialization, data order, augmentation, corruption, and which subset of the data
    train_size: int | None = None  # stratified subset of the training set; None: all
    test_size: int | None = None  # test images evaluated after every epoch; the final evaluation takes them all
    validation_size: int = 0  # training images held out, stratified, and evaluated after every epoch
    pixels: str = "original"
    label_corruption: float = 0.0
    width: float = 1.0
    optimizer: str = "sgd"  # or "adam", "rmsprop"
    learning_rate: float = 0.1
    decay: float = 0.95  # factor on the learning rate after every epoch
    momentum: float = 0.9
    batch_size: int | None = 128  # None: the whole training set, one step an epoch
    epochs: int = 64
    stop_when_fitted: bool = False  # end once both have been: a loss below 0.05, every example fitted
    weight_decay: float = 0.0
    dropout: float = 0.0
    random_crop: bool = False
    flip_and_rotate: bool = False
    precision: str = "auto"  # bf16 autocast where the hardware is faster in it; "fp32", and for checks "fp64": never
    classes: int | None = None  # of the data set's classes, evenly spaced; None: all
    exact_only: bool = False  # without the training images that differ from the published ones
    photo_augmentation: bool = False  # resized crop, mirror image, brightness, contrast, saturation and hue
    lrn: str = "tutorial"  # constants of AlexNet's local response normalization, see models.LRN
    initialization: str = "He"  # of the weights, see models.INITIALIZATIONS
    across_channels: bool = False  # whether shuffled or random pixels move between channels, too

    def key(self, fingerprint: str) -> str:
        """16 hexadecimal digits that identify this run on the data set with this fingerprint."""
        settings = {name: value for name, value in asdict(self).items() if LATER.get(name, ...) != value}
        text = json.dumps([settings, fingerprint, RECIPE], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def twin(self) -> "Run":
        """The same run with, or without, its stop: the same training, if it never fits."""
        return replace(self, stop_when_fitted=not self.stop_when_fitted)

    @property
    def randomization(self) -> str:
        """The paper's name for what was done to the training set."""
        if self.pixels != "original":
            return {"shuffled": "shuffled pixels", "random": "random pixels", "gaussian": "gaussian"}[self.pixels]
        names = {0.0: "true labels", 1.0: "random labels"}
        return names.get(self.label_corruption, "partially corrupted labels")

    @property
    def regularizers(self) -> str:
        """The explicit regularizers that are on, see joined."""
        switches = {
            "random crop": self.random_crop,
            "flip and rotate": self.flip_and_rotate,
            "augmentation": self.photo_augmentation,
            "weight decay": self.weight_decay,
            "dropout": self.dropout,
        }
        return joined(switches)

    @property
    def names(self) -> dict[str, str]:
        """What was done to the training set, and the regularizers, in words."""
        return {"randomization": self.randomization, "regularizers": self.regularizers}

    def label(self) -> str:
        """A readable name: what was done to the training set, the seed, each other setting that is not the default."""
        rate = f" {self.label_corruption:g}" if self.randomization.startswith("partially") else ""
        others = {field.name: field.default for field in fields(self) if field.name not in NAMED}
        settings = [_spoken(name, value) for name, usual in others.items() if (value := getattr(self, name)) != usual]
        return ", ".join([f"{self.model} on {self.randomization}{rate}", f"seed {self.seed}", *settings])


def joined(switches: Mapping[str, object]) -> str:
    """The names of what is on, joined by ' + ', or 'none'."""
    return " + ".join(name for name, on in switches.items() if on) or "none"


def _spoken(name: str, value: float | str | None) -> str:
    words = name.replace("_", " ")
    if value is None:  # of the settings with another default, only the batch size
        return "full batch"
    return words if value is True else f"{words} {value}"


class OtherRecipe(ValueError):
    """A record of training as it was before a change."""


@dataclass(frozen=True)
class Record:
    """What came of a run.

    history: one list per column, one value per epoch. train_* are running means over the epoch's
        mini-batches as trained on; eval_train_accuracy is a full pass in eval mode, made only in epochs
        whose running accuracy is at least 99 % until all are fitted once, else None.
    final: losses, accuracies and top-5 accuracies of the network after its last epoch, in eval mode, over all training
        and all test images; changed_test_* where the pixels were changed.
    outcome: 'epochs' (all were run), 'fitted' (the run's stopping rule) or 'diverged' (non-finite loss).
    reached: epochs and steps until the running training loss was below 0.05, and until every training
        example was classified correctly; None where that never happened.
    """

    run: Run
    fingerprint: str
    outcome: str
    final: dict[str, float | None]
    reached: dict[str, int | None]
    history: dict[str, list[float | None]]
    provenance: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def key(self) -> str:
        """The run's key, which pages ask for once a row and record."""
        return self.run.key(self.fingerprint)

    @property
    def training(self) -> str:
        """The key of the run whose training this is: its own, or see RunStore.adopt."""
        return self.provenance.get("training_of", self.key)

    @property
    def arithmetic(self) -> str:
        """The precision computed in, or those where it went on on other hardware; older records name the last only."""
        places = (*self.provenance.get("earlier", ()), self.provenance)
        return " and ".join(dict.fromkeys(place["precision"] for place in places if "precision" in place))

    def to_json(self) -> str:
        """Standard JSON, a line per history column; non-finite numbers become null."""
        plain = json.dumps(asdict(self) | {"key": self.key, "recipe": RECIPE})
        text = json.dumps(json.loads(plain, parse_constant=lambda _: None), indent=1, allow_nan=False)
        return re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), text) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Read what to_json wrote.

        Raises:
            OtherRecipe: made by another one, so no evidence today.
            ValueError: not such a text, its key does not match its settings, or parts of it are missing.
        """
        try:
            values = json.loads(text)
            key, recipe = values.pop("key"), values.pop("recipe")
            if recipe != RECIPE:
                raise OtherRecipe(f"recipe {recipe}, not {RECIPE}")
            record = cls(**values | {"run": Run(**values["run"])})
            is_whole = "train_loss" in record.history and {"data", "steps_per_epoch"} <= record.provenance.keys()
            is_whole = is_whole and "train_loss" in record.final and len(set(map(len, record.history.values()))) == 1
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a record: {error!r}") from error
        if record.key != key:
            raise ValueError(f"key {key} does not belong to these settings")
        if not is_whole:
            raise ValueError("its history, final values or provenance are missing")
        return record


class RunStore:
    """A folder of records, by data set; several processes may share it."""

    def __init__(self, root: Path):
        self.root = Path(root)

    @property
    def copies(self) -> str:
        """Folder beside a report's pages that has copies of the records: apart from the repository's own, since the
        same run has a file of the same name in every store."""
        return COPIES if self.root == RECORDED else f"{COPIES}/these"

    def path(self, run: Run, fingerprint: str) -> Path:
        """Where this run's record is or will be."""
        words = re.sub(r"[^a-z0-9.]+", "-", run.label().replace("_", "").lower())
        return self.root / run.dataset / f"{words[:NAME_CHARACTERS]}-{run.key(fingerprint)}.json"

    def load(self, run: Run, fingerprint: str) -> Record | None:
        """The run's record, or None where there is none; a damaged one is named on stderr and counts as none."""
        path = self.path(run, fingerprint)
        try:
            record = Record.from_json(path.read_text())
            if record.key != run.key(fingerprint):
                raise ValueError("it holds another run")
            return record
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, IsADirectoryError) as error:
            return _damaged(path, error)

    def save(self, record: Record) -> Path:
        """Write a record atomically and drop its run's checkpoint.

        Raises:
            OSError: it cannot be written.
        """
        path = self.path(record.run, record.fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            partial.write_text(record.to_json())
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        for left_over in (self.checkpoint, self.progress):
            left_over(record.run, record.fingerprint).unlink(missing_ok=True)
        return path

    def adopt(self, run: Run, fingerprint: str) -> bool:
        """Save the record of the run's twin as this run's too, where it is the same training: one that never both
        overfit and fitted is never stopped. Returns whether it was."""
        twin = self.load(run.twin, fingerprint)
        if twin is None or None not in twin.reached.values():
            return False
        self.save(replace(twin, run=run, provenance=twin.provenance | {"training_of": twin.key}))
        return True

    def checkpoint(self, run: Run, fingerprint: str) -> Path:
        """Where this run's state is kept while it trains."""
        return self._work(run.key(fingerprint) + ".pt")

    def progress(self, run: Run, fingerprint: str) -> Path:
        """Where this run's epochs and seconds so far are noted while it trains."""
        return self._work(run.key(fingerprint) + ".progress")

    def stop_request(self) -> Path:
        """A file name of the caller's own; whoever works for the caller stops once such a file exists."""
        return self._work(f"stop-{uuid.uuid4().hex}")

    @contextmanager
    def claim(self, run: Run, fingerprint: str) -> Iterator[bool]:
        """Hold the run for this process while in the block; yields False where another process holds it.

        The lock is the operating system's: it goes with its process, however that ends.
        """
        try:
            held = FileLock(self._work(run.key(fingerprint) + ".lock")).acquire(timeout=0)
        except Timeout:
            yield False
        else:
            with held:
                yield True

    def check_writable(self) -> None:
        """Refuse a store that cannot take what training will write.

        Raises:
            InputError: it cannot be created or written, or its disk has less than STORE_BYTES of room.
        """
        try:
            probe = self._work(f"probe-{os.getpid()}")
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise InputError(f"store {self.root} is not writable: {error.strerror}") from error
        make_room(self.root, STORE_BYTES)

    def _work(self, name: str) -> Path:
        folder = self.root / ".work"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name


def stored_records(folder: Path) -> list[Record]:
    """Every current record below a folder, in the order of the files' names."""
    found = (current_record(path) for path in sorted(folder.glob("*.json")))
    return [record for record in found if record]


def current_record(path: Path) -> Record | None:
    """The record in a file; None where it is damaged, which is told on stderr, or not of today's recipe: that is no
    evidence."""
    return _parsed(path, path.stat().st_mtime_ns) if path.is_file() else None


@functools.cache
def _parsed(path: Path, changed: int) -> Record | None:
    """Each state of a file is read once."""
    try:
        return Record.from_json(path.read_text())
    except OtherRecipe:
        return None
    except ValueError as error:
        return _damaged(path, error)


def _damaged(path: Path, error: Exception) -> None:
    print(f"damaged record {path.name}: {error}; the run counts as missing", file=sys.stderr)


def runs_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record: settings, derived names, outcome, final values in [0, 1], what was reached, key.

    overfit_time: epochs until the running training loss crossed OVERFIT_LOSS, linear between epochs; infinite
        where it never did; steps_to_overfit: the same in optimizer steps.
    running_train_accuracy, last_test_accuracy: the last epoch's, of the history.
    best_test_accuracy and best_test_top5_accuracy are the highest of the epochs; early_stopped_test_accuracy that
    of the epoch with the highest validation accuracy (the first of equals), where images were held out.
    arithmetic: see Record.
    """
    rows = []
    for record in records:
        time = _overfit_time(record)
        rows.append(
            {"key": record.key, **asdict(record.run), **record.run.names, "outcome": record.outcome}
            | {"epochs_run": len(record.history["epoch"]), "overfit_time": time}
            | {"steps_to_overfit": time * record.provenance["steps_per_epoch"]}
            | {"arithmetic": record.arithmetic}
            | record.final
            | record.reached
            | _best(record)
        )
    return pd.DataFrame(rows, columns=["key", *(f.name for f in fields(Run)), *RESULT_COLUMNS])


def history_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record and epoch: the history's columns, the other settings, the key, and steps so far."""
    settings, frames = [field.name for field in fields(Run) if field.name not in HISTORY_COLUMNS], []
    for record in records:
        names = {"key": record.key} | {name: getattr(record.run, name) for name in settings} | record.run.names
        frame = pd.DataFrame(record.history).assign(**names)
        frames.append(frame.assign(step=frame["epoch"] * record.provenance["steps_per_epoch"]))
    columns = [*HISTORY_COLUMNS, "key", *settings, "randomization", "regularizers", "step"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _overfit_time(record: Record) -> float:
    losses = pd.Series(record.history["train_loss"], record.history["epoch"], dtype=float)
    time = crossing(losses, OVERFIT_LOSS)
    return math.inf if math.isnan(time) else time


def _best(record: Record) -> dict[str, float | None]:
    history = pd.DataFrame(record.history, dtype=float).reindex(columns=HISTORY_COLUMNS)
    test = history["test_accuracy"]
    held_out = history["validation_accuracy"].dropna()
    return {
        "running_train_accuracy": history["train_accuracy"].iloc[-1],
        "last_test_accuracy": test.iloc[-1],
        "best_test_accuracy": test.max(),
        "best_test_top5_accuracy": history["test_top5_accuracy"].max(),
        "early_stopped_test_accuracy": test[held_out.idxmax()] if len(held_out) else None,
    }
