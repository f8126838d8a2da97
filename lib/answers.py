"""Whether the claims hold, as tables: the cover, criteria, comparisons, margins. Study -> HTML.

Nothing here computes a result, and no number is typed: each comes from the study.
"""

import html
import math
from collections.abc import Callable, Mapping
from itertools import groupby

import pandas as pd
from IPython.display import HTML

from lib import plots
from lib.agreement import reproduction
from lib.config import retrains
from lib.criteria import MIN_SEEDS, QUESTION, VERDICTS, tally, verdict
from lib.margins import CRITERIA_VERSION, MARGINS, VERSIONS
from lib.pages import columns, heading, links, once, seeds_note, show, table, wide, word
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
    interval,
    mean_text,
    number,
    p_value,
    percent,
    points,
)

BOUNDS = ["interval_low", "interval_high", "recorded_low", "recorded_high"]


def cover_table(*studies: Study) -> HTML:
    """One row per claim: the paper's, the recorded and these runs' headline number, its margin, verdict and page."""
    return table(pd.DataFrame(map(_cover_row, studies)))


def _cover_row(study: Study) -> dict[str, str]:
    mine, form = study.headline, form_of(study.headline["quantity"])
    page = f'<a href="{study.claim.name}.ipynb">{study.claim.title}</a>'
    statement = wide(f"<strong>{page}.</strong> {study.claim.statement}")
    basis = f", {mine['caveat']}" if mine["caveat"] else ""
    row = {
        "claim": f"{statement}<small>Headline: {mine['criterion']}: {mine['quantity']}{basis}</small>",
        "verdict of these runs": word(
            study.verdict, f"<br><small>{tally(study.criteria, named=study.profile.is_result)}</small>"
        ),
        "paper": "—" if pd.isna(mine["paper"]) else form(mine["paper"]),
    }
    for each in (study.recorded, study):
        seeds = each.headline["seeds"]
        found = f"{_headline_mean(each)} <small>{count(seeds, 'seed')}</small>" if seeds else MISSING
        if each is not study:
            found = f"{found}<br>{word(each.verdict)}" if each.records else word(each.verdict)
        row[heading(each, study, with_hardware=False)] = found
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
    return mean_text(study.headline["ours"], study.headline["seeds"], form_of(study.headline["quantity"]))


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
    if pd.isna(row["ours"]):
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
        decided = (both[["holds_x", "holds_y"]] != "not run").all(axis=1)
        changed = list(both.loc[decided & (both["holds_x"] != both["holds_y"]), "criterion"])
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
    if rows["recorded"].notna().any():
        text += f" The recorded runs are those of profile {studies[0].recorded.profile.name}."
    found = (f"{row.name} {form_of(row.quantity)(row.ours)}" for row in rows.itertuples())
    alt = f"Forest plot of {which}: {'; '.join(found)}"
    return show(plots.forest(rows), alt, text, runs="" if headlines else "#runs")


def criteria_table(study: Study) -> HTML:
    """Every criterion: the range it must lie in and why, the paper's value, ours, and whether it holds."""
    rows, reasons, ours = [], set(), columns(study)
    for row in pd.concat([study.criteria, study.recorded.criteria]).drop_duplicates(QUESTION).itertuples():
        why = f"<br><small>{once(row.why, reasons)}; asked of {row.asked_of}</small>"
        values = {"criterion": _criterion_name(row), "must be": _must_be(row) + why, "paper": _papers(row)}
        rows.append(values | _criterion_cells(row, ours) | {"runs": links(study, row.group, row.model)})
    return table(pd.DataFrame(rows))


def _criterion_name(row) -> str:
    return wide(f"{row.criterion}: {row.quantity}{' (headline)' * row.headline}")


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
                cells[name] += f"<br><small>{_some(len(keys), study.needed(*runs), row)}</small>"
            if ran and any(study.shares(other, *runs) for other in before):
                cells[name] += "<br><small>the same runs</small>"
            before.append(study)
    return cells


def _some(recorded: int, needed: int, row) -> str:
    """Why a criterion has no answer though some of its runs are recorded; all of them are where not all corruption
    rates were asked for."""
    whose = "the network's" if row.model else "the"
    if recorded == needed:
        return f"{whose} runs in '{row.group}' are recorded, but at too few rates for this"
    return f"{recorded} of {whose} {needed} runs in '{row.group}' are recorded"


def _criterion_cell(row: pd.Series, form: Callable[[float], str]) -> str:
    """One study's answer to a criterion: estimate, then whether it holds and in how many seeds."""
    words = {
        "yes": "✔ holds",
        "no": "✘ fails",
        "mixed": "◐ holds in some seeds",
        "undecided": f"? {row['unsettled'] or 'too few seeds'}",
    }
    if row["holds"] == "no" and math.isfinite(row["ours"]):  # what never came lies infinitely far from any bound
        outside = max(row["required_low"] - row["ours"], row["ours"] - row["required_high"])
        words["no"] += f", by {gap(outside, form)}" if outside > 0 else ""
    if row["holds"] not in words:
        return f"{VERDICTS['not run']} {MISSING}"
    is_otherwise = row["holds"] != row["otherwise"]
    notes = [f"else it {words[row['otherwise']].split(' ', 1)[1]}"] if is_otherwise else []
    notes += [row["caveat"]] if row["caveat"] else []
    is_of_each = row["asked_of"] == "each seed"
    sure = [_surety(row, form)] if is_of_each or row["seeds"] >= MIN_SEEDS else []
    sure += [] if is_of_each else [count(row["seeds"], "seed")]
    text = f"{mean_text(row['ours'], row['seeds'], form)} <small>{', '.join(sure)}</small>"
    told = "".join(f"<br><small>{note}</small>" for note in notes)
    return f"{text}<br>{words[row['holds']]}{told}"  # may wrap: why it is undecided can be long


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
    repeated = column is not page.recorded and row.seeds and column.shares(page.recorded, row.group, row.model)
    notes = (row.caveat, row.unsettled, "the same runs" if repeated else "")
    told = "".join(f"<br><small>{note}</small>" for note in notes if note)
    outside = row.low > row.margin or row.high < -row.margin
    equal = "✔" if row.p_equivalence < ALPHA / 2 else "✘" if outside else "?"
    return {
        "with and without": wide(row.comparison + told),
        "paper": "—" if pd.isna(row.paper) else points(row.paper),
        "difference": estimate(row.difference, row.low, row.high, row.seeds, points),
        "p, Holm (test)": "—" if pd.isna(row.p) else f"{p_value(row.p)}, {p_value(row.p_holm)} ({test})",
        "margin": f"±\N{NO-BREAK SPACE}{points(row.margin)}" if row.margin > 0 else "—",
        "p of equivalence": "—" if pd.isna(row.p_equivalence) else f"{p_value(row.p_equivalence)} {equal}",
        "share that remains": estimate(row.share, row.share_low, row.share_high, row.seeds),
        "detectable": "—" if pd.isna(row.detectable) else points(row.detectable),
        "runs": links(page, row.group, row.model, column),
    }


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
    others = "; ".join(filter(None, map(_verdict_otherwise, studies))) or "the same"
    aside = f"<p>Were criteria left undecided only where seeds are too few, the verdicts would be: {others}.</p>"
    return HTML(f"{table(frame, f'Margins, criteria version {CRITERIA_VERSION}').data}<ul>{changes}</ul>{aside}")


def _verdict_otherwise(study: Study) -> str:
    """A study's verdict, were nothing left unsettled, and the criteria it would rest on; '' where they are the same."""
    criteria = study.criteria.assign(holds=study.criteria["otherwise"])
    if criteria.equals(study.criteria):
        return ""
    found = verdict(criteria) if study.profile.is_result else study.verdict
    return f"{study.claim.title} {found} ({tally(criteria, named=False)})"


def _range(low: float, high: float, form: Callable[[float], str]) -> str:
    if high == float("inf"):
        return f"at least {form(low)}"
    return f"at most {form(high)}" if low == -float("inf") else f"{form(low)} to {form(high)}"
