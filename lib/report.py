"""Build the HTML report: train what is missing, execute the notebooks with papermill, export with nbconvert.

python -m lib.report --profile quick --dataset cifar10
"""

import argparse
import functools
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbconvert import HTMLExporter
from traitlets.config import Config

from lib.claims import CLAIMS
from lib.config import (
    DEVICES,
    NOTEBOOKS,
    RECORDED,
    ROOT,
    InputError,
    folder_of,
    from_environment,
    from_notebooks,
    parse_parameter,
    resolve_device,
    run_command,
    store_root,
)
from lib.data import DATASETS, load_dataset
from lib.experiments import runs_of
from lib.pages import ribbon
from lib.photo_claims import claims_of
from lib.profiles import PROFILES, Profile, resolve_profile, with_parameters
from lib.results import RESULTS, write_results
from lib.runs import COPIES, Run, RunStore, current_record
from lib.study import all_recorded, dataset_of, trains
from lib.sweep import train_missing

TEMPLATE = ROOT / "report" / "template"
HTML = ROOT / "report" / "html"
EXECUTED = ROOT / "build" / "notebooks"
PAGES = ("index", *CLAIMS)
CELL_TIMEOUT = 3600  # seconds; what takes long, training, is done before
START_TIMEOUT = 600  # seconds that a kernel may take to start: beside a training, papermill's minute is too short
OWN = ("profile", "dataset", "device")  # the parameters that have options of their own


@dataclass(frozen=True)
class Choice:
    """What the report is to be built from."""

    profile: str
    dataset: str
    device: str
    parameters: dict[str, Any]


def pages_of(dataset: str) -> tuple[str, ...]:
    """The pages that apply to a data set: the cover and its claims."""
    return "index", *claims_of(dataset)


@functools.cache
def page_parameters(page: str) -> frozenset[str]:
    """Names of a notebook's parameters."""
    return frozenset(papermill.inspect_notebook(str(NOTEBOOKS / f"{page}.ipynb")))


def check_parameters(parameters: dict[str, Any]) -> None:
    """Refuse parameters that no notebook has (papermill only warns).

    Raises:
        InputError: naming the parameter and those that are allowed.
    """
    allowed = set().union(*map(page_parameters, PAGES)) - set(OWN)
    for name in parameters:
        if name not in allowed:
            raise InputError(f"unknown notebook parameter {name!r}; allowed: {', '.join(sorted(allowed))}")


def execute(page: str, choice: Choice) -> nbformat.NotebookNode:
    """Execute a notebook in its own folder and return it; a copy stays in build/notebooks.

    Raises:
        InputError: a cell refused what was asked for.
        papermill.PapermillExecutionError: a cell failed.
    """
    EXECUTED.mkdir(parents=True, exist_ok=True)
    own = {name: getattr(choice, name) for name in OWN}
    try:
        papermill.execute_notebook(
            str(NOTEBOOKS / f"{page}.ipynb"),
            str(EXECUTED / f"{page}.ipynb"),
            own | _own_parameters(page, choice),
            cwd=str(NOTEBOOKS),
            kernel_name="python3",
            progress_bar=False,
            execution_timeout=CELL_TIMEOUT,
            start_timeout=START_TIMEOUT,
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),  # else each kernel warns: it has none
        )
    except papermill.PapermillExecutionError as error:
        if error.ename == InputError.__name__:
            raise InputError(error.evalue) from error
        raise
    return nbformat.read(EXECUTED / f"{page}.ipynb", as_version=4)


def _own_parameters(page: str, choice: Choice) -> dict[str, Any]:
    """The chosen parameters that a page has."""
    known = page_parameters(page)
    return {name: value for name, value in choice.parameters.items() if name in known}


def contents(notebook: nbformat.NotebookNode) -> list[dict[str, str]]:
    """A page's headings of the second level, with the links that nbconvert gives them."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    titles = [title for text in texts for title in re.findall(r"^## (.+)$", text, re.MULTILINE)]
    return [{"title": title, "link": "#" + title.replace(" ", "-")} for title in titles]


def export(page: str, notebook: nbformat.NotebookNode, folder: Path, choice: Choice) -> Path:
    """Write an executed notebook as a page that loads nothing from the network; returns where."""
    exporter = HTMLExporter(
        template_name=TEMPLATE.name,
        extra_template_basedirs=[str(TEMPLATE.parent)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    names = pages_of(choice.dataset)
    titles = {name: "Overview" if name == "index" else CLAIMS[name].title for name in names}
    profile = with_parameters(PROFILES[choice.profile], rates=_own_parameters(page, choice).get("rates"))
    size = f"profile {profile.name}, {choice.dataset}"
    notebook.metadata["title"] = f"{titles[page]} ({size}): rethinking generalization, a replication"
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", ())]
    for place, cell in enumerate(notebook.cells):
        cell.id = str(place)  # papermill gives the cell it adds a random one
    links = [{"file": f"{name}.html", "title": titles[name], "current": name == page} for name in names]
    more = {"ribbon": ribbon(profile, choice.dataset), "contents": contents(notebook)}
    text, _ = exporter.from_notebook_node(notebook, {"pages": links} | more)
    path = folder / f"{page}.html"
    path.write_text(beside_pages(text, RunStore(store_root())))
    return path


def beside_pages(text: str, store: RunStore) -> str:
    """HTML whose links, which lead from a notebook to other notebooks, records and what is built, lead from a page to
    other pages and to what is beside them."""
    for each in (RunStore(RECORDED), store):
        text = text.replace(f'href="{from_notebooks(each.root)}/', f'href="{each.copies}/')
    text = text.replace(f'href="{from_notebooks(HTML)}/', 'href="')
    return re.sub(r'href="(\w+)\.ipynb', r'href="\1.html', text)


def copy_records(store: RunStore, folder: Path) -> None:
    """Put the records beside the pages, the repository's own too, so that links hold wherever the report is taken."""
    copies = folder / COPIES
    shutil.rmtree(copies, ignore_errors=True)
    for root in dict.fromkeys((RECORDED, store.root)):  # they may be one
        if root.is_dir():  # one that nothing was trained into is none
            ignored = shutil.ignore_patterns(".*", "*.partial")
            shutil.copytree(root, folder / RunStore(root).copies, ignore=ignored, dirs_exist_ok=True)
    for path in copies.rglob("*.json"):
        if not current_record(path):
            path.unlink()  # of another recipe: no page shows it


def _check_apart(store: Path, folder: Path) -> None:
    """Refuse to write pages where records are: those beside the pages are written anew, if a report made them."""
    copies = folder / COPIES
    for records in (RECORDED, store):
        if records.is_relative_to(copies) or copies.is_relative_to(records):
            raise InputError(f"pages in {folder} would overwrite the records in {records}: name another folder")
    if copies.exists() and not any((folder / name).exists() for name in (*map("{}.html".format, PAGES), RESULTS)):
        raise InputError(f"{copies} is no report's, and would be written anew: name another folder")


def train(runs: Sequence[Run], profile: Profile, dataset: str, store: RunStore, device: str) -> None:
    """Train what is missing, unless the store has every run on some copy of the data set, which is not needed then.

    Raises:
        InputError: runs failed, or there is no such data set.
    """
    is_whole = all_recorded(runs, dataset, store)
    try:
        data = load_dataset(dataset, classes=profile.sizes[dataset].classes)  # downloaded and packed here, on no page
    except InputError as error:
        if not is_whole:
            raise
        print(f"no pictures: {error}", file=sys.stderr)
        os.environ["OFFLINE"] = "1"  # no page waits again for hosts that do not answer
    if is_whole:
        print("every run is recorded: nothing is trained")
    else:
        train_missing(runs, data, store, device).check()


def build(choice: Choice, store: RunStore, folder: Path = HTML) -> Path:
    """Train what is missing in one queue, execute the notebooks one after another, write all pages.

    Returns:
        The cover, folder / 'index.html'.

    Raises:
        InputError: a choice that cannot be built, before anything is trained; or runs that failed.
    """
    check_parameters(choice.parameters)
    profile = resolve_profile(choice.profile, choice.device)
    profile = with_parameters(profile, choice.parameters.get("seeds"), choice.parameters.get("rates"))
    runs = runs_of(claims_of(choice.dataset), profile, choice.dataset)
    print(f"report: profile {profile.name}, data set {choice.dataset}, device {choice.device}, {len(runs)} runs")
    _check_apart(store.root, folder)
    folder.mkdir(parents=True, exist_ok=True)
    if trains(profile, choice.device):
        train(runs, profile, choice.dataset, store, choice.device)
    else:
        print("this profile takes days on a CPU: nothing is trained, the pages show the records there are")
    os.environ["STORE"] = str(store.root)
    executed = {}
    for page in pages_of(choice.dataset):  # all, before the last report's are touched: a stop leaves that one whole
        print(f"page: {page}", flush=True)
        executed[page] = execute(page, choice)
    for page in PAGES:
        (folder / f"{page}.html").unlink(missing_ok=True)  # of another data set, whose pages may be others
    for page, notebook in executed.items():
        export(page, notebook, folder, choice)
    copy_records(store, folder)
    write_results(folder)
    return folder / "index.html"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when the report is built."""
    parser = argparse.ArgumentParser(prog="python -m lib.report", description="Build the HTML report.")
    parser.add_argument("--profile", default=from_environment("PROFILE", "auto"), help=" | ".join(PROFILES) + " | auto")
    parser.add_argument("--dataset", default=from_environment("DATASET", "auto"), help=" | ".join(DATASETS))
    parser.add_argument("--device", default=from_environment("DEVICE", "auto"), help=" | ".join(DEVICES))
    parser.add_argument("--store", default="", help="folder of the records")
    parser.add_argument("--out", default="", help=f"folder of the pages, {HTML.relative_to(ROOT)} if not given")
    parser.add_argument("parameters", nargs="*", metavar="name=value", help="notebook parameters, such as seeds=3")
    options = parser.parse_args(arguments)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    device = resolve_device(options.device)
    profile, parameters = resolve_profile(options.profile, device), dict(map(parse_parameter, options.parameters))
    check_parameters(parameters)
    size = with_parameters(profile, parameters.get("seeds"), parameters.get("rates"))
    store = RunStore(store_root(options.store))
    choice = Choice(profile.name, dataset_of(size, options.dataset, device, store), device, parameters)
    print(build(choice, store, folder_of(options.out, Path.cwd()) if options.out else HTML))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
