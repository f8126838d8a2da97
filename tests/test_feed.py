from dataclasses import replace

import pytest
import torch

from lib import inputs
from lib.feed import AHEAD, Feed
from lib.runs import Run
from lib.training import Interrupted, train


@pytest.fixture
def photo_run() -> Run:
    return Run("photos", "inception_v3", width=1 / 16, optimizer="rmsprop", batch_size=16, epochs=2, decay=0.9)


def test_batches_come_in_order_and_hold_the_images_asked_for(photos):
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0)).expand(2, -1)
    parts = [slice(start, start + 4) for start in range(0, 40, 4)]
    assert len(parts) > AHEAD
    feed, whole = Feed([photos.train.images, photos.train.images[torch.arange(39, -1, -1)]], pin=False), []
    for _ in range(2):  # an epoch may begin before the last one was read to its end
        feed.begin(order, parts)
        whole = [feed.next() for _ in parts[:3]]
    images = photos.train.images.read()
    assert torch.equal(whole[2][0], images[order[0, parts[2]]])
    assert torch.equal(whole[2][1], images.flip(0)[order[1, parts[2]]])


@pytest.mark.parametrize("options", [{}, {"photo_augmentation": True}, {"validation_size": 8, "dropout": 0.3}])
def test_a_run_fed_from_a_file_is_the_run_on_images_in_memory(photos, photo_run, monkeypatch, options):
    run = replace(photo_run, **options)
    in_memory = train(run, photos)
    monkeypatch.setattr(inputs, "SHARE", 0.0)
    fed = train(run, photos)
    for column, values in in_memory.history.items():
        assert column == "seconds" or fed.history[column] == values
    assert fed.final == in_memory.final


def test_a_fed_run_goes_on_in_the_middle_of_an_epoch(photos, photo_run, monkeypatch, tmp_path):
    monkeypatch.setattr(inputs, "SHARE", 0.0)
    whole, asked = train(photo_run, photos), []
    with pytest.raises(Interrupted):
        train(photo_run, photos, checkpoint=tmp_path / "c.pt", interrupted=lambda: asked.append(0) or len(asked) == 2)
    resumed = train(photo_run, photos, checkpoint=tmp_path / "c.pt")
    assert resumed.history["train_loss"] == whole.history["train_loss"]
    assert resumed.final == whole.final


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("share", [0.5, 0.0], ids=["on the device", "from the file"])
def test_photographs_train_on_a_gpu_as_on_a_cpu(photos, photo_run, monkeypatch, share):
    run = replace(
        photo_run, precision="fp64", learning_rate=1e-4, epochs=1
    )  # in fp32 rounding alone grows to a per cent
    cpu = train(run, photos)
    monkeypatch.setattr(inputs, "SHARE", share)
    gpu = train(run, photos, "cuda")
    assert gpu.history["train_loss"] == pytest.approx(cpu.history["train_loss"], rel=1e-4)
