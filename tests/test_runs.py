import hashlib
import json
import multiprocessing
import resource
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from lib.config import InputError
from lib.runs import LATER, RECIPE, Record, Run, RunStore, history_frame, runs_frame, stored_records


def make_record(run, **changes):
    history = {
        "epoch": [1, 2, 3],
        "learning_rate": [0.1, 0.095, 0.09],
        "train_loss": [2.0, 0.07, 0.03],
        "train_accuracy": [0.2, 0.9, 1.0],
        "eval_train_accuracy": [None, None, 1.0],
        "validation_loss": [None] * 3,
        "validation_accuracy": [0.5, 0.7, 0.7],
        "test_loss": [2.0, 1.0, 1.5],
        "test_accuracy": [0.3, 0.5, 0.6],
        "test_top5_accuracy": [0.8, 0.9, 0.7],
        "seconds": [0.1] * 3,
    }
    final = {
        "train_loss": 0.02, "train_accuracy": 1.0, "test_loss": 1.5, "test_accuracy": 0.55,
        "changed_test_loss": None, "changed_test_accuracy": None,
    }  # fmt: skip
    reached = {"overfit_epochs": 3, "overfit_steps": 12, "fitted_epochs": 3, "fitted_steps": 12}
    values = {"outcome": "fitted", "final": final, "reached": reached, "history": history}
    return Record(
        run, "f" * 64, **(values | {"provenance": {"steps_per_epoch": 4, "precision": "bf16", "data": {}}} | changes)
    )


def test_key_depends_on_every_setting_and_the_fingerprint(small_run):
    other = {int: 7, float: 0.123, str: "x", bool: True, type(None): 9}
    keys = {small_run.key("a"), small_run.key("b")}
    for field in fields(Run):
        value = getattr(small_run, field.name)
        keys.add(replace(small_run, **{field.name: other[type(value)]}).key("a"))
    assert len(keys) == len(fields(Run)) + 2
    assert small_run.key("a") == replace(small_run).key("a")


def test_record_survives_its_file(store, small_run):
    record = make_record(small_run)
    path = store.save(record)
    assert store.load(small_run, record.fingerprint) == record
    assert path.stat().st_size < 20_000
    lines = path.read_text().splitlines()
    assert any(line.strip().startswith('"train_loss": [ 2.0, 0.07, 0.03 ]') for line in lines)


def test_non_finite_numbers_become_null_in_standard_json(store, small_run):
    record = make_record(small_run, outcome="diverged", final={"train_loss": float("nan"), "test_loss": float("inf")})
    values = json.loads(store.save(record).read_text(), parse_constant=pytest.fail)
    assert values["final"] == {"train_loss": None, "test_loss": None}
    assert values["outcome"] == "diverged"


def test_a_long_name_leaves_room_for_the_key(store, small_run):
    unusual = {field.name: 7.123 for field in fields(Run) if isinstance(field.default, float | int)}
    run = replace(small_run, **unusual)
    names = [store.path(each, "data").name for each in (run, replace(run, exact_only=8))]
    assert len(run.label()) > 255 > max(map(len, names))
    assert len(set(names)) == 2


def test_missing_record_is_none(store, small_run):
    assert store.load(small_run, "f" * 64) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"key": 1}', "[" * 200_000, "seed", "learning_rate"])
def test_damaged_record_is_named_and_counts_as_missing(store, small_run, capsys, damage):
    path = store.save(make_record(small_run))
    if damage in ("seed", "learning_rate"):  # a setting edited by hand no longer belongs to its key
        values = json.loads(path.read_text())
        values["run"][damage] = 5
        damage = json.dumps(values)
    path.write_text(damage)
    assert store.load(small_run, "f" * 64) is None
    assert path.name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "left"),
    [
        ("history", {}),
        ("history", None),
        ("history", {"epoch": [1, 2], "train_loss": [0.5]}),
        ("provenance", {}),
        ("provenance", {"data": {}}),
        ("final", None),
        ("final", {}),
    ],
)
def test_a_record_without_its_results_counts_as_missing(store, small_run, capsys, part, left):
    path = store.save(make_record(small_run))
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: left}))
    assert store.load(small_run, "f" * 64) is None
    assert "damaged record" in capsys.readouterr().err
    assert stored_records(path.parent) == []


def test_a_folder_in_a_records_place_is_named(store, small_run, capsys):
    store.path(small_run, "f" * 64).mkdir(parents=True)
    assert store.load(small_run, "f" * 64) is None
    assert "damaged record" in capsys.readouterr().err


def test_a_record_that_finds_no_room_leaves_nothing(store, small_run):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.save(make_record(small_run))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(store.path(small_run, "f" * 64).parent.iterdir()) == []


def test_save_is_atomic_and_drops_the_checkpoint(store, small_run):
    record = make_record(small_run)
    checkpoint = store.checkpoint(small_run, record.fingerprint)
    checkpoint.write_text("state")
    store.save(record)
    assert not checkpoint.exists()
    assert [path.name for path in store.path(small_run, record.fingerprint).parent.iterdir()] == [
        store.path(small_run, record.fingerprint).name
    ]


def hold(root, run, held, release):
    with RunStore(root).claim(run, "f") as mine:
        assert mine
        held.set()
        release.wait(120)


def test_a_run_is_claimed_by_one_process_at_a_time(store, small_run):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(store.root, small_run, held, release))
    process.start()
    assert held.wait(120)
    with store.claim(small_run, "f") as mine:
        assert not mine
    with store.claim(replace(small_run, seed=1), "f") as mine:
        assert mine
    process.kill()  # the lock goes with its process
    process.join()
    with store.claim(small_run, "f") as mine:
        assert mine


def test_unwritable_store_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="not writable"):
        RunStore(tmp_path / "file" / "store").check_writable()


def test_full_store_is_refused(store, monkeypatch):
    monkeypatch.setattr("lib.runs.STORE_BYTES", 1 << 60)
    with pytest.raises(InputError, match="needed"):
        store.check_writable()


def test_names():
    run = Run("digits", "alexnet", label_corruption=0.3, weight_decay=5e-4, random_crop=True, optimizer="adam")
    assert run.randomization == "partially corrupted labels"
    assert run.regularizers == "random crop + weight decay"
    name = "alexnet on partially corrupted labels 0.3, seed 0, optimizer adam"
    assert run.label() == f"{name}, weight decay 0.0005, random crop"
    assert replace(run, batch_size=None, weight_decay=0.0).label() == f"{name}, full batch, random crop"
    assert replace(run, label_corruption=1.0).randomization == "random labels"
    assert replace(run, pixels="gaussian", label_corruption=0.0).randomization == "gaussian"
    assert Run("digits", "alexnet").regularizers == "none"


def test_runs_frame(small_run):
    record = make_record(small_run)
    (row,) = runs_frame([record]).to_dict("records")
    assert row["key"] == record.key
    assert row["epochs_run"] == 3
    assert row["overfit_time"] == pytest.approx(2.5)  # halfway from 0.07 to 0.03
    assert row["steps_to_overfit"] == pytest.approx(2.5 * record.provenance["steps_per_epoch"])
    assert row["arithmetic"] == "bf16"
    assert row["test_accuracy"] == 0.55
    assert (row["last_test_accuracy"], row["best_test_accuracy"]) == (0.6, 0.6)
    assert row["early_stopped_test_accuracy"] == 0.5  # the first of equal epochs
    assert runs_frame([]).empty
    moved = make_record(small_run, provenance=record.provenance | {"earlier": [{"precision": "fp32"}, {}]})
    assert runs_frame([moved])["arithmetic"].item() == "fp32 and bf16"
    slow = make_record(small_run, history=record.history | {"train_loss": [2.0, 1.0, 0.5]})
    assert np.isinf(runs_frame([slow])[["overfit_time", "steps_to_overfit"]].iloc[0].astype(float)).all()


def test_a_runs_row_has_its_last_and_its_best_epochs(small_run):
    record = make_record(small_run)
    bent = replace(record, history=record.history | {"train_accuracy": [0.2, 0.9, 0.8]})
    (row,) = runs_frame([bent]).to_dict("records")
    assert (row["running_train_accuracy"], row["best_test_top5_accuracy"]) == (0.8, 0.9)


def test_another_runs_record_is_not_taken(store, small_run):
    record, stranger = make_record(small_run), replace(small_run, seed=1)
    store.save(record)
    store.path(stranger, record.fingerprint).write_text(record.to_json())
    assert store.load(stranger, record.fingerprint) is None


def test_history_frame_counts_steps(small_run):
    frame = history_frame([make_record(small_run)])
    assert frame["step"].tolist() == [4, 8, 12]
    assert frame["learning_rate"].tolist() == [0.1, 0.095, 0.09]  # each epoch's, not the setting
    columns = history_frame([]).columns
    assert columns.is_unique
    assert {*frame.columns} <= {*columns}
    assert frame["model"].unique().tolist() == ["mlp_1x512"]


def test_settings_younger_than_the_recipe_leave_older_keys_as_they_were(small_run):
    plain = small_run.key("data")
    for name, value in LATER.items():
        assert getattr(small_run, name) == value
        assert replace(small_run, **{name: 7}).key("data") != plain
    older = {name: value for name, value in asdict(small_run).items() if name not in LATER}
    text = json.dumps([older, "data", RECIPE], sort_keys=True)
    assert plain == hashlib.sha256(text.encode()).hexdigest()[:16]
