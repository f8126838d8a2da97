"""Numbers beside the paper's: paper | recorded runs at its size | these runs. Study -> HTML.

Nothing here computes a result, and no number is typed: each comes from the study.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import product

import numpy as np
import pandas as pd
from IPython.display import HTML

from lib import paper
from lib.agreement import READINGS, TABLE2_COLUMNS, readings
from lib.claims import ACCURACIES, COLUMNS, MODEL_NAMES, network_name
from lib.criteria import MIN_SEEDS
from lib.experiments import TRAINING_VARIANTS, group_of
from lib.margins import MARGINS
from lib.pages import columns, heading, links, once, table, wide, word
from lib.profiles import V3
from lib.study import Study
from lib.words import (
    MISSING,
    UNASKED,
    count,
    count_range,
    estimate,
    form_of,
    gap,
    in_points,
    interval,
    number,
    p_value,
    percent,
)


def agreement_table(study: Study) -> HTML:
    """The paper's numbers row by row, the recorded runs held against each, and these runs beside them; runs that are
    not of its size get no verdict."""
    ran = (study.recorded.agreement["seeds"] > 0) | (study.agreement["seeds"] > 0)
    rows, reasons = [], set()
    for row in _ran_first(study.recorded.agreement, ran).itertuples():
        form = number if row.source in ("Fig. 1a", "Fig. 1b") else form_of(row.row)
        bounds = _possible(row.run_low, row.run_high, form)
        run, is_known = interval(*bounds, form), np.isfinite(bounds).all()
        one = {None: "", True: ": with the paper's" if is_known else "", False: ": without the paper's"}[row.in_one_run]
        if row.in_one_run is False and form(row.paper) in (form(row.run_low), form(row.run_high)):
            one += ", by less than is shown"
        values = {
            "paper's": row.source,
            "number": wide(row.row),
            "paper": form(row.paper),
            heading(study.recorded, study): _ours(row, form),
            "95 % prediction interval for one run": run + one if row.scale not in ("distance", "share") else "—",
            "off by (p of equivalence)": _off_by(row, form),
            "margin": f"{_margin(row, form)}<br><small>{once(row.why, reasons)}</small>",
            "direction of what it adds": row.direction or "—",
            "verdict": word(row.verdict) if study.recorded.is_full else "—",
        }
        if study.recorded is not study:
            mine = study.agreement.loc[row.Index]
            direction = f"<br><small>direction {mine['direction']}</small>" if mine["direction"] else ""
            values[heading(study, study)] = _ours(mine, form) + direction
        rows.append(values | {"runs": links(study, row.group, row.model)})
    return table(pd.DataFrame(rows), long=True)


def _ours(row, form: Callable[[float], str]) -> str:
    note = f"<br><small>{row.note}</small>" if row.note else ""
    return estimate(row.ours, *_possible(row.low, row.high, form), row.seeds, form) + note


def _possible(low: float, high: float, form: Callable[[float], str]) -> tuple[float, float]:
    """The bounds of an interval, an accuracy's cut to 0..1: Student's has none, and seeds may be far apart. NaN
    where no accuracy would be left out, as such an interval says nothing."""
    if form is not percent:
        return low, high
    return (math.nan, math.nan) if low <= 0 and high >= 1 else tuple(np.clip([low, high], 0.0, 1.0))


def _off_by(row, form: Callable[[float], str]) -> str:
    if not row.seeds:
        return "—"
    offset = gap(row.offset, form)
    if row.scale == "ratio":
        offset = "never" if math.isinf(row.offset) else f"times {row.offset:.2f}"
    return f"{offset} <small>({p_value(row.p_equivalence)})</small>"


def _margin(row, form: Callable[[float], str]) -> str:
    return f"a factor of {row.margin:.2f}" if row.scale == "ratio" else gap(row.margin, form)


def table2(study: Study) -> HTML:
    """Table 2's rows, top-1 and top-5, on training and test images, the last and the best epoch."""
    chance = ", ".join(f"top-{k} {percent(min(1.0, k * study.chance))}" for k in (1, 5))
    tested = study.profile.sizes[study.data].test
    best = f" The best epoch is that of {tested:,} test images, evaluated after every epoch." if tested else ""
    parts = [f"<p>The paper's numbers are ImageNet's. Chance here: {chance}.{best}</p>"]
    for title, first in (("Training", 0), ("Test, last epoch", 2), ("Test, best epoch", 4)):
        published, titles = {}, {}
        for name, ours, what in TABLE2_COLUMNS[first : first + 2]:
            titles[ours] = what
            for row in paper.table2().itertuples():
                value = getattr(row, name)
                published[ours, (row.group, row.arm)] = "—" if pd.isna(value) else percent(value)
        rows = seed_columns(study, lambda each: each.group_like("Table 2"), ["group", "arm"], titles, published)
        parts.append(table(rows, title).data)
    return HTML("".join(parts))


def table1_variants(study: Study) -> HTML:
    """Table 1's rows as run with other settings, experiments.VARIANTS, beside the paper's numbers."""
    titles = {column: COLUMNS[column] for column in ACCURACIES}
    published = {
        (column, (group_of(row.group, name), row.model, row.arm)): percent(getattr(row, column))
        for row, name, column in product(paper.table1().itertuples(), TRAINING_VARIANTS, titles)
    }
    rows = seed_columns(study, _variants, ["group", "model", "arm"], titles, published)
    return table(rows, "Table 1 with other settings")


def _variants(study: Study) -> pd.DataFrame:
    rows = study.group_like("Table 1")
    return rows[rows["variant"] != ""]


def contradictions_table(study: Study) -> HTML:
    """Where the paper disagrees with itself, and which of its values the recorded runs agree with."""
    which = ["model", "group", "variant"]
    rows, ours = [], study.contradictions.set_index(which)[["ours", "seeds"]]
    for row in study.recorded.contradictions.itertuples():
        run = interval(*_possible(row.run_low, row.run_high, percent), percent)
        agrees = ", ".join(row.inside) or ("none" if row.seeds >= MIN_SEEDS else "too few seeds")
        told = f"{agrees}; nearest is {row.nearest}"
        told = "all, so it does not tell which" if len(row.inside) == len(row.places) else told
        values = {
            "quantity": f"{network_name(row.model, row.variant)}: {row.quantity}",
            "paper": "; ".join(f"{source}: {percent(value)}" for source, value in row.places.items()),
            "our runs": "—" if row.model == V3 else row.group,  # this page has none on photographs
            heading(study.recorded, study): _mean(row.ours, row.seeds),
            "95 % prediction interval for one run": run,
            "agrees with": told if row.seeds else MISSING,
        }
        if study.recorded is not study:
            key = tuple(getattr(row, name) for name in which)
            values[heading(study, study)] = UNASKED if key not in ours.index else _mean(*ours.loc[key])
        rows.append(values | {"runs": links(study, group_of(row.group, row.variant), row.model)})
    return table(pd.DataFrame(rows))


def _mean(value: float, seeds: float) -> str:
    return estimate(value, math.nan, math.nan, int(seeds))


def readings_table(study: Study) -> HTML:
    """Which labels Fig. 1c's test error is on, by the recorded runs at the paper's size."""
    rows, distances = [], readings(study.recorded.frame)
    for row in distances.itertuples():
        values = {"network": MODEL_NAMES[row.model], "settings": row.variant or "the profile's"}
        notes = [f"without {count(row.left_out, 'run')} that learned nothing"] if row.left_out else []
        notes += [row.unfitted] if row.unfitted else []
        seeds = count_range(row.fewest_seeds, row.most_seeds, "seed")
        seeds += f" <small>{'; '.join(notes)}</small>" if notes else ""
        values |= {"rates between 0 and 1": row.rates, "seeds a rate": seeds}
        values["relative time (Fig. 1b)"] = _distance(row, "relative_time", number)
        for name, text in READINGS.items():
            values[f"test error on {text}"] = _distance(row, name, in_points)
        group = group_of("corruption", row.variant)
        rows.append(values | {"runs": links(study, group, row.model, study.recorded)})
    if not rows:
        return HTML(f"<p>Distance from the paper's curves: {MISSING}.</p>")
    text = "How far the recorded runs at the paper's size lie from its curves, mean and largest over the rates: times "
    text += "at all rates above 0 that ran, errors at those between 0 and 1, where the readings differ (margin of "
    text += f"their mean: {in_points(MARGINS['accuracy'].value)})"
    nearest = distances[list(READINGS)].dropna().idxmin(axis=1)
    counts = (f"on {READINGS[name]} in {many} of {len(nearest)}" for name, many in nearest.value_counts().items())
    of = "Of the rows with runs at such rates, other settings included, the paper's errors are nearer to ours "
    told = f"<p>{of}{', '.join(counts)}.</p>" if len(nearest) else ""
    return HTML(table(pd.DataFrame(rows), text).data + told)


def _distance(row, name: str, form: Callable[[float], str]) -> str:
    if math.isnan(getattr(row, name)):
        return MISSING
    if math.isinf(getattr(row, name)):  # times that never came
        return "not overfit at every rate"
    return f"{form(getattr(row, name))} <small>largest {form(getattr(row, f'largest_{name}'))}</small>"


def seed_columns(
    study: Study,
    frame: Callable[[Study], pd.DataFrame],
    by: list[str],
    titles: Mapping[str, str],
    published: Mapping[tuple[str, tuple], str] | None = None,
    **how,
) -> pd.DataFrame:
    """seed_table of each column's study side by side: for each quantity the paper's, the recorded and these runs', and
    links to the runs.

    Args:
        study: the page's.
        frame: study -> rows of its frame; a column that has none gets no place.
        by: columns that name a row.
        titles: column -> its heading.
        published: (column, row's key) -> the paper's value as text; nor has the paper where it has none.
        how: forms and missing of seed_table.
    """
    frames = {heading(each, study, with_hardware=False): frame(each) for each in columns(study).values()}
    frames = {name: rows for name, rows in frames.items() if len(rows)} or frames
    tables = {name: seed_table(rows, by, titles, **how) for name, rows in frames.items()}
    found = pd.concat([rows[[*dict.fromkeys([*by, "group", "model"])]] for rows in frames.values()])
    parts = dict(iter(found.groupby(by, sort=False, dropna=False)))
    names = list(next(iter(tables.values())).columns[: len(by)])
    result = pd.concat([each[names] for each in tables.values()]).drop_duplicates(ignore_index=True)
    for column, text in titles.items():
        if any(name == column for name, _ in published or {}):
            result[f"{text}: paper"] = [published.get((column, key), "—") for key in parts]
        for name, each in tables.items():
            values = result[names].merge(each, on=names, how="left")[text]
            result[f"{text}: {name}"] = values.fillna(UNASKED).to_numpy()
    result["runs"] = [_links(study, part) for part in parts.values()]
    ours = [f"{text}: {name}" for text in titles.values() for name in tables]
    return _ran_first(result, ~result[ours].isin([MISSING, UNASKED]).all(axis=1))


def _links(study: Study, rows: pd.DataFrame) -> str:
    which = rows[["group", "model"]].drop_duplicates()
    return ", ".join(links(study, *each) for each in which.itertuples(index=False))


def _ran_first(rows: pd.DataFrame, ran: pd.Series) -> pd.DataFrame:
    """The rows in their order, those of which nothing ran after all others."""
    return pd.concat([rows[ran], rows[~ran]])


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


def over_seeds(values: Iterable[float], form: Callable[[float], str] = percent, missing: str = MISSING) -> str:
    """Mean of the seeds, their least and greatest, and their number; `missing` where no seed has a value."""
    values = pd.Series(list(values), dtype=float).dropna()
    if values.empty:
        return missing
    if len(values) == 1:
        return f"{form(values.iloc[0])} (1 seed)"
    came = values[np.isfinite(values)]
    if 0 < len(came) < len(values):  # times, some of which never came: there is no mean of all
        never = len(values) - len(came)
        return f"{form(math.inf)} in {never} of {len(values)} seeds, else {over_seeds(came, form)}"
    if form(values.min()) == form(values.max()):
        return f"{form(values.iloc[0])} (all {len(values)} seeds)"
    return f"{form(values.mean())} ({form(values.min())} to {form(values.max())}, {len(values)} seeds)"
