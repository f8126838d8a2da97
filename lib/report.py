"""Build the HTML report: train what is missing, execute the notebooks with papermill, export with nbconvert.

python -m lib.report --profile quick --dataset cifar10
"""

import argparse
import io
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
from lib.claims import CLAIMS, CRITERIA_VERSION, Claim
from lib.config import (
    DEVICES,
    RECORDED,
    ROOT,
    InputError,
    from_environment,
    parse_parameter,
    resolve_device,
    run_command,
    store_root,
)
from lib.criteria import VERDICTS, tally
from lib.data import DATASETS, load_dataset
from lib.deviations import deviations
from lib.experiments import claim_arms
from lib.pages import data_text, ribbon, seed_numbers
from lib.photo_claims import claims_of
from lib.profiles import PROFILES, resolve_profile, with_parameters
from lib.results import write_results
from lib.runs import Run, RunStore
from lib.splits import Dataset
from lib.study import Study, current_record, dataset_of, recorded_runs, recorded_study, run_counts, trains
from lib.sweep import train_missing
from lib.words import count, form_of, interval

NOTEBOOKS = ROOT / "notebooks"
TEMPLATE = ROOT / "report" / "template"
HTML = ROOT / "report" / "html"
EXECUTED = ROOT / "build" / "notebooks"
README = ROOT / "README.md"
README_FIGURE = ROOT / "report" / "overview.svg"
BENCHES = ROOT / "report"
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


def pages_of(dataset: str) -> tuple[str, ...]:
    """The pages that apply to a data set: the cover and its claims."""
    return "index", *claims_of(dataset)


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


def contents(notebook: nbformat.NotebookNode) -> list[dict[str, str]]:
    """A page's headings of the second level, with the links that nbconvert gives them."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    titles = [title for text in texts for title in re.findall(r"^## (.+)$", text, re.MULTILINE)]
    return [{"title": title, "link": "#" + title.replace(" ", "-")} for title in titles]


def export(page: str, notebook: nbformat.NotebookNode, folder: Path, choice: Choice) -> Path:
    """Write an executed notebook as a page that loads nothing from the network."""
    exporter = HTMLExporter(
        template_name=TEMPLATE.name,
        extra_template_basedirs=[str(TEMPLATE.parent)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    names = pages_of(choice.dataset)
    titles = {name: "Overview" if name == "index" else CLAIMS[name].title for name in names}
    size = f"profile {choice.profile}, {choice.dataset}"
    notebook.metadata["title"] = f"{titles[page]} ({size}): rethinking generalization, replicated"
    tags = [cell.metadata.get("tags", ()) for cell in notebook.cells]
    notebook.cells = [cell for cell, own in zip(notebook.cells, tags, strict=True) if "injected-parameters" not in own]
    for place, cell in enumerate(notebook.cells):
        cell.id = str(place)  # papermill gives the cell it adds a random one
    links = [{"file": f"{name}.html", "title": titles[name], "current": name == page} for name in names]
    more = {"ribbon": ribbon(choice.profile, choice.dataset), "contents": contents(notebook)}
    text, _ = exporter.from_notebook_node(notebook, {"pages": links} | more)
    path = folder / f"{page}.html"
    path.write_text(text)
    return path


def copy_records(store: RunStore, folder: Path) -> None:
    """Put the records beside the pages, the repository's own too, so that links hold wherever the report is taken."""
    target = folder / "runs"
    shutil.rmtree(target, ignore_errors=True)
    for root in filter(Path.is_dir, (RECORDED, store.root)):  # a store that nothing was trained into is none
        shutil.copytree(root, target, ignore=shutil.ignore_patterns(".*", "*.partial"), dirs_exist_ok=True)
    for path in target.rglob("*.json"):
        if not current_record(path):
            path.unlink()  # of another recipe: no page shows it


def train(runs: Sequence[Run], dataset: Dataset, store: RunStore, device: str) -> None:
    """Train what is missing, unless the store has every run on some copy of the data set.

    Raises:
        InputError: runs failed.
    """
    if recorded_runs(runs, dataset.name, store).keys() >= set(runs):
        print("every run is recorded: nothing is trained")
        return
    summary = train_missing(runs, dataset, store, device)
    if summary.failed:
        raise InputError(f"{len(summary.failed)} of {len(set(runs))} runs failed, the first: {summary.failed[0]}")


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
    claims = claims_of(choice.dataset)
    runs = [arm.run for claim in claims for arm in claim_arms(claim, profile, choice.dataset)]
    print(f"report: profile {profile.name}, data set {choice.dataset}, device {choice.device}, {len(set(runs))} runs")
    folder.mkdir(parents=True, exist_ok=True)
    if trains(profile, choice.device):
        train(runs, load_dataset(choice.dataset, classes=profile.sizes[choice.dataset].classes), store, choice.device)
    else:
        print("this profile takes days on a CPU: nothing is trained, the pages show the records there are")
    os.environ["STORE"] = str(store.root)
    for left_over in folder.glob("*.html"):
        left_over.unlink()  # of another data set, whose pages may be others
    for page in pages_of(choice.dataset):
        print(f"page: {page}", flush=True)
        export(page, execute(page, choice), folder, choice)
    copy_records(store, folder)
    write_results(folder)
    return folder / "index.html"


# --- the README ---------------------------------------------------------------------------------------

PICTURED = {"randomization": "randomizations", "label_corruption": "corruption"}  # claim -> group of its runs


def pictured(studies: Sequence[Study]) -> list[Study]:
    """For each of the paper's two pictures that was asked for, the study that has a run of everything in it: one of
    these, else the repository's largest on such data; where none has them one of these."""
    result = []
    for study in studies:
        if group := PICTURED.get(study.claim.name):
            others = [each for each in study.elsewhere if each.on_photographs == study.on_photographs]
            whole = (each for each in (study, *others) if _shows_all(each.group(group)))
            result.append(next(whole, study))
    return result


def _shows_all(runs: pd.DataFrame) -> bool:
    """Whether each of the arms has a run, of one seed or more."""
    return (runs.groupby(["model", "arm"])["key"].count() > 0).all()


def overview_figure(studies: Sequence[Study]) -> plots.Figure:
    """The two pictures of the paper, from the studies of randomization and label corruption."""
    by_name = {study.claim.name: study for study in studies}
    first, second = (by_name.get(claim) for claim in PICTURED)
    sizes = [_images(study) for study in (first, second) if study]
    losses = first.group_history(PICTURED["randomization"])
    corruption = second.group(PICTURED["label_corruption"]) if second else None
    return plots.overview(losses, corruption, first.chance, sizes)


def _images(study: Study) -> str:
    """How many training images the runs of a picture have, in words."""
    sizes = study.group(PICTURED[study.claim.name])["train_size"].drop_duplicates()
    return f"{' or '.join('all' if pd.isna(size) else f'{size:,.0f}' for size in sizes)} images"


README_COLUMNS = {  # profile and data set -> heading
    ("paper", "cifar10"): "CIFAR-10, at the paper's size",
    ("cpu", "cifar10"): "CIFAR-10, profile `cpu`: Inception on 10,000 images",
    ("quick", "cifar10"): "CIFAR-10, profile `quick`, reduced",
    ("quick", "tiny-imagenet"): "Tiny ImageNet, profile `quick`, reduced",
}


def readme_studies() -> dict[tuple[str, str], dict[str, Study]]:
    """What the README shows, by profile and data set: the repository's own records, whatever this machine is."""
    return {
        (profile, data): {name: recorded_study(name, profile, data) for name in claims_of(data)}
        for profile, data in README_COLUMNS
    }


def readme_block() -> str:
    """The README's verdicts: a table of every claim, what they rest on, and the figure."""
    columns = readme_studies()
    lines = [" | ".join(["| claim", *README_COLUMNS.values()]) + " |", "|---" * (1 + len(README_COLUMNS)) + "|"]
    for name, claim in CLAIMS.items():
        asked = columns["paper", "cifar10"][name].headline
        cells = [_readme_cell(studies.get(name), claim) for studies in columns.values()]
        lines.append(" | ".join([f"| **{claim.title}**: {claim.statement}{_readme_headline(asked)}", *cells]) + " |")
    for key, studies in columns.items():
        lines += ["", f"{README_COLUMNS[key]}: {_readme_basis(list(studies.values()))}"]
    found = [line for study in columns["paper", "cifar10"].values() for line in _findings(study)]
    lines += ["", "What the runs at the paper's size say of what the paper leaves open:", "", *(found or ["- not run"])]
    figure = README_FIGURE.relative_to(ROOT).as_posix()
    alt = "Training loss of Inception under five randomizations, and test error against the share of corrupted labels"
    shown = pictured(list(columns["paper", "cifar10"].values()))
    sides = " and ".join(f"profile `{study.profile.name}`" for study in shown)
    lines += ["", f"Criteria version {CRITERIA_VERSION}. The figure, left and right: {sides}."]
    lines += ["", f"![{alt} for three networks]({figure})"]
    return _block("verdicts", "\n".join(lines))


def _readme_basis(studies: list[Study]) -> str:
    """What some studies of one profile and data set rest on."""
    hardware = "; ".join(sorted({record.provenance["hardware"] for study in studies for record in study.records}))
    if not hardware:
        return "not run yet."
    found, needed = run_counts(*studies)
    counts = f"{found} of {needed} runs recorded, {seed_numbers(*studies)} seeds"
    return f"{counts}, on {hardware}. Data: {data_text(*studies)}"


def _findings(study: Study) -> list[str]:
    """What came of the choices that were tried both ways, as a list's lines."""
    rows = deviations(study.claim.name, study.profile, study.data, study.frame)
    rows = rows[rows["what came of it"] != "—"]
    title = study.claim.title.lower()  # the same choice may bear on several claims, each with runs of its own
    found = zip(rows["what"], rows["what came of it"], strict=True)
    return [f"- **{what}** ({title}): {came}." for what, came in found]


def bench_block() -> str:
    """The README's speeds: what `make bench` last wrote on each kind of device."""
    return _block("bench", "\n\n".join(path.read_text().strip() for path in sorted(BENCHES.glob("bench-*.md"))))


def _block(name: str, text: str) -> str:
    return f"<!-- {name} -->\n{text}\n<!-- /{name} -->"


def _readme_headline(row: pd.Series) -> str:
    """What a claim's headline asks, the paper's value and its margin, as a further line of a cell."""
    form = form_of(row["quantity"])
    what, least = f"{row['criterion']}: {row['quantity']}", form(row["required_low"])
    return f"<br>Headline: {what}. Paper: {form(row['paper'])}; must be at least {least}"


def _readme_cell(study: Study | None, claim: Claim) -> str:
    """Verdict, headline and how many criteria hold; claim: the row's, photographs have their own."""
    if study is None:
        return "not asked by the paper"
    head, form = study.headline, form_of(study.headline["quantity"])
    sure = f"{interval(head['interval_low'], head['interval_high'], form)}, " * (head["asked_of"] == "the interval")
    value = f"<br>{form(head['ours'])} ({sure}{count(head['seeds'], 'seed')})" if head["seeds"] else ""
    detail = "" if study.verdict == "not run" else f"<br>{tally(study.criteria)}"
    own = "" if study.claim == claim else f"<br>Asked here: {study.claim.statement}{_readme_headline(head)}"
    return f"{VERDICTS[study.verdict]} **{study.verdict}**{value}{detail}{own}"


def readme_figure() -> str:
    """The README's figure as SVG."""
    file = io.StringIO()
    shown = pictured([recorded_study(claim) for claim in PICTURED])
    plots.settle(overview_figure(shown)).savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def update_readme() -> None:
    """Refresh the README's verdicts and figure from the repository's own records, its speeds from the last bench."""
    text = README.read_text()
    for name, block in (("verdicts", readme_block()), ("bench", bench_block())):
        text = re.sub(f"<!-- {name} -->.*<!-- /{name} -->", lambda _, block=block: block, text, flags=re.DOTALL)
    README.write_text(text)
    README_FIGURE.write_text(readme_figure())


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when the report is built."""
    parser = argparse.ArgumentParser(prog="python -m lib.report", description="Build the HTML report.")
    parser.add_argument("--profile", default=from_environment("PROFILE", "auto"), help=" | ".join(PROFILES) + " | auto")
    parser.add_argument("--dataset", default=from_environment("DATASET", "auto"), help=" | ".join(DATASETS))
    parser.add_argument("--device", default=from_environment("DEVICE", "auto"), help=" | ".join(DEVICES))
    parser.add_argument("--store", type=Path, default=store_root(), help="folder of the records")
    parser.add_argument("--out", type=Path, default=HTML, help="folder of the pages")
    parser.add_argument("--readme", action="store_true", help="refresh the README from its records instead")
    parser.add_argument("parameters", nargs="*", metavar="name=value", help="notebook parameters, such as seeds=3")
    options = parser.parse_args(arguments)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    if options.readme:
        update_readme()
        return 0
    device = resolve_device(options.device)
    profile, parameters = resolve_profile(options.profile, device), dict(map(parse_parameter, options.parameters))
    choice = Choice(profile.name, dataset_of(profile, options.dataset, device), device, parameters)
    print(build(choice, RunStore(options.store.resolve()), options.out.resolve()))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
