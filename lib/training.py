"""Training runs to their records, one alone or several of one plan side by side.

What a run learns does not depend on what is trained beside it, and a run resumed from its checkpoint equals one
that never stopped: on a CPU, with the same number of threads, bit for bit.
"""

import datetime
import functools
import math
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lib import distributed
from lib.engine import Engine, State, arithmetic, capacity, initial_state, plan
from lib.files import save
from lib.inputs import InputMaker, Inputs
from lib.models import count_parameters
from lib.provenance import environment
from lib.runs import HISTORY_COLUMNS, OVERFIT_LOSS, REACHED, Record, Run
from lib.splits import Dataset, Split

LANES = {"cpu": 1, "cuda": 4}  # engines at work at once: one does not fill an H100, four of Inception do
MEASURES = ("loss", "accuracy", "top5_accuracy")  # what an evaluation gives
NAMES = {torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"}
NEARLY_FITTED = 0.99  # running accuracy from which the costly full pass over the training set is worth making
CHECKPOINT_SECONDS = {"cpu": 10.0, "cuda": 60.0}  # that a killed process may lose, beside the epoch it was in


class Interrupted(Exception):
    """Training was asked to stop; checkpoints hold everything up to the last step."""


@dataclass
class Progress:
    """How far a run has come, beside its weights."""

    history: dict[str, list] = field(default_factory=lambda: {column: [] for column in HISTORY_COLUMNS})
    reached: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(REACHED))
    started: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    environments: list[dict] = field(default_factory=list)  # that it was trained in, see provenance, first to last
    seconds: float = 0.0  # the run's share of the time of all that were trained with it
    step: int = 0  # in the epoch under way, with the loss, correct answers and seconds of the steps before it
    loss: float = 0.0
    correct: int = 0
    step_seconds: float = 0.0

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.history["epoch"])


@dataclass
class _Member:
    """A run in training."""

    run: Run
    inputs: Inputs
    progress: Progress
    state: State  # where it starts from; what comes of it lies in its engine
    over: bool = False  # its record is out

    @property
    def outcome(self) -> str | None:
        """Why the run is at its end, or None while it is not."""
        losses = self.progress.history["train_loss"]
        if losses and not math.isfinite(losses[-1]):
            return "diverged"
        if self.run.stop_when_fitted and None not in self.progress.reached.values():
            return "fitted"
        return "epochs" if len(losses) >= self.run.epochs else None

    def log(self, row: dict[str, float | None], seconds: float, steps: int) -> None:
        """Append an epoch to the history; note when the run first overfits, and when it is first fitted."""
        progress = self.progress
        epochs, seconds = progress.epochs + 1, progress.step_seconds + seconds
        for goal, met in (("overfit", row["train_loss"] < OVERFIT_LOSS), ("fitted", row["eval_train_accuracy"] == 1.0)):
            if met and progress.reached[f"{goal}_epochs"] is None:
                progress.reached |= {f"{goal}_epochs": epochs, f"{goal}_steps": epochs * steps}
        rate = self.run.learning_rate * self.run.decay ** (epochs - 1)
        row = {"epoch": epochs, "learning_rate": rate, "seconds": round(seconds, 3)} | row
        for column in HISTORY_COLUMNS:
            progress.history[column].append(row[column])
        progress.seconds += seconds
        progress.step, progress.loss, progress.correct, progress.step_seconds = 0, 0.0, 0, 0.0


@dataclass
class _Lane:
    """An engine and the runs in it; one that is over stays until others take its place or the lane shrinks."""

    engine: Engine | None = None
    members: list[_Member] = field(default_factory=list)

    @property
    def active(self) -> list[int]:
        """Places of the runs that are not over."""
        return [index for index, member in enumerate(self.members) if not member.over]

    def is_to_shrink(self, device: str) -> bool:
        """Whether runs that are over are to be left out: on CUDA, where new graphs take time, when most are."""
        return len(self.active) < len(self.members) / (1 if device == "cpu" else 2)

    def begin(self) -> None:
        """Begin an epoch, or go on within one."""
        progress = [member.progress for member in self.members]
        self.engine.begin([one.epochs for one in progress])
        if progress[0].step:
            sums = [one.loss for one in progress], [one.correct for one in progress]
            self.engine.resume(progress[0].step, *sums, [member.state for member in self.members])

    def pause(self, seconds: float) -> None:
        """Note where the runs stand within the epoch under way."""
        for member, loss, correct in zip(self.members, *self.engine.totals(), strict=True):
            member.progress.step, member.progress.loss, member.progress.correct = self.engine.done, loss, correct
            member.progress.step_seconds += seconds

    def evaluate(self) -> dict[str, Tensor]:
        """Set off the evaluations that follow every epoch."""
        test = self.members[0].inputs.monitored
        results = {"test": self.engine.evaluate(test.images, test.labels)}
        if held_out := self.engine.validation:
            results["validation"] = self.engine.evaluate(held_out.images, held_out.labels)
        return results

    def rows(self, evaluations: dict[str, Tensor]) -> Iterator[tuple[_Member, dict[str, float | None]]]:
        """What an epoch adds to each active run's history, but for epoch, learning rate and time."""
        results = {name: self.engine.read(values) for name, values in evaluations.items()}
        losses, correct = self.engine.totals()
        for index in self.active:
            member = self.members[index]
            images, top5 = len(member.inputs.train), results["test"][2]
            row = {"train_loss": losses[index] / images, "train_accuracy": correct[index] / images}
            row["eval_train_accuracy"] = None
            if row["train_accuracy"] >= NEARLY_FITTED and member.progress.reached["fitted_epochs"] is None:
                row["eval_train_accuracy"] = self.result(index, member.inputs.train)[1]
            for name in ("validation", "test"):
                loss, accuracy, _ = results.get(name, [[None] * len(self.members)] * 3)
                row |= {f"{name}_loss": loss[index], f"{name}_accuracy": accuracy[index]}
            row["test_top5_accuracy"] = top5[index]
            yield member, row

    def result(self, index: int, split: Split) -> list[float]:
        """Loss, accuracy and top-5 accuracy of one run on a split."""
        return [values[0] for values in self.engine.read(self.engine.evaluate(split.images, split.labels, index))]


def train(
    run: Run,
    dataset: Dataset,
    device: str = "cpu",
    *,
    checkpoint: Path | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Record:
    """Train one run to its end and return its record; arguments and errors as train_together's, but checkpoint is its
    path."""
    options = {"checkpoint": lambda run: checkpoint, "interrupted": interrupted}
    return next(train_together([run], dataset, device, **options))


def train_together(
    runs: Sequence[Run],
    dataset: Dataset,
    device: str = "cpu",
    *,
    checkpoint: Callable[[Run], Path | None] = lambda run: None,
    on_epoch: Callable[[Run, Progress], None] = lambda run, progress: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """Train runs of one plan to their ends; yields each record as its run is over.

    Args:
        runs: of one plan, see engine.plan.
        dataset: the runs' data set, whole; a run's subset is taken here.
        device: 'cpu' or 'cuda'.
        checkpoint: the file that a run's state is kept in, and that it goes on from if it exists.
        on_epoch: called after every epoch of a run.
        interrupted: asked before every step; True raises Interrupted.

    Raises:
        InputError: settings that no network or data set can take.
        Interrupted: as asked.
        OSError: a checkpoint cannot be written, or not be read though it is there.
        ValueError: runs of several plans.
    """
    if len({plan(run) for run in runs}) > 1:
        raise ValueError("only runs of one plan can be trained together")
    return _Training(dataset, device, checkpoint, on_epoch, interrupted).records(runs)


@dataclass
class _Training:
    dataset: Dataset
    device: str
    checkpoint: Callable[[Run], Path | None]
    on_epoch: Callable[[Run, Progress], None]
    interrupted: Callable[[], bool]
    lanes: list[_Lane] = field(default_factory=list)
    waiting: deque[_Member] = field(default_factory=deque)
    saved: float = 0.0  # when checkpoints were last written

    @functools.cached_property
    def maker(self) -> InputMaker:
        return InputMaker(self.dataset, self.device)

    def records(self, runs: Sequence[Run]) -> Iterator[Record]:
        here = environment(self.device)  # now: the source may change while runs train
        self.saved = time.perf_counter()
        members = [self._open(run, here) for run in runs]
        self.waiting.extend(sorted(members, key=lambda member: -member.progress.step))  # those within an epoch first
        while self.waiting or self.lanes:
            self._fill()
            ended = [(lane, index) for lane in self.lanes for index in lane.active if lane.members[index].outcome]
            for lane, index in ended:
                lane.members[index].over = True
                yield self._record(lane, index)
            if self.lanes and not ended:
                self._epoch()

    # --- which runs are where ---

    def _open(self, run: Run, here: dict) -> _Member:
        """A run as its checkpoint left it, or at its start."""
        start = self._saved(run)
        progress, state = start or (Progress(), initial_state(run, len(self.dataset.classes), self.maker.size(run)))
        place = here | {"precision": NAMES[arithmetic(run, self.device)]}
        if place not in progress.environments[-1:]:
            progress.environments.append(place)
        return _Member(run, self.maker.make(run), progress, state)

    def _saved(self, run: Run) -> tuple[Progress, State] | None:
        """What a run's checkpoint holds, if there is one of this run and code; with dropout, not one of another kind of
        device, whose generators have other states. What cannot be read for now is not taken for damaged: it would be
        overwritten."""
        path = self.checkpoint(run)
        if path is None or not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip():  # torch does not look at the checksums
                    return None
            saved = torch.load(path, map_location="cpu", weights_only=True)
            progress, state = Progress(**saved["progress"]), saved["state"]
            made, device = saved["key"], progress.environments[-1]["device"]
        except (OSError, MemoryError):
            raise
        except Exception:  # torch raises many kinds on a damaged file
            return None
        is_its_own = made == run.key(self.dataset.fingerprint) and (not run.dropout or device == self.device)
        return (progress, state) if is_its_own else None

    def _fill(self) -> None:
        """Put waiting runs in the places of those that are over, make lanes smaller, open new ones."""
        for lane in self.lanes:
            joining = self._take(self._places(lane) - len(lane.active), step=0)
            if joining or lane.is_to_shrink(self.device):
                kept = [(lane.members[index], lane.engine.state(index)) for index in lane.active]
                self._load(lane, kept + joining)
        self.lanes = [lane for lane in self.lanes if lane.members]
        while self.waiting and len(self.lanes) < LANES[self.device] and self._is_room():
            count = capacity(self.waiting[0].run.model, self.device)
            self.lanes.append(_Lane())
            self._load(self.lanes[-1], self._take(count, self.waiting[0].progress.step))

    def _places(self, lane: _Lane) -> int:
        """How many runs a lane may have: on CUDA, where new graphs take time, as many as it was made for."""
        return capacity(lane.members[0].run.model, "cpu") if self.device == "cpu" else len(lane.members)

    def _is_room(self) -> bool:
        """Whether one more lane such as these would fit in the GPU's memory."""
        if self.device == "cpu" or not self.lanes:
            return True
        return torch.cuda.mem_get_info()[0] > torch.cuda.memory_reserved() / len(self.lanes)

    def _take(self, count: int, step: int) -> list[tuple[_Member, State]]:
        """The next waiting runs, up to `count` of them, as long as they stand at this step of an epoch."""
        taken = []
        while self.waiting and len(taken) < count and self.waiting[0].progress.step == step:
            member = self.waiting.popleft()
            taken.append((member, member.state))
        return taken

    def _load(self, lane: _Lane, content: list[tuple[_Member, State]]) -> None:
        lane.members = [member for member, _ in content]
        if not content:
            return
        if lane.engine is None or lane.engine.count != len(content):
            first = lane.members[0].run
            size = self.maker.size(first)
            lane.engine = Engine(first, len(content), len(self.dataset.classes), size, self.device)
        members = lane.members
        lane.engine.load([m.run for m in members], [m.inputs for m in members], [state for _, state in content])

    # --- an epoch ---

    def _epoch(self) -> None:
        """One epoch of all lanes, a step of each in turn."""
        start = time.perf_counter()
        for lane in self.lanes:
            lane.begin()
        while any(lane.engine.steps_left for lane in self.lanes):
            if distributed.agree(self.interrupted()):
                self._suspend(start)
            for lane in self.lanes:
                if lane.engine.steps_left:
                    lane.engine.step()
        results = [(lane, lane.evaluate()) for lane in self.lanes]  # all are under way before the first is waited for
        rows = [(lane, *row) for lane, evaluations in results for row in lane.rows(evaluations)]
        seconds = self._share(start)
        for lane, member, row in rows:
            member.log(row, seconds, len(lane.engine.sizes))
            self.on_epoch(member.run, member.progress)
        if distributed.agree(time.perf_counter() - self.saved > CHECKPOINT_SECONDS[self.device]):
            self._save()

    def _share(self, start: float) -> float:
        """One run's share of the time since start."""
        return (time.perf_counter() - start) / sum(len(lane.active) for lane in self.lanes)

    def _suspend(self, start: float) -> None:
        """Keep what the epoch under way has done so far, and stop."""
        seconds = self._share(start)
        for lane in self.lanes:
            lane.pause(seconds)
        self._save()
        raise Interrupted

    def _save(self) -> None:
        for lane in self.lanes:
            for index in lane.active:
                self._save_one(lane.members[index], lane.engine.state(index))
        self.saved = time.perf_counter()

    def _save_one(self, member: _Member, state: State) -> None:
        path = self.checkpoint(member.run)
        if path is None or distributed.rank():
            return
        key = member.run.key(self.dataset.fingerprint)
        save({"key": key, "progress": vars(member.progress), "state": state}, path)

    # --- the end ---

    def _record(self, lane: _Lane, index: int) -> Record:
        """The record of a run that is over, with the final evaluation; see Record.final."""
        start, member = time.perf_counter(), lane.members[index]
        inputs, run, progress = member.inputs, member.run, member.progress
        final = {}
        splits = {"train": inputs.train, "test": inputs.test, "changed_test": inputs.changed_test}
        for name, split in splits.items():
            values = lane.result(index, split) if split else [None] * len(MEASURES)
            final |= {f"{name}_{measure}": value for measure, value in zip(MEASURES, values, strict=True)}
        progress.seconds += time.perf_counter() - start
        provenance = {
            "started": progress.started,
            "seconds": round(progress.seconds, 2),
            "parameters": count_parameters(lane.engine.stack) // lane.engine.count,
            "steps_per_epoch": len(lane.engine.sizes),
            "train_images": len(inputs.train),
            "data": {
                "source": self.dataset.source,
                "note": self.dataset.note,
                "classes": len(self.dataset.classes),
                "train": len(self.dataset.train),
                "test": len(self.dataset.test),
                "inexact": self.dataset.inexact,
            },
            **progress.environments[-1],
            "earlier": progress.environments[:-1],
        }
        fingerprint = self.dataset.fingerprint
        return Record(run, fingerprint, member.outcome, final, progress.reached, progress.history, provenance)
