"""What a page shows around its figures: banner, tables, verdict, deviations, provenance. Study -> HTML.

Nothing here computes a result, and no number is typed: each comes from the study.
"""

import base64
import html
import io
import math
from collections.abc import Callable, Iterable, Mapping

import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from lib.claims import CRITERIA_VERSION, MODEL_NAMES, VERDICTS
from lib.deviations import deviations
from lib.runs import RECIPE, Record
from lib.study import Study

MISSING = "not run"


def show(figure: Figure, alt: str, caption: str = "", raster: bool = False) -> HTML:
    """A figure with its alternative text and a caption; SVG, or PNG for pictures and dense points."""
    data = io.BytesIO()
    figure.savefig(data, format="png" if raster else "svg", dpi=110, metadata=None if raster else {"Date": None})
    kind = "png" if raster else "svg+xml"
    source = f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return HTML(f'<figure><img src="{source}" alt="{html.escape(alt)}" style="max-width:100%">{text}</figure>')


def table(frame: pd.DataFrame, title: str = "", long: bool = False) -> HTML:
    """A frame of ready texts as a table; HTML in its cells is kept, missing values read 'not run'.

    A long table scrolls in a box of its own.
    """
    body = frame.to_html(index=False, escape=False, na_rep=MISSING, border=0, classes="report", justify="left")
    heading = f"<p><strong>{html.escape(title)}</strong></p>" if title else ""
    return HTML(f'{heading}<div class="scroll{" long" if long else ""}">{body}</div>')


def percent(value: float) -> str:
    """A fraction as per cent with two decimals; 'not run' where missing."""
    return MISSING if pd.isna(value) else f"{100 * value:.2f} %"


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits; 'not run' where missing, 'never' for an infinite time."""
    return MISSING if pd.isna(value) else "never" if math.isinf(value) else f"{value:.{digits}g}"


def over_seeds(values: Iterable[float], form: Callable[[float], str] = percent, missing: str = MISSING) -> str:
    """Mean of the seeds, their least and greatest, and their number; `missing` where no seed has a value."""
    values = pd.Series(list(values), dtype=float).dropna()
    if values.empty:
        return missing
    if len(values) == 1:
        return f"{form(values.iloc[0])} (1 seed)"
    if values.min() == values.max():
        return f"{form(values.iloc[0])} (all {len(values)} seeds)"
    return f"{form(values.mean())} ({form(values.min())} to {form(values.max())}, {len(values)} seeds)"


def seed_table(
    frame: pd.DataFrame,
    by: list[str],
    columns: Mapping[str, str],
    forms: Mapping[str, Callable[[float], str]] | None = None,
    missing: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """One row per value of `by`, in order of appearance, each column summed up over the seeds.

    Args:
        frame: tidy, one row per run.
        by: columns that name a row; networks get their full names.
        columns: column of the frame -> its heading.
        forms: column -> how one number is written; per cent where not given.
        missing: column -> what stands where runs have no such value; runs without a record read 'not run'.
    """
    forms, missing, rows = forms or {}, missing or {}, []
    for key, part in frame.groupby(by, sort=False, dropna=False):
        absent = missing if part["key"].notna().any() else {}
        values = {
            title: over_seeds(part[name], forms.get(name, percent), absent.get(name, MISSING))
            for name, title in columns.items()
        }
        rows.append(dict(zip(by, key, strict=True)) | values)
    result = pd.DataFrame(rows, columns=[*by, *columns.values()])
    if "model" in by:
        result["model"] = result["model"].map(MODEL_NAMES)
    return result.rename(columns={"model": "network", "arm": "variant"})


def beside_paper(frame: pd.DataFrame, reference: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """One row per group, network and arm: the paper's value and ours for each column, accuracies in per cent.

    Args:
        frame: rows of experiments.arms_frame.
        reference: the paper's rows, with columns group, model, arm and those of `columns` that it has.
        columns: column -> its heading.
    """
    known = reference.set_index(["group", "model", "arm"])
    rows = []
    for key, part in frame.groupby(["group", "model", "arm"], sort=False):
        row = dict(zip(("group", "network", "variant"), (key[0], MODEL_NAMES[key[1]], key[2]), strict=True))
        for name, title in columns.items():
            listed = key in known.index and name in known
            row[f"{title}, paper"] = "no row" if not listed else _paper_value(known.loc[key, name])
            row[f"{title}, ours"] = over_seeds(part[name])
        rows.append(row)
    return pd.DataFrame(rows)


def _paper_value(value: float) -> str:
    return "failed" if pd.isna(value) else percent(value)


def data_text(*studies: Study) -> str:
    """The data set of some studies of one profile: name, how many images trained on, how many there are, its note."""
    data = studies[0].dataset
    records = [record for study in studies for record in study.records]
    sizes = sorted({record.provenance["train_images"] + record.run.validation_size for record in records})
    size = " or ".join(f"{size:,}" for size in sizes if size < len(data.train)) or "all"
    return f"{data.name}: {size} of {len(data.train):,} training images, {len(data.test):,} test images. {data.note}"


def banner(*studies: Study) -> HTML:
    """What made this page: profile, data set, seeds, hardware; and a warning where it is not the full result."""
    profile, data = studies[0].profile, studies[0].dataset
    missing = sum(study.missing for study in studies)
    facts = {
        "Profile": f"{profile.name}: {profile.about}",
        "Data": data_text(*studies),
        "Seeds": str(len(profile.seeds)),
        "Hardware": _joined(record.provenance["hardware"] for study in studies for record in study.records),
    }
    warnings = []
    if not profile.is_result:
        warnings.append("Smoke profile: this page tests the machinery. Nothing on it is a result.")
    elif profile.name != "paper":
        warnings.append(
            f"Profile {profile.name}: smaller than the paper's setting; each claim's page lists its deviations."
        )
    if data.name == "digits":
        warnings.append("Data set: scikit-learn's handwritten digits in place of CIFAR-10.")
    if missing:
        warnings.append(f"{missing} of the runs this page needs have no record: they read '{MISSING}'.")
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items())
    notes = "".join(f'<p class="warning">⚠ {html.escape(text)}</p>' for text in warnings)
    return HTML(f'<div class="banner">{notes}<dl>{rows}</dl></div>')


def verdict_box(study: Study) -> HTML:
    """The claim in a sentence and its verdict."""
    held = (study.criteria["holds"] == "yes").sum()
    return HTML(
        f'<div class="verdict"><p>{html.escape(study.claim.statement)}</p>'
        f"<p><strong>{VERDICTS[study.verdict]} {study.verdict}</strong>: {held} of {len(study.criteria)} criteria "
        f"hold in every seed ({study.profile.name} profile, {study.dataset.name}).</p></div>"
    )


def criteria_table(study: Study) -> HTML:
    """Every criterion: required range, the paper's value, ours with its 95 % interval, and whether it holds."""
    words = {"yes": "✔ holds", "no": "✘ fails", "mixed": "◐ in some seeds", "not run": f"{VERDICTS['not run']} not run"}
    words = {holds: f'<span class="word">{text}</span>' for holds, text in words.items()}
    rows = [
        {
            "criterion": row.criterion,
            "required": _range(row.required_low, row.required_high),
            "paper": "—" if pd.isna(row.paper) else number(row.paper, 4),
            "ours, mean": number(row.ours, 4),
            "95 % interval": f"{number(row.interval_low)} to {number(row.interval_high)}" if row.seeds > 1 else "—",
            "seeds": row.seeds,
            "": words[row.holds],
        }
        for row in study.criteria.itertuples()
    ]
    return table(pd.DataFrame(rows))


def runs_table(study: Study) -> HTML:
    """Every run of the page with its outcome and a link to its record."""
    rows = [_run_row(study, row) for row in study.frame.dropna(subset="key").drop_duplicates("key").itertuples()]
    return table(pd.DataFrame(rows), f"{len(rows)} runs", long=True)


def _run_row(study: Study, row: tuple) -> dict[str, object]:
    changed = row.changed_test_accuracy
    corrupted = row.label_corruption not in (0, 1)
    return {
        "network": MODEL_NAMES[row.model],
        "trained on": f"labels corrupted at {row.label_corruption:g}" if corrupted else row.randomization,
        "regularizers": row.regularizers,
        "optimizer": row.optimizer.upper(),
        "batch": "all" if pd.isna(row.batch_size) else f"{row.batch_size:.0f}",
        "seed": row.seed,
        "epochs": row.epochs_run,
        "outcome": row.outcome,
        "training accuracy": percent(row.train_accuracy),
        "test accuracy": percent(row.test_accuracy),
        "test accuracy, changed images": "—" if pd.isna(changed) else percent(changed),
        "record": f'<a href="{record_link(study, row.key)}">{row.key}</a>',
    }


def record_link(study: Study, key: str) -> str:
    """Where a record lies, seen from a built page."""
    record = next(record for record in study.records if record.key == key)
    return f"runs/{study.store.path(record.run, record.fingerprint).relative_to(study.store.root).as_posix()}"


def deviations_table(study: Study) -> HTML:
    """The numbered deviations from the paper."""
    rows = deviations(study.claim.name, study.profile, study.dataset.name).astype(str).map(html.escape)
    return table(rows, "Deviations from the paper")


def provenance(*studies: Study) -> HTML:
    """Where the page's numbers come from, and the command that makes them again."""
    study = studies[0]
    records = list({record.key: record for each in studies for record in each.records}.values())
    facts = {
        "Command": f"make report PROFILE={study.profile.name} DATASET={study.dataset.name}",
        "Records": f"{len(records)}, recipe {RECIPE}, criteria version {CRITERIA_VERSION}",
        "Training time": f"{_total_seconds(records) / 60:.1f} minutes in all",
        "Trained": _span(record.provenance["started"][:10] for record in records),
        "Source": _joined(_commit(record) for record in records),
        "Hardware": _joined(_machine(record) for record in records),
        "Arithmetic": _joined(record.provenance["precision"] for record in records),
        "Versions": _joined(_versions(record) for record in records),
        "Data": f"{study.dataset.name} from {study.dataset.source}; {study.dataset.note} SHA-256 of all arrays "
        f"{study.dataset.fingerprint}",
    }
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items())
    return HTML(f'<p><strong>Provenance</strong></p><dl class="provenance">{rows}</dl>')


def _commit(record: Record) -> str:
    commit = record.provenance["commit"]
    changes = " with uncommitted changes" if record.provenance["dirty"] else ""
    return (f"commit {commit[:12]}" if commit else "no commit known") + changes


def _machine(record: Record) -> str:
    p = record.provenance
    return f"{p['hardware']}, {p['cores']} cores, {p['threads']} thread(s) a run, {p['platform']}"


def _versions(record: Record) -> str:
    versions = {"python": record.provenance["python"], **record.provenance["versions"]}
    return " ".join(f"{name} {version}" for name, version in versions.items())


def _total_seconds(records: Iterable[Record]) -> float:
    return sum(record.provenance["seconds"] for record in records)


def _joined(values: Iterable[str]) -> str:
    return "; ".join(sorted(set(values))) or "none"


def _span(days: Iterable[str]) -> str:
    days = sorted(days)
    return "never" if not days else days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def _range(low: float, high: float) -> str:
    if high == float("inf"):
        return f"at least {low:.4g}"
    return f"at most {high:.4g}" if low == -float("inf") else f"{low:.4g} to {high:.4g}"
