"""Numbers beside the paper's: paper | recorded runs at its size | these runs. Study -> HTML.

Nothing here computes a result, and no number is typed: each comes from the study.
"""

import html
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby, product

import numpy as np
import pandas as pd
from IPython.display import HTML

from lib import paper, plots
from lib.agreement import READINGS, TABLE2_COLUMNS, readings, reproduction
from lib.claims import CRITERIA_VERSION, MARGINS, MODEL_NAMES, VERSIONS, network_name
from lib.config import retrains
from lib.criteria import MIN_SEEDS, QUESTION, VERDICTS, tally, verdict
from lib.experiments import TRAINING_VARIANTS, group_of
from lib.pages import columns, heading, links, seeds_note, show, table, word
from lib.profiles import V3
from lib.splits import SPLITS
from lib.statistics import ALPHA, POWER, proportion_interval
from lib.study import Study
from lib.words import (
    MISSING,
    UNASKED,
    capital,
    count,
    estimate,
    form_of,
    gap,
    in_points,
    interval,
    number,
    percent,
    points,
)

BOUNDS = ["interval_low", "interval_high", "recorded_low", "recorded_high"]


def cover_table(*studies: Study) -> HTML:
    """One row per claim: the paper's, the recorded and these runs' headline number, its margin, verdict and page."""
    return table(pd.DataFrame(map(_cover_row, studies)))


def _cover_row(study: Study) -> dict[str, str]:
    mine, form = study.headline, form_of(study.headline["quantity"])
    page = f'<a href="{study.claim.name}.html">{study.claim.title}</a>'
    statement = _wide(f"<strong>{page}.</strong> {study.claim.statement}")
    basis = f", {mine['caveat']}" if mine["caveat"] else ""
    row = {
        "claim": f"{statement}<small>Headline: {mine['criterion']}: {mine['quantity']}{basis}</small>",
        "verdict of these runs": word(study.verdict, f"<br><small>{tally(study.criteria)}</small>"),
        "paper": "—" if pd.isna(mine["paper"]) else form(mine["paper"]),
    }
    for each in (study.recorded, study):
        seeds = each.headline["seeds"]
        found = f"{_headline_mean(each)} <small>{count(seeds, 'seed')}</small>" if seeds else MISSING
        if each is not study:
            found = f"{found}<br>{word(each.verdict)}" if each.records else word(each.verdict)
        row[heading(each, with_hardware=False)] = found
    others = [f'<small class="line">{note}</small>'] if (note := seeds_note(study)) else []
    others += [_verdict_elsewhere(each, study) for each in study.elsewhere]
    return row | {
        "95 % interval": _surety(mine, form),
        "against its margin": _slack(mine, form),
        "other verdicts": "<br>".join(others) or MISSING,
    }


def _verdict_elsewhere(study: Study, page: Study) -> str:
    """Another study's headline and verdict; a star where its claim, and so its margin, is not the page's."""
    where = study.profile.name + ("" if study.data == "cifar10" else f", {study.data}")
    own = "" if study.claim == page.claim else "*"
    return f'<small class="line">{where}{own}: {_headline_mean(study)}, {word(study.verdict)}</small>'


def _headline_mean(study: Study) -> str:
    return form_of(study.headline["quantity"])(study.headline["ours"])  # 'not run' without a seed


def _wide(text: str) -> str:
    """A text that stays legible in a column of its own on a phone, where a table scrolls in its box."""
    return f'<span class="wide">{text}</span>'


def _surety(row: pd.Series, form: Callable[[float], str]) -> str:
    """The interval of the mean; or in how many seeds it is so, with the exact interval for the share of all runs."""
    if row["asked_of"] == "the interval" or not row["seeds"]:
        return interval(row["interval_low"], row["interval_high"], form)
    share = proportion_interval(row["inside"], row["seeds"])
    seeds = count(row["seeds"], "seed")
    return f"{row['inside']} of {seeds} <small>{percent(share.low, 0)} to {percent(share.high, 0)} of runs</small>"


def _slack(row: pd.Series, form: Callable[[float], str]) -> str:
    """How far a mean lies inside its margin (+) or outside it (-)."""
    bounds = _range(row["required_low"], row["required_high"], form)
    if not row["seeds"]:
        return bounds
    slack = min(row["ours"] - row["required_low"], row["required_high"] - row["ours"])
    return f"{'+' if slack >= 0 else '-'}{gap(abs(slack), form)} <small>{bounds}</small>"


def retrained(*studies: Study) -> HTML:
    """What was trained again, claim by claim, beside the records of the same runs."""
    if not retrains():
        return HTML("<p>Nothing was trained again: <code>make report RETRAIN=1</code> does.</p>")
    rows = []
    for study in studies:
        found = reproduction(study.recorded.records, study.records)
        both = study.criteria.merge(study.recorded.criteria, on=QUESTION)
        changed = list(both.loc[both["holds_x"] != both["holds_y"], "criterion"])
        rows.append(
            {
                "claim": study.claim.title,
                "runs in both": found["runs"],
                "equal in every epoch": found["equal"],
                "largest difference, training accuracy": points(found["train_accuracy"]),
                "largest difference, test accuracy": points(found["test_accuracy"]),
                "recorded verdict": word(study.recorded.verdict),
                "verdict trained again": word(study.verdict),
                "criteria decided otherwise": "; ".join(changed) or "none",
            }
        )
    return table(pd.DataFrame(rows), "Trained again, and recorded; differences in points")


def forest(*studies: Study, headlines: bool = False) -> HTML:
    """All criteria of the studies, or their headlines only, as a forest plot with every seed a dot.

    What is asked of each seed is shown by its seeds, without an interval of their mean.
    """
    frames = []
    named = {name: f"recorded_{name.rpartition('_')[2]}" for name in ("interval_low", "interval_high", "unsettled")}
    named["ours"] = "recorded"
    for study in studies:
        recorded = study.recorded.criteria[[*QUESTION, *named]].rename(columns=named)
        if study.recorded is study:
            recorded = recorded.assign(**dict.fromkeys(named.values(), math.nan))
        frame = study.criteria.merge(recorded, on=QUESTION, how="left")
        frame.loc[frame["asked_of"] == "each seed", BOUNDS] = math.nan
        frames.append(frame[frame["headline"]] if headlines else frame)
    rows = pd.concat(frames, ignore_index=True).rename(columns={"criterion": "name"})
    which = "the headline of each claim" if headlines else "every criterion"
    text = "Black: mean and 95 % interval. Dots: seeds. Arrowheads: beyond the axis. Hollow: paper. Shaded: margin."
    text += "" if headlines else " What is asked of each seed has no interval."
    found = (f"{row.name} {form_of(row.quantity)(row.ours)}" for row in rows.itertuples())
    alt = f"Forest plot of {which}: {'; '.join(found)}"
    return show(plots.forest(rows), alt, text, runs="" if headlines else "#runs")


def criteria_table(study: Study) -> HTML:
    """Every criterion: the range it must lie in and why, the paper's value, ours, and whether it holds."""
    rows, reasons, ours = [], set(), columns(study)
    for row in pd.concat([study.criteria, study.recorded.criteria]).drop_duplicates(QUESTION).itertuples():
        why = f"<br><small>{_once(row.why, reasons)}; asked of {row.asked_of}</small>"
        values = {"criterion": _criterion_name(row), "must be": _must_be(row) + why, "paper": _papers(row)}
        rows.append(values | _criterion_cells(row, ours) | {"runs": links(study, row.group, row.model)})
    return table(pd.DataFrame(rows))


def _once(reason: str, told: set[str]) -> str:
    """A reason where it is told first in a table; told: those it has told."""
    if reason in told:
        return "reason above"
    told.add(reason)
    return html.escape(reason)


def _criterion_name(row) -> str:
    return _wide(f"{row.criterion}: {row.quantity}{' (headline)' * row.headline}")


def _must_be(row) -> str:
    return _range(row.required_low, row.required_high, form_of(row.quantity))


def _papers(row) -> str:
    return "—" if pd.isna(row.paper) else form_of(row.quantity)(row.paper)


def _criterion_cells(row, studies: Mapping[str, Study], *shown: Study) -> dict[str, str]:
    """Every column's answer; a profile may ask more than another: of two coefficients. An answer that rests on the
    runs of a column before it, or of one of the studies shown already, says so."""
    cells, key, runs, before = {}, (row.criterion, row.quantity), (row.group, row.model), list(shown)
    for name, study in studies.items():
        cells[name] = UNASKED
        if key in study.answers.index:
            cells[name] = _criterion_cell(study.answers.loc[key], form_of(row.quantity))
            ran, keys = study.answers.loc[key, "seeds"] > 0, study.keys(*runs)
            if not ran and keys:  # not of all that the criterion takes
                some = f"{len(keys)} of the network's {study.needed(*runs)} runs in '{row.group}' are recorded"
                cells[name] += f"<br><small>{some}</small>"
            if ran and any(study.shares(other, *runs) for other in before):
                cells[name] += "<br><small>the same runs</small>"
            before.append(study)
    return cells


def _criterion_cell(row: pd.Series, form: Callable[[float], str]) -> str:
    """One study's answer to a criterion: estimate, then whether it holds and in how many seeds."""
    words = {
        "yes": "✔ holds",
        "no": "✘ fails",
        "mixed": "◐ holds in some seeds",
        "undecided": f"? {row['unsettled'] or 'too few seeds'}",
    }
    if row["holds"] not in words:
        return f"{VERDICTS['not run']} {MISSING}"
    is_otherwise = row["holds"] != row["otherwise"]
    notes = [f"else it {words[row['otherwise']].split(' ', 1)[1]}"] if is_otherwise else []
    notes += [row["caveat"]] if row["caveat"] else []
    seeds = "" if row["asked_of"] == "each seed" else f", {count(row['seeds'], 'seed')}"
    text = f"{form(row['ours'])} <small>{_surety(row, form)}{seeds}</small>"
    told = "".join(f"<br><small>{note}</small>" for note in notes)
    return f'{text}<br><span class="word">{words[row["holds"]]}</span>{told}'


def comparisons_table(study: Study) -> HTML:
    """Every comparison with and without something, with all that is asked of it; differences in points of accuracy."""
    tables = []
    for name, each in columns(study).items():
        if each.records or each is study:
            rows = pd.DataFrame(_comparison_row(row, study, each) for row in each.comparisons.itertuples())
            tables.append(table(rows, capital(name)).data)
    return HTML("".join(tables))


def _comparison_row(row, page: Study, column: Study) -> dict[str, object]:
    test = "paired" if row.paired else "Welch"
    told = "".join(f"<br><small>{note}</small>" for note in (row.caveat, row.unsettled) if note)
    outside = row.low > row.margin or row.high < -row.margin
    equal = "✔" if row.p_equivalence < ALPHA / 2 else "✘" if outside else "?"
    return {
        "with and without": _wide(row.comparison + told),
        "paper": "—" if pd.isna(row.paper) else points(row.paper),
        "difference": estimate(row.difference, row.low, row.high, row.seeds, points),
        "p, Holm (test)": f"{_p(row.p)}, {_p(row.p_holm)} ({test})",
        "margin": f"± {points(row.margin)}" if row.margin > 0 else "—",
        "p of equivalence": "—" if pd.isna(row.p_equivalence) else f"{_p(row.p_equivalence)} {equal}",
        "share that remains": estimate(row.share, row.share_low, row.share_high, row.seeds),
        "detectable": "—" if pd.isna(row.detectable) else points(row.detectable),
        "runs": links(page, row.group, row.model, column),
    }


def _p(value: float) -> str:
    return "—" if pd.isna(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def agreement_table(study: Study) -> HTML:
    """The paper's numbers row by row, the recorded runs held against each, and these runs beside them."""
    ran = (study.recorded.agreement["seeds"] > 0) | (study.agreement["seeds"] > 0)
    rows, reasons = [], set()
    for row in _ran_first(study.recorded.agreement, ran).itertuples():
        form = number if row.source in ("Fig. 1a", "Fig. 1b") else form_of(row.row)
        run = interval(*_possible(row.run_low, row.run_high, form), form)
        one = {None: "", True: ": holds the paper's", False: ": does not"}[row.in_one_run]
        values = {
            "paper's": row.source,
            "number": _wide(row.row),
            "paper": form(row.paper),
            heading(study.recorded): _ours(row, form),
            "95 % for one run": run + one if row.scale not in ("distance", "share") else "—",
            "off by (p of equivalence)": f"{_offset(row, form)} <small>({_p(row.p_equivalence)})</small>",
            "margin": f"{_margin(row, form)}<br><small>{_once(row.why, reasons)}</small>",
            "direction of what it adds": row.direction or "—",
            "verdict": word(row.verdict),
        }
        if study.recorded is not study:
            mine = study.agreement.loc[row.Index]
            direction = f"<br><small>direction {mine['direction']}</small>" if mine["direction"] else ""
            values[heading(study)] = _ours(mine, form) + direction
        rows.append(values | {"runs": links(study, row.group, row.model)})
    return table(pd.DataFrame(rows), long=True)


def _ours(row, form: Callable[[float], str]) -> str:
    return estimate(row.ours, *_possible(row.low, row.high, form), row.seeds, form)


def _possible(low: float, high: float, form: Callable[[float], str]) -> tuple[float, float]:
    """The bounds of an interval, an accuracy's cut to 0..1: Student's has none, and two seeds may be far apart."""
    return tuple(np.clip([low, high], 0.0, 1.0)) if form is percent else (low, high)


def _offset(row, form: Callable[[float], str]) -> str:
    if not row.seeds:
        return "—"
    return f"times {row.offset:.2f}" if row.scale == "ratio" else gap(row.offset, form)


def _margin(row, form: Callable[[float], str]) -> str:
    return f"a factor of {row.margin:.2f}" if row.scale == "ratio" else gap(row.margin, form)


def elsewhere(study: Study) -> HTML:
    """The claim's criteria in the repository's other records: a column for each profile and data set."""
    parts = []
    for claim, studies in groupby(study.elsewhere, lambda each: each.claim):
        named = {f"{each.data}, profile {each.profile.name}: {each.verdict}": each for each in studies}
        criteria = pd.concat([each.criteria for each in named.values()]).drop_duplicates(QUESTION)
        rows = [
            {"criterion": _criterion_name(row), "must be": _must_be(row), "paper": _papers(row)}
            | _criterion_cells(row, named, study, study.recorded)
            for row in criteria.itertuples()
        ]
        parts.append(table(pd.DataFrame(rows), claim.statement).data)
    return HTML("".join(parts) or f"<p>In other profiles and on other data sets: {MISSING}.</p>")


def table2(study: Study) -> HTML:
    """Table 2's rows, top-1 and top-5, on training and test images, the last and the best epoch."""
    chance = ", ".join(f"top-{k} {percent(min(1.0, k * study.chance))}" for k in (1, 5))
    few = study.profile.sizes[study.data].test
    few = f" The best epoch is that of {few:,} test images, which are evaluated after every epoch." if few else ""
    parts = [f"<p>The paper's numbers are ImageNet's. Chance here: {chance}.{few}</p>"]
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
    titles = {f"{split}_accuracy": f"{what} accuracy" for split, what in zip(SPLITS, ("training", "test"), strict=True)}
    published = {
        (column, (group_of(row.group, name), row.model, row.arm)): percent(getattr(row, column))
        for row, name, column in product(paper.table1().itertuples(), TRAINING_VARIANTS, titles)
    }
    rows = seed_columns(study.recorded, _variants, ["group", "model", "arm"], titles, published)
    return table(rows, "Recorded runs of Table 1 with other settings")


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
        agrees = "all, so it does not tell which" if len(row.inside) == len(row.places) else agrees
        values = {
            "quantity": f"{network_name(row.model, row.variant)}: {row.quantity}",
            "paper": "; ".join(f"{source}: {percent(value)}" for source, value in row.places.items()),
            "our runs": "—" if row.model == V3 else row.group,  # this page has none on photographs
            heading(study.recorded): _mean(row.ours, row.seeds),
            "95 % for one run": run,
            "agrees with": f"{agrees}; nearest is {row.nearest}" if row.seeds else MISSING,
        }
        if study.recorded is not study:
            key = tuple(getattr(row, name) for name in which)
            values[heading(study)] = UNASKED if key not in ours.index else _mean(*ours.loc[key])
        rows.append(values)
    return table(pd.DataFrame(rows))


def _mean(value: float, seeds: float) -> str:
    return estimate(value, math.nan, math.nan, int(seeds))


def readings_table(study: Study) -> HTML:
    """Which labels Fig. 1c's test error is on, by the recorded runs at the paper's size."""
    rows, distances = [], readings(study.recorded.frame)
    for row in distances.itertuples():
        values = {"network": MODEL_NAMES[row.model], "settings": row.variant or "the profile's"}
        without = f" <small>without {count(row.left_out, 'run')} that learned nothing</small>" if row.left_out else ""
        values |= {"rates between 0 and 1": row.rates, "seeds": f"{row.seeds}{without}"}
        values["relative time (Fig. 1b)"] = _distance(row, "relative_time", number)
        for name, text in READINGS.items():
            values[f"test error on {text}"] = _distance(row, name, in_points)
        rows.append(values)
    if not rows:
        return HTML(f"<p>Distance from the paper's curves: {MISSING}.</p>")
    text = "Recorded runs at the paper's size: mean and largest distance from its curves; of times at the rates above "
    text += f"0 that ran, of errors between 0 and 1 (margin of their mean: {in_points(MARGINS['accuracy'].value)})"
    nearest = distances[list(READINGS)].dropna().idxmin(axis=1)
    counts = (f"on {READINGS[name]} in {many} of {len(nearest)}" for name, many in nearest.value_counts().items())
    told = f"<p>Test errors lie nearer to the paper's curve {', '.join(counts)}.</p>" if len(nearest) else ""
    return HTML(table(pd.DataFrame(rows), text).data + told)


def _distance(row, name: str, form: Callable[[float], str]) -> str:
    if math.isnan(getattr(row, name)):
        return MISSING
    if math.isinf(getattr(row, name)):  # times that never came
        return "not overfit at every rate"
    return f"{form(getattr(row, name))} <small>largest {form(getattr(row, f'largest_{name}'))}</small>"


def margins_table(*studies: Study) -> HTML:
    """Every margin and why it is that, the conventions of the tests, and what changed with each version: also in the
    studies' verdicts, where criteria are left undecided that would else be decided."""
    rows = [(name, number(margin.value, 4), margin.why) for name, margin in MARGINS.items()]
    rows += [
        ("interval", percent(1 - ALPHA), "one interval decides all: inside a margin it is two one-sided tests at half"),
        ("power", percent(POWER), "the convention, for the smallest detectable difference"),
        ("least seeds", str(MIN_SEEDS), "below it nothing is known of the spread, and nothing is decided"),
    ]
    frame = pd.DataFrame(rows, columns=["margin", "value", "why"]).map(html.escape)
    changes = "".join(f"<li>Version {version}: {html.escape(text)}.</li>" for version, text in VERSIONS.items())
    others = "; ".join(filter(None, map(_verdict_otherwise, studies))) or "as they are"
    aside = f"<p>Verdicts, were what versions 3, 5 and 7 leave undecided decided, too: {others}.</p>"
    return HTML(f"{table(frame, f'Margins, criteria version {CRITERIA_VERSION}').data}<ul>{changes}</ul>{aside}")


def _verdict_otherwise(study: Study) -> str:
    """A study's verdict, were nothing left unsettled, and the criteria it would rest on; '' where they are the same."""
    criteria = study.criteria.assign(holds=study.criteria["otherwise"])
    if criteria.equals(study.criteria):
        return ""
    found = verdict(criteria) if study.profile.is_result else study.verdict
    return f"{study.claim.title} {found} ({tally(criteria)})"


def seed_columns(
    study: Study,
    frame: Callable[[Study], pd.DataFrame],
    by: list[str],
    titles: Mapping[str, str],
    published: Mapping[tuple[str, tuple], str] | None = None,
    **how,
) -> pd.DataFrame:
    """seed_table of each column's study side by side: for each quantity the paper's, the recorded and these runs'.

    Args:
        study: the page's.
        frame: study -> tidy rows.
        by: columns that name a row.
        titles: column -> its heading.
        published: (column, row's key) -> the paper's value as text; a column of which it has none gets no place.
        how: forms and missing of seed_table.
    """
    mine = seed_table(frame(study), by, titles, **how)
    tables = {"recorded at the paper's size": mine}
    if study.recorded is not study:
        recorded = seed_table(frame(study.recorded), by, titles, **how)
        tables = {"recorded at the paper's size": recorded, f"these runs, {study.profile.name}": mine}
    frames = [frame(each)[by] for each in columns(study).values()]
    keys = list(pd.concat(frames).drop_duplicates().itertuples(index=False, name=None))
    names = list(mine.columns[: len(by)])
    result = pd.concat([each[names] for each in tables.values()]).drop_duplicates(ignore_index=True)
    for column, text in titles.items():
        if any(name == column for name, _ in published or {}):
            result[f"{text}: paper"] = [published.get((column, key), "—") for key in keys]
        for name, each in tables.items():
            found = result[names].merge(each, on=names, how="left")[text]
            result[f"{text}: {name}"] = found.fillna(UNASKED).to_numpy()
    ours = [f"{text}: {name}" for text in titles.values() for name in tables]
    return _ran_first(result, ~result[ours].isin([MISSING, UNASKED]).all(axis=1))


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
    if values.min() == values.max():
        return f"{form(values.iloc[0])} (all {len(values)} seeds)"
    return f"{form(values.mean())} ({form(values.min())} to {form(values.max())}, {len(values)} seeds)"


def _range(low: float, high: float, form: Callable[[float], str]) -> str:
    if high == float("inf"):
        return f"at least {form(low)}"
    return f"at most {form(high)}" if low == -float("inf") else f"{form(low)} to {form(high)}"
