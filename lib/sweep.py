"""Train every run that has no record, in worker processes.

On a CPU each worker has one thread: for these networks several one-thread processes do more than one process
with several threads. A GPU has one worker.

    python -m lib.sweep --profile quick --dataset cifar10 --time-limit 600
"""

import argparse
import functools
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import torch
from tqdm import tqdm

from lib.config import DEVICES, InputError, from_environment, one_of, resolve_device, run_command, store_root
from lib.data import DATASETS, IMAGES, Dataset, load_dataset, resolve_dataset
from lib.experiments import CLAIM_ARMS, PROFILES, claim_arms, resolve_profile
from lib.runs import Record, Run, RunStore
from lib.training import Interrupted, train

BUSY_WAIT = 1.0  # seconds before asking again for runs that another process holds
# Forward and backward, MFLOP an image of 28x28 at width 1: what the time left is estimated from.
MFLOP = {"inception": 1221, "inception_no_bn": 1221, "alexnet": 143, "mlp_3x512": 8, "mlp_1x512": 4.85}


@dataclass(frozen=True)
class Summary:
    """What a sweep did: runs trained, runs left (time limit), runs that failed with their errors."""

    trained: int
    left: int
    failed: tuple[str, ...]


def missing_runs(runs: Iterable[Run], dataset: Dataset, store: RunStore) -> list[Run]:
    """The runs without a record, each once, one seed of everything first."""
    runs = [run for run in dict.fromkeys(runs) if store.load(run, dataset.fingerprint) is None]
    return sorted(runs, key=lambda run: run.seed)


def train_missing(
    runs: Iterable[Run], dataset: Dataset, store: RunStore, device: str, time_limit: float | None = None
) -> Summary:
    """Train the runs that have no record; on Ctrl-C or at the time limit stop after what checkpoints hold.

    Args:
        runs: all on `dataset`.
        dataset: as load_dataset gives it; workers load it anew by its name.
        store: where records go.
        device: 'cpu' or 'cuda'.
        time_limit: seconds; None: until all is trained.

    Raises:
        InputError: the store cannot be written.
        KeyboardInterrupt: after the workers have stopped.
    """
    todo = missing_runs(runs, dataset, store)
    if not todo:
        return Summary(0, 0, ())
    store.check_writable()
    workers = 1 if device == "cuda" else min(os.cpu_count() or 1, len(todo))
    with _Bar(todo) as bar, _Pool(workers, device) as pool:
        return _drain(todo, dataset.name, store.root, device, pool, bar, time_limit)


def records(runs: Sequence[Run], dataset: Dataset, store: RunStore, device: str) -> list[Record]:
    """Train-or-load: the records of these runs, in their order; runs that failed are left out."""
    train_missing(runs, dataset, store, device)
    loaded = (store.load(run, dataset.fingerprint) for run in dict.fromkeys(runs))
    return [record for record in loaded if record is not None]


def _drain(
    todo: list[Run], dataset: str, root: Path, device: str, pool: "_Pool", bar: "_Bar", time_limit: float | None
) -> Summary:
    """Hand runs to the pool until none is left, the time is over or Ctrl-C; count what came of them."""
    deadline = None if time_limit is None else time.monotonic() + time_limit
    waiting, running, trained, failed = list(todo), {}, 0, []
    try:
        while (waiting and not pool.stop.is_set()) or running:
            while waiting and len(running) < pool.workers and not pool.stop.is_set():
                run = waiting.pop(0)
                running[pool.executor.submit(_work, run, dataset, root, device)] = run
            done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            bar.update(pool.messages)
            if deadline is not None and time.monotonic() > deadline:
                pool.stop.set()
            for future in done:
                run = running.pop(future)
                outcome = _result(future)
                if outcome == "busy":
                    waiting.append(run)
                    time.sleep(BUSY_WAIT if not running else 0)
                elif outcome == "trained":
                    trained += 1
                    bar.finish(run)
                elif outcome != "interrupted":
                    failed.append(f"{run.label()}: {outcome}")
                    bar.write(f"failed: {failed[-1]}")
    except BaseException:
        pool.stop.set()
        raise
    return Summary(trained, len(todo) - trained - len(failed), tuple(failed))


def _result(future: Future) -> str:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise InputError("a training process was killed from outside, perhaps for want of memory") from error
    except Exception as error:  # a run that fails must not take the others with it: it is named and counted
        return f"{type(error).__name__}: {error}"


# --- workers ------------------------------------------------------------------------------------------

_channel: tuple[Event, "multiprocessing.Queue"] | None = None  # of this worker: the stop event, its messages home


class _Pool:
    """Spawned worker processes with a stop event and a queue of progress messages."""

    def __init__(self, workers: int, device: str):
        context = multiprocessing.get_context("spawn")
        self.workers, self.stop, self.messages = workers, context.Event(), context.Queue()
        if device == "cpu":
            os.environ["OMP_NUM_THREADS"] = "1"  # inherited; one thread must be set before torch is imported
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a spinning thread would hold up its neighbour
        threads = 1 if device == "cpu" else None
        self.executor = ProcessPoolExecutor(workers, context, _start_worker, (self.stop, self.messages, threads))

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)


def _start_worker(stop: Event, messages: "multiprocessing.Queue", threads: int | None) -> None:
    global _channel
    _channel = stop, messages
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent answers it, through the event
    if threads:
        torch.set_num_threads(threads)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # nothing half-written counts: records and checkpoints appear by renaming


@functools.lru_cache(maxsize=1)
def _dataset(name: str) -> Dataset:
    return load_dataset(name)


def _work(run: Run, dataset_name: str, root: Path, device: str) -> str:
    """Train one run in a worker and save its record: 'trained', 'busy' or 'interrupted'."""
    stop, messages = _channel
    store, dataset = RunStore(root), _dataset(dataset_name)
    with store.claim(run, dataset.fingerprint) as mine:
        if not mine:
            return "busy"
        if store.load(run, dataset.fingerprint) is not None:
            return "trained"
        messages.put((run, 0))
        try:
            record = train(
                run,
                dataset,
                device,
                checkpoint=store.checkpoint(run, dataset.fingerprint),
                on_epoch=lambda epoch, loss: messages.put((run, epoch)),
                interrupted=stop.is_set,
            )
        except Interrupted:
            return "interrupted"
        store.save(record)
        return "trained"


# --- progress -----------------------------------------------------------------------------------------


class _Bar:
    """One progress bar over all runs, in units of work: what is running, runs done, time left."""

    def __init__(self, runs: list[Run]):
        self.runs, self.done, self.epochs = runs, set(), {}
        live = sys.stderr.isatty() or "ipykernel" in sys.modules
        self.interval, self.shown = (0.5 if live else 30.0), 0.0  # seconds; a log file wants few lines
        self.bar = tqdm(
            total=sum(map(_work_units, runs)),
            leave=False,
            mininterval=self.interval,
            bar_format=("{percentage:3.0f}%|{bar:20}| {desc} [{elapsed}<{remaining}]{postfix}"),
        )
        self._show()

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, messages: "multiprocessing.Queue") -> None:
        """Take in what the workers reported."""
        try:
            while True:
                run, epoch = messages.get_nowait()
                self._advance(run, epoch)
        except queue.Empty:
            self._show()

    def finish(self, run: Run) -> None:
        """Count a run as done, whatever its last report was; reports that come later are dropped."""
        self._advance(run, run.epochs)
        self.done.add(run)
        del self.epochs[run]

    def write(self, text: str) -> None:
        """Print a line above the bar."""
        self.bar.write(text, file=sys.stderr)

    def _advance(self, run: Run, epoch: int) -> None:
        if run in self.done:
            return
        self.bar.update(_work_units(run) * (epoch - self.epochs.get(run, 0)) / run.epochs)
        self.epochs[run] = epoch

    def _show(self) -> None:
        if time.monotonic() < self.shown + self.interval:
            return
        self.shown = time.monotonic()
        running = "; ".join(f"{run.label()} {epoch}/{run.epochs}" for run, epoch in self.epochs.items())
        self.bar.set_description_str(f"{len(self.done)}/{len(self.runs)} runs", refresh=False)
        self.bar.set_postfix_str(running)


def _work_units(run: Run) -> float:
    return MFLOP[run.model] * run.width**2 * (run.train_size or IMAGES[run.dataset]["train"]) * run.epochs


# --- command line -------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when every run has its record, 3 when the time limit left some, 1 when some failed."""
    parser = argparse.ArgumentParser(prog="python -m lib.sweep", description="Train every run that has no record.")
    parser.add_argument("--profile", default=from_environment("PROFILE", "auto"), help=" | ".join(PROFILES) + " | auto")
    parser.add_argument("--dataset", default=from_environment("DATASET", "auto"), help=" | ".join(DATASETS))
    parser.add_argument("--device", default=from_environment("DEVICE", "auto"), help=" | ".join(DEVICES))
    parser.add_argument("--claims", nargs="+", default=list(CLAIM_ARMS), metavar="CLAIM", help=" | ".join(CLAIM_ARMS))
    parser.add_argument("--store", type=Path, default=store_root(), help="folder of the records")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="stop cleanly after this time")
    options = parser.parse_args(arguments)
    if options.time_limit is not None and not options.time_limit > 0:
        raise InputError(f"time limit {options.time_limit:g} is not allowed: seconds above 0")
    device = resolve_device(options.device)
    profile = resolve_profile(options.profile, device)
    for claim in options.claims:
        one_of("claim", claim, CLAIM_ARMS)
    name = resolve_dataset(options.dataset)
    runs = [arm.run for claim in options.claims for arm in claim_arms(claim, profile, name)]
    summary = train_missing(runs, load_dataset(name), RunStore(options.store), device, options.time_limit)
    print(
        f"{profile.name} on {name}: {summary.trained} trained, {summary.left} left, {len(summary.failed)} failed, "
        f"{len(set(runs))} in all"
    )
    return 1 if summary.failed else 3 if summary.left else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
