from dataclasses import replace

import pytest
import torch

from lib import engine, training
from lib.config import InputError
from lib.inputs import InputMaker
from lib.models import build_model
from lib.runs import Run
from lib.splits import Dataset
from lib.training import Interrupted, train, train_together


def comparable(record):
    """A record without what may differ between equal runs: times."""
    history = {name: values for name, values in record.history.items() if name != "seconds"}
    return record.outcome, record.final, record.reached, history


RUNS = {
    "mlp": {},
    "mlp with dropout": {"dropout": 0.5},
    "mlp by Adam": {"optimizer": "adam", "learning_rate": 1e-3},
    "mlp with augmentation": {"random_crop": True, "flip_and_rotate": True},
    "inception": {"model": "inception", "width": 0.1, "batch_size": 32, "epochs": 2},
    "alexnet": {"model": "alexnet", "width": 0.2, "epochs": 2, "weight_decay": 5e-4},
}


@pytest.mark.parametrize("name", RUNS)
def test_same_run_twice_is_bitwise_equal(digits, small_run, name):
    run = replace(small_run, **RUNS[name])
    assert comparable(train(run, digits)) == comparable(train(run, digits))


@pytest.mark.parametrize("name", RUNS)
def test_interrupted_and_resumed_equals_uninterrupted(digits, small_run, name, tmp_path):
    run, path, epochs = replace(small_run, **RUNS[name]), tmp_path / "checkpoint.pt", []
    steps_per_epoch = train(run, digits).provenance["steps_per_epoch"]
    asked = iter([False] * (steps_per_epoch + 1) + [True])  # in the middle of the second epoch
    with pytest.raises(Interrupted):
        train(run, digits, checkpoint=path, interrupted=lambda: next(asked))
    on_epoch = lambda run, progress: epochs.append(progress.epochs)  # noqa: E731
    (resumed,) = train_together([run], digits, checkpoint=lambda run: path, on_epoch=on_epoch)
    assert epochs[0] == 2
    assert comparable(resumed) == comparable(train(run, digits))


def test_a_resumed_run_names_where_it_was_trained_before(digits, small_run, tmp_path, monkeypatch):
    path, here = tmp_path / "checkpoint.pt", training.environment("cpu")
    arithmetics = {"first": torch.bfloat16, "second": torch.float32, "third": torch.float32}

    def train_at(commit, **options):
        monkeypatch.setattr(training, "environment", lambda device: here | {"commit": commit})
        monkeypatch.setattr(training, "arithmetic", lambda run, device: arithmetics[commit])
        return train(small_run, digits, checkpoint=path, **options)

    for commit in ("first", "second", "second"):
        asked = iter([False] * 4 + [True])
        with pytest.raises(Interrupted):
            train_at(commit, interrupted=lambda asked=asked: next(asked))
    saved = torch.load(path, weights_only=True)
    saved["progress"]["started"] = "long ago"
    torch.save(saved, path)
    record = train_at("third")
    found = record.provenance
    assert (found["started"], found["commit"]) == ("long ago", "third")
    assert [each["commit"] for each in found["earlier"]] == ["first", "second"]
    assert (found["precision"], record.arithmetic) == ("fp32", "bf16 and fp32")
    assert train(small_run, digits).provenance["earlier"] == []


def test_a_checkpoint_without_some_weights_is_not_taken_for_whole(digits, small_run, tmp_path):
    path, asked = tmp_path / "checkpoint.pt", iter([False] * 3 + [True])
    with pytest.raises(Interrupted):
        train(small_run, digits, checkpoint=path, interrupted=lambda: next(asked))
    saved = torch.load(path, weights_only=True)
    del saved["state"][next(name for name in saved["state"] if name.endswith("weight"))]
    torch.save(saved, path)
    with pytest.raises(KeyError, match="weight"):
        train(small_run, digits, checkpoint=path)


def test_a_checkpoint_of_other_code_starts_anew(digits, small_run, tmp_path):
    path, asked = tmp_path / "checkpoint.pt", iter([False] * 3 + [True])
    with pytest.raises(Interrupted):
        train(small_run, digits, checkpoint=path, interrupted=lambda: next(asked))
    saved = torch.load(path, weights_only=True)
    saved["progress"]["another field"] = 1
    torch.save(saved, path)
    assert comparable(train(small_run, digits, checkpoint=path)) == comparable(train(small_run, digits))


@pytest.mark.parametrize("damage", ["inverted", "zeros"])
def test_a_checkpoint_with_changed_bytes_starts_anew(digits, small_run, tmp_path, damage):
    """Torch itself would read on: it looks at no checksum."""
    path, asked = tmp_path / "checkpoint.pt", iter([False] * 6 + [True])
    with pytest.raises(Interrupted):
        train(small_run, digits, checkpoint=path, interrupted=lambda: next(asked))
    content = bytearray(path.read_bytes())
    middle = slice(len(content) // 2, len(content) // 2 + 100)
    content[middle] = bytes(100) if damage == "zeros" else bytes(255 - byte for byte in content[middle])
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    assert comparable(train(small_run, digits, checkpoint=path)) == comparable(train(small_run, digits))


@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_unreadable_checkpoint_starts_anew(digits, small_run, tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    assert comparable(train(small_run, digits, checkpoint=path)) == comparable(train(small_run, digits))


@pytest.mark.parametrize("error", [OSError(116, "Stale file handle"), MemoryError()])
def test_a_checkpoint_that_cannot_be_read_for_now_is_kept(digits, small_run, tmp_path, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    path, asked = tmp_path / "checkpoint.pt", iter([False] * 6 + [True])
    with pytest.raises(Interrupted):
        train(small_run, digits, checkpoint=path, interrupted=lambda: next(asked))
    before = path.read_bytes()
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error)):
        train(small_run, digits, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("stopped", "device", "goes_on"),
    [
        ({}, "cpu", True),
        ({}, "cuda", True),
        ({"dropout": 0.5}, "cpu", True),
        ({"dropout": 0.5}, "cuda", False),  # its generators have other states
        ({"seed": 1}, "cpu", False),
    ],
)
def test_a_checkpoint_serves_its_own_run_also_on_another_device(digits, small_run, tmp_path, stopped, device, goes_on):
    path, asked = tmp_path / "checkpoint.pt", iter([False] * 3 + [True])
    with pytest.raises(Interrupted):
        train(replace(small_run, **stopped), digits, checkpoint=path, interrupted=lambda: next(asked))
    saved = torch.load(path, weights_only=True)
    saved["progress"]["started"] = "long ago"
    saved["progress"]["environments"][-1]["device"] = device
    torch.save(saved, path)
    run = replace(small_run, **stopped | {"seed": small_run.seed})
    record = train(run, digits, checkpoint=path)
    assert (record.provenance["started"] == "long ago") == goes_on
    assert comparable(record) == comparable(train(run, digits))


def test_seeds_differ_and_the_callers_random_state_is_kept(digits, small_run):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = train(small_run, digits)
    assert torch.equal(torch.rand(1), expected)
    assert first.history["train_loss"] != train(replace(small_run, seed=1), digits).history["train_loss"]


def test_record_is_complete(digits, small_run):
    record = train(replace(small_run, pixels="shuffled", validation_size=8), digits)
    assert record.outcome == "epochs"
    assert {len(values) for values in record.history.values()} == {4}
    assert record.history["epoch"] == [1, 2, 3, 4]
    assert record.history["learning_rate"] == pytest.approx([0.01 * 0.95**epoch for epoch in range(4)])
    assert None not in record.final.values()
    assert None not in record.history["validation_accuracy"]
    wanted = {"commit", "dirty", "versions", "hardware", "threads", "precision", "data", "started", "seconds"}
    assert wanted <= set(record.provenance)
    assert record.provenance["train_images"] == 56
    assert record.provenance["steps_per_epoch"] == 4
    assert record.fingerprint == digits.fingerprint


def test_the_test_images_choose_no_epoch_and_all_of_them_decide(digits, small_run):
    run, fewer = replace(small_run, validation_size=8), replace(digits, test=digits.test.subset(torch.arange(40)))
    one, other = (train(run, each) for each in (digits, fewer))
    assert one.history["validation_loss"] == other.history["validation_loss"]
    assert one.history["test_loss"] != other.history["test_loss"]
    every = train(replace(run, test_size=None), digits)
    assert one.final == every.final
    assert one.history["test_loss"] != every.history["test_loss"]
    top = zip(one.history["test_accuracy"], one.history["test_top5_accuracy"], strict=True)
    assert all(five > first for first, five in top)


def test_stops_only_by_the_stated_rule_and_says_so(digits, small_run):
    run = replace(small_run, width=1.0, epochs=100, label_corruption=1.0)
    record = train(replace(run, stop_when_fitted=True), digits)
    assert record.outcome == "fitted"
    epochs = len(record.history["epoch"])
    assert epochs < 100
    assert record.history["train_loss"][-1] < 0.05
    assert 1.0 in record.history["eval_train_accuracy"]
    assert epochs == max(record.reached["overfit_epochs"], record.reached["fitted_epochs"])
    assert record.reached["overfit_steps"] == 4 * record.reached["overfit_epochs"]
    longer = train(replace(run, epochs=epochs + 2), digits)
    assert longer.outcome == "epochs"
    assert len(longer.history["epoch"]) == epochs + 2
    assert longer.history["train_loss"][:epochs] == record.history["train_loss"]


def test_final_training_accuracy_is_that_of_a_full_pass(digits, small_run):
    record = train(replace(small_run, width=1.0, epochs=60, stop_when_fitted=True), digits)
    assert record.final["train_accuracy"] == 1.0
    assert record.history["eval_train_accuracy"][-1] == 1.0
    narrow = train(replace(small_run, label_corruption=1.0), digits)
    assert narrow.final["train_accuracy"] != narrow.history["train_accuracy"][-1]  # the running mean of the epoch


def test_divergence_is_an_outcome(digits, small_run):
    record = train(replace(small_run, learning_rate=1e20), digits)
    assert record.outcome == "diverged"
    assert len(record.history["epoch"]) < small_run.epochs
    assert record.from_json(record.to_json()).outcome == "diverged"


def test_regularizer_off_shares_initialization_and_data_order(digits, small_run, monkeypatch):
    seen = []
    original = engine.forward
    monkeypatch.setattr(
        engine,
        "forward",
        lambda run, stack, images: (seen.append(images.sum().item()), original(run, stack, images))[1],
    )
    plain = train(replace(small_run, epochs=1), digits)
    first = seen[:4]
    seen.clear()
    decayed = train(replace(small_run, epochs=1, weight_decay=0.5), digits)
    assert seen[:4] == first
    assert plain.history["train_loss"] != decayed.history["train_loss"]


def test_full_batch_is_one_step_an_epoch_and_micro_batches_do_not_matter(digits, small_run, monkeypatch):
    run = replace(small_run, batch_size=None, precision="fp32")
    whole = train(run, digits)
    assert whole.provenance["steps_per_epoch"] == 1
    monkeypatch.setattr(engine, "MICRO_BATCH", 10)
    parts = train(run, digits)
    assert parts.history["train_loss"] == pytest.approx(whole.history["train_loss"], rel=1e-5)


def test_gradient_step_is_momentum_sgd(digits, small_run):
    """One full-batch step on a network without hidden noise, against the formula."""
    run = replace(small_run, batch_size=None, epochs=2, precision="fp32", decay=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        model = build_model(run.model, 10, 28, run.width)
    data = InputMaker(digits, "cpu").make(run)
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    losses = []
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(model(data.train.images), data.train.labels)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, v, g in zip(model.parameters(), velocity, gradients, strict=True):
                v.mul_(0.9).add_(g)
                p.sub_(0.01 * v)
        losses.append(loss.item())
    assert train(run, digits).history["train_loss"] == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("name", ["mlp_1x512", "mlp_3x512", "alexnet", "inception", "inception_no_bn"])
def test_bf16_and_fp32_histories_agree(digits, small_run, name, monkeypatch):
    """Within a twentieth over the first epochs, at a rate so low that rounding does not grow on its way."""
    if "avx512_bf16" not in engine.cpu_field("flags").split():
        pytest.skip("no bf16 arithmetic on this processor")
    monkeypatch.setattr(engine, "_bf16_is_faster", lambda device: True)
    run = replace(small_run, model=name, width=0.3, epochs=3, learning_rate=1e-3)
    half, full = (train(replace(run, precision=precision), digits) for precision in ("auto", "fp32"))
    assert (half.provenance["precision"], full.provenance["precision"]) == ("bf16", "fp32")
    assert half.history["train_loss"] == pytest.approx(full.history["train_loss"], rel=0.05)
    assert half.history["train_loss"] != full.history["train_loss"]


SIDE_BY_SIDE = {
    "labels, rates, weight decays and ends of their own": [
        {},
        {"seed": 1, "label_corruption": 1.0},
        {"learning_rate": 0.03, "decay": 0.8, "epochs": 7},
        {"weight_decay": 0.05, "epochs": 2},
        {"seed": 2, "learning_rate": 1e20},
    ],
    "dropout": [{"dropout": 0.5}, {"dropout": 0.5, "seed": 1}, {"dropout": 0.5, "epochs": 2}],
    "augmentation": [{"random_crop": True}, {"random_crop": True, "seed": 1}],
    "held-out images": [{"validation_size": 8}, {"validation_size": 8, "seed": 1}],
    "Adam": [{"optimizer": "adam", "learning_rate": rate} for rate in (1e-3, 1e-2)],
    "three layers": [{"model": "mlp_3x512", "seed": seed} for seed in (0, 1)],
    "pixels": [{"pixels": pixels} for pixels in ("gaussian", "random", "original")],
    "convolutions take turns": [{"model": "alexnet", "width": 0.2, "seed": seed, "epochs": 2} for seed in (0, 1)],
}


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_what_a_run_learns_does_not_depend_on_its_neighbours(digits, small_run, name):
    runs = [replace(small_run, **changes) for changes in SIDE_BY_SIDE[name]]
    together = {record.run: record for record in train_together(runs, digits)}
    for run in runs:
        alone, beside = train(run, digits), together[run]
        assert (beside.outcome, beside.reached) == (alone.outcome, alone.reached)
        assert len(beside.history["epoch"]) == len(alone.history["epoch"])
        for column in ("train_loss", "train_accuracy", "validation_loss", "test_loss", "learning_rate"):
            assert beside.history[column] == pytest.approx(alone.history[column], abs=1e-4, nan_ok=True)
        if alone.outcome != "diverged":
            assert beside.final == pytest.approx(alone.final, abs=1e-4)


def test_waiting_runs_take_the_places_of_those_that_are_over(digits, small_run, monkeypatch):
    """Five runs through an engine of two, each of another length; none is disturbed by the others' coming and going."""
    counts, load = [], engine.Engine.load
    monkeypatch.setattr(engine.Engine, "load", lambda self, *args: (counts.append(self.count), load(self, *args))[1])
    monkeypatch.setitem(engine.STACK, "cpu", 2)
    runs = [replace(small_run, seed=seed, epochs=epochs) for seed, epochs in enumerate((5, 2, 1, 1, 3))]
    together = list(train_together(runs, digits))
    assert [record.run.seed for record in together] == [1, 2, 3, 0, 4]
    assert counts == [2, 2, 2, 2, 1]
    for record in together:
        assert comparable(record) == comparable(train(record.run, digits))


def test_a_run_stopped_within_an_epoch_is_soon_joined_by_the_others(digits, small_run, tmp_path, monkeypatch):
    loaded, load = [], engine.Engine.load
    runs = [replace(small_run, seed=seed) for seed in range(4)]
    paths, asked = {run: tmp_path / f"{run.seed}.pt" for run in runs}, iter([False] * 5 + [True])
    with pytest.raises(Interrupted):
        train(runs[0], digits, checkpoint=paths[runs[0]], interrupted=lambda: next(asked))
    monkeypatch.setattr(engine.Engine, "load", lambda self, *args: (loaded.append(args[0]), load(self, *args))[1])
    together = list(train_together(runs, digits, checkpoint=paths.get))
    assert loaded == [runs[:1], runs, runs[1:]]
    for record in together:
        assert comparable(record) == comparable(train(record.run, digits))


def test_several_engines_take_turns(digits, small_run, monkeypatch):
    """As on a GPU, where they work at once: two lanes, four networks of different lengths, one diverging."""
    monkeypatch.setitem(training.LANES, "cpu", 2)
    run = replace(small_run, model="alexnet", width=0.2)
    changes = ({"epochs": 3}, {"epochs": 1}, {"learning_rate": 1e20}, {"epochs": 2, "weight_decay": 0.1})
    runs = [replace(run, seed=seed, **change) for seed, change in enumerate(changes)]
    together = list(train_together(runs, digits))
    assert [record.run.seed for record in together] == [1, 2, 0, 3]
    for record in together:
        if record.outcome != "diverged":
            assert comparable(record) == comparable(train(record.run, digits))


def test_a_gpu_has_as_many_lanes_as_its_memory_holds(monkeypatch):
    in_training = training._Training(None, "cuda", None, None, None)
    assert in_training._is_room()  # for the first, without a look
    in_training.lanes = [None, None]
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 20 * 2**30)
    for free, room in ((11, True), (9, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free * 2**30, 80 * 2**30))
        assert in_training._is_room() == room


def test_on_a_gpu_runs_that_are_over_stay_until_most_are(digits, small_run, monkeypatch):
    """New graphs take time there; what an ended run goes on to compute reaches no record."""
    counts, load, shrink = [], engine.Engine.load, training._Lane.is_to_shrink
    monkeypatch.setattr(engine.Engine, "load", lambda self, *args: (counts.append(self.count), load(self, *args))[1])
    monkeypatch.setattr(training._Lane, "is_to_shrink", lambda lane, _: shrink(lane, "cuda"))
    runs = [replace(small_run, seed=seed, epochs=epochs) for seed, epochs in enumerate((1, 6, 2, 3))]
    together = list(train_together(runs, digits))
    assert counts == [4, 1]
    assert [record.run.epochs for record in together] == [1, 2, 3, 6]
    for record in together:
        assert comparable(record) == comparable(train(record.run, digits))


def test_runs_stopped_within_an_epoch_lose_nothing(digits, small_run, tmp_path):
    """Stopped after every few steps, again and again, a stack takes no step twice."""
    runs = [replace(small_run, seed=seed, dropout=0.5, epochs=3 + seed) for seed in range(3)]
    asked, records, stops = 0, [], 0

    def every_third_time():
        nonlocal asked
        asked += 1
        return asked % 4 == 0

    while len(records) < 3:
        left = [run for run in runs if run not in {record.run for record in records}]
        paths = {run: tmp_path / f"{run.seed}.pt" for run in left}
        try:
            for record in train_together(left, digits, checkpoint=paths.get, interrupted=every_third_time):
                records.append(record)
        except Interrupted:
            stops += 1
    assert stops > 3
    assert asked - stops == 4 * 5  # steps: those of the longest run
    for record in records:
        assert comparable(record) == comparable(train(record.run, digits))


def test_only_runs_of_one_plan_train_together(digits, small_run):
    with pytest.raises(ValueError, match="plan"):
        train_together([small_run, replace(small_run, width=0.2)], digits)


def test_pixels_change_the_test_set_that_is_evaluated_besides(digits, small_run):
    record = train(replace(small_run, pixels="gaussian"), digits)
    assert record.final["changed_test_loss"] != record.final["test_loss"]
    assert train(small_run, digits).final["changed_test_loss"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "lbfgs"},
        {"precision": "fp8"},
        {"model": "vgg"},
        {"pixels": "shuffled", "random_crop": True},
        {"label_corruption": 1.5},
        {"train_size": 10**6},
        {"validation_size": 64},
    ],
)
def test_impossible_settings_are_refused_before_training(digits, small_run, changes):
    with pytest.raises(InputError):
        list(train_together([replace(small_run, **changes)], digits, on_epoch=lambda *_: pytest.fail("trained")))


def test_nothing_assumes_ten_classes(digits):
    three = [split.subset(split.labels < 3) for split in (digits.train, digits.test)]
    dataset = Dataset("three", *three, ("a", "b", "c"), "f" * 64, "made here")
    run = Run("three", "mlp_1x512", width=0.1, batch_size=32, learning_rate=0.01, epochs=3, label_corruption=1.0)
    record = train(run, dataset)
    assert record.history["train_loss"][0] < 2
    assert record.provenance["parameters"] == 2352 * 48 + 48 + 48 * 3 + 3


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


@needs_cuda
@pytest.mark.parametrize("name", RUNS)
def test_cuda_agrees_with_cpu(digits, small_run, name):
    if "dropout" in name:
        pytest.skip("dropout masks differ between devices")
    run = replace(small_run, **RUNS[name], precision="fp32")
    cpu, cuda = train(run, digits), train(run, digits, "cuda")
    assert cuda.history["train_loss"] == pytest.approx(cpu.history["train_loss"], rel=2e-2)
    assert cuda.provenance["device"] == "cuda"


@needs_cuda
@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_cuda_runs_do_not_depend_on_their_neighbours(digits, small_run, name):
    """Nor on which runs a graph was recorded for: with one lane the second takes over the first one's graphs."""
    runs = [replace(small_run, **changes, precision="fp32") for changes in SIDE_BY_SIDE[name]]
    for record in train_together(runs, digits, "cuda"):
        alone = train(record.run, digits, "cuda")
        assert record.outcome == alone.outcome
        assert record.history["train_loss"] == pytest.approx(alone.history["train_loss"], rel=2e-2, nan_ok=True)


@needs_cuda
@pytest.mark.parametrize("model", ["mlp_1x512", "alexnet", "inception"])
def test_cuda_graphs_serve_one_run_after_the_other(digits, small_run, model, monkeypatch):
    monkeypatch.setitem(training.LANES, "cuda", 1)
    monkeypatch.setitem(engine.STACK, "cuda", 1)
    runs = [replace(small_run, model=model, width=0.2, seed=seed, precision="fp32", epochs=2) for seed in range(3)]
    together = list(train_together(runs, digits, "cuda"))
    for record in together:
        alone = train(record.run, digits)
        assert record.history["train_loss"] == pytest.approx(alone.history["train_loss"], rel=2e-2)


@needs_cuda
def test_cuda_stopped_within_an_epoch_loses_nothing(digits, small_run, tmp_path):
    run = replace(small_run, dropout=0.5, precision="fp32", train_size=50)  # batches of 13 and of 12, a graph each
    path = tmp_path / "checkpoint.pt"
    asked = iter([False] * 6 + [True])
    with pytest.raises(Interrupted):
        train(run, digits, "cuda", checkpoint=path, interrupted=lambda: next(asked))
    resumed = train(run, digits, "cuda", checkpoint=path)
    assert resumed.history["train_loss"] == pytest.approx(train(run, digits, "cuda").history["train_loss"], rel=1e-3)


@needs_cuda
def test_cuda_bf16_and_fp32_histories_agree(digits, small_run):
    run = replace(small_run, model="inception", width=0.3, epochs=3, learning_rate=1e-3)
    half, full = (train(replace(run, precision=precision), digits, "cuda") for precision in ("auto", "fp32"))
    assert half.history["train_loss"] == pytest.approx(full.history["train_loss"], rel=0.05)


@needs_cuda
@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_goes_on_on_another_device(digits, small_run, tmp_path, first, then):
    run = replace(small_run, model="inception", width=0.2, precision="fp32", epochs=2)  # rounding grows with the steps
    path = tmp_path / "checkpoint.pt"
    asked = iter([False] * 6 + [True])
    with pytest.raises(Interrupted):
        train(run, digits, first, checkpoint=path, interrupted=lambda: next(asked))
    resumed = train(run, digits, then, checkpoint=path)
    assert [made["device"] for made in resumed.provenance["earlier"]] == [first]
    assert resumed.history["train_loss"] == pytest.approx(train(run, digits).history["train_loss"], rel=5e-3)
