import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import cells

from lib import answers, tables
from lib.study import recorded_study
from lib.words import in_points, number, percent

NAN = math.nan


@pytest.fixture(scope="module")
def quick():
    return {name: recorded_study(name, "quick") for name in ("randomization", "explicit_regularization")}


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
    assert tables.over_seeds([math.inf] * 3, number) == "never (all 3 seeds)"
    assert tables.over_seeds([2.0, math.inf, 4.0, nan], number) == "never in 1 of 3 seeds, else 3 (2 to 4, 2 seeds)"


def test_seed_table_tells_not_run_from_not_applicable():
    frame = pd.DataFrame({"arm": ["a", "b"], "key": ["k", None], "value": [None, None]})
    table = tables.seed_table(frame, ["arm"], {"value": "value"}, missing={"value": "not reached"})
    assert table.to_dict("list") == {"variant": ["a", "b"], "value": ["not reached", "not run"]}


def test_an_accuracys_interval_ends_at_what_is_possible():
    assert tables._possible(-6.49, 0.34, percent) == (0, 0.34)
    assert tables._possible(0.2, 7.34, percent) == (0.2, 1)
    assert np.isnan(tables._possible(-6.49, 7.34, percent)).all()  # leaves out no accuracy
    assert tables._possible(0.2, 0.7, percent) == (0.2, 0.7)
    assert np.isnan(tables._possible(math.nan, math.nan, percent)).all()
    assert tables._possible(-6.49, 7.34, in_points) == (-6.49, 7.34)
    text = tables.agreement_table(recorded_study("randomization", "cpu")).data
    assert "AlexNet, random labels: training accuracy" in text
    assert not re.search(r"-\d[\d.]*\N{NO-BREAK SPACE}%", text)


def test_three_columns_wherever_numbers_stand_beside_the_papers(quick):
    study = quick["explicit_regularization"]
    for make in (answers.criteria_table, tables.agreement_table, tables.contradictions_table, answers.cover_table):
        text = make(study).data
        for name in (">paper<", ">recorded runs (profile paper", ">these runs (profile quick"):
            assert name in text, make.__name__


def test_every_criterion_and_number_has_its_row():
    study = recorded_study("randomization", "quick")
    assert answers.criteria_table(study).data.count("<tr") == 1 + len(study.criteria)
    assert tables.agreement_table(study).data.count("<tr") == 1 + len(study.agreement)
    assert answers.criteria_table(study).data.count("(headline)") == 1


def test_the_papers_column_is_left_out_where_it_has_no_number(quick):
    study, by = quick["randomization"], ["arm"]
    titles = {"train_accuracy": "fit", "overfit_steps": "steps"}
    published = {("overfit_steps", ("gaussian",)): "8,000"}
    frame = tables.seed_columns(study, lambda each: each.group("randomizations"), by, titles, published)
    assert "fit: paper" not in frame
    assert frame.set_index("variant")["steps: paper"].to_dict()["gaussian"] == "8,000"
    assert frame["fit: recorded runs (profile paper)"].notna().all()


def test_every_mean_links_to_its_runs_of_either_column(quick):
    study = quick["randomization"]
    frame = tables.seed_columns(study, lambda each: each.group("randomizations"), ["arm"], {"train_accuracy": "fit"})
    places = {f"runs-{whose}-randomizations-inception": whose for whose in ("recorded", "these")}
    assert all(dict(re.findall('href="#(.*?)">(.*?)<', text)) == places for text in frame["runs"])


def test_a_column_without_such_runs_gets_no_place(quick):
    text = tables.table1_variants(quick["explicit_regularization"]).data
    assert "training accuracy: recorded runs (profile paper)" in text
    assert "these runs" not in text
    places = set(re.findall('href="#(.*?)">', text))
    assert "runs-recorded-table-1-random-labels-default-lrn-alexnet" in places
    assert all(place.startswith("runs-recorded-table-1-") for place in places)


def test_the_readings_of_fig_1c_are_the_recorded_runs_at_the_papers_size(quick):
    full = recorded_study("label_corruption")
    text = tables.readings_table(full).data
    elsewhere = tables.readings_table(recorded_study("label_corruption", "quick")).data
    assert text.replace("#runs-these-", "#runs-recorded-") == elsewhere
    for row in tables.readings(full.frame).itertuples():
        cells = [tables.MODEL_NAMES[row.model], row.variant or "the profile's", row.rates]
        seeds = tables.count_range(row.fewest_seeds, row.most_seeds, "seed")
        line = re.search(r"\s*".join([*(f"<td>{cell}</td>" for cell in cells), f"<td>{seeds}(.*?)</td>"]), text)
        assert ("that learned nothing" in line.group(1)) == (row.left_out > 0)
        assert row.rates == 0 or f"{tables.in_points(row.test_error)} <small>largest" in text
    nearer = (tables.readings(full.frame).eval("alike_test_error < test_error")).sum()
    assert f"on labels corrupted like those trained on in {nearer} of " in text
    late = sum(math.isinf(row.relative_time) for row in tables.readings(full.frame).itertuples())
    assert (text.count("not overfit at every rate"), text.count("never")) == (late, 0)


def test_each_column_of_the_agreement_has_its_own_numbers(quick):
    study = quick["explicit_regularization"]
    _, *rows = cells(tables.agreement_table(study).data)
    shown, seen = {row[1]: row for row in rows}, set()
    for full, own in zip(study.recorded.agreement.itertuples(), study.agreement.itertuples(), strict=True):
        if full.source == "Table 1" and full.seeds > 1 and own.seeds:
            row, says = shown[full.row], full.run_low <= full.paper <= full.run_high
            is_vacuous = full.run_low <= 0 and full.run_high >= 1
            assert (row[4] == "—") == is_vacuous
            assert row[3].startswith(f"{100 * full.ours:.2f} %")
            assert row[9].startswith(f"{100 * own.ours:.2f} %")
            assert (": with the" in row[4], ": without the" in row[4]) == (says and not is_vacuous, not says)
            seen.add((says, is_vacuous, full.ours != own.ours))
    assert {(True, False, True), (False, False, True), (True, True, True)} <= seen


def test_an_interval_that_ends_beside_the_papers_value_says_so():
    _, *rows = cells(tables.agreement_table(recorded_study("randomization")).data)
    (row,) = [row for row in rows if row[1] == "time to overfit on gaussian over that on true labels"]
    low, high = re.match(r"([\d.]+) to ([\d.]+): ", row[4]).groups()
    assert ("by less than is shown" in row[4]) == ("without the paper's" in row[4] and row[2] in (low, high))


def test_ratios_are_ours_over_the_papers():
    _, *rows = cells(tables.agreement_table(recorded_study("randomization")).data)
    (row,) = [row for row in rows if row[1] == "steps to overfit on true labels"]
    published, ours = (float(row[place].split()[0].replace(",", "")) for place in (2, 3))
    assert float(re.search(r"times ([\d.]+)", row[5])[1]) == pytest.approx(ours / published, abs=0.01)


def test_what_did_not_run_is_off_by_a_dash(quick):
    nothing = replace(quick["explicit_regularization"].recorded, records=[])
    _, *rows = cells(tables.agreement_table(nothing).data)
    assert {(row[3], row[5]) for row in rows} == {("not run", "—")}


def test_table_2s_parts_have_their_own_rows():
    text = tables.table2(recorded_study("explicit_regularization", "quick", "tiny-imagenet")).data
    assert "top-1 10.00 %, top-5 50.00 %" in " ".join(text.split())
    printed = (("92.18 %", "99.21 %"), ("77.84 %", "93.92 %"), ("72.57 %", "91.31 %"))
    for part, values in zip(text.split("<strong>")[1:], printed, strict=True):
        assert set(values) <= {cell for row in cells(part) for cell in row}


def test_where_the_paper_disagrees_with_itself_these_runs_have_their_own_column(quick):
    study = quick["explicit_regularization"]
    _, *rows = cells(tables.contradictions_table(study).data)
    own = study.contradictions.set_index(["model", "group", "variant"])
    ran = [
        row for row in study.recorded.contradictions.itertuples() if (row.model, row.group, row.variant) in own.index
    ]
    compared = 0
    for each in ran:
        ours = own.loc[(each.model, each.group, each.variant)]
        name = f"{tables.network_name(each.model, each.variant)}: "
        if ours["seeds"]:
            (row,) = [row for row in rows if row[0].startswith(name) and row[2] == each.group]
            assert row[-2].startswith(f"{100 * ours['ours']:.2f} %")
            compared += 1
    assert compared
