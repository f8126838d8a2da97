import contextlib
import os
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

from lib import distributed, engine, sweep
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


@pytest.mark.parametrize(
    ("device", "has_bf16", "processes"), [("cpu", False, 1), ("cpu", True, 1), ("cpu", True, 2), ("cuda", True, 1)]
)
@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
def test_units_hold_every_run_once_grouped_by_plan_one_seed_first_and_ordered_by_cost(
    monkeypatch, profile, device, has_bf16, processes
):
    asked = {"cpu": lambda: has_bf16, "cuda": lambda: pytest.fail("the sweep's own process opened the GPU")}
    monkeypatch.setattr(engine, "_bf16_is_faster", lambda device: asked[device]())
    monkeypatch.setattr(distributed, "world", lambda: processes)
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
        costs = [[(8 if run.precision == "fp32" and has_bf16 else 1) * work(run) for run in unit] for unit in units]
        costs = [cost for cost, place in zip(costs, order, strict=True) if place == which]
        if device == "cpu" and processes == 1:
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


def test_any_executor_will_do(digits, runs, store):
    """A thread stands for a cluster: nothing but the units, the orders and the store's folder reaches it."""
    with ThreadPoolExecutor(1) as executor:
        summary = train_missing(runs, digits, store, "cpu", executor=executor)
    assert summary == sweep.Summary(3, 0, ())
    assert missing_runs(runs, digits, store) == []
    assert not [path for path in (store.root / ".work").iterdir() if path.suffix != ".lock"]


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
    """In a process group of its own, and listening to Ctrl-C and a closed terminal even where these tests run in the
    background of a shell or under nohup, which make their children deaf to them."""
    answers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    deaf = {number: signal.signal(number, answer) for number, answer in answers.items()}
    try:
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    finally:
        for number, answer in deaf.items():
            signal.signal(number, answer)


def count(store):
    return len(list(store.root.glob("digits/*.json")))


def session_of(process):
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(process)


def assert_no_process_is_left(session):
    """Workers leave their parent's group, but not its session."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not any(session_of(int(name)) == session for name in os.listdir("/proc") if name.isdecimal()):
            return
        time.sleep(0.1)
    pytest.fail("a worker lives on")


def test_stopped_in_the_middle_loses_nothing_finished(store):
    """Real signals to the real command: records stay whole, no worker lives on, the next call goes on."""
    done = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        process, before = popen(smoke_command(store)), count(store)
        wait_for(lambda before=before: count(store) >= before + 2, process)
        if number in (signal.SIGINT, signal.SIGTERM):
            os.killpg(process.pid, number)  # the whole group gets a terminal's Ctrl-C, and what `timeout` sends
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
