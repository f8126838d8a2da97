"""Train every run that has no record.

Runs of one plan are grouped into units of work, and units go through a concurrent.futures.Executor: by default
processes of this machine, on a CPU one for each core and with one thread each (for these networks several
one-thread processes do more than one process with several threads), on a GPU one process. Workers and the sweep
speak through the store alone, so any executor whose workers see the store's folder does.

    python -m lib.sweep --profile quick --dataset cifar10 --time-limit 600

One run over several GPUs, one run after the other (lib/distributed.py):

    torchrun --nproc-per-node 4 -m lib.sweep --profile paper --dataset imagenet
"""

import argparse
import contextlib
import itertools
import math
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch

from lib import distributed
from lib.config import (
    DEVICES,
    InputError,
    cores,
    ends,
    from_environment,
    one_of,
    resolve_device,
    run_command,
    store_root,
)
from lib.data import DATASETS, load_dataset, resolve_dataset
from lib.engine import arithmetic, capacity, plan
from lib.experiments import CLAIM_ARMS, arms_of, runs_of
from lib.models import MODELS
from lib.profiles import PROFILES, resolve_profile, with_parameters
from lib.progress import Bar, work
from lib.runs import Run, RunStore
from lib.splits import Dataset
from lib.training import LANES
from lib.worker import BUSY, LEFT, POLL, RECORDED, TRAINED, Orders, Unit, carry_out, local_executor, own_executor

BUSY_WAIT = 1.0  # seconds before asking again for runs that another process holds
FP32_COST = 8  # of an operation, where others are computed in bf16


@dataclass(frozen=True)
class Summary:
    """What a sweep did: runs it trained itself, runs left (time limit), runs that failed with their errors."""

    trained: int
    left: int
    failed: tuple[str, ...]

    def check(self) -> None:
        """Refuse to go on where runs failed.

        Raises:
            InputError: some did; the message has the first one's error.
        """
        if self.failed:
            raise InputError(f"{len(self.failed)} runs failed, the first: {self.failed[0]}")


def missing_runs(runs: Iterable[Run], dataset: Dataset, store: RunStore) -> list[Run]:
    """The runs without a record, each once."""
    return [run for run in dict.fromkeys(runs) if store.load(run, dataset.fingerprint) is None]


def work_units(runs: Iterable[Run], device: str) -> list[Unit]:
    """Group runs of one plan and order the groups: one seed of everything first, so that the report is soon
    about all claims. Of a seed the costliest come first on a CPU, so that none is left alone at the end; on a GPU
    and under torchrun, where one unit follows the other, those with the cheapest runs, so that a time limit leaves
    the fewest.

    On a CPU a unit has no more runs than train side by side. On a GPU it has all of a seed and plan, and the next
    seeds' as far as there is room beside them; those that end make room for those that wait. Of twins the one without a
    stop comes in a later unit, after the seed's others: by then its record may be there, see RunStore.adopt.
    """
    plans, runs = defaultdict(lambda: defaultdict(list)), sorted(runs, key=lambda run: run.seed)
    second = {run for run in set(runs) & {run.twin for run in runs} if not run.stop_when_fitted}
    for run in runs:
        plans[plan(run), run in second][run.seed].append(run)
    units = []
    for (settings, _), seeds in plans.items():
        width = capacity(settings.model, device) * LANES[device]
        units += _filled(seeds.values(), width) if device == "cuda" else _cut(seeds.values(), width)

    def place(unit: Unit) -> tuple:
        cost = sum(_cost(run, device) for run in unit)
        return unit[0].seed, unit[0] in second, cost / len(unit) if _in_turn(device) else -cost

    return sorted(units, key=place)


def _in_turn(device: str) -> bool:
    """Whether one unit follows the other."""
    return device == "cuda" or distributed.world() > 1


def _cost(run: Run, device: str) -> float:
    """Its operations, each of those in fp32 counted as often as bf16 is faster: on some CPUs all are in fp32. No GPU is
    asked: this process would take memory there, or hold one that serves one process alone."""
    is_fast = run.precision == "auto" if device == "cuda" else arithmetic(run, device) == torch.bfloat16
    return work(run) * (1 if is_fast else FP32_COST)


def _filled(groups: Iterable[list[Run]], width: int) -> list[Unit]:
    units = []
    for group in groups:
        if units and len(units[-1]) + len(group) <= width:
            units[-1] += tuple(group)
        else:
            units.append(tuple(group))
    return units


def _cut(groups: Iterable[list[Run]], width: int) -> list[Unit]:
    parts = ((group, math.ceil(len(group) / width)) for group in groups)
    return [tuple(group[part::count]) for group, count in parts for part in range(count)]


def train_missing(
    runs: Iterable[Run],
    dataset: Dataset,
    store: RunStore,
    device: str,
    time_limit: float | None = None,
    executor: Executor | None = None,
) -> Summary:
    """Train the runs that have no record; on Ctrl-C or at the time limit, stop with checkpoints.

    Args:
        runs: all on `dataset`.
        dataset: as load_dataset gives it; workers load it anew by its name.
        store: where records go.
        device: 'cpu' or 'cuda'.
        time_limit: seconds; None: until all is trained.
        executor: who does the work; its workers need this package and the store's folder. None: processes here.

    Raises:
        InputError: the store cannot be written, or a process of the executor was killed.
        KeyboardInterrupt: after the workers have stopped.
    """
    units = distributed.agree(work_units(missing_runs(runs, dataset, store), device))
    if not units:
        return Summary(0, 0, ())
    store.check_writable()
    with contextlib.ExitStack() as stack:
        in_step = distributed.world() > 1
        workers = 1 if _in_turn(device) else min(cores(), len(units))
        if in_step:
            units = [(run,) for unit in units for run in unit]
            executor = stack.enter_context(own_executor(device))
        executor = executor or stack.enter_context(local_executor(workers, device))
        sweep = _Sweep(dataset, store, device, executor, time_limit)
        try:
            return sweep.drain(units, stack.enter_context(Bar(units, dataset.fingerprint, store, workers)))
        except BrokenProcessPool as error:
            raise InputError("a training process was killed from outside, perhaps for want of memory") from error


class _Sweep:
    """Hands units to an executor and counts what comes of them."""

    def __init__(self, dataset: Dataset, store: RunStore, device: str, executor: Executor, time_limit: float | None):
        self.executor, self.stop = executor, store.stop_request()
        deadline = None if time_limit is None else time.time() + time_limit
        self.orders = Orders(dataset.name, store.root, device, self.stop, deadline)
        self.futures: dict[Future, Unit] = {}
        self.outcomes: dict[Run, str] = {}

    def drain(self, units: list[Unit], bar: Bar) -> Summary:
        """Work until every run has its record, failed, or was left at the time limit or on a signal."""
        asked, waiting = [], list(units)  # asked: signals that came
        in_step = distributed.world() > 1  # each unit is then done before the next, alike in all processes
        most = 1 if in_step else len(units)
        restore = _answer_signals(lambda number, _: (asked.append(number), self.stop.touch()))
        try:
            while waiting or self.futures:
                room = most - len(self.futures)
                self._submit(waiting[:room])
                del waiting[:room]
                done, _ = wait(self.futures, timeout=POLL, return_when=FIRST_COMPLETED)
                busy = [run for future in done for run in self._collect(future, bar)]
                bar.update(itertools.chain(*self.futures.values()))
                if busy:
                    time.sleep(BUSY_WAIT)
                waiting += [(run,) for run in busy]
        except BaseException:
            self.stop.touch()
            raise
        finally:
            for future in self.futures:
                future.cancel()
            wait(self.futures)
            restore()
            self.stop.unlink(missing_ok=True)
            if asked and not in_step:  # torchrun's processes end together
                raise KeyboardInterrupt  # also where it has ended a worker that did not ignore it yet
        by_end = Counter(self.outcomes.values())
        ends = {TRAINED, RECORDED, LEFT}
        failed = [f"{run.label()}: {outcome}" for run, outcome in self.outcomes.items() if outcome not in ends]
        return Summary(by_end[TRAINED], by_end[LEFT], tuple(failed))

    def _submit(self, units: Iterable[Unit]) -> None:
        self.futures |= {self.executor.submit(carry_out, unit, self.orders): unit for unit in units}

    def _collect(self, future: Future, bar: Bar) -> list[Run]:
        """Note what came of a unit; returns the runs that another process holds."""
        unit, busy = self.futures.pop(future), []
        for run, outcome in zip(unit, _result(future, len(unit)), strict=True):
            if outcome == BUSY:
                busy.append(run)
                continue
            self.outcomes[run] = outcome
            if outcome in (TRAINED, RECORDED):
                bar.finish(run)
            elif outcome != LEFT and not distributed.rank():
                bar.write(f"failed: {run.label()}: {outcome}")
        return busy


def _answer_signals(handler: Callable) -> Callable[[], None]:
    """Let what asks to end call the handler; returns what undoes it. It must not raise: an exception inside
    concurrent.futures.wait would leave it holding locks that its other thread waits for."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # signals are another's business
    before = {number: signal.signal(number, handler) for number in ends()}
    return lambda: [signal.signal(number, old or signal.SIG_DFL) for number, old in before.items()]


def _result(future: Future, count: int) -> list[str]:
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except Exception as error:  # a unit that fails must not take the others with it: its runs are named and counted
        if distributed.world() > 1:
            raise  # see carry_out
        return [f"{type(error).__name__}: {error}"] * count


# --- command line -------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when every run has its record, 3 when the time limit left some (0 under torchrun, which takes all
    others for failures), 1 when some failed."""
    parser = argparse.ArgumentParser(prog="python -m lib.sweep", description="Train every run that has no record.")
    parser.add_argument("--profile", default=from_environment("PROFILE", "auto"), help=" | ".join(PROFILES) + " | auto")
    parser.add_argument("--dataset", default=from_environment("DATASET", "auto"), help=" | ".join(DATASETS))
    parser.add_argument("--device", default=from_environment("DEVICE", "auto"), help=" | ".join(DEVICES))
    parser.add_argument("--claims", nargs="+", metavar="CLAIM", help=" | ".join(CLAIM_ARMS))
    parser.add_argument("--networks", nargs="+", metavar="NETWORK", help=" | ".join(MODELS))
    parser.add_argument("--seeds", type=int, help="how many, if not the profile's own number")
    parser.add_argument("--store", default="", help="folder of the records")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="stop cleanly after this time")
    options = parser.parse_args(arguments)
    if options.time_limit is not None and not options.time_limit > 0:
        raise InputError(f"time limit {options.time_limit:g} is not allowed: seconds above 0")
    device = resolve_device(options.device)
    profile = with_parameters(resolve_profile(options.profile, device), options.seeds)
    networks = [one_of("network", name, MODELS) for name in options.networks or MODELS]
    name = resolve_dataset(options.dataset)
    asked = runs_of(options.claims or arms_of(name), profile, name)
    runs = [run for run in asked if run.model in networks]
    if not runs:
        allowed = ", ".join(dict.fromkeys(run.model for run in asked))
        raise InputError(f"no run of {', '.join(networks)} is asked for on {name}; allowed: {allowed}")
    distributed.start(device)
    dataset = load_dataset(name, classes=profile.sizes[name].classes)
    summary = train_missing(runs, dataset, RunStore(store_root(options.store)), device, options.time_limit)
    if not distributed.rank():
        print(
            f"{profile.name} on {name}: {summary.trained} trained, {summary.left} left, {len(summary.failed)} failed, "
            f"{len(runs)} in all"
        )
    is_alone = distributed.world() == 1
    distributed.stop()
    return 1 if summary.failed else 3 if summary.left and is_alone else 0


if __name__ == "__main__":
    distributed.end(run_command(main))
