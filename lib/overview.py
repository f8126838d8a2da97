"""What is seen first: the paper's two pictures and what came of what it leaves open, on the cover and in the README;
and the README's verdicts and speeds.

python -m lib.overview writes them into the README, from the repository's own records and the last `make bench`.
"""

import io
import re
import sys
from collections.abc import Iterable, Sequence

import pandas as pd

from lib import paper, plots
from lib.claims import CLAIMS, MODEL_NAMES, Claim, unfitted
from lib.config import ROOT, run_command
from lib.criteria import MIN_SEEDS, VERDICTS, tally
from lib.deviations import deviations
from lib.margins import CRITERIA_VERSION
from lib.pages import data_note, hardware_names, image_counts, runs_recorded, seed_numbers, seeds_note
from lib.photo_claims import claims_of
from lib.study import Study, recorded_study
from lib.words import capital, count, form_of, interval, markdown

README = ROOT / "README.md"
FIGURE = ROOT / "report" / "overview.svg"
BENCHES = ROOT / "report"
PICTURED = {"randomization": "randomizations", "label_corruption": "corruption"}  # claim -> group of its runs
COLUMNS = {  # profile and data set -> heading; the paper's own first
    ("paper", "cifar10"): "CIFAR-10, at the paper's size",
    ("cpu", "cifar10"): "CIFAR-10, profile `cpu`: Inception on 10,000 images",
    ("quick", "cifar10"): "CIFAR-10, profile `quick`, reduced",
    ("quick", "tiny-imagenet"): "Tiny ImageNet, profile `quick`, reduced",
}
ALT = "Training loss of Inception under five randomizations, and test error against the share of labels replaced for "
ALT += "three networks"


# --- the paper's two pictures -------------------------------------------------------------------------


def pictured(studies: Sequence[Study]) -> list[Study]:
    """For each of the paper's two pictures that was asked for, the study to draw it from: the one given if it has a run
    of everything in it, else whichever has runs of most, the repository's own on such data among them."""
    result = []
    for study in studies:
        if group := PICTURED.get(study.claim.name):
            others = [study.recorded, *study.elsewhere]
            alike = [study, *(each for each in others if each.on_photographs == study.on_photographs)]
            is_whole = _arms_run(study.group(group)).all()
            result.append(study if is_whole else max(alike, key=lambda each: _arms_run(each.group(group)).sum()))
    return result


def _arms_run(runs: pd.DataFrame) -> pd.Series:
    """Whether each of the arms has a run, of one seed or more."""
    return runs.groupby(["model", "arm"])["key"].count() > 0


def figure(studies: Sequence[Study]) -> plots.Figure:
    """The two pictures of the paper, from the studies of randomization and label corruption."""
    by_name = {study.claim.name: study for study in studies}
    first, second = (by_name.get(claim) for claim in PICTURED)
    losses = first.group_history(PICTURED["randomization"])
    corruption = second.group(PICTURED["label_corruption"]) if second else None
    reference = paper.fig1a() if first.is_full and not first.on_photographs else None
    sizes = [_images(study) for study in (first, second) if study]
    return plots.overview(losses, corruption, first.chance, sizes, reference)


def caption(studies: Sequence[Study]) -> str:
    """What is to be said of `figure`: where its runs are from, what its lines are, and which of them did not fit."""
    of = dict.fromkeys(f"profile {study.profile.name} on {study.data}" for study in studies)
    sides = f"Left: {'; right: '.join(of)}" if len(of) > 1 else f"From {next(iter(of))}"
    text = f"{sides}. Loss: each line is a run."
    for study in studies:
        if study.claim.name == "label_corruption":
            text += _of_test_error(study.group(PICTURED[study.claim.name]))
    return text


def _of_test_error(runs: pd.DataFrame) -> str:
    by_model = runs.groupby("model", sort=False)
    unfit = "".join(f"; {MODEL_NAMES[name]} {told}" for name, rows in by_model if (told := unfitted(rows, unit="runs")))
    text = " Test error: lines (broken where a rate was not run) are means over the seeds that ran at every "
    text += "rate recorded, markers are seeds"
    sizes = by_model["train_size"].max()  # missing: all
    fewer = [f"{MODEL_NAMES[name]} has {size:,.0f} training images" for name, size in sizes.dropna().items()]
    if 0 < len(fewer) < len(sizes):
        unfit += f". {' and '.join(fewer)}, the others all: its rise can be compared with theirs, its level cannot"
    return f"{text}{unfit}."


def _images(study: Study) -> str:
    """How many training images the runs of a picture have, in words."""
    sizes = study.group(PICTURED[study.claim.name])["train_size"].drop_duplicates()
    return f"{' or '.join('all' if pd.isna(size) else f'{size:,.0f}' for size in sizes)} images"


def findings(*studies: Study) -> str:
    """What came of the choices that were tried both ways, as a list in Markdown; '' where none was. A choice may bear
    on several claims, each with runs of its own; what one claim says in full another does not repeat."""
    found = {}
    for study in studies:
        rows = deviations(study.claim.name, study.profile, study.data, study.frame)
        for what, came in zip(rows["what"], rows["what came of it"], strict=True):
            found.setdefault(came, f"- **{what}** ({study.claim.title.lower()}): {came}.")
    told = (came for came in found if came != "—" and not any(came in more for more in found.keys() - {came}))
    return "\n".join(found[came] for came in told)


# --- the README ---------------------------------------------------------------------------------------


def verdicts() -> str:
    """The README's verdicts: a table of every claim and what it rests on, the figure, what decides, what was found."""
    columns = {key: {name: recorded_study(name, *key) for name in claims_of(key[1])} for key in COLUMNS}
    own = columns["paper", "cifar10"]
    shown = pictured(list(own.values()))
    parts = [
        markdown(["claim", *COLUMNS.values()], [*_verdict_rows(columns.values()), *_basis_rows(columns.values())]),
        f"![{ALT}]({FIGURE.relative_to(ROOT).as_posix()})",
        caption(shown),
        "Each cell: the verdict; the mean of the claim's headline criterion, with the 95 % interval where the mean is "
        f"what is asked; what became of all criteria (version {CRITERIA_VERSION}). **replicated**: all hold; "
        "**partly**: the headline holds and another fails, or one holds in some seeds only; **not replicated**: the "
        "headline fails; **inconclusive**: the headline is undecided or not run, or no criterion fails, but some are "
        "undecided or not run. Undecided is what too few seeds, or networks that did not fit, cannot say. The share "
        "that remains is (accuracy without - chance) / (accuracy with - chance). Photographs (\\*) have headlines of "
        "their own:",
        markdown(["headline", "paper", "must be at least"], _headlines(columns.values())),
        "<details><summary>What the runs at the paper's size say of what the paper leaves open</summary>",
        findings(*own.values()) or "- not run",
        "</details>",
        " ".join(_sources(columns)),
    ]
    return _block("verdicts", "\n\n".join(parts))


def _verdict_rows(columns: Iterable[dict[str, Study]]) -> list[list[str]]:
    columns = list(columns)
    return [
        [f"**{claim.title}**: {claim.statement}", *(_cell(studies.get(name), claim) for studies in columns)]
        for name, claim in CLAIMS.items()
    ]


def _cell(study: Study | None, claim: Claim) -> str:
    """Verdict, headline and how many criteria hold; claim: the row's, a star where the study asks one of its own."""
    if study is None:
        return "not asked by the paper"
    head, form = study.headline, form_of(study.headline["quantity"])
    is_known = head["asked_of"] == "the interval" and head["seeds"] >= MIN_SEEDS
    sure = interval(head["interval_low"], head["interval_high"], form) if is_known else ""
    basis = ", ".join(filter(None, [sure, count(head["seeds"], "seed"), head["caveat"]]))
    value = f"<br>{form(head['ours'])} ({basis})" if head["seeds"] else ""
    details = [] if study.verdict == "not run" else [tally(study.criteria), seeds_note(study)]
    detail = "".join(f"<br>{text}" for text in details if text)
    star = "" if study.claim == claim else "\\*"
    return f"{VERDICTS[study.verdict]} **{study.verdict}**{star}{value}{detail}"


def _basis_rows(columns: Iterable[dict[str, Study]]) -> list[list[str]]:
    """What each column's verdicts rest on."""
    rows = {"runs recorded": [], "seeds": [], "images": []}
    for studies in (list(column.values()) for column in columns):
        rows["runs recorded"].append(runs_recorded(*studies))
        rows["seeds"].append(seed_numbers(*studies))
        rows["images"].append(image_counts(*studies))
    return [[name, *cells] for name, cells in rows.items()]


def _headlines(columns: Iterable[dict[str, Study]]) -> list[list[str]]:
    """What decides each claim, once for each kind of data set: the criterion, the paper's value, the margin."""
    claims = {study.claim: study for column in columns for study in column.values()}
    rows = []
    for claim, study in claims.items():
        head, form = study.headline, form_of(study.headline["quantity"])
        star = "\\*, photographs" if study.on_photographs else ""
        own = f"{claim.statement} " if study.on_photographs else ""
        text = f"**{claim.title}**{star}: {own}{capital(head['criterion'])}: {head['quantity']}"
        rows.append([text, form(head["paper"]), form(head["required_low"])])
    return rows


def _sources(columns: dict[tuple[str, str], dict[str, Study]]) -> list[str]:
    """What is to be said of the data, and the hardware."""
    by_data: dict[str, list[Study]] = {}
    for (_, data), studies in columns.items():
        by_data.setdefault(data, []).extend(studies.values())
    notes = {data: data_note(*studies) for data, studies in by_data.items()}
    machines = hardware_names(*(study for studies in by_data.values() for study in studies))
    return [*(f"{data}: {note}" for data, note in notes.items() if note), f"Hardware: {machines}."]


def speeds() -> str:
    """The README's speeds: what `make bench` last wrote on each kind of device."""
    return _block("bench", "\n\n".join(path.read_text().strip() for path in sorted(BENCHES.glob("bench-*.md"))))


def _block(name: str, text: str) -> str:
    return f"<!-- {name} -->\n{text}\n<!-- /{name} -->"


def figure_svg() -> str:
    """The README's figure."""
    file = io.StringIO()
    shown = pictured([recorded_study(claim) for claim in PICTURED])
    plots.settle(figure(shown)).savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def update_readme() -> int:
    """Refresh the README's verdicts, speeds and figure; returns 0, the command line's status."""
    text = README.read_text()
    for name, block in (("verdicts", verdicts()), ("bench", speeds())):
        text = re.sub(f"<!-- {name} -->.*<!-- /{name} -->", lambda _, block=block: block, text, flags=re.DOTALL)
    README.write_text(text)
    FIGURE.write_text(figure_svg())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(update_readme))
