"""One run over two processes, on the CPU with gloo, against the same run in one."""

import os
import re
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from lib import distributed, engine
from lib.config import ROOT, InputError
from lib.inputs import InputMaker
from lib.runs import Record, Run
from lib.training import train

PROCESSES = 2
WORKER = """
import json, sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from lib import distributed, training
from test_distributed import CONTROL, DROPPED, RUNS, STOP, made
from lib.training import Interrupted, train
torch.set_num_threads(1)
distributed.start("cpu")
records = {{name: train(run, made()) for name, run in RUNS.items()}}
distributed.synchronize_batch_norm = lambda network: None
records["control"] = train(CONTROL, made())
records["dropout"] = train(DROPPED, made())
checkpoint, asked = Path({folder!r}, "dropout.pt"), iter(range(DROPPED.epochs * 99))
try:
    train(DROPPED, made(), checkpoint=checkpoint, interrupted=lambda: next(asked) == STOP)
    sys.exit("it was not interrupted")
except Interrupted:
    distributed.agree(None)  # the first process has written the checkpoint by now
training.CHECKPOINT_SECONDS["cpu"] = 1e9 * distributed.rank()  # by the other's clock it is not yet time to save
records["resumed"] = train(DROPPED, made(), checkpoint=checkpoint)
for name, record in records.items() if distributed.rank() == 0 else ():
    Path({folder!r}, name + ".json").write_text(record.to_json())
distributed.stop()
"""
SMALL = Run("photos", "inception", width=0.1, learning_rate=0.01, batch_size=15, epochs=3, precision="fp64")
V3 = Run("photos", "inception_v3", width=1 / 16, optimizer="rmsprop", learning_rate=1e-4, batch_size=30, epochs=2)
RUNS = {
    "inception v3": replace(V3, precision="fp64"),
    "inception": SMALL,
    "augmented": replace(SMALL, photo_augmentation=True, weight_decay=4e-5, validation_size=10),
}
CONTROL = SMALL
DROPPED, STOP = Run("photos", "mlp_1x512", learning_rate=0.01, batch_size=15, epochs=3, dropout=0.5), 6  # of 4 an epoch


def made():
    """60 + 31 random images of 5 classes: batches and chunks that two processes cannot halve."""
    from lib.splits import Dataset, Split, fingerprint

    generator = torch.Generator().manual_seed(0)
    splits = [
        Split(torch.randint(256, (count, 3, 48, 48), generator=generator, dtype=torch.uint8), torch.arange(count) % 5)
        for count in (60, 31)
    ]
    return Dataset("photos", *splits, tuple("abcde"), fingerprint(*splits), "made here")


def launch(command, processes=PROCESSES):
    """Start a command as torchrun does, once for each process; returns exit statuses and outputs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = os.environ | {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            command,
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in started]
    finally:
        for process in started:
            process.kill()  # one that waits for another would wait for ever
    return [process.returncode for process in started], outputs


@pytest.fixture(scope="module")
def over_two(tmp_path_factory):
    """The records that two processes make together of RUNS, and of CONTROL without shared batch statistics."""
    folder = tmp_path_factory.mktemp("records")
    codes, outputs = launch([sys.executable, "-c", WORKER.format(tests=str(ROOT / "tests"), folder=str(folder))])
    assert codes == [0, 0], outputs
    return {path.stem: Record.from_json(path.read_text()) for path in folder.glob("*.json")}


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_make_the_run_of_one(over_two, name):
    """In fp64: in fp32 the rounding of one pass through so deep a network is 1e-4 of the loss already."""
    one, two = train(RUNS[name], made()), over_two[name]
    assert len(set(one.history["train_loss"])) == RUNS[name].epochs
    for column in ("train_loss", "train_accuracy", "test_loss", "test_top5_accuracy", "validation_loss"):
        if one.history[column][0] is not None:  # nothing may be held out
            assert two.history[column] == pytest.approx(one.history[column], rel=1e-7), column
    assert two.final["train_loss"] == pytest.approx(one.final["train_loss"], rel=1e-7)
    assert two.key == one.key


def test_the_comparison_sees_whether_batch_statistics_are_shared(over_two):
    one = train(CONTROL, made())
    assert over_two["control"].history["train_loss"] != pytest.approx(one.history["train_loss"], rel=1e-3)


def test_two_processes_go_on_within_an_epoch_as_if_they_had_not_stopped(over_two):
    whole, resumed = over_two["dropout"], over_two["resumed"]
    for column in ("train_loss", "train_accuracy", "test_loss"):
        assert resumed.history[column] == whole.history[column]
    assert resumed.final == whole.final


def test_each_process_has_dropout_masks_of_its_own(monkeypatch):
    drawn = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        one = engine.Engine(DROPPED, 1, 5, 28, "cpu")
        one.load([DROPPED], [InputMaker(made(), "cpu").make(DROPPED)], [engine.initial_state(DROPPED, 5, 28)])
        one.begin([0])
        drawn.append(torch.rand(8, generator=one.generators[0]).tolist())
    assert len(set(map(tuple, drawn))) == 3


def test_one_process_needs_no_torchrun():
    assert (distributed.world(), distributed.rank(), distributed.part(7)) == (1, 0, slice(0, 7))
    values = torch.ones(2)
    assert distributed.total(values) is values
    assert distributed.agree({"a": 1}) == {"a": 1}


def test_torchrun_sweeps_a_store_run_by_run(tmp_path):
    """Through the command line, on digits: one record a run, written once, as one process would name it; and one bar,
    which shows the epochs of the run under way."""
    store = tmp_path / "store"
    code = """
import runpy
from lib import progress, worker
progress.redraw_seconds, worker.POLL = lambda: 0.0, 0.0
runpy.run_module("lib.sweep", run_name="__main__")
"""
    command = [sys.executable, "-c", code, "--profile", "smoke", "--dataset", "digits", "--device", "cpu"]
    command += ["--store", str(store), "--claims", "label_corruption", "--networks", "alexnet"]
    codes, outputs = launch(command)
    assert codes == [0, 0], outputs
    assert sum("smoke on digits: 3 trained, 0 left, 0 failed, 3 in all" in output for output in outputs) == 1
    assert re.search(r"at most [\d:]+ left, alexnet.* [1-9]\d*/\d+\]", outputs[0])
    assert "runs [" not in outputs[1]
    records = [Record.from_json(path.read_text()) for path in (store / "digits").glob("*.json")]
    assert sorted(record.run.label_corruption for record in records) == [0.0, 0.5, 1.0]
    assert {record.provenance["processes"] for record in records} == {2}
    codes, outputs = launch(command)
    assert codes == [0, 0], outputs
    assert any("0 trained, 0 left" in output for output in outputs)


def test_a_time_limit_is_no_failure_under_torchrun(tmp_path):
    command = [sys.executable, "-m", "lib.sweep", "--profile", "smoke", "--dataset", "digits", "--device", "cpu"]
    codes, outputs = launch([*command, "--store", str(tmp_path), "--networks", "alexnet", "--time-limit", "0.001"])
    assert codes == [0, 0], outputs
    assert any(re.search(r": 0 trained, [1-9]\d* left, 0 failed", output) for output in outputs)


def test_an_error_in_one_process_ends_them_all(tmp_path):
    """Rather than leave the others to wait for it."""
    code = """
import runpy
from lib import distributed, training
save_one = training._Training._save_one
def fail_in_the_first(*arguments):
    if distributed.rank() == 0:
        raise OSError(28, "No space left on device")
    save_one(*arguments)
training.CHECKPOINT_SECONDS["cpu"] = 0
training._Training._save_one = fail_in_the_first
runpy.run_module("lib.sweep", run_name="__main__")
"""
    command = [sys.executable, "-c", code, "--profile", "smoke", "--dataset", "digits", "--device", "cpu"]
    codes, outputs = launch([*command, "--store", str(tmp_path), "--networks", "alexnet"])
    assert codes[0] == 2, outputs
    assert "No space left on device" in outputs[0]
    assert codes[1] != 0


def test_a_process_with_work_in_flight_ends_with_its_status():
    """Python taken down beside gloo's threads aborts now and then, so three times."""
    code = """
import os, time, torch
import torch.distributed as dist
from lib import distributed
distributed.start("cpu")
dist.all_reduce(torch.ones(10))
works = [dist.all_reduce(torch.ones(10), async_op=True) for _ in range(3000)]
del works
if distributed.rank():
    time.sleep(5)  # where the first is done with it sooner
    os._exit(0)
print("said")
distributed.end(2)
"""
    for _ in range(3):
        codes, outputs = launch([sys.executable, "-c", code])
        assert codes[0] == 2, outputs
        assert outputs[0].endswith("said\n")


@pytest.mark.parametrize(
    ("world", "micro_batch", "size"),
    [(20, 1000, 15), (2, 7, 15)],  # a process without an image; parts of 7 and 8 images in one step and in two
)
def test_a_batch_that_cannot_be_shared_is_refused(world, micro_batch, size, monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: world)
    monkeypatch.setattr(engine, "MICRO_BATCH", micro_batch)
    monkeypatch.setattr(engine, "DistributedDataParallel", lambda stack, **options: stack)
    with pytest.raises(InputError, match=f"a batch of {size} images cannot be shared by {world} processes"):
        train(SMALL, made())
