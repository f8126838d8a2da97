import pytest
import torch

from lib.config import InputError
from lib.data import IMAGES, load_dataset


def test_unknown_dataset_is_refused():
    with pytest.raises(
        InputError, match="unknown dataset 'mnist'; allowed: auto, cifar10, tiny-imagenet, imagenet, digits"
    ):
        load_dataset("mnist")


def test_digits_have_cifars_shape_and_a_stratified_split(digits):
    assert digits.train.images.shape == (IMAGES["digits"]["train"], 3, 32, 32)
    assert digits.test.images.shape == (IMAGES["digits"]["test"], 3, 32, 32)
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images[:, :, :2].max() == 0  # the frame
    assert digits.train.images.max() == 255
    whole = digits.train.labels.bincount() + digits.test.labels.bincount()
    assert ((digits.test.labels.bincount() - 0.2 * whole).abs() <= 1).all()
    assert load_dataset("digits").fingerprint == digits.fingerprint
