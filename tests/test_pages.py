import html
import re
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from lib import answers, pages, tables
from lib.config import RETRAINED, ROOT
from lib.profiles import PROFILES, with_parameters
from lib.runs import RunStore
from lib.study import recorded_study


def test_verdicts_are_symbol_and_word():
    assert pages.word("replicated") == '<span class="word">✔ replicated</span>'


@pytest.mark.parametrize(
    ("profile", "data", "text"),
    [
        ("smoke", "cifar10", "Nothing on this page is a result"),
        ("quick", "cifar10", "Profile quick on cifar10: reduced"),
        ("paper", "digits", "Not the full result"),
    ],
)
def test_a_reduced_page_says_so(profile, data, text):
    assert text in pages.ribbon(PROFILES[profile], data)
    paper = PROFILES["paper"]
    assert pages.ribbon(paper, "cifar10") == pages.ribbon(with_parameters(paper, seeds=5), "cifar10") == ""
    some = with_parameters(paper, rates=[0.0, 1.0])
    assert pages.ribbon(some, "cifar10").startswith("Profile paper on cifar10 at 2 rates of corruption: reduced.")


def test_the_recorded_runs_are_a_column_of_their_own_unless_they_are_the_page():
    quick, full = (recorded_study("randomization", profile) for profile in ("quick", "paper"))
    assert list(pages.columns(full).values()) == [full]
    assert [study.profile.name for study in pages.columns(quick).values()] == ["paper", "quick"]
    assert all(name.startswith("recorded runs (profile paper") for name in list(pages.columns(quick))[:1])
    titles = pages.title(quick).data, pages.title(full).data
    assert ["profile quick, reduced" in title for title in titles] == [True, False]
    assert all("at the paper's size" in title for title in titles)


def test_what_was_trained_again_is_not_taken_for_the_papers_size(monkeypatch):
    monkeypatch.setenv("RETRAIN", "1")
    study = replace(recorded_study("randomization", "quick"), store=RunStore(RETRAINED))
    text = pages.title(study).data
    assert "at the paper's size" not in text
    assert (text.count("profile quick, reduced"), text.count("these runs")) == (2, 1)
    assert set(re.findall(r'class="word">(.) ([a-z ]+)<', tables.agreement_table(study).data)) == set()
    assert "make report PROFILE=quick DATASET=cifar10 RETRAIN=1<" in pages.provenance(study).data


def test_what_was_trained_again_stands_beside_its_records(monkeypatch, tmp_path):
    monkeypatch.setenv("RETRAIN", "1")
    study = replace(recorded_study("randomization", "quick"), store=RunStore(tmp_path))  # equal, on the same hardware
    assert [name.partition(" ")[0] for name in pages.columns(study)] == ["recorded", "these"]
    text = re.sub(r"<[^>]+>", "", tables.table1_variants(study).data + answers.criteria_table(study).data)
    assert "recorded runs (profile quick" in text
    assert "these runs (profile quick" in text
    cover = answers.cover_table(study).data
    assert "recorded runs (profile quick)" in cover
    assert "these runs (profile quick)" in cover


def test_the_command_says_what_else_was_asked():
    study = recorded_study("randomization", "quick")
    few, many = (replace(study, profile=with_parameters(study.profile, seeds=seeds)) for seeds in (5, 10))
    assert pages.seed_numbers(few, many, few) == "5 or 10"
    assert "PARAMETERS" not in pages.provenance(few, many).data
    asked = {"seeds": 2, "rates": [0, 0.5, 1]}
    text = html.unescape(pages.provenance(replace(study, asked=asked)).data)
    assert "DATASET=cifar10 PARAMETERS='seeds=2 rates=[0,0.5,1]'<" in text
    for folder in (ROOT / "my runs", ROOT.parent / "my runs"):
        text = html.unescape(pages.provenance(replace(study, store=RunStore(folder))).data)
        assert "make report PROFILE=quick DATASET=cifar10 STORE='my runs'<" in text


def test_the_hardware_says_how_many_processes_shared_a_run():
    """Of a record with several environments, in each of them."""
    record = recorded_study("implicit_regularization", "quick").records[0]
    shared = record.provenance | {"processes": 4, "threads": 3, "earlier": [record.provenance | {"processes": 2}]}
    text = pages._joined(map(pages._machine, pages._environments([replace(record, provenance=shared)])))
    assert "4 processes of 3 thread(s) a run" in text
    assert "2 processes of 1 thread(s) a run" in text
    assert "processes" not in pages._machine(record.provenance)


@pytest.mark.parametrize("claim", ["explicit_regularization", "implicit_regularization"])
def test_every_link_to_runs_has_its_place(claim):
    study = recorded_study(claim, "quick")
    text = pages.runs_table(study).data
    linked = set()
    for frame in (study.criteria, study.comparisons, study.agreement):
        for row in frame.itertuples():
            found = re.findall('href="#(.*?)">(.*?)<', pages.links(study, row.group, row.model))
            assert "these" in dict(map(reversed, found))
            linked |= set(found)
    assert {name for _, name in linked} == {"recorded", "these"}
    assert all(text.count(f'id="{place}"') == 1 for place, _ in linked)


def test_a_number_of_the_recorded_runs_links_to_these():
    study = recorded_study("explicit_regularization", "quick")
    text, run = pages.runs_table(study).data, ("Table 1, true labels", "mlp_1x512")
    for column in (study.recorded, study):
        place = re.search('href="#(.*?)">runs<', pages.links(study, *run, column)).group(1)
        keys = re.findall(r">([0-9a-f]{8})</a>", text.partition(f'id="{place}"')[2])
        assert keys[0] in {key[:8] for key in column.keys(*run)}
    assert pages.links(study, "Table 1, true labels", "inception_v3") == "—"


@pytest.mark.parametrize(("raster", "kind"), [(True, "image/png"), (False, "image/svg+xml")])
def test_a_figure_carries_its_alternative_text(raster, kind):
    text = pages.show(Figure(), 'a "quoted" <text>', "caption", raster).data
    assert f'src="data:{kind};base64,' in text
    assert 'alt="a &quot;quoted&quot; &lt;text&gt;"' in text
    assert '<figcaption>caption <a href="#runs">' in text
    assert "<figcaption>caption</figcaption>" in pages.show(Figure(), "x", "caption", raster, runs="").data


def test_a_page_of_other_runs_draws_those_at_the_papers_size_too_and_says_which_is_which():
    small, full = recorded_study("explicit_regularization", "quick"), recorded_study("explicit_regularization")
    text = pages.show_each(small, lambda each: Figure(), "alt", "caption", "Hollow: the paper.").data
    assert re.findall("<figcaption>(.*?) runs .profile ([a-z]+)", text) == [("These", "quick"), ("Recorded", "paper")]
    assert text.count("caption <a") == text.count("caption Hollow: the paper. <a") == 1
    assert pages.show_each(full, lambda each: Figure(), "alt", "caption").data.count("<figcaption>caption <a") == 1
