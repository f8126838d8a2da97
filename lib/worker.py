"""What a worker does with a unit of runs, and the processes of this machine that do it.

What it has to tell it leaves in the store: records, checkpoints, and notes of progress.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from lib import distributed
from lib.config import InputError
from lib.data import load_dataset
from lib.runs import Run, RunStore
from lib.splits import Dataset
from lib.training import Interrupted, Progress, train_together

POLL = 0.25  # seconds between looks at progress, at the clock and for a request to stop
Unit = tuple[Run, ...]  # runs of one plan, trained together by one worker

# Outcomes of a run, RECORDED where there was a record by then, its twin's or another process's; any other is its error.
TRAINED, RECORDED, LEFT, BUSY = "trained", "recorded", "left", "busy"


@dataclass(frozen=True)
class Orders:
    """What a worker must know beside its runs."""

    dataset: str
    store: Path
    device: str
    stop: Path  # a file that, once it exists, ends the work
    deadline: float | None  # in seconds of time.time()


_spoiled = False  # whether training has failed on this process's GPU


def carry_out(unit: Unit, orders: Orders) -> list[str]:
    """Train a unit in a worker and save its records; returns each run's outcome.

    A failed kernel or recording of a graph leaves a process that fails at all that follows: later units then have a
    process each, and the memory that this one holds.
    """
    interrupted = _every(POLL, lambda: _is_to_stop(orders))
    if distributed.agree(interrupted()):
        return [LEFT] * len(unit)
    if _spoiled:
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
        with local_executor(1, orders.device) as fresh:
            return fresh.submit(carry_out, unit, orders).result()
    store, dataset = RunStore(orders.store), _dataset(orders.dataset, unit[0].classes)
    with contextlib.ExitStack() as stack:
        outcomes = {run: _claimed(run, dataset.fingerprint, store, stack) for run in unit}
        todo = [run for run, outcome in outcomes.items() if outcome == LEFT]
        options = {"checkpoint": lambda run: store.checkpoint(run, dataset.fingerprint), "interrupted": interrupted}
        options["on_epoch"] = lambda run, progress: note(store.progress(run, dataset.fingerprint), progress)
        try:
            for record in train_together(todo, dataset, orders.device, **options):
                if not distributed.rank():
                    store.save(record)
                outcomes[record.run] = TRAINED
        except Interrupted:
            pass
        except Exception as error:
            if distributed.world() > 1:
                raise  # it may be this process's alone, and the others wait for it: torchrun ends them all
            outcomes |= {run: _told(error) for run in todo if outcomes[run] == LEFT}
            if orders.device == "cuda":
                _leave_gpu(error)
    return list(outcomes.values())


def _claimed(run: Run, fingerprint: str, store: RunStore, stack: contextlib.ExitStack) -> str:
    """LEFT, to be trained, where the run is this process's until the stack ends; BUSY where it is another's."""
    if not distributed.agree(distributed.rank() or _is_mine(run, fingerprint, store, stack)):
        return BUSY
    return RECORDED if distributed.agree(distributed.rank() or _has_record(run, fingerprint, store)) else LEFT


def _leave_gpu(error: Exception) -> None:
    """After an error: note whether the process can go on, and wait for the steps in flight, which write into memory
    that the next unit may be given."""
    global _spoiled
    _spoiled = not isinstance(error, InputError | OSError | torch.OutOfMemoryError)  # else the next unit may do better
    with contextlib.suppress(RuntimeError):
        torch.cuda.synchronize()


def _told(error: BaseException) -> str:
    """An error in a line, after what led to it: a CUDA graph whose capture fails raises another one. What is the user's
    to mend says all itself."""
    cause = None if isinstance(error, InputError) else error.__cause__ or error.__context__
    text = f"{type(error).__name__}: {error}"
    return f"{told}; then {text}" if cause and (told := _told(cause)) != text else text


def _is_mine(run: Run, fingerprint: str, store: RunStore, stack: contextlib.ExitStack) -> bool:
    """Claim a run until the stack ends, unless another process has it; or has its twin, whose record may become its
    own. Only the twin without a stop waits, or each might wait for the other."""
    if not run.stop_when_fitted:
        with store.claim(run.twin, fingerprint) as is_free:
            if not is_free:
                return False
    return stack.enter_context(store.claim(run, fingerprint))


def _has_record(run: Run, fingerprint: str, store: RunStore) -> bool:
    return store.load(run, fingerprint) is not None or store.adopt(run, fingerprint)


def _is_to_stop(orders: Orders) -> bool:
    return orders.stop.exists() or (orders.deadline is not None and time.time() > orders.deadline)


def _every(seconds: float, ask: Callable[[], bool]) -> Callable[[], bool]:
    """The same question, put only so often; in between the last answer stands."""
    answer, asked = False, -seconds

    def throttled() -> bool:
        nonlocal answer, asked
        if time.monotonic() - asked >= seconds:
            answer, asked = ask(), time.monotonic()
        return answer

    return throttled


def note(path: Path, progress: Progress) -> None:
    """Write epochs and seconds so far for the sweep's progress bar, unless that was just done."""
    with contextlib.suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime < POLL:
            return
    with contextlib.suppress(OSError):  # no training ends for want of a bar
        path.write_text(json.dumps([progress.epochs, progress.seconds]))


@functools.lru_cache(maxsize=1)
def _dataset(name: str, classes: int | None) -> Dataset:
    return load_dataset(name, classes=classes)


def own_executor(device: str) -> ThreadPoolExecutor:
    """A thread of this process: for one of torchrun's, which has to take part in every run itself."""
    if device == "cpu":
        return ThreadPoolExecutor(1)
    return ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(torch.cuda.current_device(),))


def local_executor(workers: int, device: str) -> ProcessPoolExecutor:
    """Spawned processes of this machine."""
    if device == "cuda":
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")  # by 8, the default, streams of lanes share queues
    else:
        os.environ["OMP_NUM_THREADS"] = "1"  # inherited; one thread must be set before torch is imported
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a spinning thread would hold up its neighbour
    threads = 1 if device == "cpu" else None
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (threads,))


def _start_worker(threads: int | None) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # what ends a whole group of processes reaches the parent alone, which answers through the store
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if threads:
        torch.set_num_threads(threads)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # nothing half-written counts: records and checkpoints appear by renaming
