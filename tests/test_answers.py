import math
import re
from dataclasses import replace

import pandas as pd
import pytest
from conftest import cells

from lib import answers
from lib.criteria import QUESTION
from lib.experiments import claim_arms
from lib.margins import CRITERIA_VERSION, VERSIONS
from lib.profiles import with_parameters
from lib.runs import RunStore
from lib.statistics import ALPHA, proportion_interval
from lib.study import recorded_study
from lib.words import percent

NAN = math.nan


@pytest.fixture(scope="module")
def quick():
    return {name: recorded_study(name, "quick") for name in ("randomization", "explicit_regularization")}


def test_answers_that_rest_on_the_same_runs_say_so():
    text = answers.elsewhere(recorded_study("label_corruption", "paper")).data
    rows = {row.split(":")[0].split(">")[-1]: row for row in text.split("<tr") if "at chance" in row}
    assert "the same runs" not in rows["Inception is at chance at full corruption"]  # on fewer images there
    assert "the same runs" in rows["MLP 1x512 is at chance at full corruption"]


def test_columns_of_other_data_that_rest_on_the_same_runs_say_so():
    text = answers.elsewhere(recorded_study("explicit_regularization", "quick", "tiny-imagenet")).data
    row = next(row for row in text.split("<tr") if "MLP 1x512 fits true labels" in row)
    paper, cpu, *_ = row.split("<td>")[4:]
    assert ["the same runs" in cell for cell in (paper, cpu)] == [False, True]


def test_comparisons_that_repeat_the_recorded_runs_say_so():
    text = answers.comparisons_table(recorded_study("explicit_regularization", "cpu")).data
    recorded, mine = text.split("<strong>")[1:]
    assert "the same runs" not in recorded
    rows = {row.split(",")[0].split(">")[-1]: row for row in mine.split("<tr")}
    assert "the same runs" in next(row for name, row in rows.items() if name == "MLP 3x512")
    assert "the same runs" not in next(row for name, row in rows.items() if name == "Inception")


def test_the_cover_has_the_verdicts_of_other_records():
    study = recorded_study("randomization", "paper")
    text = answers.cover_table(study).data
    assert study.elsewhere
    for each in study.elsewhere:
        where = each.profile.name + ("" if each.data == "cifar10" else rf", {each.data}\*")
        assert re.search(rf">{where}: [^<]*<span class=\"word\">. {each.verdict}<", text)


def test_slack_is_signed_and_names_the_margin():
    row = pd.Series({"ours": 0.85, "seeds": 2, "required_low": 0.8, "required_high": math.inf})
    assert answers._slack(row, "{:.2f}".format) == "+0.05 <small>at least 0.80</small>"
    row["ours"] = 0.7
    assert answers._slack(row, "{:.2f}".format).startswith("-0.10")
    row["required_low"], row["required_high"] = -math.inf, 0.5
    assert answers._slack(row, "{:.2f}".format) == "-0.20 <small>at most 0.50</small>"
    row["required_low"], row["required_high"] = 0.6, 0.75
    assert answers._slack(row, "{:.2f}".format) == "+0.05 <small>0.60 to 0.75</small>"
    row["ours"] = math.nan  # without a seed, or where what remains is a share of nothing
    assert answers._slack(row, "{:.2f}".format) == "0.60 to 0.75"


def test_other_records_have_a_table_a_kind_and_a_column_each():
    study = recorded_study("randomization")
    text = answers.elsewhere(study).data
    assert text.count("<table") == len({each.claim for each in study.elsewhere}) == 2
    for each in study.elsewhere:
        assert f"{each.data}, profile {each.profile.name}: {each.verdict}<" in text
    assert text.count("(headline)") == 2
    small, large = recorded_study("explicit_regularization", "quick"), recorded_study("explicit_regularization", "cpu")
    asked = [set(each.criteria[QUESTION].itertuples(index=False)) for each in (small, large)]
    assert answers.elsewhere(recorded_study("explicit_regularization")).data.count("not asked") == len(
        asked[1] - asked[0]
    )


def test_profiles_that_ask_different_things_are_matched_by_what_they_ask(quick):
    """The paper's profile has a second weight decay: its rows must not slip beside others."""
    study = quick["explicit_regularization"]
    more = study.recorded.criteria.merge(study.criteria[QUESTION], how="left", indicator=True)
    only = more.loc[more["_merge"] == "left_only", "criterion"]
    text = answers.criteria_table(study).data
    assert len(only) >= 1
    assert text.count("not asked") == len(only)
    assert text.count("<tr") == 1 + len(study.criteria) + len(only)
    assert all(each in text for each in only)
    shuffled = study.recorded.criteria.sample(frac=1, random_state=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(study.recorded.__dict__, "criteria", shuffled)
        again = answers.criteria_table(study).data
    one, other = (re.findall(r"<tr>.*?</tr>", each, re.DOTALL) for each in (text, again))
    assert len(one) > len(only)
    assert sorted(one) == sorted(other)


def test_what_the_rules_leave_undecided_is_told_beside_what_it_would_be():
    """Runs whose loss never falls leave the order of the times to overfit undecided; else it would fail."""
    study = recorded_study("label_corruption", "quick")

    def spoiled(record):
        flat = record.history | {"train_loss": [1.0] * len(record.history["epoch"])}
        never = record.run.model == "mlp_1x512" and record.run.label_corruption > 0
        return replace(record, history=flat) if never else record

    study = replace(study, records=list(map(spoiled, study.records)))
    (row,) = study.criteria[study.criteria["holds"] != study.criteria["otherwise"]].itertuples()
    assert (row.unsettled, row.otherwise) == ("never at 4 of 5 rates", "no")
    shown = re.sub(r"<[^>]+>", " ", answers.criteria_table(study).data)
    assert re.search(r"\? never at 4 of 5 rates\s+else it fails", shown)
    assert f"{study.claim.title} partly (" in answers.margins_table(study).data


def test_a_criterion_whose_runs_are_not_all_there_says_how_many_are():
    study = recorded_study("label_corruption", "quick")
    left = [each for each in study.records if (each.run.model, each.run.label_corruption) != ("alexnet", 0.5)]
    study = replace(study, records=left)
    keys, needed = study.keys("corruption", "alexnet"), study.needed("corruption", "alexnet")
    assert 0 < len(keys) < needed
    assert answers.criteria_table(study).data.count(f"{len(keys)} of the network's {needed} runs in 'corruption'") == 3


def test_a_comparison_of_two_networks_rests_on_the_runs_of_both():
    study = recorded_study("implicit_regularization", "quick")
    kept = [each for each in study.records if each.run.model != "inception_no_bn"]
    study, runs = replace(study, records=kept), ("batch norm", "")
    assert len(study.keys(*runs)) == study.needed("batch norm", "inception") == study.needed(*runs) / 2
    half = f"{len(study.keys(*runs))} of the {study.needed(*runs)} runs in 'batch norm' are recorded"
    assert half in answers.criteria_table(study).data


def test_comparisons_outside_their_margin_are_marked():
    study = recorded_study("implicit_regularization", "paper")
    rows = study.comparisons
    outside = (rows["low"] > rows["margin"]) | (rows["high"] < -rows["margin"])
    inside = rows["p_equivalence"] < ALPHA / 2
    assert min(outside.sum(), inside.sum()) > 0
    text = answers.comparisons_table(study).data
    assert (text.count("✘"), text.count("✔")) == (outside.sum(), inside.sum())


def test_other_records_are_shown_with_margins_of_their_own():
    study = recorded_study("explicit_regularization", "paper")
    others = [row for each in study.elsewhere if each.on_photographs for row in each.criteria.itertuples()]
    assert {row.required_low for row in others if row.headline} != {study.headline["required_low"]}
    text = answers.elsewhere(study).data
    assert all(f"at least {percent(row.required_low)}" in text for row in others)


def test_forest_alt_text_names_every_headline(quick):
    text = answers.forest(*quick.values(), headlines=True).data
    for study in quick.values():
        assert study.headline["criterion"] in text


@pytest.fixture
def again(quick, tmp_path):
    """Claim 1's records of quick, as if they were those of another store."""
    return replace(quick["randomization"], store=RunStore(tmp_path))


def test_what_was_trained_again_is_shown_beside_the_records(again, monkeypatch):
    study = again
    assert "Nothing was trained again" in answers.retrained(study).data
    monkeypatch.setenv("RETRAIN", "1")
    monkeypatch.setenv("STORE", "elsewhere")
    text = re.sub(r"<[^>]+>", " ", answers.retrained(study).data)
    count = len(study.records)
    assert re.search(rf"{study.claim.title}\s+{count}\s+{count}\s+0.00\s+0.00", text)
    assert text.split()[-1] == "none"
    some = replace(study, records=[record for record in study.records if record.run.model != "inception"])
    text = re.sub(r"<[^>]+>", " ", answers.retrained(some).data)
    assert text.split()[-1] == "none"  # what was not trained again is not decided otherwise


def test_a_criterion_decided_otherwise_is_named(again, monkeypatch):
    study = again
    monkeypatch.setenv("RETRAIN", "1")
    monkeypatch.setenv("STORE", "elsewhere")

    def spoil(record):
        is_bad = record.run.model == "alexnet" and record.run.label_corruption == 1
        return replace(record, final=record.final | {"train_accuracy": 0.5}) if is_bad else record

    head, row = cells(answers.retrained(replace(study, records=list(map(spoil, study.records)))).data)
    found = dict(zip(head, row, strict=True))
    assert found["recorded verdict"].endswith("replicated")
    assert found["verdict trained again"].endswith("partly")
    assert "AlexNet fits random labels" in found["criteria decided otherwise"]


def test_what_was_trained_again_on_other_data_is_not_held_against_cifar_10(tmp_path, monkeypatch):
    digits = replace(recorded_study("randomization", "quick", "digits"), store=RunStore(tmp_path))
    monkeypatch.setenv("RETRAIN", "1")
    assert (digits.recorded.data, digits.recorded.records) == ("digits", [])


def test_a_page_of_another_store_shows_this_repositorys_records_of_its_profile_too(tmp_path):
    elsewhere = replace(recorded_study("randomization", "quick"), store=RunStore(tmp_path), records=[])
    shown = [(each.profile.name, each.data) for each in elsewhere.elsewhere]
    assert ("quick", "cifar10") in shown
    assert ("paper", "cifar10") not in shown  # a column of its own


def test_too_few_rates_are_not_taken_for_missing_runs():
    study = recorded_study("label_corruption", "quick")
    profile = with_parameters(study.profile, seeds=2, rates=[0.5])
    arms = claim_arms("label_corruption", profile, "cifar10")
    records = [record for record in study.records if record.run in {arm.run for arm in arms}]
    few = replace(study, profile=profile, arms=arms, records=records)
    cells = answers._criterion_cells(next(few.criteria.itertuples()), {"these runs": few})
    assert cells["these runs"].endswith(
        "<small>the network's runs in 'corruption' are recorded, but at too few rates for this</small>"
    )
    few = replace(few, records=records[1:])
    cells = answers._criterion_cells(next(few.criteria.itertuples()), {"these runs": few})
    assert "1 of the network's 2 runs in 'corruption' are recorded" in cells["these runs"]


def test_margins_stand_with_their_reasons():
    text = answers.margins_table().data
    assert f"criteria version {CRITERIA_VERSION}" in text
    assert text.count("<tr") == 1 + len(answers.MARGINS) + 3
    assert text.count("<li>Version") == len(VERSIONS)
    assert "the verdicts would be: the same" in text


@pytest.mark.parametrize(("seeds", "sure"), [(1, "1 seed"), (2, "80.00 % to 90.00 %, 2 seeds")])
def test_a_mean_of_one_seed_has_no_interval(seeds, sure):
    row = {"asked_of": "the interval", "seeds": seeds, "ours": 0.85, "holds": "undecided", "otherwise": "undecided"}
    row |= {"required_low": 0.8, "required_high": math.inf}
    row |= {"interval_low": 0.8, "interval_high": 0.9} if seeds > 1 else {"interval_low": NAN, "interval_high": NAN}
    text = answers._criterion_cell(pd.Series(row | {"unsettled": "", "caveat": ""}), percent)
    assert text.replace("\N{NO-BREAK SPACE}", " ") == f"85.00 % <small>{sure}</small><br>? too few seeds"


@pytest.mark.parametrize(
    ("ours", "low", "high", "told"),
    [
        (0.98, 0.99, math.inf, ", by 1.00 points"),
        (0.3, 0.1, 0.2, ", by 10.00 points"),
        (0.995, 0.99, math.inf, ""),
        (math.inf, -math.inf, 3, ""),
        (math.inf, 1, math.inf, ""),
    ],
)
@pytest.mark.filterwarnings("error")  # a page would show it
def test_a_criterion_that_fails_says_by_how_much(ours, low, high, told):
    """Not where it is seeds that fail, and their mean does not, nor of what never came."""
    numbers = pd.Series({"ours": ours, "required_low": low, "required_high": high}, dtype=float)
    row = {"asked_of": "each seed", "inside": 0, "seeds": 3, "holds": "no", "otherwise": "no"}
    text = answers._criterion_cell(pd.Series(row | dict(numbers) | {"unsettled": "", "caveat": ""}), percent)
    assert text.endswith(f"<br>✘ fails{told}")


def test_how_sure_is_what_some_seeds_show():
    row = pd.Series({"asked_of": "each seed", "inside": 1, "seeds": 3})
    low, high = proportion_interval(1, 3)[1:]
    assert (
        answers._surety(row, percent) == f"1 of 3 seeds <small>{percent(low, 0)} to {percent(high, 0)} of runs</small>"
    )


def test_p_stands_before_holms():
    study = recorded_study("implicit_regularization", "quick")
    row = next(row for row in study.comparisons.itertuples() if 0.01 < row.p < row.p_holm < 1)
    shown = answers._comparison_row(row, study, study)["p, Holm (test)"]
    assert shown.startswith(f"{row.p:.3f}, {row.p_holm:.3f}")
    untested = [row for row in study.comparisons.itertuples() if math.isnan(row.p)]
    assert untested  # the best of many epochs
    assert {answers._comparison_row(row, study, study)["p, Holm (test)"] for row in untested} == {"—"}


def test_a_comparison_shows_its_sign_and_its_bounds_in_order():
    study = recorded_study("implicit_regularization", "quick")
    rows = (row for row in study.comparisons.itertuples() if row.seeds > 1 and row.share_low < row.share_high)
    row = next(row for row in rows if abs(row.difference) > 0.01)
    shown = answers._comparison_row(row, study, study)
    assert shown["difference"].startswith(f"{100 * row.difference:.2f}")
    low, high = re.search(r"\[(-?[\d.]+).% to (-?[\d.]+).%\]", shown["share that remains"]).groups()
    assert (low, high) == (f"{100 * row.share_low:.2f}", f"{100 * row.share_high:.2f}")


def test_the_cover_holds_these_runs_against_their_margin(quick):
    study = quick["explicit_regularization"]
    head, row = cells(answers.cover_table(study).data)
    slack = study.headline["ours"] - study.headline["required_low"]
    assert study.recorded.headline["ours"] != study.headline["ours"]
    told = dict(zip(head, row, strict=True))["against its margin"]
    assert told.startswith(f"{'+' if slack >= 0 else '-'}{100 * abs(slack):.2f} points")


def test_a_forest_has_intervals_of_means_only(monkeypatch, quick):
    drawn, draw = [], answers.plots.forest
    monkeypatch.setattr(answers.plots, "forest", lambda rows: drawn.append(rows) or draw(rows))
    answers.forest(quick["randomization"])
    (rows,) = drawn
    of_each = rows["asked_of"] == "each seed"
    assert rows.loc[of_each, "interval_low"].isna().all()
    assert rows.loc[~of_each & (rows["seeds"] > 1), "interval_low"].notna().any()
