"""One progress bar over all runs of a sweep: how much of the work is done, and the time left at the speed so far."""

import itertools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable

from tqdm import tqdm

from lib import distributed
from lib.config import redraw_seconds
from lib.data import IMAGES
from lib.models import flops_per_image
from lib.runs import Run, RunStore


def work(run: Run) -> float:
    """Floating-point operations of a run's training on images of 28x28 pixels, if it takes all of its epochs: other
    sizes are not told apart, and within a data set all runs have the same one."""
    images = run.train_size or IMAGES[run.dataset]["train"]
    return flops_per_image(run.model, width=run.width) * float(images) * run.epochs


class Bar:
    """One progress bar over all runs, in units of work, with the time left at the speed measured so far."""

    def __init__(self, units: Iterable[Iterable[Run]], fingerprint: str, store: RunStore, workers: int):
        self.fingerprint, self.store, self.workers = fingerprint, store, workers
        self.epochs = dict.fromkeys(itertools.chain(*units), 0)
        self.seconds: dict[Run, float] = {}
        self.done: set[Run] = set()
        self.interval, self.shown = redraw_seconds(), 0.0
        form = "{percentage:3.0f}%|{bar:20}| {desc} [{elapsed}{postfix}]"
        options = {"leave": False, "mininterval": self.interval, "disable": distributed.rank() > 0}
        self.bar = tqdm(total=sum(map(work, self.epochs)), bar_format=form, **options)
        self.update(())

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, submitted: Iterable[Run]) -> None:
        """Look at how far the runs are, if it is time to."""
        if time.monotonic() < self.shown + self.interval:
            return
        self.shown = time.monotonic()
        running = [run for run in submitted if self._look(run)]
        names = "; ".join(f"{run.label()} {self.epochs[run]}/{run.epochs}" for run in running)
        self.bar.n = sum(work(run) if run in self.done else self._made(run) for run in self.epochs)
        self.bar.set_description_str(f"{len(self.done)}/{len(self.epochs)} runs", refresh=False)
        self.bar.set_postfix_str(f"at most {self.time_left()} left, {names}" if names else "")

    def finish(self, run: Run) -> None:
        """Count a run as done: one that fitted early leaves epochs that were neither made nor are left."""
        self.done.add(run)

    def write(self, text: str) -> None:
        """Print a line above the bar."""
        self.bar.write(text, file=sys.stderr)

    def _look(self, run: Run) -> bool:
        try:
            self.epochs[run], self.seconds[run] = json.loads(self.store.progress(run, self.fingerprint).read_text())
        except (OSError, ValueError):  # not begun, or just being written: then what was last seen stands
            return run in self.seconds
        return True

    def time_left(self) -> str:
        """An upper bound, as runs may fit early: the work left at each network's measured speed, '?' before any."""
        spent, made = defaultdict(float), defaultdict(float)
        for run, seconds in self.seconds.items():
            spent[run.model] += seconds
            made[run.model] += self._made(run)
        if not sum(made.values()):
            return "?"
        mean = sum(spent.values()) / sum(made.values())
        pace = {
            model: spent[model] / made[model] if made[model] else mean for model in {run.model for run in self.epochs}
        }
        left = sum((work(run) - self._made(run)) * pace[run.model] for run in self.epochs if run not in self.done)
        return tqdm.format_interval(left / self.workers)

    def _made(self, run: Run) -> float:
        return work(run) * self.epochs[run] / run.epochs
