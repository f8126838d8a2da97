import pandas as pd
import pytest
from matplotlib.figure import Figure

from lib import pages, paper


def test_seeds_are_summed_up_honestly():
    nan = float("nan")
    assert pages.over_seeds([0.5, 0.7]) == "60.00 % (50.00 % to 70.00 %, 2 seeds)"
    assert pages.over_seeds([0.5, nan]) == "50.00 % (1 seed)"
    assert pages.over_seeds([1.0, 1.0]) == "100.00 % (all 2 seeds)"
    assert pages.over_seeds([nan]) == "not run"
    assert pages.over_seeds([nan], missing="—") == "—"


def test_numbers():
    assert pages.percent(0.12345) == "12.35 %" or pages.percent(0.12345) == "12.34 %"
    assert pages.percent(float("nan")) == pages.number(float("nan")) == "not run"
    assert pages.number(1234.5678) == "1.23e+03"


def test_seed_table_tells_not_run_from_not_applicable():
    frame = pd.DataFrame({"arm": ["a", "b"], "key": ["k", None], "value": [None, None]})
    table = pages.seed_table(frame, ["arm"], {"value": "value"}, missing={"value": "not reached"})
    assert table.to_dict("list") == {"variant": ["a", "b"], "value": ["not reached", "not run"]}


def test_beside_paper_shows_rows_the_paper_has_and_says_where_it_has_none():
    columns = {"test_accuracy": "test", "train_accuracy": "train"}
    arms = [("Table 1, true labels", "none"), ("Table 1, true labels", "dropout")]
    frame = pd.DataFrame([{"group": g, "arm": a, "model": "alexnet", "test_accuracy": 0.5} for g, a in arms])
    rows = pages.beside_paper(frame.assign(train_accuracy=1.0), paper.table1(), columns)
    assert rows["test, paper"].tolist() == ["76.07 %", "no row"]
    assert rows["test, ours"].tolist() == ["50.00 % (1 seed)"] * 2
    failed = frame.assign(group="Table 4", arm="weight decay", train_accuracy=1.0).head(1)
    assert pages.beside_paper(failed, paper.table4(), columns)["train, paper"].tolist() == ["failed"]


@pytest.mark.parametrize(("raster", "kind"), [(True, "image/png"), (False, "image/svg+xml")])
def test_a_figure_carries_its_alternative_text(raster, kind):
    text = pages.show(Figure(), 'a "quoted" <text>', "caption", raster).data
    assert f'src="data:{kind};base64,' in text
    assert 'alt="a &quot;quoted&quot; &lt;text&gt;"' in text
    assert "<figcaption>caption</figcaption>" in text
