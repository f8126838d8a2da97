import nbformat
import papermill
import pytest

from lib.config import NOTEBOOKS
from lib.margins import MARGINS
from lib.report import OWN, PAGES
from lib.runs import OVERFIT_LOSS
from lib.statistics import ALPHA, POWER

NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def test_one_notebook_a_page():
    assert sorted(PAGES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_source_only_short_and_parameterized(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", ()) for cell in code) == 1
    assert any("assert" in cell.source for cell in code)
    assert len(notebook.cells) <= 20
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_known_to_papermill(name):
    parameters = papermill.inspect_notebook(str(NOTEBOOKS / f"{name}.ipynb"))
    assert set(OWN) | {"seeds"} <= set(parameters)
    assert ("rates" in parameters) == (name in ("index", "label_corruption"))


def test_what_the_texts_define_is_what_the_code_does():
    texts = {name: nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells for name in NAMES}
    texts = {name: " ".join(cell.source for cell in cells) for name, cells in texts.items()}
    assert f"at least {100 * MARGINS['fitted'].value:g} % of its training set" in texts["index"]
    assert f"over an epoch is below {OVERFIT_LOSS:g}" in texts["index"]
    for name in ("explicit_regularization", "implicit_regularization"):
        assert f"✔ where p < {ALPHA / 2:g}" in texts[name]
        assert f"detect {100 * POWER:g} % of the time" in texts[name]
