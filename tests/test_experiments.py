from collections import Counter
from dataclasses import asdict, replace
from itertools import product

import pytest

from lib import paper
from lib.config import InputError
from lib.data import IMAGES
from lib.experiments import (
    CLAIM_ARMS,
    LARGE_BATCH,
    VARIANTS,
    arms_frame,
    arms_of,
    claim_arms,
)
from lib.models import MODELS
from lib.profiles import PROFILES, resolve_profile, with_parameters
from lib.runs import Run

QUICK, PAPER = PROFILES["quick"], PROFILES["paper"]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("claim", CLAIM_ARMS)
def test_every_arm_has_every_seed_and_no_arm_is_there_twice(claim, profile):
    arms = claim_arms(claim, profile, "cifar10")
    counts = Counter((arm.group, arm.name, arm.run.model) for arm in arms if arm.group != "precision control")
    assert set(counts.values()) == {len(profile.seeds)}


def test_seeds_and_sizes_of_the_profiles():
    assert len(QUICK.seeds) >= 2
    assert len(PAPER.seeds) == 3
    assert not any(map(PAPER.is_reduced, IMAGES))
    assert all(map(QUICK.is_reduced, IMAGES))
    assert all(setting.width == 1 for setting in PAPER.settings.values())
    assert len(PAPER.rates) == 11
    assert not PROFILES["smoke"].is_result
    assert set(PAPER.settings) == set(QUICK.settings) == set(MODELS)


def test_paper_profile_trains_as_the_paper_states():
    inception, mlp = PAPER.settings["inception"], PAPER.settings["mlp_1x512"]
    assert (inception.learning_rate, inception.decay, inception.batch_size, inception.epochs) == (0.1, 0.95, 128, 64)
    assert (mlp.learning_rate, mlp.decay, mlp.batch_size) == (0.01, 0.95, 128)
    assert (PAPER.slow.learning_rate, PAPER.slow.decay, PAPER.slow.epochs) == (0.1, 0.999, 300)
    off, v3 = PAPER.settings["inception_no_bn"], PAPER.settings["inception_v3"]
    assert (off.learning_rate, off.decay, off.batch_size, off.epochs) == (0.01, 0.95, 128, 64)
    assert (v3.learning_rate, v3.decay**2, v3.epochs, v3.optimizer) == (0.045, pytest.approx(0.94), 100, "rmsprop")


def test_table_1_and_4_are_covered_row_by_row():
    arms = claim_arms("explicit_regularization", PAPER, "cifar10")
    have = {(arm.group, arm.run.model, arm.name) for arm in arms}
    for frame in (paper.table1(), paper.table4()):
        assert set(zip(frame["group"], frame["model"], frame["arm"], strict=True)) <= have
    switches = {
        arm.name: (arm.run.random_crop, arm.run.weight_decay, arm.run.dropout)
        for arm in arms
        if arm.run.model == "alexnet" and arm.group == "Table 1, true labels"
    }
    assert switches == {
        "random crop + weight decay": (True, 5e-4, 0),
        "random crop + weight decay 5e-05": (True, 5e-5, 0),
        "random crop": (True, 0, 0),
        "weight decay": (False, 5e-4, 0),
        "weight decay 5e-05": (False, 5e-5, 0),
        "none": (False, 0, 0),
        "dropout": (False, 0, 0.5),
    }


def test_weight_decay_on_random_labels_has_both_coefficients():
    arms = claim_arms("explicit_regularization", PAPER, "cifar10")
    ran = {(arm.run.model, arm.name): arm.run for arm in arms if arm.group == "Table 4" and arm.run.weight_decay}
    rows = paper.table4().query("arm == 'weight decay'")["model"]
    assert set(ran) == set(product(rows, ["weight decay", "weight decay 5e-05"]))
    assert {run.label_corruption for run in ran.values()} == {1.0}
    assert ran["alexnet", "weight decay 5e-05"] == replace(ran["alexnet", "weight decay"], weight_decay=5e-5)


def test_arms_of_a_comparison_differ_only_in_what_is_compared():
    """Same seed, data and schedule: differences may be paired."""
    arms = claim_arms("explicit_regularization", QUICK, "cifar10")
    off, on = {"weight_decay": 0.0, "dropout": 0.0}, {"random_crop": False, "flip_and_rotate": False}
    for model in QUICK.networks("cifar10"):
        runs = [arm.run for arm in arms if arm.group == "Table 1, true labels" and arm.run.model == model]
        assert len({replace(run, **off, **on) for run in runs}) == len(QUICK.seeds)


def test_every_network_fits_random_labels_once_in_full_precision_too():
    arms = claim_arms("randomization", PROFILES["paper"], "cifar10")
    controls = [arm.run for arm in arms if arm.group == "precision control"]
    assert sorted(run.model for run in controls) == sorted(PAPER.networks("cifar10"))
    usual = {arm.run for arm in arms if arm.group == "random labels"}
    assert {replace(run, precision="auto") for run in controls} <= usual


def test_claims_share_runs():
    runs = {claim: {arm.run for arm in claim_arms(claim, QUICK, "cifar10")} for claim in CLAIM_ARMS}
    assert runs["randomization"] & runs["label_corruption"]
    assert runs["randomization"] & runs["explicit_regularization"]
    assert runs["explicit_regularization"] & runs["implicit_regularization"]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_fig_1_asks_how_soon_runs_fit_and_its_parts_share_those_on_true_and_on_random_labels(profile):
    fig1a = {arm.run for arm in claim_arms("randomization", profile, "cifar10") if arm.group == "randomizations"}
    fig1bc = {arm.run for arm in claim_arms("label_corruption", profile, "cifar10")}
    assert all(run.stop_when_fitted for run in fig1a | fig1bc)
    assert fig1a & fig1bc == {run for run in fig1a if run.pixels == "original"}


@pytest.mark.parametrize("claim", CLAIM_ARMS)
def test_variants_are_the_usual_runs_with_other_settings(claim):
    arms = claim_arms(claim, PAPER, "cifar10")
    usual = {(arm.group, arm.name, arm.run) for arm in arms}
    variants = [(arm, arm.variant) for arm in arms if arm.variant]
    for arm, variant in variants:
        models, settings = VARIANTS[variant]
        assert arm.run.model in models
        assert asdict(arm.run) == asdict(arm.run) | settings
        setting = PAPER.settings[arm.run.model]
        own = {"decay": setting.decay, "learning_rate": setting.learning_rate}
        own |= {name: getattr(Run, name) for name in ("lrn", "initialization", "across_channels")}
        assert (arm.comparison, arm.name, replace(arm.run, **own)) in usual
    some = {"randomization": "across channels", "implicit_regularization": "the paper's learning rate"}
    assert {name for _, name in variants} >= {some.get(claim, "default LRN")}
    assert not any(arm.variant for arm in claim_arms(claim, QUICK, "cifar10"))


def test_large_batches_fit_the_training_set():
    for profile in (QUICK, PAPER):
        size = profile.sizes["cifar10"].train or IMAGES["cifar10"]["train"]
        assert all(LARGE_BATCH * profile.settings[model].batch_size < size for model in profile.large_steps)


def test_the_rate_grows_with_the_batch_where_it_is_to():
    arms = [arm for arm in claim_arms("implicit_regularization", PAPER, "cifar10") if arm.group == "optimizer"]
    for model in PAPER.large_steps:
        runs = {arm.name: arm.run for arm in arms if arm.run.model == model}
        usual, larger = runs["SGD"], runs["SGD, batch and rate x 4"]
        assert larger.batch_size == 4 * usual.batch_size
        assert larger.learning_rate == pytest.approx(4 * usual.learning_rate)


@pytest.mark.parametrize(("profile", "name"), [(each, name) for each in PROFILES.values() for name in each.sizes])
def test_runs_fit_their_data_set(profile, name):
    runs = {arm.run for claim in arms_of(name) for arm in claim_arms(claim, profile, name)}
    assert len({run.label() for run in runs}) == len(runs)
    for run in runs:
        size = run.train_size or IMAGES[name]["train"]
        assert run.validation_size < size <= IMAGES[name]["train"]
        assert (run.test_size or 0) < IMAGES[name]["test"]
        assert run.train_size != IMAGES[name]["train"]  # all of them has one name, None


@pytest.mark.parametrize("profile", [each for each in PROFILES.values() if "imagenet" in each.sizes])
def test_table_2_and_figure_2a_are_covered_row_by_row(profile):
    arms = claim_arms("explicit_regularization", profile, "imagenet")
    rows = {(arm.group, arm.name, arm.run.seed): arm.run for arm in arms}
    assert len(rows) == len(arms) == 7 * len(profile.seeds)
    for row in paper.table2().itertuples():
        run = rows[row.group, row.arm, 0]
        assert (run.model, run.dataset, run.classes) == ("inception_v3", "imagenet", profile.sizes["imagenet"].classes)
        assert (run.photo_augmentation, run.dropout > 0, run.weight_decay > 0) == (
            row.augmentation,
            row.dropout,
            row.weight_decay,
        )
        assert run.label_corruption == (row.labels == "random")
        assert run.regularizers == row.arm
        assert run.dropout in (0, 0.2)
        assert run.weight_decay in (0, 4e-5)
    curves = {arm.name for arm in claim_arms("implicit_regularization", profile, "imagenet") if arm.group == "Fig. 2a"}
    assert curves == set(paper.fig2a()["arm"])
    held_out = [arm for arm in claim_arms("implicit_regularization", profile, "imagenet") if arm.run.validation_size]
    assert {arm.name for arm in held_out} == {"weight decay", "none"}
    assert not any(arm.run.stop_when_fitted for arm in held_out)


def test_photographs_share_runs_and_have_a_validation_set_that_half_of_tiny_imagenet_holds():
    runs = {claim: {arm.run for arm in claim_arms(claim, PAPER, "tiny-imagenet")} for claim in arms_of("tiny-imagenet")}
    assert runs["randomization"] & runs["explicit_regularization"]
    assert runs["explicit_regularization"] & runs["implicit_regularization"]
    assert PAPER.held_out("inception_v3", "tiny-imagenet") == 5_000
    assert QUICK.held_out("inception_v3", "tiny-imagenet") == QUICK.sizes["tiny-imagenet"].train // 10
    with pytest.raises(InputError, match="unknown claim for imagenet 'label_corruption'"):
        claim_arms("label_corruption", PAPER, "imagenet")


def test_what_a_cpu_can_record_is_the_papers_run_or_names_its_own_size():
    """Full-size runs are shared with the paper's profile; those on fewer images are never taken for them."""
    cpu = PROFILES["cpu"]
    runs = {arm.run for claim in CLAIM_ARMS for arm in claim_arms(claim, cpu, "cifar10")}
    full = {arm.run for claim in CLAIM_ARMS for arm in claim_arms(claim, PAPER, "cifar10")}
    for run in runs:
        if run.model.startswith("inception"):
            assert run.train_size == 10_000
            assert run.stop_when_fitted or run.validation_size
        else:
            assert run in full
    assert not full & {run for run in runs if run.train_size}
    with pytest.raises(InputError, match="unknown data set of profile cpu 'digits'; allowed: cifar10"):
        claim_arms("randomization", cpu, "digits")


def test_profile_resolution():
    assert resolve_profile("auto", "cpu").name == "quick"
    assert resolve_profile("auto", "cuda").name == "paper"
    with pytest.raises(InputError, match="allowed: smoke, quick, cpu, paper, auto"):
        resolve_profile("full", "cpu")
    with pytest.raises(InputError, match="allowed: randomization"):
        claim_arms("dropout", QUICK, "cifar10")


def test_parameters_change_seeds_and_rates():
    changed = with_parameters(QUICK, seeds=5, rates=[1, 0])
    assert changed.seeds == (0, 1, 2, 3, 4)
    assert changed.rates == (0.0, 1.0)
    assert with_parameters(QUICK) == QUICK
    assert {arm.run.seed for arm in claim_arms("label_corruption", changed, "cifar10")} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("seeds", [0, -1, 2.5, "3", True])
def test_wrong_seeds_are_refused(seeds):
    with pytest.raises(InputError, match="whole number from 1 to 1000"):
        with_parameters(QUICK, seeds=seeds)


@pytest.mark.parametrize("rates", [[], [1.5], [-0.1], ["a"], 0.5, "0.5"])
def test_wrong_rates_are_refused(rates):
    with pytest.raises(InputError, match="0 to 1"):
        with_parameters(QUICK, rates=rates)


def test_arms_without_records_stay_in_the_frame():
    arms = claim_arms("randomization", PROFILES["smoke"], "digits")
    frame = arms_frame(arms, [])
    assert len(frame) == len(arms)
    assert frame["test_accuracy"].isna().all()
    assert frame["key"].isna().all()
