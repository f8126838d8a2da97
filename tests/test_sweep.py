import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import sweep
from lib.config import ROOT, InputError
from lib.data import load_dataset
from lib.engine import capacity, plan
from lib.experiments import CLAIM_ARMS, claim_arms
from lib.profiles import PROFILES
from lib.progress import work
from lib.runs import Record, RunStore
from lib.sweep import missing_runs, train_missing, work_units
from lib.training import LANES, train

COMMAND = [sys.executable, "-m", "lib.sweep", "--device", "cpu"]


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "store")


@pytest.fixture
def runs(small_run):
    return [replace(small_run, seed=seed) for seed in range(3)]


def test_train_or_load(digits, runs, store, capsys):
    """What is missing is trained once, as a direct call would; what is there is loaded; what is damaged, retrained."""
    failing = replace(runs[0], optimizer="lbfgs")
    summary = train_missing([failing, *runs, *runs], digits, store, "cpu")
    assert (summary.trained, summary.left, len(summary.failed)) == (3, 0, 1)
    assert "lbfgs" in summary.failed[0]
    assert not list((store.root / ".work").glob("*.pt"))

    first = train(runs[0], digits)
    found = store.load(runs[0], digits.fingerprint)
    assert found.history["train_loss"] == first.history["train_loss"]
    assert found.final == first.final
    assert found.provenance["threads"] == 1

    before = {path: path.stat().st_mtime_ns for path in store.root.glob("digits/*.json")}
    assert train_missing(runs, digits, store, "cpu") == sweep.Summary(0, 0, ())
    assert before == {path: path.stat().st_mtime_ns for path in store.root.glob("digits/*.json")}

    path = store.path(runs[1], digits.fingerprint)
    path.write_text(path.read_text()[:100])
    assert missing_runs(runs, digits, store) == [runs[1]]
    assert path.name in capsys.readouterr().err
    assert train_missing(runs, digits, store, "cpu").trained == 1
    assert Record.from_json(path.read_text()).run == runs[1]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
def test_units_hold_every_run_once_grouped_by_plan_one_seed_first_the_costliest_before_others(profile, device):
    runs = {arm.run for claim in CLAIM_ARMS for arm in claim_arms(claim, PROFILES[profile], "cifar10")}
    units = work_units(runs, device)
    assert sorted(map(repr, runs)) == sorted(repr(run) for unit in units for run in unit)
    assert all(len({plan(run) for run in unit}) == 1 for unit in units)
    second = {run for run in runs if run.twin in runs and not run.stop_when_fitted}
    assert bool(second) == (profile == "paper")
    assert all(set(unit) <= second or not set(unit) & second for unit in units)
    order = [(unit[0].seed, unit[0] in second) for unit in units]
    assert order == sorted(order)
    for which in set(order):
        costs = [[sweep.FP32_COST ** (run.precision == "fp32") * work(run) for run in unit] for unit in units]
        costs = [cost for cost, place in zip(costs, order, strict=True) if place == which]
        if device == "cpu":
            assert list(map(sum, costs)) == sorted(map(sum, costs), reverse=True)
        else:
            assert list(map(np.mean, costs)) == sorted(map(np.mean, costs))
    if device == "cpu":
        assert all(len({run.seed for run in unit}) == 1 for unit in units)
        assert all(len(unit) <= capacity(unit[0].model, device) for unit in units)
        assert max(len(unit) for unit in units) > 1
    else:
        groups = {(run.seed, plan(run), run in second) for run in runs}
        assert len(groups) == sum(len({run.seed for run in unit}) for unit in units)
        for unit in units:  # all of its last seed and plan; the next seed's would not have had room
            width = capacity(unit[0].model, device) * LANES[device]
            seeds, last = [run.seed for run in unit], unit[-1].seed
            assert seeds == sorted(seeds)
            same = (run for run in runs if plan(run) == plan(unit[0]) and (run in second) == (unit[0] in second))
            alike = Counter(run.seed for run in same)
            assert seeds.count(last) == alike[last]
            assert alike[last + 1] == 0 or len(unit) + alike[last + 1] > width


def carried_out(run, dataset, store):
    orders = sweep.Orders(dataset.name, store.root, "cpu", store.root / "stop", None)
    assert sweep.carry_out((run,), orders) == [sweep.TRAINED]
    return store.load(run, dataset.fingerprint)


@pytest.mark.parametrize("stops", [True, False])
def test_a_run_that_never_fits_is_trained_once_whether_it_is_to_stop_or_not(digits, small_run, store, stops):
    first, second = replace(small_run, stop_when_fitted=stops), replace(small_run, stop_when_fitted=not stops)
    trained, adopted = (carried_out(run, digits, store) for run in (first, second))
    assert None in trained.reached.values()
    assert (trained.training, adopted.training) == (trained.key, trained.key)
    again = train(second, digits)
    assert (adopted.run, adopted.outcome, adopted.final) == (second, again.outcome, again.final)
    for column in set(again.history) - {"seconds"}:
        assert adopted.history[column] == again.history[column]


def test_of_twins_the_one_without_a_stop_waits_while_the_other_trains(digits, small_run, store):
    stops, full = (replace(small_run, stop_when_fitted=stops) for stops in (True, False))
    orders = sweep.Orders(digits.name, store.root, "cpu", store.root / "stop", None)
    with store.claim(stops, digits.fingerprint):
        assert sweep.carry_out((full,), orders) == [sweep.BUSY]
    with store.claim(full, digits.fingerprint):
        assert sweep.carry_out((stops,), orders) == [sweep.TRAINED]
    assert carried_out(full, digits, store).training == stops.key(digits.fingerprint)


@pytest.mark.parametrize("stops", [True, False])
def test_a_run_that_fits_is_trained_with_and_without_its_stop(digits, small_run, store, stops):
    fitting = replace(small_run, width=1.0, epochs=60)
    first, second = replace(fitting, stop_when_fitted=stops), replace(fitting, stop_when_fitted=not stops)
    one, other = (carried_out(run, digits, store) for run in (first, second))
    assert None not in one.reached.values()
    assert (one.training, other.training) == (one.key, other.key)
    assert one.outcome != other.outcome


def test_any_executor_will_do(digits, runs, store):
    """A thread stands for a cluster: nothing but the units, the orders and the store's folder reaches it."""
    with ThreadPoolExecutor(1) as executor:
        summary = train_missing(runs, digits, store, "cpu", executor=executor)
    assert summary == sweep.Summary(3, 0, ())
    assert missing_runs(runs, digits, store) == []
    assert not [path for path in (store.root / ".work").iterdir() if path.suffix != ".lock"]


def test_what_a_worker_needs_can_be_sent_to_it(runs, tmp_path):
    orders = sweep.Orders("digits", tmp_path, "cpu", tmp_path / "stop", None)
    function, unit, again = pickle.loads(pickle.dumps((sweep.carry_out, tuple(runs), orders)))
    (tmp_path / "stop").touch()
    assert function(unit, again) == [sweep.LEFT] * 3


def test_time_limit_stops_with_a_checkpoint_and_the_next_call_goes_on(digits, small_run, store):
    long, done = replace(small_run, epochs=1_000_000), []
    checkpoint = store.checkpoint(long, digits.fingerprint)
    for _ in range(2):
        start = time.monotonic()
        with ThreadPoolExecutor(1) as executor:  # processes take seconds to start, more on a busy machine
            summary = train_missing([long], digits, store, "cpu", time_limit=1, executor=executor)
        assert (summary.trained, summary.left, summary.failed) == (0, 1, ())
        assert 1 <= time.monotonic() - start < 20
        progress = torch.load(checkpoint, weights_only=True)["progress"]
        done.append((len(progress["history"]["epoch"]), progress["started"]))
    (epochs, started), (more, same) = done
    assert 0 < epochs < more
    assert started == same  # it went on, and did not begin anew


def test_unwritable_store_stops_before_training(digits, runs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="not writable"):
        train_missing(runs, digits, RunStore(tmp_path / "file"), "cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "fast"], "unknown profile 'fast'; allowed: smoke, quick, cpu, paper, auto"),
        (["--dataset", "mnist"], "unknown dataset 'mnist'"),
        (["--device", "tpu"], "unknown device 'tpu'; allowed: auto, cpu, cuda"),
        (["--claims", "dropout"], "unknown claim 'dropout'; allowed: randomization"),
        (["--store", "/dev/null/store"], "not writable"),
        (["--time-limit", "-1"], "time limit"),
        (["--seeds", "0"], "seeds 0 is not allowed"),
        (
            ["--networks", "inception_v3"],
            "no run of inception_v3 is asked for on digits; allowed: inception, inception_no_bn, ",
        ),
    ],
)
def test_wrong_input_is_one_line_and_status_2(arguments, message, capsys):
    defaults = ["--profile", "smoke", "--dataset", "digits", "--device", "cpu"]
    assert sweep.run_command(lambda: sweep.main([*defaults, *arguments])) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("is_submitted", [True, False])
def test_a_killed_worker_is_one_line(digits, runs, store, is_submitted):
    class Broken(Executor):
        def submit(self, *_):
            if not is_submitted:
                raise BrokenProcessPool
            future = Future()
            future.set_exception(BrokenProcessPool())
            return future

    with pytest.raises(InputError, match="killed from outside"):
        train_missing(runs, digits, store, "cpu", executor=Broken())


def test_cuda_where_there_is_none(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert sweep.run_command(lambda: sweep.main(["--device", "cuda"])) == 2
    assert "no CUDA GPU" in capsys.readouterr().err


def smoke_command(store):
    return [*COMMAND, "--profile", "smoke", "--dataset", "digits", "--store", str(store.root)]


def smoke_runs():
    return {arm.run for claim in CLAIM_ARMS for arm in claim_arms(claim, PROFILES["smoke"], "digits")}


def wait_for(condition, process):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)


def popen(command):
    """In a process group of its own, and listening to Ctrl-C even where these tests run in the background of a
    shell, which makes its children deaf to it."""
    deaf = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, deaf)


def count(store):
    return len(list(store.root.glob("digits/*.json")))


def assert_no_process_is_left(group):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a worker lives on")


def test_stopped_in_the_middle_loses_nothing_finished(store):
    """Real signals to the real command: records stay whole, no worker lives on, the next call goes on."""
    done = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process, before = popen(smoke_command(store)), count(store)
        wait_for(lambda before=before: count(store) >= before + 2, process)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal's Ctrl-C: the whole group gets it
        else:
            process.send_signal(number)
        _, error = process.communicate(timeout=60)
        assert process.returncode == (-number if number == signal.SIGKILL else 130)
        assert "Traceback" not in error
        assert_no_process_is_left(process.pid)
        found = {path: path.read_text() for path in store.root.glob("digits/*.json")}
        assert all(Record.from_json(text) for text in found.values())
        assert done.items() <= found.items()
        done = found
    assert len(done) < len(smoke_runs())
    finished = subprocess.run(smoke_command(store), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert count(store) == len(smoke_runs())
    assert done.items() <= {path: path.read_text() for path in store.root.glob("digits/*.json")}.items()


def test_a_signal_ends_a_sweep_but_no_wait(digits, runs, store, monkeypatch):
    """An exception raised within concurrent.futures.wait would leave it holding locks, and the sweep hanging."""
    waits, wait, before = [], sweep.wait, signal.getsignal(signal.SIGINT)

    def interrupted_wait(*args, **options):
        os.kill(os.getpid(), signal.SIGINT)
        result = wait(*args, **options)
        waits.append(result)
        return result

    monkeypatch.setattr(sweep, "wait", interrupted_wait)
    endless = [replace(run, epochs=100_000) for run in runs]
    with ThreadPoolExecutor(1) as executor, pytest.raises(KeyboardInterrupt):
        train_missing(endless, digits, store, "cpu", executor=executor)
    assert waits
    assert signal.getsignal(signal.SIGINT) is before
    assert missing_runs(endless, digits, store) == endless


@pytest.mark.parametrize(("device", "fresh"), [("cpu", 0), ("cuda", 1)])
def test_after_a_failure_on_a_gpu_a_unit_has_a_process_of_its_own(digits, runs, store, monkeypatch, device, fresh):
    def fail(*arguments, **options):
        raise RuntimeError("illegal memory access")

    started = []

    def executor(workers, device):
        started.append((workers, device))
        monkeypatch.setattr(sweep, "_spoiled", False)  # as in a new process
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr(sweep, "_spoiled", False)
    monkeypatch.setattr(sweep, "train_together", fail)
    monkeypatch.setattr(sweep, "local_executor", executor)
    orders = sweep.Orders(digits.name, store.root, device, store.root / "stop", None)
    for run in runs[:2]:
        assert sweep.carry_out((run,), orders) == ["RuntimeError: illegal memory access"]
    assert started == [(1, device)] * fresh
    orders.stop.touch()
    monkeypatch.setattr(sweep, "_spoiled", device == "cuda")
    assert sweep.carry_out((runs[2],), orders) == [sweep.LEFT]
    assert started == [(1, device)] * fresh  # no process is started to be told to stop


def test_an_error_is_told_after_what_led_to_it():
    """The capture of a CUDA graph that failed raises another error on its way out."""

    def raised(error):
        try:
            try:
                raise ValueError("the cause")
            finally:
                raise error
        except type(error) as caught:
            return caught

    assert (
        sweep._told(raised(RuntimeError("failed before"))) == "ValueError: the cause; then RuntimeError: failed before"
    )
    assert sweep._told(raised(InputError("say it"))) == "InputError: say it"


def test_two_processes_share_a_store(store):
    processes = [popen(smoke_command(store)) for _ in range(2)]
    for process in processes:
        _, error = process.communicate(timeout=180)
        assert process.returncode == 0, error
    digits = load_dataset("digits")
    assert missing_runs(smoke_runs(), digits, store) == []
    assert len(list(store.root.glob("digits/*"))) == len(smoke_runs())


@pytest.mark.parametrize("modules", ["lib.sweep, lib.bench", "conftest, test_engine, test_feed, test_training"])
def test_training_and_its_tests_need_no_jupyter(modules):
    """Nor papermill nor, for CIFAR-10, scikit-learn."""
    code = f"import sys; sys.path.append('tests'); import {modules}; "
    code += "print([m for m in sys.modules if m.split('.')[0] in %r])"
    absent = ["IPython", "jupyterlab", "papermill", "nbconvert", "nbformat", "sklearn", "ipykernel"]
    done = subprocess.run([sys.executable, "-c", code % absent], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
