import hashlib

import pytest
import torch

from lib.config import InputError
from lib.splits import Split, class_indices, fingerprint, stratified_order, stratified_subset


@pytest.mark.parametrize("size", [1, 100, 1000])
def test_subsets_are_stratified_and_seeded(digits, size):
    subset = stratified_subset(digits.train, size, seed=0)
    assert len(subset) == size
    share = digits.train.labels.bincount(minlength=10) * size / len(digits.train)
    assert ((subset.labels.bincount(minlength=10) - share).abs() <= 1).all()
    assert torch.equal(subset.images, stratified_subset(digits.train, size, seed=0).images)
    assert not torch.equal(subset.images, stratified_subset(digits.train, size, seed=1).images)


def test_stratified_order_is_a_permutation():
    labels = torch.tensor([0] * 90 + [1] * 10)
    order = stratified_order(labels, 0)
    assert sorted(order.tolist()) == list(range(100))
    assert labels[order[:50]].sum() == 5


@pytest.mark.parametrize("size", [0, -1, 1439])
def test_impossible_subsets_are_refused(digits, size):
    with pytest.raises(InputError, match="1 to 1438"):
        stratified_subset(digits.train, size, 0)


def test_split_length_and_subset():
    split = Split(torch.arange(4).view(4, 1, 1, 1), torch.arange(4))
    assert len(split.subset(torch.tensor([3, 1]))) == 2
    assert split.subset(torch.tensor([3, 1])).labels.tolist() == [3, 1]


def test_classes_are_evenly_spaced():
    assert class_indices(None, 4) == class_indices(4, 4) == [0, 1, 2, 3]
    assert class_indices(4, 10) == [0, 2, 5, 7]
    assert class_indices(10, 1000) == list(range(0, 1000, 100))


def test_a_fingerprint_is_of_every_array(colours):
    arrays = [array for split in (colours.train, colours.test) for array in (split.images, split.labels)]
    whole = b"".join(array.numpy().tobytes() for array in arrays)
    assert fingerprint(colours.train, colours.test) == hashlib.sha256(whole).hexdigest()
