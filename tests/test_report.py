import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import conftest
import nbformat
import pandas as pd
import pytest

from lib import pages, paper, report, study, words
from lib.claims import CLAIMS
from lib.config import NOTEBOOKS, ROOT, InputError, is_offline
from lib.experiments import claim_arms
from lib.files import NoData
from lib.profiles import PROFILES
from lib.report import PAGES, Choice, check_parameters
from lib.results import DICTIONARY, write_results
from lib.runs import Record, RunStore

SMOKE = Choice(*conftest.SMOKE)
MAKE = pytest.mark.skipif(shutil.which("make") is None, reason="no make")


class Page(HTMLParser):
    """Links, images and details of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.images, self.folded, self.depth, self.open_code = [], [], 0, 0, 0
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "img":
            self.images.append(values)
        if tag == "details":
            self.depth += 1
            self.folded += "open" not in values
        if tag == "div" and "jp-InputArea-editor" in values.get("class", "") and not self.depth:
            self.open_code += 1

    def handle_endtag(self, tag):
        self.depth -= tag == "details"


@pytest.mark.parametrize("name", PAGES)
def test_page_stands_on_its_own(built, name):
    page = Page(built / "html" / f"{name}.html")
    loads = re.findall(r"""(?:src=|url\(|@import\s)\s*["']?(https?:[^"')\s]+)""", page.text)
    assert loads == []
    assert re.findall(r"<(?:script|link|iframe)[^>]*https?:", page.text) == []
    assert all(image["src"].startswith("data:") and len(image["alt"]) > 20 for image in page.images)
    assert len(page.images) >= 1
    assert page.folded > 3
    assert page.open_code == 0
    assert len(page.text) < 3_000_000


@pytest.mark.parametrize("name", PAGES)
def test_page_says_what_made_it(built, name):
    text = (built / "html" / f"{name}.html").read_text()
    assert "Smoke profile" in text
    assert "handwritten digits in place of CIFAR-10" in text
    assert "test images. none" not in text
    assert 'output" data-mime-type="application/vnd.jupyter.stderr"' not in text  # warnings
    assert "PROFILE=smoke DATASET=digits" in text
    records = [Record.from_json(path.read_text()) for path in (built / "store").glob("digits/*.json")]
    assert records[0].fingerprint in text
    assert str(ROOT) not in text
    assert str(built) not in text


def test_cover_has_every_verdict_and_a_smoke_profile_has_none(built):
    text = (built / "html" / "index.html").read_text()
    for claim in CLAIMS.values():
        assert claim.statement in text
    these = re.findall(r'<span class="word">(.) ([a-z ]+)</span><br/?><small>\d+ of \d+ criteria hold', text)
    assert these == [("?", "inconclusive")] * len(CLAIMS)


def test_records_lie_beside_the_pages(built):
    copies = {path.name: path.read_text() for path in (built / "html" / "runs" / "these").glob("digits/*.json")}
    assert copies == {path.name: path.read_text() for path in (built / "store").glob("digits/*.json")}


@pytest.mark.parametrize("name", PAGES)
def test_building_again_trains_nothing_and_gives_the_same_page(built, tmp_path, monkeypatch, name):
    monkeypatch.setenv("STORE", str(built / "store"))
    monkeypatch.setattr(report, "EXECUTED", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (built / "store").rglob("*.json")}
    page = report.export(name, report.execute(name, SMOKE), tmp_path, SMOKE)
    assert page.read_bytes() == (built / "html" / f"{name}.html").read_bytes()
    assert before == {path: path.stat().st_mtime_ns for path in (built / "store").rglob("*.json")}


def test_a_build_that_is_stopped_leaves_the_last_report_whole(built, tmp_path, monkeypatch):
    def execute(page, choice):
        if page != PAGES[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(report, "execute", execute)
    for page in PAGES:
        (tmp_path / f"{page}.html").write_text("the last one's")
    with pytest.raises(KeyboardInterrupt):
        report.build(SMOKE, RunStore(built / "store"), tmp_path)
    assert {path.read_text() for path in tmp_path.glob("*.html")} == {"the last one's"}
    assert len(list(tmp_path.iterdir())) == len(PAGES)


def test_results_are_tidy_described_and_the_same_each_time(built):
    folder = built / "html"
    table = pd.read_csv(folder / "results.csv")
    document = json.loads((folder / "results.json").read_text())
    assert list(table.columns) == list(document["columns"]) == list(DICTIONARY)
    assert len(table) == len(document["runs"]) == len(list((folder / "runs").rglob("*.json")))
    for row, values in zip(table.itertuples(), document["runs"], strict=True):
        record = json.loads((folder / row.record).read_text())
        assert values["key"] == row.key == record["key"]
        assert values["test_accuracy"] == record["final"]["test_accuracy"] == pytest.approx(row.test_accuracy)
        assert row.seed == record["run"]["seed"]
        assert values["dirty"] == record["provenance"]["dirty"]
        assert row.training == record["provenance"].get("training_of", row.key)
    assert table["training"].nunique() < len(table)  # some runs have another's training
    assert table["dirty"].any()
    mine = table[table["dataset"] == "digits"]
    assert mine["roles"].str.contains("smoke: ").all()
    before = [(folder / f"results.{kind}").read_bytes() for kind in ("csv", "json")]
    write_results(folder)
    assert before == [(folder / f"results.{kind}").read_bytes() for kind in ("csv", "json")]


def test_data_is_made_ready_before_the_pages_which_can_do_without(built, monkeypatch, capsys):
    profile, asked = PROFILES["smoke"], []
    runs = [arm.run for claim in CLAIMS for arm in claim_arms(claim, profile, "digits")]

    def load(name, classes):
        asked.append(name)
        raise NoData("none")

    monkeypatch.setattr(report, "load_dataset", load)
    report.train(runs, profile, "digits", RunStore(built / "store"), "cpu")
    assert asked == ["digits"]
    assert capsys.readouterr() == ("every run is recorded: nothing is trained\n", "no pictures: none\n")
    assert is_offline()  # no page waits again for a host that does not answer
    with pytest.raises(NoData):
        report.train(runs, profile, "digits", RunStore(built / "nowhere"), "cpu")


def test_records_of_another_recipe_are_no_evidence(built, tmp_path):
    shutil.copytree(built / "store", tmp_path / "store")
    path = next((tmp_path / "store").glob("digits/*.json"))
    path.write_text(path.read_text().replace('"seed": ', '"seed": 9'))
    report.copy_records(RunStore(tmp_path / "store"), tmp_path / "html")
    copies = tmp_path / "html" / "runs" / "these" / "digits"
    assert not (copies / path.name).exists()
    assert len(list(copies.glob("*.json"))) > 20


def test_what_is_trained_again_lies_beside_what_was_recorded(tmp_path):
    """The same run has a record of the same name in both stores."""
    recorded = study.recorded_study("randomization", "quick")
    record = recorded.records[0]
    again = RunStore(tmp_path / "store")
    again.save(replace(record, final=record.final | {"test_accuracy": 0.123}))
    report.copy_records(again, tmp_path)
    links = [pages.record_link(replace(recorded, store=store), record.key) for store in (recorded.store, again)]
    assert all((NOTEBOOKS / link).is_file() for link in links)
    links = [report.beside_pages(f'href="{link}"', again).split('"')[1] for link in links]
    copies = [Record.from_json((tmp_path / link).read_text()) for link in links]
    assert [copy.final["test_accuracy"] for copy in copies] == [record.final["test_accuracy"], 0.123]
    write_results(tmp_path)
    table = pd.read_csv(tmp_path / "results.csv").set_index("record")["test_accuracy"]
    assert [table[link] for link in links] == pytest.approx([record.final["test_accuracy"], 0.123])


@pytest.mark.parametrize("name", ["sedes", "profile", "learning_rate"])
def test_unknown_parameter_is_refused(name):
    with pytest.raises(InputError, match=f"unknown notebook parameter '{name}'; allowed: rates, seeds"):
        check_parameters({name: 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "fast"], "unknown profile 'fast'"),
        (["--dataset", "mnist"], "unknown dataset 'mnist'"),
        (["sedes=3"], "unknown notebook parameter 'sedes'"),
        (["seeds"], "name=value"),
        (["seeds=0"], "whole number from 1 to 1000"),
        (["rates=[0,2]"], "corruption rate 2 is outside the allowed range 0 to 1"),
        (["--store", "/dev/null/store"], "not writable"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(arguments, message, capsys):
    defaults = ["--profile", "smoke", "--dataset", "digits", "--device", "cpu"]
    assert report.run_command(lambda: report.main([*defaults, *arguments])) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(("page", "is_reduced"), [("label_corruption", True), ("randomization", False)])
def test_a_page_of_some_rates_says_so_where_rates_are_asked(page, is_reduced, tmp_path):
    choice = Choice("paper", "cifar10", "cpu", {"rates": [0.0, 1.0]})
    text = report.export(page, nbformat.v4.new_notebook(), tmp_path, choice).read_text()
    assert ("at 2 rates of corruption: reduced" in text) == is_reduced


def test_what_a_cell_refuses_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IMAGE_SIZE", "abc")
    monkeypatch.setattr(report, "EXECUTED", tmp_path / "executed")
    monkeypatch.setattr(report, "pages_of", lambda dataset: ["randomization"])
    arguments = ["--profile", "paper", "--dataset", "tiny-imagenet", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert report.run_command(lambda: report.main(arguments)) == 2
    error = capsys.readouterr().err
    assert "IMAGE_SIZE" in error
    assert len(error.splitlines()) == 1


@MAKE
def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in re.findall(r"^([a-z]+):", text, re.MULTILINE):
        assert f"make {target} " in shown


@MAKE
def test_an_environment_behind_a_link_is_not_emptied(tmp_path):
    another = tmp_path / "another" / "bin"
    another.mkdir(parents=True)
    (tmp_path / ".venv").symlink_to(another.parent)
    make = subprocess.run(["make", "env", f"VENV={tmp_path}/.venv"], cwd=ROOT, capture_output=True, text=True)
    assert make.returncode == 2
    assert f"{tmp_path}/.venv is a link" in make.stdout
    assert another.exists()


@MAKE
def test_make_test_refuses_an_unknown_data_set_at_once(tmp_path):
    (tmp_path / "ready").touch()
    own = [f"VENV={tmp_path}", f"READY={tmp_path}/ready", f"BIN={Path(sys.executable).parent}"]
    command = ["make", "test", "DATASET=cifar", *own]
    make = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert make.returncode == 2
    assert "error: unknown dataset 'cifar'; allowed: auto, cifar10" in make.stderr
    assert "Traceback" not in make.stderr
    assert "ruff" not in make.stdout


@pytest.mark.parametrize("folder", ["", "runs/..", "runs"])
def test_pages_are_not_written_over_records(folder, built, tmp_path):
    """The folder of the pages has copies of the records, which are written anew."""
    store = tmp_path / "html" / "runs"
    shutil.copytree(built / "store", store)
    before = sorted(store.rglob("*.json"))
    with pytest.raises(InputError, match="would overwrite the records"):
        report.build(SMOKE, RunStore(store), (tmp_path / "html" / folder).resolve())
    assert sorted(store.rglob("*.json")) == before


def test_a_folder_that_no_report_made_is_left_alone(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match="is no report's"):
        report.build(SMOKE, RunStore(tmp_path / "store"), tmp_path)
    assert (tmp_path / "runs" / "notes.txt").read_text() == "precious"


def test_photographs_have_the_pages_that_apply(built_on_photographs):
    folder = built_on_photographs / "html"
    built = {path.stem: Page(path) for path in folder.glob("*.html")}
    assert set(built) == {"index", "randomization", "explicit_regularization", "implicit_regularization"}
    for page in built.values():
        assert "label_corruption.html" not in page.links
        assert "small photographs in place of ImageNet" in page.text
    assert all((folder / link).exists() for link in built["randomization"].links if link.startswith("runs/"))
    rows = pd.read_csv(folder / "results.csv").query("dataset == 'tiny-imagenet'")
    rows = rows[rows["roles"].fillna("").str.contains("smoke")]  # the repository's own records are there, too
    assert len(rows) == 9
    assert set(rows["model"]) == {"inception_v3"}
    assert set(rows["classes"]) == {3}
    assert (rows["test_top5_accuracy"] == 1).all()  # of three classes


def test_photographs_stand_beside_cifar_10(built_on_photographs):
    text = (built_on_photographs / "html" / "explicit_regularization.html").read_text()
    assert all(words.percent(value) in text for value in paper.table2()["train_top5"])
    assert "cifar10, profile quick" in text
