import math

import pandas as pd
import pytest

from lib import claims
from lib.claims import (
    CLAIMS,
    VERDICTS,
    Context,
    Criterion,
    criteria_frame,
    remaining_share,
    verdict,
    with_relative_time,
)
from lib.experiments import PROFILES, arms_frame, claim_arms

CONTEXT = Context(chance=0.1, test_images=10_000)
SEEDS = PROFILES["quick"].seeds


def frame(claim):
    """The claim's arms as they would look if the paper were right in everything."""
    result = arms_frame(claim_arms(claim, PROFILES["quick"], "cifar10"), [])
    rate = result["label_corruption"]
    result["key"] = "k"
    result["train_accuracy"] = result["running_train_accuracy"] = 1.0
    changed = (result["pixels"] != "original") | (rate == 1)
    result["test_accuracy"] = (0.6 - 0.5 * rate).where(~changed, 0.1)
    result["test_accuracy"] += 0.02 * (result["random_crop"] | (result["weight_decay"] > 0)) * ~changed
    for name in ("last", "best", "early_stopped"):
        result[f"{name}_test_accuracy"] = result["test_accuracy"]
    result["overfit_time"] = (
        10 + 20 * rate + result["pixels"].map({"original": 0, "shuffled": 2, "random": 4, "gaussian": 5})
    )
    return result


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_the_papers_world_is_replicated(claim):
    criteria = criteria_frame(claim, frame(claim.name), CONTEXT)
    assert criteria["holds"].tolist() == ["yes"] * len(criteria)
    assert criteria["seeds"].tolist() == [len(SEEDS)] * len(criteria)
    assert verdict(criteria) == "replicated"


def spoiled(claim, spoil):
    rows = frame(claim)
    spoil(rows)
    criteria = criteria_frame(CLAIMS[claim], rows, CONTEXT)
    return criteria, criteria[criteria["holds"] != "yes"]["criterion"].tolist(), verdict(criteria)


def set_where(column, value, **where):
    def spoil(rows):
        mask = pd.Series(True, rows.index)
        for name, wanted in where.items():
            mask &= rows[name] == wanted
        assert mask.any()
        rows.loc[mask, column] = value

    return spoil


@pytest.mark.parametrize(
    ("claim", "spoil", "text"),
    [
        ("randomization", set_where("train_accuracy", 0.98, arm="gaussian"), "Inception fits gaussian"),
        ("randomization", set_where("test_accuracy", 0.2, group="random labels", model="alexnet"), "at chance"),
        ("randomization", set_where("overfit_time", 9.0, arm="random labels"), "slowest"),
        ("randomization", set_where("overfit_time", 200.0, arm="random labels"), "constant factor"),
        ("label_corruption", set_where("test_accuracy", 0.6, model="alexnet"), "AlexNet: test error grows"),
        ("label_corruption", set_where("overfit_time", 10.0, model="inception", arm="1"), "time to overfit grows"),
        ("label_corruption", set_where("train_accuracy", 0.9, model="mlp_1x512", arm="0.5"), "fits at every rate"),
        ("explicit_regularization", set_where("test_accuracy", 0.3, model="alexnet", arm="none"), "share"),
        ("explicit_regularization", set_where("train_accuracy", 0.9, model="mlp_3x512", arm="none"), "fits true"),
        ("explicit_regularization", set_where("running_train_accuracy", 0.9, arm="augmentation"), "augmentation"),
        ("implicit_regularization", set_where("test_accuracy", 0.3, arm="off"), "batch norm: share"),
        ("implicit_regularization", set_where("best_test_accuracy", 0.7, model="alexnet"), "best test epoch"),
        ("implicit_regularization", set_where("test_accuracy", 0.3, arm="Adam", model="mlp_1x512"), "by Adam"),
    ],
)
def test_each_criterion_can_fail(claim, spoil, text):
    criteria, failing, result = spoiled(claim, spoil)
    assert any(text in criterion for criterion in failing)
    assert len(failing) < len(criteria)
    assert result == "partly"


def test_random_labels_that_never_fit_are_slowest_but_no_constant_factor():
    _, failing, _ = spoiled("randomization", set_where("overfit_time", math.inf, arm="random labels"))
    assert failing == ["Random labels cost only a constant factor: time to fit over that of true labels"]


def test_one_seed_outside_is_mixed():
    _, failing, result = spoiled("randomization", set_where("train_accuracy", 0.5, arm="gaussian", seed=1))
    assert failing == ["Inception fits gaussian: training accuracy"]
    assert result == "partly"


def test_nothing_right_is_not_replicated():
    def spoil(rows):
        rows[["train_accuracy", "test_accuracy"]] = 0.5
        rows["overfit_time"] = 10.0
        rows.loc[rows["arm"] == "random labels", "overfit_time"] = 1.0

    assert spoiled("randomization", spoil)[2] == "not replicated"


def test_missing_runs_and_too_few_seeds():
    rows = frame("randomization")
    results = [name for name in rows if name.endswith(("accuracy", "time"))]
    rows[results] = math.nan
    assert verdict(criteria_frame(CLAIMS["randomization"], rows, CONTEXT)) == "not run"
    one = frame("randomization").query("seed == 0")
    assert verdict(criteria_frame(CLAIMS["randomization"], one, CONTEXT)) == "inconclusive"


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_without_any_record_are_not_run(claim):
    rows = arms_frame(claim_arms(claim, PROFILES["quick"], "cifar10"), [])
    assert verdict(criteria_frame(CLAIMS[claim], rows, CONTEXT)) == "not run"


def test_criterion_bounds_are_inclusive():
    assert Criterion("x", pd.Series([0.99, 1.0]), low=0.99).holds == "yes"
    assert Criterion("x", pd.Series([0.98, 1.0]), low=0.99).holds == "mixed"
    assert Criterion("x", pd.Series([0.1, float("nan")]), low=0.99).holds == "no"
    assert Criterion("x", pd.Series([float("nan")]), low=0.99).holds == "not run"


def test_remaining_share_is_paired_by_seed():
    off, on = pd.Series([0.3, 0.5], index=[0, 1]), pd.Series([0.9, 0.5], index=[1, 0])
    assert remaining_share(off, on, 0.1).tolist() == pytest.approx([0.5, 0.5])


def test_chance_follows_the_number_of_classes():
    rows = frame("randomization")
    criteria = criteria_frame(CLAIMS["randomization"], rows, Context(0.01, 10_000))
    assert "no" in criteria["holds"].tolist()


def test_relative_time_is_over_the_same_seed_on_true_labels():
    rows = frame("label_corruption")
    rows.loc[rows["seed"] == 1, "overfit_time"] *= 3
    relative = with_relative_time(rows)
    assert (relative.query("label_corruption == 0")["relative_time"] == 1).all()
    assert relative.query("label_corruption == 1")["relative_time"].tolist() == pytest.approx([3.0] * 3 * len(SEEDS))


def test_the_papers_own_numbers_meet_the_criteria_it_states_itself():
    """Margins are no stricter than the paper: its values lie inside wherever it has one."""
    for claim in CLAIMS.values():
        for criterion in claim.criteria(frame(claim.name), CONTEXT):
            if not math.isnan(criterion.paper):
                assert criterion.low <= criterion.paper <= criterion.high, criterion.text


def test_every_verdict_has_a_symbol_of_its_own():
    assert len(set(VERDICTS.values())) == len(VERDICTS) == 5
    assert claims.CRITERIA_VERSION >= 1
