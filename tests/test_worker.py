import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lib import worker
from lib.config import InputError
from lib.training import Progress, train


def carried_out(run, dataset, store, outcome=worker.TRAINED):
    orders = worker.Orders(dataset.name, store.root, "cpu", store.root / "stop", None)
    assert worker.carry_out((run,), orders) == [outcome]
    return store.load(run, dataset.fingerprint)


@pytest.mark.parametrize("stops", [True, False])
def test_a_run_that_never_fits_is_trained_once_whether_it_is_to_stop_or_not(digits, small_run, store, stops):
    first, second = replace(small_run, stop_when_fitted=stops), replace(small_run, stop_when_fitted=not stops)
    trained, adopted = carried_out(first, digits, store), carried_out(second, digits, store, worker.RECORDED)
    assert None in trained.reached.values()
    assert (trained.training, adopted.training) == (trained.key, trained.key)
    again = train(second, digits)
    assert (adopted.run, adopted.outcome, adopted.final) == (second, again.outcome, again.final)
    for column in set(again.history) - {"seconds"}:
        assert adopted.history[column] == again.history[column]


def test_of_twins_the_one_without_a_stop_waits_while_the_other_trains(digits, small_run, store):
    stops, full = (replace(small_run, stop_when_fitted=stops) for stops in (True, False))
    orders = worker.Orders(digits.name, store.root, "cpu", store.root / "stop", None)
    with store.claim(stops, digits.fingerprint):
        assert worker.carry_out((full,), orders) == [worker.BUSY]
    with store.claim(full, digits.fingerprint):
        assert worker.carry_out((stops,), orders) == [worker.TRAINED]
    assert carried_out(full, digits, store, worker.RECORDED).training == stops.key(digits.fingerprint)


@pytest.mark.parametrize("stops", [True, False])
def test_a_run_that_fits_is_trained_with_and_without_its_stop(digits, small_run, store, stops):
    fitting = replace(small_run, width=1.0, epochs=60)
    first, second = replace(fitting, stop_when_fitted=stops), replace(fitting, stop_when_fitted=not stops)
    one, other = (carried_out(run, digits, store) for run in (first, second))
    assert None not in one.reached.values()
    assert (one.training, other.training) == (one.key, other.key)
    assert one.outcome != other.outcome


def test_what_a_worker_needs_can_be_sent_to_it(runs, tmp_path):
    orders = worker.Orders("digits", tmp_path, "cpu", tmp_path / "stop", None)
    function, unit, again = pickle.loads(pickle.dumps((worker.carry_out, tuple(runs), orders)))
    (tmp_path / "stop").touch()
    assert function(unit, again) == [worker.LEFT] * 3


@pytest.mark.parametrize(("device", "fresh"), [("cpu", 0), ("cuda", 1)])
def test_after_a_failure_on_a_gpu_a_unit_has_a_process_of_its_own(digits, runs, store, monkeypatch, device, fresh):
    def fail(*arguments, **options):
        raise RuntimeError("illegal memory access")

    started = []

    def executor(workers, device):
        started.append((workers, device))
        monkeypatch.setattr(worker, "_spoiled", False)  # as in a new process
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr(worker, "_spoiled", False)
    monkeypatch.setattr(worker, "train_together", fail)
    monkeypatch.setattr(worker, "local_executor", executor)
    orders = worker.Orders(digits.name, store.root, device, store.root / "stop", None)
    for run in runs[:2]:
        assert worker.carry_out((run,), orders) == ["RuntimeError: illegal memory access"]
    assert started == [(1, device)] * fresh
    orders.stop.touch()
    monkeypatch.setattr(worker, "_spoiled", device == "cuda")
    assert worker.carry_out((runs[2],), orders) == [worker.LEFT]
    assert started == [(1, device)] * fresh  # no process is started to be told to stop


def test_an_error_is_told_after_what_led_to_it():
    """The capture of a CUDA graph that failed raises another error on its way out."""

    def raised(error):
        try:
            try:
                raise ValueError("the cause")
            finally:
                raise error
        except type(error) as caught:
            return caught

    assert (
        worker._told(raised(RuntimeError("failed before"))) == "ValueError: the cause; then RuntimeError: failed before"
    )
    assert worker._told(raised(InputError("say it"))) == "InputError: say it"
    assert worker._told(raised(ValueError("the cause"))) == "ValueError: the cause"  # said once


def test_no_training_ends_for_want_of_a_bar(tmp_path):
    worker.note(tmp_path / "nowhere" / "x.progress", Progress())
    assert list(tmp_path.iterdir()) == []
