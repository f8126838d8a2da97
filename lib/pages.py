"""What a page shows around its figures: title, banner, verdict, runs, deviations, provenance. Study -> HTML.

Nothing here computes a result, and no number is typed: each comes from the study.
"""

import base64
import html
import io
import json
import re
import shlex
from collections.abc import Callable, Iterable

import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from lib import plots
from lib.claims import MODEL_NAMES
from lib.config import RECORDED, RETRAINED, ROOT, from_notebooks, retrains
from lib.criteria import VERDICTS, overall, tally
from lib.data import IMAGES
from lib.deviations import deviations
from lib.imagenet import image_size, own_size
from lib.margins import CRITERIA_VERSION
from lib.packing import pixels_text
from lib.profiles import PROFILES, Profile
from lib.runs import RECIPE, Record
from lib.study import Study, is_papers, run_counts, shared_runs
from lib.words import MISSING, capital, count, percent

STYLE = (ROOT / "report" / "template" / "cells.css").read_text()


def show(figure: Figure, alt: str, caption: str = "", raster: bool = False, runs: str = "#runs") -> HTML:
    """A figure with its alternative text, a caption and a link to its runs; SVG, or PNG for pictures.

    runs: where the link leads; '' for none.
    """
    data = io.BytesIO()
    plots.settle(figure).savefig(
        data, format="png" if raster else "svg", dpi=110, metadata=None if raster else {"Date": None}
    )
    kind = "png" if raster else "svg+xml"
    source = f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
    text = html.escape(caption) + (f' <a href="{runs}">The runs behind it</a>' if runs else "")
    image = f'<div class="scroll"><img src="{source}" alt="{html.escape(alt)}"></div>'
    return HTML(f"<figure>{image}<figcaption>{text}</figcaption></figure>")


def show_each(study: Study, draw: Callable[[Study], Figure], alt: str, caption: str = "", reference: str = "") -> HTML:
    """A figure of a page's runs and, where they are others, one of the recorded runs at the paper's size.

    Args:
        draw: column's study -> figure.
        alt, caption: as show's; a figure of one of two says of which.
        reference: what the caption says of the paper's marks, in the figure of runs at the paper's size.
    """
    shown = [(name, each) for name, each in columns(study).items() if each is study or each.records][::-1]
    parts = []
    for name, each in shown:
        which = f"{capital(name)}: " if len(shown) > 1 else ""
        text = f"{caption}{f' {reference}' if reference and each.is_full else ''}"
        parts.append(show(draw(each), f"{which}{alt}", f"{which}{text}").data)
    return HTML("".join(parts))


def table(frame: pd.DataFrame, title: str = "", long: bool = False) -> HTML:
    """A frame of ready texts as a table; HTML in its cells is kept, missing values read 'not run'.

    A long table scrolls in a box of its own.
    """
    body = frame.to_html(index=False, escape=False, na_rep=MISSING, border=0, classes="report", justify="left")
    heading = f"<p><strong>{html.escape(title)}</strong></p>" if title else ""
    if not long:
        return HTML(f'{heading}<div class="scroll" tabindex="0">{body}</div>')
    rows = f'<p class="screen"><small>{count(len(frame), "row")} in a box that scrolls</small></p>'
    return HTML(f'{heading}{rows}<div class="scroll long" tabindex="0">{body}</div>')


def wide(text: str) -> str:
    """A text that stays legible in a column of its own on a phone, where a table scrolls in its box."""
    return f'<span class="wide">{text}</span>'


def once(reason: str, told: set[str]) -> str:
    """A reason where it is told first in a table; told: those it has told."""
    if reason in told:
        return "reason above"
    told.add(reason)
    return html.escape(reason)


def heading(column: Study, page: Study, with_hardware: bool = True) -> str:
    """What a page calls a column of its numbers: profile, hardware and data set."""
    machines = {record.provenance["hardware"] for record in column.records} if with_hardware else ()
    many = len(machines) > 1  # the banner names them all
    named = f"{len(machines)} kinds of processors" if many else "".join(machines)
    parts = [f"profile {column.profile.name}", named, "" if column.data == "cifar10" else column.data]
    return f"{'recorded' if column is page.recorded else 'these'} runs ({', '.join(filter(None, parts))})"


def columns(page: Study) -> dict[str, Study]:
    """The columns of ours beside the paper's: the recorded runs, see Study.recorded, and this page's where they are
    others."""
    return {heading(each, page): each for each in (page.recorded, page)}


def word(verdict: str, detail: str = "") -> str:
    """A verdict as symbol and word."""
    return f'<span class="word">{VERDICTS[verdict]} {verdict}</span>{detail}'


def not_asked(study: Study) -> HTML:
    """Where a page leaves out what is asked of the other kind of data set."""
    text = "The paper asks this of ImageNet: <code>make report DATASET=imagenet</code> does, and "
    text += "<code>DATASET=tiny-imagenet</code> on fewer and smaller photographs."
    if study.on_photographs:
        text = "Of CIFAR-10 only: <code>make report DATASET=cifar10</code> has this."  # not all of it is the paper's
    return HTML(f"<p>{text}</p>")


def seeds_note(study: Study) -> str:
    """The verdict by the seeds that were planned, where there are more; else ''."""
    planned = PROFILES[study.profile.name].seeds
    more = len(study.profile.seeds) > len(planned)
    return f"by the {count(len(planned), 'seed')} planned first: {study.planned_verdict}" if more else ""


def title(*studies: Study) -> HTML:
    """The cover's title: the overall verdict of the recorded runs, and where these runs are others, theirs."""
    recorded = [study.recorded for study in studies]
    parts = {_size(recorded[0]): recorded}
    if recorded[0] is not studies[0]:
        parts[f"{_size(studies[0])}{', these runs' if _size(studies[0]) in parts else ''}"] = studies
    verdicts = (f"{what}: {word(overall([study.verdict for study in of]))}" for what, of in parts.items())
    return HTML(f"<h1>Does it replicate? <small>{'; '.join(verdicts)}</small></h1>")


def _size(study: Study) -> str:
    return "at the paper's size" if study.is_full else f"profile {study.profile.name}, reduced"


def data_text(*studies: Study) -> str:
    """The data set of some studies of one profile: name, how many images trained on, how many there are, its note."""
    return f"{studies[0].data}: {image_counts(*studies)}. {data_note(*studies)}".strip()


def image_counts(*studies: Study) -> str:
    """How many images some studies of one profile trained on, how many there are, and of how many classes."""
    name, records = studies[0].data, [record for study in studies for record in study.records]
    sizes = sorted({record.provenance["train_images"] + record.run.validation_size for record in records})
    known = [record.provenance["data"] for record in records]
    train, test = (max([data.get(split, 0) for data in known] or [0]) or IMAGES[name][split] for split in IMAGES[name])
    size = " or ".join(f"{size:,}" if size < train else "all" for size in sizes) or "all"
    classes = {f" of {data['classes']:,} classes" for data in known if "classes" in data and studies[0].on_photographs}
    return f"{size} of {train:,} training images, {test:,} test images{' or'.join(sorted(classes))}"


def data_note(*studies: Study) -> str:
    """What is to be said of the copies of a data set that some studies were made on; '' where nothing is."""
    notes = [record.provenance["data"]["note"] for study in studies for record in study.records]
    return _joined(filter(None, notes)) if any(notes) else ""


def ribbon(profile: Profile, data: str) -> str:
    """What stands on top of every screen of a page that is not the full result; '' for one that is."""
    if not profile.is_result:
        return "Smoke profile: a test of the machinery. Nothing on this page is a result."
    size = image_size(data)
    if is_papers(profile, data, size):
        return ""
    has_all = profile.rates == PROFILES[profile.name].rates
    rates = "" if has_all else f" at {count(len(profile.rates), 'rate')} of corruption"
    pixels = "" if size == own_size(data) else f" {pixels_text(size)}"
    return f"Profile {profile.name} on {data}{rates}{pixels}: reduced. Not the full result."


def seed_numbers(*studies: Study) -> str:
    """How many seeds some studies have: of one claim more may be recorded than of another."""
    numbers = " or ".join(map(str, sorted({len(study.profile.seeds) for study in studies})))
    recorded, needed = run_counts(*studies)
    return numbers if recorded == needed else f"{numbers} planned"


def runs_recorded(*studies: Study) -> str:
    """How many runs of some studies are recorded, how many they need, and how many they have in common with those at
    the paper's size: these are no evidence of their own."""
    recorded, needed = run_counts(*studies)
    shared = shared_runs(*studies)
    also = f", of which {shared} are also among those at the paper's size" if shared else ""
    return f"{recorded} of {needed}{also}" if recorded else "not run yet"


def hardware_names(*studies: Study) -> str:
    """What the records of some studies were made on."""
    return _joined(record.provenance["hardware"] for study in studies for record in study.records)


def banner(*studies: Study) -> HTML:
    """What made this page: profile, data set, seeds, hardware; and a warning where it is not the full result. With it
    the style of all that the page's cells display, in JupyterLab as in the report."""
    profile, data = studies[0].profile, studies[0].data
    recorded, needed = run_counts(*studies)
    facts = {
        "Profile": f"{profile.name}: {profile.about}",
        "Data": data_text(*studies),
        "Seeds": seed_numbers(*studies),
        "Recorded": runs_recorded(*studies),
        "Hardware": hardware_names(*studies),
    }
    reduced = ribbon(profile, data)
    warnings = [f"{reduced} Each claim's page lists its deviations."] if reduced else []
    if data == "digits":
        warnings.append("Data set: scikit-learn's handwritten digits in place of CIFAR-10.")
    if data == "tiny-imagenet":
        warnings.append("Data set: Tiny ImageNet's small photographs in place of ImageNet.")
    if not reduced and not all(study.is_full for study in studies):
        warnings.append("Data set: not all of it was there, so this is not the full result.")
    if recorded < needed:
        warnings.append(f"{recorded} of the {needed} runs this page needs are recorded: the others read '{MISSING}'.")
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items())
    notes = "".join(f'<p class="warning">⚠ {html.escape(text)}</p>' for text in warnings)
    return HTML(f'<style>{STYLE}</style><div class="banner">{notes}<dl>{rows}</dl></div>')


def verdict_box(study: Study) -> HTML:
    """The claim in a sentence and its verdict, at the paper's size and in these runs."""
    lines = []
    for name, each in columns(study).items():
        told = "; ".join(filter(None, (tally(each.criteria), seeds_note(each))))
        lines.append(f"<p><strong>{word(each.verdict)}</strong> in {name}: {told}.</p>")
    return HTML(f'<div class="verdict"><p>{html.escape(study.claim.statement)}</p>{"".join(lines)}</div>')


def anchor(column: Study, page: Study, group: str, model: str) -> str:
    """Where a page's lists of runs have those of a column, group and network; '': the first of the group's."""
    whose = "these" if column is page else "recorded"
    return re.sub(r"[^a-z0-9]+", "-", f"runs {whose} {group} {model}".lower())


def links(page: Study, group: str, model: str, *of: Study) -> str:
    """Links to the runs of a group and network in each of a page's columns that has some, or in some columns only; a
    dash where none has."""
    listed = {name: each for name, each in columns(page).items() if not of or any(each is one for one in of)}
    texts = {name: "runs" if len(listed) == 1 else name.partition(" ")[0] for name in listed}
    return (
        ", ".join(
            f'<a href="#{anchor(each, page, group, model)}">{texts[name]}</a>'
            for name, each in listed.items()
            if _is_listed(each, page, group, model)
        )
        or "—"
    )


def _is_listed(column: Study, page: Study, group: str, model: str) -> bool:
    """Whether a page lists runs of a column, group and network: of its own also that they are not run."""
    return bool(column.keys(group, model) or (column is page and column.needed(group, model)))


def runs_table(study: Study) -> HTML:
    """Every recorded run of the page's arms, by group and network, with its outcome and a link to its record; and how
    many others the page needs."""
    parts = ['<span id="runs"></span>']
    for name, each in columns(study).items():
        rows, listed = [], set()
        for (group, model), part in each.frame.groupby(["group", "model"]):
            found = [{"group": group} | _run_row(each, row) for row in part.dropna(subset="key").itertuples()]
            if each is study and len(found) < len(part):
                more = f"{len(part) - len(found)} more"
                found.append({"group": group, "variant": more, "network": MODEL_NAMES[model], "record": MISSING})
            if found:
                names = [anchor(each, study, group, which) for which in ("", model)]
                spans = [f'<span id="{one}"></span>' for one in names if one not in listed]
                found[0]["group"] = f"{''.join(spans)}{group}"
                listed.update(names)
            rows += found
        if rows:
            frame = pd.DataFrame(rows).fillna("—")
            told = frame.loc[:, (frame != "—").any()]  # only where pixels were changed are there images changed alike
            parts.append(table(told, capital(name), long=True).data)
        else:
            parts.append(f"<p><strong>{capital(name)}</strong>: {MISSING}.</p>")
    return HTML("".join(parts))


def _run_row(study: Study, row: tuple) -> dict[str, object]:
    changed = row.changed_test_accuracy
    corrupted = row.label_corruption not in (0, 1)
    return {
        "variant": row.arm,
        "network": MODEL_NAMES[row.model],
        "trained on": f"labels corrupted at {row.label_corruption:g}" if corrupted else row.randomization,
        "regularizers": row.regularizers,
        "optimizer": row.optimizer.upper(),
        "batch": "all" if pd.isna(row.batch_size) else f"{row.batch_size:.0f}",
        "seed": str(row.seed),
        "epochs": f"{row.epochs_run:.0f}",
        "outcome": "all epochs" if row.outcome == "epochs" else row.outcome,
        "training accuracy": percent(row.train_accuracy),
        "test accuracy": percent(row.test_accuracy),
        "test accuracy, changed images": "—" if pd.isna(changed) else percent(changed),
        "record": f'<a href="{record_link(study, row.key)}">{row.key[:8]}</a>',
    }


def record_link(study: Study, key: str) -> str:
    """Where a record lies, seen from a notebook."""
    record = next(record for record in study.records if record.key == key)
    return from_notebooks(study.store.path(record.run, record.fingerprint))


def deviations_table(study: Study) -> HTML:
    """The numbered deviations from the paper."""
    rows = deviations(study.claim.name, study.profile, study.data, study.frame).astype(str).map(html.escape)
    return table(rows, "Deviations from the paper")


def provenance(*studies: Study) -> HTML:
    """Where the page's numbers come from, and the command that makes them again."""
    study = studies[0]
    records = list({record.key: record for each in studies for record in each.records}.values())
    made_in = _environments(records)
    facts = {
        "Command": f"make report PROFILE={study.profile.name} DATASET={study.data}{_others(study)}",
        "Records": f"{len(records)}, recipe {RECIPE}, criteria version {CRITERIA_VERSION}",
        "Training time": f"{_total_seconds(records) / 3600:,.1f} hours, summed over the processes that trained",
        "Trained": _span(record.provenance["started"][:10] for record in records),
        "Source": _joined(map(_commit, made_in)),
        "Hardware": _joined(map(_machine, made_in)),
        "Arithmetic": _joined(record.arithmetic for record in records),
        "Versions": _joined(map(_versions, made_in)),
        "Data": _joined(_data(record) for record in records),
    }
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items())
    return HTML(f'<dl class="provenance">{rows}</dl>')


def _others(study: Study) -> str:
    """What else was asked for; without a number of seeds every claim takes all that are recorded."""
    given = " ".join(f"{name}={json.dumps(value).replace(' ', '')}" for name, value in study.asked.items())
    pixels = f" IMAGE_SIZE={study.pixels}" if study.pixels != own_size(study.data) else ""
    root = study.store.root
    where = root.relative_to(ROOT).as_posix() if root.is_relative_to(ROOT) else root.name  # pages tell no one's paths
    store = "" if root in (RECORDED, RETRAINED) else f" STORE={shlex.quote(where)}"
    return pixels + " RETRAIN=1" * retrains() + store + (f" PARAMETERS='{given}'" if given else "")


def _data(record: Record) -> str:
    data = record.provenance["data"]
    return f"{record.run.dataset} from {data['source']}; {data['note']} SHA-256 of all arrays {record.fingerprint}"


def _environments(records: Iterable[Record]) -> list[dict]:
    """What made the records; one that went on from a checkpoint elsewhere has several."""
    return [each for record in records for each in (record.provenance, *record.provenance.get("earlier", ()))]


def _commit(environment: dict) -> str:
    commit = environment["commit"]
    changes = " with uncommitted changes" if environment["dirty"] else ""
    return (f"commit {commit[:12]}" if commit else "no commit known") + changes


def _machine(environment: dict) -> str:
    hardware, cores, threads = (environment[name] for name in ("hardware", "cores", "threads"))
    processes = environment.get("processes", 1)
    shared = f"{processes} processes of " if processes > 1 else ""
    return f"{hardware}, {cores} cores, {shared}{threads} thread(s) a run, {environment['platform']}"


def _versions(environment: dict) -> str:
    versions = {"python": environment["python"], **environment["versions"]}
    return " ".join(f"{name} {version}" for name, version in versions.items())


def _total_seconds(records: Iterable[Record]) -> float:
    """Of each training once, times the processes that shared it."""
    seconds = (each.provenance["seconds"] * each.provenance.get("processes", 1) for each in records)
    return sum(dict(zip((each.training for each in records), seconds, strict=True)).values())


def _joined(values: Iterable[str]) -> str:
    return "; ".join(sorted(set(values))) or "none"


def _span(days: Iterable[str]) -> str:
    days = sorted(days)
    return "never" if not days else days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
