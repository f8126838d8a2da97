from dataclasses import replace

from tqdm import tqdm

from lib import worker
from lib.progress import Bar, work
from lib.runs import RunStore
from lib.training import Progress


def test_time_left_comes_from_the_measured_speed_of_each_network(digits, small_run, tmp_path):
    store = RunStore(tmp_path)
    fast, slow = small_run, replace(small_run, model="alexnet")
    unseen = replace(small_run, model="mlp_3x512")
    with Bar([(fast,), (slow,), (unseen,)], digits.fingerprint, store, workers=2) as bar:
        assert bar.time_left() == "?"
        for run, seconds in ((fast, 10.0), (slow, 30.0)):
            progress = Progress(seconds=seconds)
            progress.history["epoch"] = [1]
            worker.note(store.progress(run, digits.fingerprint), progress)
            assert bar._look(run)
        mean = 40.0 / (work(fast) / 4 + work(slow) / 4)
        expected = (3 * 10.0 + 3 * 30.0 + mean * work(unseen)) / 2
        assert bar.time_left() == tqdm.format_interval(expected)
        bar.finish(slow)  # after one epoch of four: it fitted, and is as slow as it was
        assert bar.time_left() == tqdm.format_interval((3 * 10.0 + mean * work(unseen)) / 2)


def test_a_run_keeps_its_name_while_its_progress_is_being_written(digits, small_run, tmp_path):
    store = RunStore(tmp_path)
    with Bar([(small_run,)], digits.fingerprint, store, workers=1) as bar:
        bar.interval = 0.0
        bar.update([small_run])
        assert not bar.bar.postfix  # not begun
        worker.note(store.progress(small_run, digits.fingerprint), Progress(seconds=1.0))
        bar.update([small_run])
        store.progress(small_run, digits.fingerprint).write_text("")
        bar.update([small_run])
        assert f"{small_run.label()} 0/{small_run.epochs}" in bar.bar.postfix


def test_work_grows_with_images_epochs_and_network(small_run):
    assert work(replace(small_run, epochs=8)) == 2 * work(small_run)
    assert work(replace(small_run, train_size=128)) == 2 * work(small_run)
    assert work(replace(small_run, model="alexnet")) > work(small_run)
    assert work(replace(small_run, train_size=None)) == work(replace(small_run, train_size=1438))
