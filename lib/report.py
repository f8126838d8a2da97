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
import pandas as pd
import papermill
from nbconvert import HTMLExporter
from traitlets.config import Config

from lib import plots
from lib.claims import CLAIMS, VERDICTS
from lib.config import (
    DEVICES,
    ROOT,
    InputError,
    from_environment,
    parse_parameter,
    resolve_device,
    run_command,
    store_root,
)
from lib.data import DATASETS, load_dataset, resolve_dataset
from lib.experiments import PROFILES, claim_arms, resolve_profile, with_parameters
from lib.pages import data_text
from lib.runs import RunStore
from lib.study import Study, open_study
from lib.sweep import train_missing

NOTEBOOKS = ROOT / "notebooks"
TEMPLATE = ROOT / "report" / "template"
HTML = ROOT / "report" / "html"
EXECUTED = ROOT / "build" / "notebooks"
README = ROOT / "README.md"
README_FIGURE = ROOT / "report" / "overview.svg"
PAGES = ("index", *CLAIMS)
CELL_TIMEOUT = 3600  # seconds; what takes long, training, is done before
OWN = ("profile", "dataset", "device")  # the parameters that have options of their own


@dataclass(frozen=True)
class Choice:
    """What the report is to be built from."""

    profile: str
    dataset: str
    device: str
    parameters: dict[str, Any]


def page_parameters(page: str) -> set[str]:
    """Names of a notebook's parameters."""
    return set(papermill.inspect_notebook(str(NOTEBOOKS / f"{page}.ipynb")))


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
        papermill.PapermillExecutionError: a cell failed.
    """
    EXECUTED.mkdir(parents=True, exist_ok=True)
    known = page_parameters(page)
    own = {name: getattr(choice, name) for name in OWN}
    papermill.execute_notebook(
        str(NOTEBOOKS / f"{page}.ipynb"),
        str(EXECUTED / f"{page}.ipynb"),
        own | {name: value for name, value in choice.parameters.items() if name in known},
        cwd=str(NOTEBOOKS),
        kernel_name="python3",
        progress_bar=False,
        execution_timeout=CELL_TIMEOUT,
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),  # else each kernel warns that it has none
    )
    return nbformat.read(EXECUTED / f"{page}.ipynb", as_version=4)


def export(page: str, notebook: nbformat.NotebookNode, folder: Path) -> Path:
    """Write an executed notebook as a page that loads nothing from the network."""
    exporter = HTMLExporter(
        template_name=TEMPLATE.name,
        extra_template_basedirs=[str(TEMPLATE.parent)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    titles = {name: "Overview" if name == "index" else CLAIMS[name].title for name in PAGES}
    notebook.metadata["title"] = f"{titles[page]}: rethinking generalization, replicated"
    for place, cell in enumerate(notebook.cells):
        cell.id = str(place)  # papermill gives the cell it adds a random one
    links = [{"file": f"{name}.html", "title": titles[name], "current": name == page} for name in PAGES]
    text, _ = exporter.from_notebook_node(notebook, {"pages": links})
    path = folder / f"{page}.html"
    path.write_text(text)
    return path


def copy_records(store: RunStore, folder: Path) -> None:
    """Put the records beside the pages, so that their links hold wherever the report is taken."""
    target = folder / "runs"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(store.root, target, ignore=shutil.ignore_patterns(".*", "*.partial"))


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
    runs = [arm.run for claim in CLAIMS for arm in claim_arms(claim, profile, choice.dataset)]
    print(f"report: profile {profile.name}, data set {choice.dataset}, device {choice.device}, {len(set(runs))} runs")
    folder.mkdir(parents=True, exist_ok=True)
    summary = train_missing(runs, load_dataset(choice.dataset), store, choice.device)
    if summary.failed:
        raise InputError(f"{len(summary.failed)} of {len(set(runs))} runs failed, the first: {summary.failed[0]}")
    os.environ["STORE"] = str(store.root)
    for page in PAGES:
        print(f"page: {page}", flush=True)
        export(page, execute(page, choice), folder)
    copy_records(store, folder)
    return folder / "index.html"


# --- the cover and the README -------------------------------------------------------------------------


def verdict_rows(studies: Sequence[Study]) -> pd.DataFrame:
    """One row per claim: its title, the claim, criteria that hold, verdict."""
    return pd.DataFrame(
        {
            "name": study.claim.name,
            "title": study.claim.title,
            "claim": study.claim.statement,
            "criteria": f"{(study.criteria['holds'] == 'yes').sum()} of {len(study.criteria)}",
            "verdict": f"{VERDICTS[study.verdict]} {study.verdict}",
        }
        for study in studies
    )


def overview_figure(studies: Sequence[Study]) -> plots.Figure:
    """The two pictures of the paper, from the studies of randomization and label corruption."""
    by_name = {study.claim.name: study for study in studies}
    first, second = by_name["randomization"], by_name["label_corruption"]
    return plots.overview(first.group_history("five randomizations"), second.group("corruption"), first.chance)


def update_readme(choice: Choice) -> None:
    """Refresh the README's verdict table and figure from the records."""
    studies = [open_study(name, choice.profile, choice.dataset, choice.device) for name in CLAIMS]
    rows = verdict_rows(studies)
    first = studies[0]
    lines = ["| claim | criteria that hold | verdict |", "|---|---|---|"]
    lines += [f"| **{row.title}**: {row.claim} | {row.criteria} | {row.verdict} |" for row in rows.itertuples()]
    hardware = "; ".join(sorted({record.provenance["hardware"] for study in studies for record in study.records}))
    lines += [
        "",
        f"Profile `{first.profile.name}`, {len(first.profile.seeds)} seeds, on {hardware}. Data: {data_text(*studies)}",
        "",
        "![Training loss of Inception under five randomizations, and test error against the share of corrupted "
        f"labels for three networks]({README_FIGURE.relative_to(ROOT).as_posix()})",
    ]
    text = README.read_text()
    block = "<!-- verdicts -->\n" + "\n".join(lines) + "\n<!-- /verdicts -->"
    README.write_text(re.sub(r"<!-- verdicts -->.*<!-- /verdicts -->", lambda _: block, text, flags=re.DOTALL))
    overview_figure(studies).savefig(README_FIGURE, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when the report is built."""
    parser = argparse.ArgumentParser(prog="python -m lib.report", description="Build the HTML report.")
    parser.add_argument("--profile", default=from_environment("PROFILE", "auto"), help=" | ".join(PROFILES) + " | auto")
    parser.add_argument("--dataset", default=from_environment("DATASET", "auto"), help=" | ".join(DATASETS))
    parser.add_argument("--device", default=from_environment("DEVICE", "auto"), help=" | ".join(DEVICES))
    parser.add_argument("--store", type=Path, default=store_root(), help="folder of the records")
    parser.add_argument("--out", type=Path, default=HTML, help="folder of the pages")
    parser.add_argument("--readme", action="store_true", help="refresh the README's table and figure instead")
    parser.add_argument("parameters", nargs="*", metavar="name=value", help="notebook parameters, such as seeds=3")
    options = parser.parse_args(arguments)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    device = resolve_device(options.device)
    parameters = dict(map(parse_parameter, options.parameters))
    check_parameters(parameters)
    profile = resolve_profile(options.profile, device).name
    choice = Choice(profile, resolve_dataset(options.dataset), device, parameters)
    if options.readme:
        update_readme(choice)
    else:
        print(build(choice, RunStore(options.store.resolve()), options.out.resolve()))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(functools.partial(main)))
