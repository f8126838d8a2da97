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


def test_work_grows_with_images_epochs_and_network(small_run):
    assert work(replace(small_run, epochs=8)) == 2 * work(small_run)
    assert work(replace(small_run, train_size=128)) == 2 * work(small_run)
    assert work(replace(small_run, model="alexnet")) > work(small_run)
    assert work(replace(small_run, train_size=None)) == work(replace(small_run, train_size=1438))
