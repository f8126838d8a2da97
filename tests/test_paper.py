import hashlib

import pytest

from lib import paper


def test_fig1a_steps_to_loss_are_those_of_the_figure():
    """Readings of the figure made independently of this code, in thousand steps."""
    readings = {"true labels": (0.95, 3.79, 4.67), "random labels": (11.62, 13.82, 14.43)}
    readings |= {"shuffled pixels": (2.72, 5.48, 6.13)}
    steps = [paper.steps_to_loss(level) / 1000 for level in (0.5, 0.05, 0.01)]
    for name, read in readings.items():
        assert [each[name] for each in steps] == pytest.approx(read, abs=0.01)


def test_tables_have_the_papers_rows():
    table1 = paper.table1()
    assert len(table1) == 19
    assert table1["test_accuracy"].max() == pytest.approx(0.8931)
    assert len(paper.table4()) == 6
    assert paper.table4()["train_accuracy"].isna().sum() == 1
    assert set(paper.fig1a()["randomization"]) == set(paper.RANDOMIZATIONS.values())
    assert len(paper.fig1b()) == len(paper.fig1c()) == 33
    assert set(paper.fig2b()["split"]) == {"train", "test"}


DIGESTS = {  # SHA-256 of the files as they were checked against the paper
    "fig1a_training_loss.csv": "b782eb09058a",
    "fig1b_label_corruption.csv": "572f1298c21c",
    "fig1c_label_corruption.csv": "e385f7fa3581",
    "fig2a_imagenet.csv": "00affe270e78",
    "fig2b_batch_norm.csv": "e96cfb674bac",
    "table1_cifar10.csv": "1cdf988d6e81",
    "table2_imagenet.csv": "0a283312874c",
    "table4_random_labels_with_regularizers.csv": "cc30fdb79af6",
}


def test_no_number_of_the_papers_has_changed():
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in paper.FOLDER.glob("*.csv")}
    assert found == DIGESTS


def test_frames_are_copies():
    frame = paper.table1()
    frame.loc[0, "test_accuracy"] = 0
    assert paper.table1().loc[0, "test_accuracy"] > 0.8
