import functools
import json
import shutil
from dataclasses import replace
from itertools import product

import pytest

from lib import pages, study
from lib.claims import CLAIMS
from lib.config import RECORDED, InputError
from lib.data import at_hand
from lib.experiments import claim_arms
from lib.profiles import PHOTOGRAPHS, PROFILES, with_parameters
from lib.runs import RECIPE, RunStore, current_record, stored_records
from lib.study import open_studies, open_study, recorded_study, run_counts, trains
from lib.sweep import Summary
from lib.training import train


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_without_records_is_not_run(nothing, claim):
    empty = recorded_study(claim, "quick")
    assert empty.verdict == empty.recorded.verdict == recorded_study(claim, "smoke").verdict == "not run"
    assert run_counts(empty) == (0, len({arm.run for arm in empty.arms}))
    assert empty.history.empty
    assert set(empty.agreement["verdict"]) == {"not run"}


def test_other_records_are_those_that_the_page_does_not_show():
    def others(*what):
        return [(each.profile.name, each.data) for each in recorded_study(*what).elsewhere]

    rest = [("quick", "cifar10"), ("quick", "tiny-imagenet")]
    assert others("randomization", "paper") == [("cpu", "cifar10"), *rest]
    assert others("randomization", "cpu") == rest
    assert others("label_corruption", "quick") == [("cpu", "cifar10")]
    assert ("cpu", "cifar10") in others("randomization", "quick", "tiny-imagenet")


def test_recorded_runs_need_no_data_set(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    found = recorded_study("randomization", "quick")
    assert found.dataset is None
    assert found.chance == 0.1
    assert not found.is_full
    assert recorded_study("randomization").is_full


def test_chance_is_that_of_the_profiles_classes_also_without_records(nothing):
    chances = [recorded_study("randomization", *what).chance for what in product(("quick", "paper"), PHOTOGRAPHS)]
    assert chances == [1 / 10, 1 / 10, 1 / 200, 1 / 1000]


def test_photographs_of_another_size_are_another_data_set(monkeypatch):
    monkeypatch.setenv("IMAGE_SIZE", "32")
    what = "randomization", PROFILES["quick"], "tiny-imagenet", RunStore(RECORDED), True
    assert study._read(*what, pixels=64).records
    assert not study._read(*what, pixels=32).records
    assert recorded_study("randomization", "quick", "tiny-imagenet").records  # the repository's own are of 64
    asked = open_study("randomization", "paper", "imagenet", "cpu")
    assert (asked.pixels, asked.recorded.pixels) == (32, 299)
    for text in (pages.ribbon(asked.profile, "imagenet"), pages.banner(asked).data):
        assert "Profile paper on imagenet at 32x32 pixels: reduced. Not the full result." in text


@pytest.mark.parametrize(
    ("copy", "is_full"),
    [
        ({"train": 1_281_167, "test": 50_000, "classes": 1000}, True),
        ({"train": 1_281_000, "test": 49_990, "classes": 1000}, True),  # without some that are damaged
        ({"train": 126_689, "test": 5_000, "classes": 100}, False),
        ({"train": 1_281_167, "test": 49_950, "classes": 999}, False),
        ({"train": 600_000, "test": 50_000, "classes": 1000}, False),
    ],
)
def test_part_of_imagenet_is_not_the_papers(copy, is_full):
    record = recorded_study("randomization", "quick").records[0]
    record = replace(record, provenance=record.provenance | {"data": copy | {"note": "", "source": ""}})
    study = replace(recorded_study("randomization", "paper", "imagenet"), records=[record])
    assert study.is_full == is_full
    assert ("not all of it" in pages.banner(study).data) != is_full
    assert not replace(study, pixels=128).is_full


def test_a_page_of_other_rates_shows_the_recorded_ones_beside_them():
    full = recorded_study("label_corruption")
    some = replace(full, profile=with_parameters(full.profile, rates=[0.0, 1.0]))
    assert full.recorded is full
    assert some.recorded.profile == full.profile
    assert not some.is_full
    assert "at 2 rates of corruption: reduced" in pages.banner(some).data
    assert "reduced" not in pages.banner(full).data


def test_only_whole_records_of_todays_recipe_count(tmp_path, capsys):
    """Those that are damaged are named; of those of another recipe there may be many."""
    whole = next(path for path in sorted(RECORDED.rglob("*.json")) if current_record(path))
    text = whole.read_text()
    for name, content in {"a": text, "b": text.replace('"seed": ', '"seed": 9'), "c": text[1:]}.items():
        (tmp_path / f"{name}.json").write_text(content)
    (tmp_path / "d.json").write_text("null")
    (tmp_path / "e.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "g.json").write_text(json.dumps(json.loads(text) | {"recipe": RECIPE - 1}))
    assert [bool(current_record(tmp_path / f"{name}.json")) for name in "abcdeg"] == [True, *[False] * 5]
    told = capsys.readouterr().err
    assert [f"damaged record {name}.json" in told for name in "abcdeg"] == [False, True, True, True, False, False]
    assert len(stored_records(tmp_path)) == 1
    shutil.copy(tmp_path / "a.json", tmp_path / "f.json")
    assert len(stored_records(tmp_path)) == 2  # as a sweep beside the page adds them


def test_records_of_another_copy_of_the_data_are_shown_where_they_are_whole(digits, small_run, tmp_path, monkeypatch):
    arms = claim_arms("label_corruption", PROFILES["smoke"], "digits")
    store, record = RunStore(tmp_path), train(small_run, digits)
    monkeypatch.setenv("STORE", str(tmp_path))
    monkeypatch.setattr(study, "train_missing", lambda *_: pytest.fail("trained"))
    for arm in arms:
        store.save(replace(record, run=arm.run, fingerprint="f" * 64))
    opened = functools.partial(study.open_study, "label_corruption", "smoke", "digits", "cpu")
    assert {each.fingerprint for each in opened().records} == {"f" * 64}
    assert opened().dataset.fingerprint == digits.fingerprint  # what the page draws is what is here
    for arm in arms[1:]:
        store.save(replace(record, run=arm.run))
    assert {each.fingerprint for each in opened().records} == {"f" * 64}  # never of two copies
    store.save(replace(record, run=arms[0].run))
    assert {each.fingerprint for each in opened().records} == {digits.fingerprint}
    store.path(arms[0].run, digits.fingerprint).unlink()
    store.path(arms[0].run, "f" * 64).unlink()
    with pytest.raises(pytest.fail.Exception, match="trained"):
        opened()


def test_data_that_is_damaged_stops_only_what_needs_it(tmp_path, monkeypatch):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"half of it")
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    assert study._data_for(PROFILES["quick"], "cifar10", needed=False) is None
    assert at_hand("cifar10") is None
    with pytest.raises(InputError, match="is damaged"):
        study._data_for(PROFILES["quick"], "cifar10", needed=True)


def test_a_page_whose_runs_failed_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("STORE", str(tmp_path))
    monkeypatch.setattr(study, "train_missing", lambda *_: Summary(0, 0, ("a run: OSError: its reason", "another")))
    with pytest.raises(InputError, match="2 runs failed, the first: a run: OSError: its reason"):
        study.open_study("label_corruption", "smoke", "digits", "cpu", seeds=1)


def test_seeds_recorded_beyond_the_profiles_count_once_they_are_whole(digits, small_run, tmp_path, monkeypatch):
    runs = {arm.run for arm in claim_arms("label_corruption", with_parameters(PROFILES["smoke"], 3), "digits")}
    store = RunStore(tmp_path)
    monkeypatch.setenv("STORE", str(tmp_path))
    record = train(small_run, digits)
    for run in runs:
        store.save(replace(record, run=run))
    opened = functools.partial(study.open_study, "label_corruption", "smoke", "digits", "cpu")
    assert opened().profile.seeds == (0, 1, 2)
    assert opened(seeds=1).profile.seeds == (0,)
    assert (opened().asked, opened(seeds=1).asked) == ({}, {"seeds": 1})
    lost = next(run for run in runs if run.seed == 1)
    store.path(lost, digits.fingerprint).unlink()
    assert opened().profile.seeds == (0,)
    recorded, needed = run_counts(opened())
    assert recorded == needed


@pytest.mark.parametrize("profile", ["paper", "cpu"])
def test_what_takes_days_is_read_and_not_trained_and_needs_no_data(profile, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "nowhere"))
    monkeypatch.setattr(study, "train_missing", lambda *_: pytest.fail("trained"))
    empty = open_studies(profile, device="cpu")
    assert {each.data for each in empty} == {"cifar10"}
    assert {each.verdict for each in empty} == {"not run"}
    assert not any(run_counts(each)[0] for each in empty)


def test_auto_is_cifar10_without_a_look_for_it_where_all_its_runs_are_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "resolve_dataset", lambda name: f"{name} was looked for")
    monkeypatch.setenv("STORE", str(tmp_path / "another"))  # the store given is what counts
    own, empty = RunStore(RECORDED), RunStore(tmp_path)
    assert study.dataset_of(PROFILES["quick"], "auto", "cpu", own) == "cifar10"
    assert study.dataset_of(PROFILES["quick"], "auto", "cpu", empty) == "auto was looked for"
    assert study.dataset_of(PROFILES["quick"], "digits", "cpu", own) == "digits was looked for"
    assert study.dataset_of(PROFILES["paper"], "auto", "cpu", empty) == "cifar10"  # it only renders what is recorded
    assert study.dataset_of(PROFILES["paper"], "auto", "cuda", empty) == "auto was looked for"


def test_with_retrain_it_is_trained(monkeypatch):
    assert not trains(PROFILES["paper"], "cpu")
    assert trains(PROFILES["paper"], "cuda")
    assert trains(PROFILES["quick"], "cpu")
    monkeypatch.setenv("RETRAIN", "1")
    assert trains(PROFILES["paper"], "cpu")


def test_records_of_another_store_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("STORE", str(tmp_path))
    (tmp_path / "cifar10").mkdir()
    some = sorted((RECORDED / "cifar10").glob("mlp1x512-on-random-labels*.json"))
    for path in some:
        shutil.copy(path, tmp_path / "cifar10")
    found = open_study("label_corruption", "paper", device="cpu")
    full = [record for record in found.records if record.run.train_size is None]
    assert full == found.records
    assert 1 <= len(full) < len(some)  # the others are of other profiles


def test_with_retrain_it_is_held_against_the_records_of_the_same_seeds(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRAIN", "1")
    monkeypatch.setenv("STORE", "elsewhere")
    own = recorded_study("randomization")
    assert own.recorded is own  # the records are not held against themselves
    few = replace(recorded_study("randomization", "quick"), profile=with_parameters(PROFILES["quick"], seeds=1))
    few = replace(few, store=RunStore(tmp_path))
    assert {record.run.seed for record in few.recorded.records} == {0}
    assert few.recorded.profile.seeds == (0,)


def test_the_verdict_by_the_planned_seeds_is_that_of_no_other():
    more = recorded_study("randomization", "quick")
    assert len(more.profile.seeds) > len(PROFILES["quick"].seeds)
    planned = by_own_seeds("randomization", "quick")
    assert more.planned_verdict == planned.verdict == planned.planned_verdict
    assert more.verdict == "replicated" != planned.verdict
    assert pages.seeds_note(more) == f"by the {len(PROFILES['quick'].seeds)} seeds planned first: {planned.verdict}"
    assert pages.seeds_note(planned) == ""


def by_own_seeds(claim, profile):
    found = recorded_study(claim, profile)
    arms = [arm for arm in found.arms if arm.run.seed in PROFILES[profile].seeds]
    records = [record for record in found.records if record.run.seed in PROFILES[profile].seeds]
    return replace(found, profile=PROFILES[profile], arms=arms, records=records)
