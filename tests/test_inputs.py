from dataclasses import replace

import pytest
import torch

from lib.inputs import DRAWS, InputMaker, augment, batch_sizes
from lib.preprocessing import center_crop, standardize


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


def test_augmented_images_stay_whole_until_they_are_drawn(colours, small_run):
    run = replace(small_run, dataset="colours", random_crop=True)
    inputs = InputMaker(colours, "cpu").make(run)
    assert inputs.train.images.dtype == torch.uint8
    assert inputs.evaluated_train.images.shape[-2:] == (28, 28)
    middle = torch.full((len(inputs.train), DRAWS), 0.5)  # the third of five places, the center
    torch.testing.assert_close(augment(run, inputs.train.images, middle), inputs.evaluated_train.images)
