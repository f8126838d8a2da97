"""One run over two processes, on the CPU with gloo, against the same run in one."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from lib import distributed, inputs
from lib.config import ROOT
from lib.runs import Record, Run
from lib.training import train

PROCESSES = 2
WORKER = """
import json, sys
import torch
sys.path.insert(0, {tests!r})
from lib import distributed, inputs
from lib.runs import Run
from lib.training import train
from test_distributed import made
torch.set_num_threads(1)
distributed.start("cpu")
run, inputs.SHARE = Run(**json.loads(sys.argv[1])), float(sys.argv[3])
record = train(run, made())
if distributed.rank() == 0:
    open(sys.argv[2], "w").write(record.to_json())
distributed.stop()
"""


def made():
    """60 + 31 random images of 5 classes: batches and chunks that two processes cannot halve."""
    from lib.splits import Dataset, Split, fingerprint

    generator = torch.Generator().manual_seed(0)
    splits = [
        Split(torch.randint(256, (count, 3, 48, 48), generator=generator, dtype=torch.uint8), torch.arange(count) % 5)
        for count in (60, 31)
    ]
    return Dataset("photos", *splits, tuple("abcde"), fingerprint(*splits), "made here")


SMALL = Run("photos", "inception", width=0.1, learning_rate=0.01, batch_size=15, epochs=3, precision="fp64")
V3 = Run("photos", "inception_v3", width=1 / 16, optimizer="rmsprop", learning_rate=1e-4, batch_size=30, epochs=2)
AUGMENTED = {"photo_augmentation": True, "weight_decay": 4e-5, "validation_size": 10}


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
    outputs = [process.communicate(timeout=240)[0] for process in started]
    return [process.returncode for process in started], outputs


def over_two(run, tmp_path, share=1.0):
    path = tmp_path / "record.json"
    script = WORKER.format(tests=str(ROOT / "tests"))
    codes, outputs = launch([sys.executable, "-c", script, json.dumps(asdict(run)), str(path), str(share)])
    assert codes == [0, 0], outputs
    return Record.from_json(path.read_text())


@pytest.mark.parametrize("run", [replace(V3, precision="fp64"), SMALL, replace(SMALL, **AUGMENTED)], ids=str)
def test_two_processes_make_the_run_of_one(run, tmp_path):
    """In fp64: in fp32 the rounding of one pass through so deep a network is 1e-4 of the loss already."""
    one, two = train(run, made()), over_two(run, tmp_path)
    assert one.history["train_loss"][-1] < one.history["train_loss"][0]
    for column in ("train_loss", "test_loss", "validation_loss"):
        if one.history[column][0] is not None:
            assert two.history[column] == pytest.approx(one.history[column], rel=1e-7), column
    assert two.final["train_loss"] == pytest.approx(one.final["train_loss"], rel=1e-7)
    assert two.key == one.key


def test_batch_norm_alone_would_not_do(tmp_path, monkeypatch):
    """The comparison above sees whether batch statistics are shared."""
    monkeypatch.setattr(sys.modules[__name__], "WORKER", WORKER.replace("distributed.start", NO_SHARING))
    one, two = train(SMALL, made()), over_two(SMALL, tmp_path)
    assert two.history["train_loss"] != pytest.approx(one.history["train_loss"], rel=1e-3)


NO_SHARING = "distributed.synchronize_batch_norm = lambda network: None\ndistributed.start"


def test_one_process_needs_no_torchrun():
    assert (distributed.world(), distributed.rank(), distributed.part(7)) == (1, 0, slice(0, 7))
    values = torch.ones(2)
    assert distributed.total(values) is values
    assert distributed.agree({"a": 1}) == {"a": 1}
    assert inputs.SHARE > 0
