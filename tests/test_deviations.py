from dataclasses import replace

import pytest

from lib.claims import CLAIMS
from lib.deviations import CLAIM_ROWS, deviations
from lib.profiles import PROFILES

QUICK, PAPER = PROFILES["quick"], PROFILES["paper"]


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_has_numbered_and_complete_rows(claim):
    frame = deviations(claim, QUICK, "digits")
    assert frame["no."].tolist() == list(range(1, len(frame) + 1))
    assert (frame.astype(str).map(len) > 0).all(axis=None)
    assert set(CLAIM_ROWS) == set(CLAIMS)


def test_a_changed_setting_shows_and_an_unchanged_one_does_not():
    settings = PAPER.settings | {"alexnet": replace(PAPER.settings["alexnet"], learning_rate=0.123)}
    changed = deviations("randomization", replace(PAPER, settings=settings), "cifar10").set_index("what")
    assert "AlexNet 0.123" in changed["ours"]["learning rate"]
    assert "AlexNet 0.01" in changed["paper"]["learning rate"]
    unchanged = deviations("randomization", PAPER, "cifar10")["what"].tolist()
    assert not {"batch size", "network width (factor)", "training images", "data set"} & set(unchanged)


def test_sizes_are_those_of_the_runs():
    rows = deviations("label_corruption", QUICK, "cifar10").set_index("what")
    assert f"{QUICK.sizes['cifar10'].curve:,}" in rows["ours"]["training images"]
    rows = deviations("explicit_regularization", QUICK, "cifar10").set_index("what")
    assert f"{QUICK.sizes['cifar10'].train:,}" in rows["ours"]["training images"]
    assert "data set" in deviations("randomization", QUICK, "digits")["what"].tolist()
