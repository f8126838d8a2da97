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


def test_some_classes_are_evenly_spaced_and_have_a_fingerprint_of_their_own(digits):
    some = load_dataset("digits", classes=3)
    assert some.classes == ("0", "3", "6")
    for split, whole in ((some.train, digits.train), (some.test, digits.test)):
        assert split.labels.unique().tolist() == [0, 1, 2]
        assert torch.equal(split.images[split.labels == 2], whole.images[whole.labels == 6])
    assert some.fingerprint != digits.fingerprint
    assert load_dataset("digits", classes=10).fingerprint == digits.fingerprint


@pytest.mark.parametrize("count", [0, 1, 11])
def test_impossible_numbers_of_classes_are_refused(count):
    with pytest.raises(InputError, match=f"{count} classes are outside the allowed range 2 to 10"):
        load_dataset("digits", classes=count)
