from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib import inputs
from lib.config import InputError
from lib.inputs import DRAWS, InputMaker, augment, batch_sizes, draws, input_size, network_inputs
from lib.preprocessing import center_crop, standardize, symmetric
from lib.runs import Run
from lib.splits import ImageFile


@pytest.mark.parametrize(
    ("images", "batch_size", "expected"),
    [
        (50_000, 128, [128] * 343 + [127] * 48),
        (10, 4, [4, 3, 3]),
        (8, 4, [4, 4]),
        (3, 4, [3]),
        (7, None, [7]),
    ],
)
def test_batches_differ_by_at_most_one_image(images, batch_size, expected):
    assert batch_sizes(images, batch_size) == expected
    assert sum(expected) == images


def test_inputs_are_cropped_standardized_and_held_once(digits, small_run):
    maker = InputMaker(digits, "cpu")
    clean, corrupted = maker.make(small_run), maker.make(replace(small_run, label_corruption=1.0))
    expected = standardize(center_crop(digits.train.images, 28))
    assert all((expected == image).flatten(1).all(1).any() for image in clean.train.images[:5])
    assert clean.train.images.data_ptr() == corrupted.train.images.data_ptr()
    assert clean.source == corrupted.source
    assert not torch.equal(clean.train.labels, corrupted.train.labels)
    other = maker.make(replace(small_run, seed=1))
    assert other.source != clean.source
    assert other.test.images.data_ptr() == clean.test.images.data_ptr()


def test_held_out_images_are_not_trained_on(digits, small_run):
    inputs = InputMaker(digits, "cpu").make(replace(small_run, validation_size=20))
    assert (len(inputs.train), len(inputs.validation)) == (44, 20)
    whole = InputMaker(digits, "cpu").make(small_run).train.images.flatten(1)
    parts = torch.cat([inputs.train.images, inputs.validation.images]).flatten(1)
    assert torch.equal(whole.unique(dim=0), parts.unique(dim=0))


@pytest.fixture
def photo_run() -> Run:
    return Run("photos", "inception_v3", width=1 / 16, optimizer="rmsprop", batch_size=16, epochs=2)


def test_inception_v3_sees_whole_photographs_others_a_standardized_crop(photos, photo_run):
    seen = InputMaker(photos, "cpu").make(photo_run).train
    assert seen.images.dtype == torch.uint8  # made into inputs batch by batch
    assert torch.equal(network_inputs("inception_v3", seen.images, 48), symmetric(photos.train.images.read()))
    alexnet = network_inputs("alexnet", seen.images, input_size("alexnet", 48))
    assert torch.equal(alexnet, standardize(center_crop(photos.train.images.read(), 42)))


def test_photographs_that_do_not_fit_stay_in_their_file(photos, photo_run, monkeypatch):
    assert isinstance(InputMaker(photos, "cpu").make(photo_run).train.images, torch.Tensor)
    monkeypatch.setattr(inputs, "SHARE", 0.0)
    made = InputMaker(photos, "cpu").make(replace(photo_run, validation_size=8))
    assert all(isinstance(split.images, ImageFile) for split in (made.train, made.validation, made.test))
    assert (len(made.train), len(made.validation)) == (len(photos.train) - 8, 8)


def test_photographs_stay_in_their_file_where_free_memory_is_not_known(photos, photo_run, monkeypatch):
    monkeypatch.setattr(inputs, "Path", lambda path: Path("/no/such/file"))
    assert isinstance(InputMaker(photos, "cpu").make(photo_run).train.images, ImageFile)


def test_photo_augmentation_is_a_function_of_its_draws(photos, photo_run):
    run = replace(photo_run, photo_augmentation=True)
    images = InputMaker(photos, "cpu").make(run).train.images[:4]
    uniform = torch.rand(4, draws(run), generator=torch.Generator().manual_seed(0))
    seen = augment(run, images, uniform)
    assert seen.shape == (4, 3, 48, 48)
    assert seen.min() >= -1
    assert seen.max() <= 1
    assert torch.equal(seen, augment(run, images, uniform))
    assert not torch.allclose(seen, augment(run, images, 1 - uniform), atol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": "shuffled", "photo_augmentation": True}, "augmentation of shuffled pixels"),
        ({"random_crop": True, "photo_augmentation": True}, "use it alone"),
        ({"classes": 3}, "a run on 3 classes needs a data set of so many, not of 5"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(photos, photo_run, change, message):
    with pytest.raises(InputError, match=message):
        InputMaker(photos, "cpu").make(replace(photo_run, **change))


def test_images_that_are_not_exact_can_be_left_out(colours, small_run):
    known = replace(colours, inexact={"train": [0, 7], "test": [3]})
    run = replace(small_run, dataset="colours", train_size=None)
    inputs, all_images = (InputMaker(known, "cpu").make(replace(run, exact_only=only)) for only in (True, False))
    kept = [row for row in range(len(colours.train)) if row not in (0, 7)]
    assert torch.equal(inputs.train.images, all_images.train.images[kept])
    assert torch.equal(inputs.train.labels, colours.train.labels[kept])
    assert len(inputs.test) == len(colours.test)
    assert inputs.source != all_images.source


def test_augmented_images_stay_whole_until_they_are_drawn(colours, small_run):
    run = replace(small_run, dataset="colours", random_crop=True)
    inputs = InputMaker(colours, "cpu").make(run)
    assert inputs.train.images.dtype == torch.uint8
    seen = network_inputs(run.model, inputs.train.images, 28)
    assert torch.equal(seen, standardize(center_crop(inputs.train.images, 28)))
    middle = torch.full((len(inputs.train), DRAWS), 0.5)  # the third of five places, the center
    torch.testing.assert_close(augment(run, inputs.train.images, middle), seen)


@pytest.mark.parametrize(
    "changes",
    [
        {"validation_size": 100},
        {"pixels": "shuffled"},
        {"pixels": "random", "across_channels": True},
        {"train_size": 99},
    ],
)
def test_a_shared_maker_gives_each_run_what_it_gets_alone(colours, small_run, changes):
    maker, run = (
        InputMaker(colours, "cpu"),
        replace(small_run, **({"dataset": "colours", "train_size": None} | changes)),
    )
    for each in (replace(run, across_channels=False), run, replace(run, seed=1)):
        shared, alone = maker.make(each), InputMaker(colours, "cpu").make(each)
        for name in ("train", "validation", "changed_test"):
            one, other = getattr(shared, name), getattr(alone, name)
            assert (one is None) == (other is None)
            if other:
                assert torch.equal(one.images, other.images)
                assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("pixels", ["shuffled", "random"])
def test_values_move_across_channels_where_a_run_says_so(colours, small_run, pixels):
    run = replace(small_run, dataset="colours", pixels=pixels)
    one, other = (InputMaker(colours, "cpu").make(replace(run, across_channels=each)) for each in (False, True))
    assert not torch.equal(one.train.images, other.train.images)


def test_runs_that_differ_in_corruption_hold_out_the_same_images(digits, small_run):
    maker = InputMaker(digits, "cpu")
    runs = [replace(small_run, train_size=None, validation_size=100, label_corruption=rate) for rate in (0.0, 1.0)]
    clean, noisy = map(maker.make, runs)
    alone = InputMaker(digits, "cpu").make(runs[1])
    for split in ("train", "validation"):
        images = [getattr(each, split).images for each in (clean, noisy, alone)]
        assert torch.equal(images[0], images[1])
        assert torch.equal(images[1], images[2])
    assert not torch.equal(clean.train.labels, noisy.train.labels)
    assert torch.equal(noisy.train.labels, alone.train.labels)
