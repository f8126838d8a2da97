from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lib import bench
from lib.bench import Clock, Row, Speed
from lib.config import cores
from lib.sweep import Summary


def test_a_clock_counts_what_begins_after_the_start_and_divides_by_its_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(bench.time, "time", lambda: now[0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: now[0])

    def pieces():
        while True:
            now[0] += 2.0
            yield 10

    speed = Clock(start=105.0, seconds=7.0).speed(pieces(), "cpu")
    assert now[0] == 106.0 + 8.0  # three pieces before the start, four within and over the end
    assert speed.rate == 5.0
    assert speed.memory > 1e8


def test_the_table_has_medians_ratios_by_pairs_and_shares_of_the_peak():
    rows = [
        Row("mlp_1x512", Speed(plain, 2**30), Speed(engine, 2**31), 1e12)
        for plain, engine in ((100, 1000), (100, 1200), (200, 1100))
    ]
    line = bench.table(rows).splitlines()[-1]
    assert line == (
        "| mlp_1x512 | 100 (100 to 200) | 1,100 (1,000 to 1,200) | 10.0 (5.5 to 12.0) | 5 (5 to 6) | 1% (0% to 1%) "
        "| 1.0 / 2.0 |"
    )


def test_bench_measures_in_processes_of_its_own_and_writes_what_it_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "sweep_rates", lambda *_: [(3600.0, 1800.0)])
    output = tmp_path / "bench.md"
    arguments = [
        "--dataset",
        "digits",
        "--device",
        "cpu",
        "--models",
        "mlp_1x512",
        "--repeats",
        "1",
        "--seconds",
        "0.5",
    ]
    assert bench.main([*arguments, "--output", str(output)]) == 0
    found = output.read_text()
    assert found in capsys.readouterr().out
    rates = [float(cell.replace(",", "")) for cell in found.splitlines()[4].split(" | ")[1:4]]
    assert rates[2] == pytest.approx(rates[1] / rates[0], rel=0.1)
    assert "2.00 times as many" in found
    assert f"{cores()} cores" in found
    measured = bench.text([Row("mlp_1x512", Speed(1.0, 1.0), Speed(2.0, 1.0), 1e9)], [], "digits", "cpu")
    assert "of 1 measurements" in measured
    assert "an hour" not in measured  # with --no-sweep


def test_the_sweep_is_measured_on_runs_it_trains_and_leaves_no_record(tmp_path, monkeypatch):
    calls = []

    def train_missing(runs, dataset, store, device):
        calls.append((runs, Path(store.root)))
        return Summary(len(runs), 0, ())

    monkeypatch.setattr(bench, "train_missing", train_missing)
    monkeypatch.setattr(bench, "one_after_the_other", lambda runs, device: None)
    monkeypatch.setattr(bench, "local_executor", lambda *_: ThreadPoolExecutor(1))
    ((together, alone),) = bench.sweep_rates("digits", "cpu", 1)
    ((runs, folder),) = calls
    assert together > 0
    assert alone > 0
    assert len(runs) >= 10
    assert {run.seed for run in runs} == {0}
    assert {run.model for run in runs} >= {"inception", "alexnet", "mlp_1x512"}
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments", [["--repeats", "0"], ["--seconds", "0"], ["--models", "vgg"], ["--device", "tpu"]]
)
def test_wrong_input_is_one_line_and_status_2(arguments, capsys):
    assert bench.run_command(lambda: bench.main(["--dataset", "digits", *arguments])) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
