import math
from dataclasses import replace

import pytest

from lib import paper
from lib.claims import CLAIMS
from lib.deviations import CLAIM_ROWS, deviations
from lib.experiments import (
    CORRUPTION_MODELS,
    DEFAULT_LRN,
    TRAINING_VARIANTS,
    TUTORIAL_WEIGHTS,
    VARIANTS,
    arms_frame,
    arms_of,
    claim_arms,
)
from lib.findings import (
    DECAY,
    EXACT,
    INITIALIZATION,
    LEARNING_RATE,
    PIXELS,
    PRECISION,
    RESPONSE_NORM,
    TEST_LABELS,
    WEIGHT_DECAY,
    _alexnets_in_the_paper,
)
from lib.profiles import PROFILES, Sizes

QUICK, PAPER, CPU = (PROFILES[name] for name in ("quick", "paper", "cpu"))
FOUND = "what came of it"


def runs_of(claim, profile, dataset="cifar10", **results):
    """A claim's runs as if every one had these results, a number or a function of its row each; none: not run."""
    frame = arms_frame(claim_arms(claim, profile, dataset), [])
    for name, value in results.items():
        frame[name] = frame.apply(value, axis=1) if callable(value) else value
    return frame


def found(claim, row, runs):
    return deviations(claim, PAPER, "cifar10", runs).set_index("what")[FOUND][row].replace("\N{NO-BREAK SPACE}", "")


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_has_numbered_and_complete_rows(claim):
    frame = deviations(claim, QUICK, "digits", runs_of(claim, QUICK, "digits"))
    assert frame["no."].tolist() == list(range(1, len(frame) + 1))
    assert (frame.astype(str).map(len) > 0).all(axis=None)
    assert set(CLAIM_ROWS) == set(CLAIMS)


def test_a_changed_setting_shows_and_an_unchanged_one_does_not():
    settings = PAPER.settings | {"alexnet": replace(PAPER.settings["alexnet"], learning_rate=0.123)}
    runs, other = runs_of("randomization", PAPER), replace(PAPER, settings=settings)
    changed = deviations("randomization", other, "cifar10", runs).set_index("what")
    assert "AlexNet 0.123" in changed["ours"]["learning rate"]
    assert "AlexNet 0.01" in changed["paper"]["learning rate"]
    unchanged = deviations("randomization", PAPER, "cifar10", runs)["what"].tolist()
    assert not {"network width (factor)", "training images", "data set"} & set(unchanged)
    assert changed["ours"]["batch size"].startswith(f"{PAPER.settings['alexnet'].batch_size} at most")


@pytest.mark.parametrize("profile", [QUICK, CPU, PAPER], ids=lambda profile: profile.name)
def test_another_learning_rate_has_its_reason_and_says_where_the_papers_is_tried_too(profile):
    rows = deviations("randomization", profile, "cifar10", runs_of("randomization", profile)).set_index("what")
    assert rows["why"][LEARNING_RATE] == "at that rate it may diverge"
    assert ("under Implicit regularization also the paper's" in rows["ours"][LEARNING_RATE]) == profile.variants
    tried = {arm.run.learning_rate for arm in claim_arms("implicit_regularization", profile, "cifar10") if arm.variant}
    assert tried == ({0.1} if profile.variants else set())


def test_another_learning_rate_on_photographs_is_not_said_to_be_compared():
    runs = runs_of("randomization", QUICK, "tiny-imagenet")
    rows = deviations("randomization", QUICK, "tiny-imagenet", runs).set_index("what")
    assert rows["why"][LEARNING_RATE] == "a choice for few images, compared in no record"


def test_inception_v3s_smaller_batches_have_their_own_reason_on_all_of_imagenet():
    rows = deviations("randomization", PAPER, "imagenet", runs_of("randomization", PAPER, "imagenet")).set_index("what")
    assert rows["paper"]["batch size"] == "not stated; Szegedy et al. (2016): Inception V3 32"
    assert rows["ours"]["batch size"] == "Inception V3 128"
    assert "workers" in rows["why"]["batch size"]
    assert {"batch norm", "gradient clipping"} <= set(rows.index)


def test_runs_in_another_arithmetic_are_counted():
    def arithmetic(**results):
        rows = deviations("randomization", PAPER, "cifar10", runs_of("randomization", PAPER, **results))
        return rows.set_index("what")["ours"][PRECISION]

    assert "fp32 throughout" not in arithmetic(key=lambda row: f"{row.name}", arithmetic=lambda row: "bf16")
    assert arithmetic(
        key=lambda row: f"{row.name}",
        arithmetic=lambda row: "fp32" if row.name in (0, 2) or row["precision"] == "fp32" else "bf16",
    ).endswith("on other hardware fp32 throughout: 2 runs")


def test_which_runs_end_once_they_have_fitted_is_said_where_some_do():
    figures = "how soon it fits is the question"
    for claim, profile, text, why in (
        ("randomization", QUICK, "; a run ends once", "two CPU cores"),
        ("randomization", PAPER, "; a run of randomizations or of Fig. 1c at rate 1 ends once", figures),
        ("label_corruption", PAPER, "; a run ends once", figures),
        ("explicit_regularization", PAPER, "; a run of Fig. 1c at rate 0 ends once", figures),
        (
            "randomization",
            CPU,
            "; a run of randomizations or of random labels (Inception, Inception without BN) or of Fig. 1c at rate 1 ",
            f"{figures}; where a network gets fewer images, two CPU cores",
        ),
    ):
        row = deviations(claim, profile, "cifar10", runs_of(claim, profile)).set_index("what").loc["epochs"]
        assert text in row["ours"]
        assert row["why"] == why
    rows = deviations("randomization", PAPER, "tiny-imagenet", runs_of("randomization", PAPER, "tiny-imagenet"))
    assert "ends once" not in rows.set_index("what")["ours"]["epochs"]


def test_sizes_are_those_of_the_runs():
    rows = deviations("label_corruption", QUICK, "cifar10", runs_of("label_corruption", QUICK)).set_index("what")
    assert f"{QUICK.sizes['cifar10'].curve:,}" in rows["ours"]["training images"]
    rows = deviations("explicit_regularization", QUICK, "cifar10", runs_of("explicit_regularization", QUICK)).set_index(
        "what"
    )
    assert f"{QUICK.sizes['cifar10'].train:,}" in rows["ours"]["training images"]
    assert (
        "data set"
        in deviations("randomization", QUICK, "digits", runs_of("randomization", QUICK, "digits"))["what"].tolist()
    )


def test_networks_tested_on_few_images_after_an_epoch_are_named():
    rows = deviations("implicit_regularization", CPU, "cifar10", runs_of("implicit_regularization", CPU))
    ours = rows.set_index("what")["ours"]["test images"]
    assert ours == "2,000 after every epoch of Inception and Inception without BN, all at the end"


def test_networks_tested_on_as_many_images_as_all_or_on_all_are_told_once():
    few = {"inception": 2_000, "inception_no_bn": None}  # as many as the profile's, and all of them
    settings = {name: replace(CPU.settings[name], sizes=Sizes(10_000, 10_000, test)) for name, test in few.items()}
    sizes = {"cifar10": replace(CPU.sizes["cifar10"], test=2_000)}
    other = replace(CPU, settings=CPU.settings | settings, sizes=sizes)
    rows = deviations("implicit_regularization", other, "cifar10", runs_of("implicit_regularization", other))
    assert list(rows.set_index("what").loc[["test images"], "ours"]) == ["2,000 after every epoch, all at the end"]


def test_what_came_of_a_slower_decay_is_counted_over_rates_and_averaged_over_seeds():
    def time(row):
        reached = row["decay"] == 0.98 or row["label_corruption"] <= 0.1
        return 20 + 10 * row["label_corruption"] + row["seed"] if reached else float("inf")

    runs = runs_of("label_corruption", PAPER, key="k", train_accuracy=1.0, overfit_time=time)
    text = found("label_corruption", DECAY, runs)
    first = "2 of 11 rates, after 21.0 epochs at 0 and after 22.0 epochs at 0.1"
    assert f"MLP 1x512 with 0.95 (3 seeds that ran at every rate recorded) overfits in every seed at {first}" in text
    other = "11 of 11 rates, after 21.0 epochs at 0 and after 31.0 epochs at 1, and "
    assert f"MLP 1x512 with 0.98 (3 seeds that ran at every rate recorded) overfits in every seed at {other}" in text
    assert text.count("from Fig. 1b's") == 2  # both networks
    clean = found("label_corruption", DECAY, runs[runs["label_corruption"] == 0])
    first = "1 of 1 rates, after 21.0 epochs"
    assert f"MLP 1x512 with 0.95 (3 seeds that ran at every rate recorded) overfits in every seed at {first}" in clean
    some = found("label_corruption", DECAY, runs[(runs["seed"] < 2) | (runs["label_corruption"] < 1)])
    fewer = "11 of 11 rates, after 20.5 epochs at 0 and after 30.5 epochs at 1, and "
    assert f"MLP 1x512 with 0.98 (2 seeds that ran at every rate recorded) overfits in every seed at {fewer}" in some
    apart = runs[(runs["seed"] == 0) != (runs["label_corruption"] > 0)]
    assert "MLP 1x512 with 0.98: no seed ran at every rate recorded" in found("label_corruption", DECAY, apart)


@pytest.mark.parametrize("claim", ["label_corruption", "explicit_regularization"])
def test_what_came_of_alexnets_settings_stands_beside_the_papers_values(claim):
    def accuracy(row):
        usual = row["decay"] == PAPER.settings["alexnet"].decay and row["regularizers"] == "none"
        other = 0.06 * (row["lrn"] == "default") - 0.05 * (row["initialization"] == "tutorial")
        return 0.7 + other + 0.01 * row["seed"] if usual else 0.1

    runs = runs_of(claim, PAPER, key="k", regularizers=lambda row: "none" if row["arm"] != "dropout" else "dropout")
    runs["test_accuracy"] = runs["train_accuracy"] = runs.apply(accuracy, axis=1)
    text = found(claim, RESPONSE_NORM, runs)
    ours = "70.00%, 71.00%, 72.00% with the tutorial constants; 76.00%, 77.00%, 78.00% with the default constants"
    assert (
        f"test accuracy on true labels, seed by seed: {ours}; the paper has 76.07% in Table 1, 69.89% in Fig. 1c"
        in text
    )
    assert found(claim, RESPONSE_NORM, runs[runs["lrn"] == "tutorial"]) == "—"
    text = found(claim, INITIALIZATION, runs)
    weights = "70.00%, 71.00%, 72.00% with the He weights; 65.00%, 66.00%, 67.00% with the tutorial weights"
    assert text.count(weights) == (2 if claim == "label_corruption" else 1)  # true labels, and random ones
    half = found(claim, RESPONSE_NORM, runs[(runs["lrn"] == "default") | (runs["label_corruption"] == 0)])
    assert ours in half
    assert (
        "training accuracy on random labels, seed by seed: 76.00%, 77.00%, 78.00% with the default constants;" in half
    )


def test_what_came_of_controls_is_their_difference_by_seed():
    def accuracy(row):
        return 0.5 + 0.1 * row["seed"] + 0.01 * row["exact_only"] - 0.02 * (row["precision"] == "fp32")

    def arithmetic(row):
        return "fp32" if row["precision"] == "fp32" or row["model"] == "alexnet" else "bf16"

    results = {"test_accuracy": accuracy, "train_accuracy": accuracy, "arithmetic": arithmetic}
    runs = runs_of("randomization", PAPER, key="k", **results)
    half = 2.7764451052 * 10 * math.sqrt(2 / 3)  # Welch's, as images and batches are others: t of 4 degrees of freedom
    ours = f"MLP 1x512 +1.00 points ({1 - half:+.2f} to {1 + half:+.2f}) [3 seeds; unfitted at the end in 6 of 6 runs]"
    assert found("randomization", EXACT, runs).endswith(ours)
    text = found("randomization", PRECISION, runs)
    assert text.count("-2.00 points [1 seed; unfitted at the end in 2 of 2 runs]") == len(PAPER.networks("cifar10")) - 1
    assert "AlexNet" not in text  # both of its runs were in fp32


@pytest.mark.parametrize("dataset", ["cifar10", "tiny-imagenet", "digits"])
def test_what_is_tried_beside_is_said_only_where_the_claim_has_runs_of_it(dataset):
    for claim in arms_of(dataset):
        runs = runs_of(claim, PAPER, dataset)
        rows = deviations(claim, PAPER, dataset, runs).set_index("what")["ours"]
        assert (EXACT in rows) == (dataset == "cifar10" and claim == "randomization")
        for what, variant in ((INITIALIZATION, TUTORIAL_WEIGHTS), (RESPONSE_NORM, DEFAULT_LRN)):
            assert ("beside it" in rows.get(what, "")) == (variant in set(runs["variant"]))


def test_what_is_left_in_permuted_images_is_their_test_accuracy():
    left = {"shuffled": 0.25, "random": 0.2}
    runs = runs_of("randomization", PAPER, key="k", changed_test_accuracy=lambda row: left.get(row["pixels"], math.nan))
    runs = runs[runs["group"] == "randomizations"]
    expected = "shuffled pixels 25.00% (3 seeds); random pixels 20.00% (3 seeds)"
    assert found("randomization", PIXELS, runs) == f"test accuracy on images changed alike: {expected}"


def test_moving_across_channels_stands_beside_moving_together_and_the_paper():
    def steps(row):
        return math.inf if row["pixels"] == "random" and row["seed"] == 1 else 5000 - 1000 * row["across_channels"]

    runs = runs_of("randomization", PAPER, key="k", steps_to_overfit=steps)
    permuted = runs["pixels"].isin(["shuffled", "random"])
    text = found("randomization", PIXELS, runs[permuted])
    both = "shuffled pixels 5,000 (3 seeds), shuffled pixels across channels 4,000 (3 seeds), the paper 5,480; "
    assert text.startswith(f"steps to a loss of 0.05: {both}")
    assert text.endswith("random pixels across channels not in every seed (3 seeds), the paper 8,614")
    reduced = runs[permuted].assign(train_size=10_000)  # on other images the paper has no steps
    assert found("randomization", PIXELS, reduced) == "—"


def test_the_nearer_kind_of_test_labels_is_named_with_its_distance():
    """Runs whose errors on corrupted labels are the paper's: no distance on those, some on the test set's own."""
    published = paper.fig1c().set_index(["model", "corruption"])["test_error"]

    def accuracy(row):
        rate = row["label_corruption"]
        return (1 - published[row["model"], rate] - 0.1 * rate) / (1 - rate) if rate < 1 else 0.1

    runs = runs_of("label_corruption", PAPER, key="k", train_accuracy=1.0, test_accuracy=accuracy)
    text = found("label_corruption", TEST_LABELS, runs)
    lines = len(CORRUPTION_MODELS) + sum(len(VARIANTS[name][0]) for name in TRAINING_VARIANTS)
    assert text.count(" and 0.0 points (") == lines
    assert "AlexNet 0.0 and" not in text
    dead = (runs["model"] == "alexnet") & (runs["label_corruption"] == 0.5) & (runs["seed"] == 0)
    runs.loc[dead, ["train_accuracy", "test_accuracy"]] = 0.1
    assert found("label_corruption", TEST_LABELS, runs).count(" and 0.0 points (") == lines  # it tells of neither
    assert "without 1 run that learned nothing)" in found("label_corruption", TEST_LABELS, runs)


def test_two_coefficients_stand_beside_each_other():
    runs = runs_of("explicit_regularization", PAPER, key="k", test_accuracy=lambda row: 0.5 + 100 * row["weight_decay"])
    text = found("explicit_regularization", WEIGHT_DECAY, runs)
    less, more = text.split("; test accuracy with 0.0005 over that without: ")
    assert less.startswith(
        "test accuracy with 5e-05 over that without: Inception +0.50 points (+0.50 to +0.50) [3 seed"
    )
    assert "AlexNet +0.50 points (+0.50 to +0.50) [3 seeds]" in less
    assert "AlexNet +5.00 points (+5.00 to +5.00) [3 seeds]" in more
    assert found("explicit_regularization", WEIGHT_DECAY, runs[runs["weight_decay"] != 5e-05]) == "—"
    apart = (runs["weight_decay"] == 5e-05) & (runs["seed"] < 1) | (runs["weight_decay"] != 5e-05) & (runs["seed"] > 0)
    assert found("explicit_regularization", WEIGHT_DECAY, runs[apart]) == "—"  # no seed ran with it and without it


def test_what_random_labels_come_to_with_each_coefficient_stands_beside_the_papers():
    def accuracy(row):
        return 1.0 - 200 * row["weight_decay"] if row["weight_decay"] != 5e-05 or row["model"] != "inception" else None

    runs = runs_of("explicit_regularization", PAPER, key="k", train_accuracy=accuracy)
    text = found("explicit_regularization", WEIGHT_DECAY, runs).partition("training accuracy on random labels: ")[2]
    ours = "99.00% with 5e-05 [3 seeds], 90.00% with 0.0005 [3 seeds], the paper's"
    assert text.split("; ") == [
        f"AlexNet {ours} did not converge",
        f"MLP 3x512 {ours} has 100.00%",
        f"MLP 1x512 {ours} has 99.21%",
    ]


def test_coefficients_are_compared_on_the_same_seeds():
    def accuracy(row):
        return 0.5 + row["seed"] / 10 if row["seed"] < 1 or row["weight_decay"] == 0 else None

    runs = runs_of("explicit_regularization", PAPER, key="k", test_accuracy=accuracy)
    text = found("explicit_regularization", WEIGHT_DECAY, runs)
    assert text.count("AlexNet +0.00 points [1 seed]") == 2


def test_at_the_papers_learning_rate_it_is_told_whether_runs_without_batch_norm_diverge():
    def runs(**results):
        return runs_of("implicit_regularization", PAPER, key="k", **results)

    def outcome(row):
        return "diverged" if row["variant"] and row["seed"] else "epochs"

    def accuracy(row):
        return 0.1 if outcome(row) == "diverged" else 0.5

    ran = runs(outcome=outcome, test_accuracy=accuracy, epochs_run=lambda row: 1 + row["seed"])
    text = found("implicit_regularization", LEARNING_RATE, ran)
    mine, papers = text.split("; ")
    assert mine == "Inception without BN with 0.01 diverged in 0 of 3 seeds, mean test accuracy of the runs 50.00%"
    assert papers == "with 0.1 diverged in 2 of 3 seeds, in epoch 2 and 3, mean test accuracy of the rest 50.00%"
    text = found("implicit_regularization", LEARNING_RATE, runs(outcome="diverged", epochs_run=1))
    assert text.endswith("with 0.1 diverged in 3 of 3 seeds, in epoch 1")
    own = runs(outcome="epochs", test_accuracy=0.5, epochs_run=64)
    own.loc[own["variant"] != "", "key"] = None
    assert found("implicit_regularization", LEARNING_RATE, own) == "—"


@pytest.mark.parametrize("claim", CLAIMS)
def test_nothing_came_of_what_did_not_run(claim):
    assert set(deviations(claim, PAPER, "cifar10", runs_of(claim, PAPER))[FOUND]) == {"—"}


def test_the_papers_values_beside_alexnets():
    assert _alexnets_in_the_paper("train_accuracy") == {"Table 1": pytest.approx(0.9982)}
    assert _alexnets_in_the_paper("relative_time") == {"Fig. 1b": pytest.approx(48 / 31, abs=0.01)}


def test_table_4s_running_accuracy_is_told_where_table_4_is():
    claim, what = "explicit_regularization", "training accuracy"
    of = {data: deviations(claim, PAPER, data, runs_of(claim, PAPER, data)) for data in ("cifar10", "imagenet")}
    ours = {data: rows.set_index("what")["ours"][what] for data, rows in of.items()}
    assert ("Table 4" in ours["cifar10"], "Table 4" in ours["imagenet"]) == (True, False)
    assert "0.045, times 0.970 after every epoch" in of["imagenet"].set_index("what")["ours"][LEARNING_RATE]
