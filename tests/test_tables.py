import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import tables
from lib.claims import CRITERIA_VERSION, VERSIONS
from lib.criteria import QUESTION
from lib.statistics import ALPHA
from lib.study import recorded_study
from lib.words import in_points, percent

NAN = math.nan


@pytest.fixture(scope="module")
def quick():
    return {name: recorded_study(name, "quick") for name in ("randomization", "explicit_regularization")}


def test_answers_that_rest_on_the_same_runs_say_so():
    text = tables.elsewhere(recorded_study("label_corruption", "paper")).data
    rows = {row.split(":")[0].split(">")[-1]: row for row in text.split("<tr") if "at chance" in row}
    assert "the same runs" not in rows["Inception is at chance at full corruption"]  # on fewer images there
    assert "the same runs" in rows["MLP 1x512 is at chance at full corruption"]


def test_columns_of_other_data_that_rest_on_the_same_runs_say_so():
    text = tables.elsewhere(recorded_study("explicit_regularization", "quick", "tiny-imagenet")).data
    row = next(row for row in text.split("<tr") if "MLP 1x512 fits true labels" in row)
    paper, cpu, *_ = row.split("<td>")[4:]
    assert ["the same runs" in cell for cell in (paper, cpu)] == [False, True]


def test_the_cover_has_the_verdicts_of_other_records():
    study = recorded_study("randomization", "paper")
    text = tables.cover_table(study).data
    assert study.elsewhere
    for each in study.elsewhere:
        where = each.profile.name + ("" if each.data == "cifar10" else rf", {each.data}\*")
        assert re.search(rf">{where}: [^<]*<span class=\"word\">. {each.verdict}<", text)


def test_what_did_not_run_comes_last():
    rows = pd.DataFrame({"n": [1, 2, 3, 4]})
    assert tables._ran_first(rows, pd.Series([False, True, False, True]))["n"].tolist() == [2, 4, 1, 3]


def test_seeds_are_summed_up_honestly():
    nan = float("nan")
    assert (
        tables.over_seeds([0.5, 0.7])
        == "60.00\N{NO-BREAK SPACE}% (50.00\N{NO-BREAK SPACE}% to 70.00\N{NO-BREAK SPACE}%, 2 seeds)"
    )
    assert tables.over_seeds([0.5, nan]) == "50.00\N{NO-BREAK SPACE}% (1 seed)"
    assert tables.over_seeds([1.0, 1.0]) == "100.00\N{NO-BREAK SPACE}% (all 2 seeds)"
    assert tables.over_seeds([nan]) == "not run"
    assert tables.over_seeds([nan], missing="—") == "—"


def test_seed_table_tells_not_run_from_not_applicable():
    frame = pd.DataFrame({"arm": ["a", "b"], "key": ["k", None], "value": [None, None]})
    table = tables.seed_table(frame, ["arm"], {"value": "value"}, missing={"value": "not reached"})
    assert table.to_dict("list") == {"variant": ["a", "b"], "value": ["not reached", "not run"]}


def test_slack_is_signed_and_names_the_margin():
    row = pd.Series({"ours": 0.85, "seeds": 2, "required_low": 0.8, "required_high": math.inf})
    assert tables._slack(row, "{:.2f}".format) == "+0.05 <small>at least 0.80</small>"
    row["ours"] = 0.7
    assert tables._slack(row, "{:.2f}".format).startswith("-0.10")
    row["required_low"], row["required_high"] = -math.inf, 0.5
    assert tables._slack(row, "{:.2f}".format) == "-0.20 <small>at most 0.50</small>"
    row["required_low"], row["required_high"] = 0.6, 0.75
    assert tables._slack(row, "{:.2f}".format) == "+0.05 <small>0.60 to 0.75</small>"
    row["seeds"] = 0
    assert tables._slack(row, "{:.2f}".format) == "0.60 to 0.75"


def test_an_accuracys_interval_ends_at_what_is_possible():
    assert tables._possible(-6.49, 7.34, percent) == (0, 1)
    assert tables._possible(0.2, 0.7, percent) == (0.2, 0.7)
    assert np.isnan(tables._possible(math.nan, math.nan, percent)).all()
    assert tables._possible(-6.49, 7.34, in_points) == (-6.49, 7.34)
    text = tables.agreement_table(recorded_study("randomization", "cpu")).data
    assert "AlexNet, random labels: training accuracy" in text
    assert not re.search(r"-\d[\d.]*\N{NO-BREAK SPACE}%", text)


def test_three_columns_wherever_numbers_stand_beside_the_papers(quick):
    study = quick["explicit_regularization"]
    for make in (tables.criteria_table, tables.agreement_table, tables.contradictions_table, tables.cover_table):
        text = make(study).data
        for name in (">paper<", ">recorded runs (profile paper", ">these runs (profile quick"):
            assert name in text, make.__name__


def test_every_criterion_and_number_has_its_row():
    study = recorded_study("randomization", "quick")
    assert tables.criteria_table(study).data.count("<tr") == 1 + len(study.criteria)
    assert tables.agreement_table(study).data.count("<tr") == 1 + len(study.agreement)
    assert tables.criteria_table(study).data.count("(headline)") == 1


def test_other_records_have_a_table_a_kind_and_a_column_each():
    study = recorded_study("randomization")
    text = tables.elsewhere(study).data
    assert text.count("<table") == len({each.claim for each in study.elsewhere}) == 2
    for each in study.elsewhere:
        assert f"{each.data}, profile {each.profile.name}: {each.verdict}<" in text
    assert text.count("(headline)") == 2
    small, large = recorded_study("explicit_regularization", "quick"), recorded_study("explicit_regularization", "cpu")
    asked = [set(each.criteria[QUESTION].itertuples(index=False)) for each in (small, large)]
    assert tables.elsewhere(recorded_study("explicit_regularization")).data.count("not asked") == len(
        asked[1] - asked[0]
    )


def test_profiles_that_ask_different_things_are_matched_by_what_they_ask(quick):
    """The paper's profile has a second weight decay: its rows must not slip beside others."""
    study = quick["explicit_regularization"]
    more = study.recorded.criteria.merge(study.criteria[QUESTION], how="left", indicator=True)
    only = more.loc[more["_merge"] == "left_only", "criterion"]
    text = tables.criteria_table(study).data
    assert len(only) >= 1
    assert text.count("not asked") == len(only)
    assert text.count("<tr") == 1 + len(study.criteria) + len(only)
    assert all(each in text for each in only)
    shuffled = study.recorded.criteria.sample(frac=1, random_state=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(study.recorded.__dict__, "criteria", shuffled)
        again = tables.criteria_table(study).data
    one, other = (re.findall(r"<tr>.*?</tr>", each, re.DOTALL) for each in (text, again))
    assert len(one) > len(only)
    assert sorted(one) == sorted(other)


def test_the_papers_column_is_left_out_where_it_has_no_number(quick):
    study, by = quick["randomization"], ["arm"]
    titles = {"train_accuracy": "fit", "overfit_steps": "steps"}
    published = {("overfit_steps", ("gaussian",)): "8,000"}
    frame = tables.seed_columns(study, lambda each: each.group("randomizations"), by, titles, published)
    assert "fit: paper" not in frame
    assert frame.set_index("variant")["steps: paper"].to_dict()["gaussian"] == "8,000"
    assert frame["fit: recorded at the paper's size"].notna().all()


def test_the_readings_of_fig_1c_are_the_recorded_runs_at_the_papers_size(quick):
    full = recorded_study("label_corruption")
    text = tables.readings_table(full).data
    assert text == tables.readings_table(recorded_study("label_corruption", "quick")).data
    for row in tables.readings(full.frame).itertuples():
        cells = [tables.MODEL_NAMES[row.model], row.variant or "the profile's", row.rates]
        line = re.search(r"\s*".join([*(f"<td>{cell}</td>" for cell in cells), f"<td>{row.seeds}(.*?)</td>"]), text)
        assert ("that learned nothing" in line.group(1)) == (row.left_out > 0)
        assert row.rates == 0 or f"{tables.in_points(row.test_error)} <small>largest" in text
    nearer = (tables.readings(full.frame).eval("alike_test_error < test_error")).sum()
    assert f"on labels corrupted like those trained on in {nearer} of " in text
    late = sum(math.isinf(row.relative_time) for row in tables.readings(full.frame).itertuples())
    assert (text.count("not overfit at every rate"), text.count("never")) == (late, 0)


def test_margins_stand_with_their_reasons():
    text = tables.margins_table().data
    assert f"criteria version {CRITERIA_VERSION}" in text
    assert text.count("<tr") == 1 + len(tables.MARGINS) + 3
    assert text.count("<li>Version") == len(VERSIONS)
    assert "decided, too: as they are" in text


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
    shown = re.sub(r"<[^>]+>", " ", tables.criteria_table(study).data)
    assert re.search(r"\? never at 4 of 5 rates\s+else it fails", shown)
    assert f"{study.claim.title} partly (" in tables.margins_table(study).data


def test_a_criterion_whose_runs_are_not_all_there_says_how_many_are():
    study = recorded_study("label_corruption", "quick")
    left = [each for each in study.records if (each.run.model, each.run.label_corruption) != ("alexnet", 0.5)]
    study = replace(study, records=left)
    keys, needed = study.keys("corruption", "alexnet"), study.needed("corruption", "alexnet")
    assert 0 < len(keys) < needed
    assert tables.criteria_table(study).data.count(f"{len(keys)} of the network's {needed} runs in 'corruption'") == 3


def test_comparisons_outside_their_margin_are_marked():
    study = recorded_study("implicit_regularization", "paper")
    rows = study.comparisons
    outside = (rows["low"] > rows["margin"]) | (rows["high"] < -rows["margin"])
    inside = rows["p_equivalence"] < ALPHA / 2
    assert min(outside.sum(), inside.sum()) > 0
    text = tables.comparisons_table(study).data
    assert (text.count("✘"), text.count("✔")) == (outside.sum(), inside.sum())


def test_other_records_are_shown_with_margins_of_their_own():
    study = recorded_study("explicit_regularization", "paper")
    others = [row for each in study.elsewhere if each.on_photographs for row in each.criteria.itertuples()]
    assert {row.required_low for row in others if row.headline} != {study.headline["required_low"]}
    text = tables.elsewhere(study).data
    assert all(f"at least {percent(row.required_low)}" in text for row in others)


def test_forest_alt_text_names_every_headline(quick):
    text = tables.forest(*quick.values(), headlines=True).data
    for study in quick.values():
        assert study.headline["criterion"] in text


def test_what_was_trained_again_is_shown_beside_the_records(monkeypatch):
    study = recorded_study("randomization", "quick")
    assert "Nothing was trained again" in tables.retrained(study).data
    monkeypatch.setenv("RETRAIN", "1")
    monkeypatch.setenv("STORE", "elsewhere")
    text = re.sub(r"<[^>]+>", " ", tables.retrained(study).data)
    count = len(study.records)
    assert re.search(rf"{study.claim.title}\s+{count}\s+{count}\s+0.00\s+0.00", text)
    assert text.split()[-1] == "none"
