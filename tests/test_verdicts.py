"""The verdict table once more, from the record files by another path, and compared with what the cover shows.

Of the library only lib.experiments is used, which says which runs a claim needs. Records are read as JSON; times,
intervals and decisions are worked out here from textbook formulas; margins are typed in from the printed paper.
"""

import itertools
import json
import math
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from conftest import cells
from scipy.stats import rankdata, t

from lib import answers, overview
from lib.config import ROOT
from lib.experiments import claim_arms
from lib.profiles import PROFILES
from lib.runs import RECIPE
from lib.study import recorded_study

CHANCE, LEVEL = 0.1, 0.05
FITTED, STEADY, CONSTANT = 0.99, 0.9, 10
NEAR_CHANCE = (0.5039 - 0.1) / 20  # Table 1's weakest row
MARGINAL = (76.07 - 10) / (85.75 - 10)  # AlexNet and Inception without regularizers
NO_GAIN = (0.6316 - 0.5980) / 2  # Table 2 without any regularizer, best and last
NETS = ("inception", "inception_no_bn", "alexnet", "mlp_3x512", "mlp_1x512")
WITH = {  # training accuracy in Table 1 with a regularizer
    ("inception", "random crop + weight decay"): 100.0,
    ("inception", "random crop"): 100.0,
    ("inception", "weight decay"): 100.0,
    ("inception_no_bn", "weight decay"): 100.0,
    ("alexnet", "random crop + weight decay"): 99.90,
    ("alexnet", "random crop"): 99.82,
    ("alexnet", "weight decay"): 100.0,
    ("mlp_3x512", "weight decay"): 100.0,
    ("mlp_1x512", "weight decay"): 99.80,
}
FIVE = ("true labels", "random labels", "shuffled pixels", "random pixels", "gaussian")


class Evidence:
    """The record files of one profile: values by group, arm and network, a list over the seeds."""

    def __init__(self, claim, profile):
        files = [json.loads(path.read_text()) for path in (ROOT / "report" / "runs" / "cifar10").glob("*.json")]
        found = {self.name(file["run"]): file for file in files if file["recipe"] == RECIPE}
        chosen = []
        for seed in itertools.count():  # the profile's, and all that are recorded beyond
            arms = claim_arms(claim, replace(PROFILES[profile], seeds=tuple(range(seed + 1))), "cifar10")
            new = [(arm, found.get(self.name(asdict(arm.run)))) for arm in arms if arm.run.seed == seed]
            if seed >= len(PROFILES[profile].seeds) and not all(file for _, file in new):
                break
            chosen += new
        self.arms = {}
        for arm, file in chosen:
            self.arms.setdefault((arm.group, arm.name, arm.run.model), []).append((arm.run, file))

    @staticmethod
    def name(settings):
        """The settings as text; older files lack those that came later."""
        later = {"classes": None, "exact_only": False, "photo_augmentation": False}
        later |= {"lrn": "tutorial", "initialization": "He", "across_channels": False}
        return json.dumps(later | settings, sort_keys=True)

    def get(self, group, name, model, read):
        return [math.nan if file is None else read(file) for _, file in self.arms[group, name, model]]

    def setting(self, group, name, model):
        run = self.arms[group, name, model][0][0]
        return run.width, run.train_size, run.validation_size, run.batch_size


def final(name):
    return lambda file: file["final"][name]


def clock(file):
    """Epochs until the running loss is below the level, linear between epochs."""
    losses = file["history"]["train_loss"]
    for place, loss in enumerate(losses):
        if loss is not None and loss < LEVEL:
            before = losses[place - 1] if place else None
            return 1.0 if before is None else place + (before - LEVEL) / (before - loss)
    return math.inf


def spearman(x, y):
    if any(map(math.isnan, y)):
        return math.nan
    return 0.0 if len(set(y)) == 1 else round(float(np.corrcoef(rankdata(x), rankdata(y))[0, 1]), 9)


def known(values):
    return np.array([value for value in values if not math.isnan(value)])


def of_each(values, low):
    values = known(values)
    if len(values) < 2:
        return "not run" if not len(values) else "undecided"
    return "yes" if (values >= low).all() else "mixed" if (values >= low).any() else "no"


def of_interval(count, bounds, low, high):
    if count < 2:
        return "undecided" if count else "not run"
    if low <= bounds[0] and bounds[1] <= high:
        return "yes"
    return "no" if bounds[1] < low or bounds[0] > high else "undecided"


def student(values):
    half = (
        t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    )
    return np.mean(values) - half, np.mean(values) + half


def welch(x, y):
    a, b = np.var(x, ddof=1) / len(x), np.var(y, ddof=1) / len(y)
    if a + b == 0:
        return np.mean(x) - np.mean(y), np.mean(x) - np.mean(y)
    freedom = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    half = t.ppf(0.975, freedom) * math.sqrt(a + b)
    return np.mean(x) - np.mean(y) - half, np.mean(x) - np.mean(y) + half


def at_chance(values, chance=CHANCE):
    values = known(values)
    bounds = student(values) if len(values) else None
    return of_interval(len(values), bounds, chance - NEAR_CHANCE, chance + NEAR_CHANCE)


def ratio(values, low, high):
    values = known(values)
    if len(values) > 1 and np.isinf(values).any():
        inside = (values >= low) & (values <= high)
        return "yes" if inside.all() else "mixed" if inside.any() else "no"
    return of_interval(len(values), np.exp(student(np.log(values))) if len(values) else None, low, high)


def grows(rates, times):
    """Whether times grow with the rates in each seed; undecided where that hangs on when those come that never came."""
    for seed in times:
        late = [place for place, time in enumerate(seed) if math.isinf(time)]
        ends = [list(seed), list(seed)]
        for place in late:
            ends[0][place], ends[1][place] = 1e6 - place, 1e6 + place  # the later the rate, the sooner or the later
        if late and spearman(rates, ends[0]) < STEADY <= spearman(rates, ends[1]):
            return "undecided"
    return of_each([spearman(rates, list(seed)) for seed in times], STEADY)


def unless(is_unsettled, holds):
    return "undecided" if is_unsettled and holds != "not run" else holds


def share(on, off, paired, trains, trains_with, papers=None):
    """The share that remains, its bounds, and whether it is above the margin; undecided where some without it did not
    fit what they were trained on, or some with it fitted less than the paper's or, of which it has none, nothing."""
    least = CHANCE + NEAR_CHANCE if papers is None else min(FITTED, papers / 100 - (1 - FITTED))
    if (known(trains) < FITTED).any() or (known(trains_with) < least).any():
        mean, bounds, holds = share(on, off, paired, (), ())
        return mean, bounds, unless(True, holds)
    both = ~np.isnan(on) & ~np.isnan(off)
    on, off = np.array(on)[both], np.array(off)[both]
    if not len(on):
        return math.nan, (math.nan, math.nan), "not run"
    room = on.mean() - CHANCE
    mean = 1 - (on.mean() - off.mean()) / room
    if len(on) < 2:
        return mean, (math.nan, math.nan), "undecided"
    low, high = student(on - off) if paired else welch(on, off)
    bounds = 1 - high / room, 1 - low / room
    return mean, bounds, of_interval(len(on), bounds, MARGINAL, math.inf)


def randomization(profile):
    evidence, group = Evidence("randomization", profile), "randomizations"
    fits = {name: evidence.get(group, name, "inception", final("train_accuracy")) for name in FIVE}
    result = [of_each(values, FITTED) for values in fits.values()]
    for net in NETS:
        if net != "inception":
            result.append(of_each(evidence.get("random labels", "random labels", net, final("train_accuracy")), FITTED))
        train, test = (
            evidence.get("random labels", "random labels", net, final(f"{split}_accuracy"))
            for split in ("train", "test")
        )
        result.append(unless((known(train) < FITTED).any(), at_chance(test)))
    times = {name: np.array(evidence.get(group, name, "inception", clock)) for name in FIVE}
    others = np.max([times[name] for name in FIVE if name != "random labels"], axis=0)
    result.append(ratio(times["random labels"] / others, 1, math.inf))
    result.append(ratio(times["random labels"] / times["true labels"], 1, CONSTANT))
    return result, fits["random labels"], of_each(fits["random labels"], FITTED), None


def lowest_unfit(accuracies):
    """The lowest accuracy that is too low to have fitted, which decides although others may not have run; else NaN."""
    return min((value for value in accuracies if value < FITTED), default=math.nan)


def label_corruption(profile):
    evidence, rates = Evidence("label_corruption", profile), PROFILES[profile].rates
    result, headline = [], None
    for net in ("inception", "alexnet", "mlp_1x512"):
        reads = final("test_accuracy"), clock, final("train_accuracy")
        tests, times, trains = (
            np.array([evidence.get("corruption", f"{rate:g}", net, read) for rate in rates]).T for read in reads
        )
        errors = [spearman(rates, list(-seed)) for seed in tests]
        ran = ~np.isnan(tests).any(axis=1)
        result += [unless((trains[ran] < FITTED).any(), of_each(errors, STEADY)), grows(rates, times)]
        headline = (errors, result[-2]) if net == "inception" else headline
        last = at_chance(1 - tests[:, -1], 1 - CHANCE)
        result += [
            of_each([seed.min() if (seed >= FITTED).all() else lowest_unfit(seed) for seed in trains], FITTED),
            unless((known(trains[:, -1]) < FITTED).any(), last),
        ]
    return result, *headline, None


def explicit_regularization(profile):
    evidence, group = Evidence("explicit_regularization", profile), "Table 1, true labels"
    result = [of_each(evidence.get(group, "none", net, final("train_accuracy")), FITTED) for net in NETS]
    head = None
    for where in [key for key in evidence.arms if key[0] == group and key[1] != "none"]:
        none = (group, "none", where[2])
        on, off = (evidence.get(*key, final("test_accuracy")) for key in (where, none))
        trains = [evidence.get(*key, final("train_accuracy")) for key in (none, where)]
        papers = WITH.get((where[2], where[1].removesuffix(" 5e-05")))  # the paper does not say which it had
        mean, bounds, holds = share(on, off, evidence.setting(*where) == evidence.setting(*none), *trains, papers)
        result.append(holds)
        if where[1:] == ("random crop + weight decay", "inception"):
            head = [mean], holds, bounds
    for where in [key for key in evidence.arms if key[0] == "Table 4"]:
        if where[1:] == ("weight decay", "alexnet") or where[1].endswith("5e-05"):
            continue  # not a criterion: the paper's failed, or another coefficient
        last = lambda file: file["history"]["train_accuracy"][-1]  # noqa: E731
        read = final("train_accuracy") if where[1] == "weight decay" else last
        result.append(of_each(evidence.get(*where, read), FITTED))
    return result, *head


def implicit_regularization(profile):
    evidence = Evidence("implicit_regularization", profile)
    on, off = ("batch norm", "on", "inception"), ("batch norm", "off", "inception_no_bn")
    result = [of_each(evidence.get(*off, final("train_accuracy")), FITTED)]
    values = (evidence.get(*each, final("test_accuracy")) for each in (on, off))
    trains = [evidence.get(*each, final("train_accuracy")) for each in (off, on)]
    mean, bounds, headline = share(*values, evidence.setting(*on) == evidence.setting(*off), *trains, 100.0)
    result.append(headline)
    for net in ("inception", "alexnet", "mlp_1x512"):
        for best in (chosen_epoch, lambda history: np.nanargmax(history["test_accuracy"])):
            gain = lambda f, b=best: f["history"]["test_accuracy"][b(f["history"])] - f["history"]["test_accuracy"][-1]  # noqa: E731
            gains = known(evidence.get("early stopping", "one tenth held out", net, gain))
            result.append(of_interval(len(gains), student(gains) if len(gains) else None, -math.inf, NO_GAIN))
    for where in [key for key in evidence.arms if key[0] == "optimizer" and key[1] != "SGD"]:
        sgd = ("optimizer", "SGD", where[2])
        values = (evidence.get(*each, final("test_accuracy")) for each in (sgd, where))
        trains = [evidence.get(*each, final("train_accuracy")) for each in (where, sgd)]
        result.append(share(*values, evidence.setting(*sgd) == evidence.setting(*where), *trains)[2])
    return result, [mean], headline, bounds


def chosen_epoch(history):
    return int(np.argmax(history["validation_accuracy"]))


def verdict(holds, headline):
    if set(holds) == {"not run"}:
        return "not run"
    if headline in ("no", "undecided", "not run"):
        return {"no": "not replicated"}.get(headline, "inconclusive")
    if set(holds) == {"yes"}:
        return "replicated"
    return "partly" if {"no", "mixed"} & set(holds) else "inconclusive"


CLAIMS = (randomization, label_corruption, explicit_regularization, implicit_regularization)


@pytest.mark.parametrize("profile", ["paper", "cpu", "quick"])
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_cover_and_readme_show_what_the_record_files_say(claim, profile):
    holds, values, headline, bounds = claim(profile)
    expected = verdict(holds, headline)
    head, row = cells(answers.cover_table(recorded_study(claim.__name__, profile)).data)
    shown = dict(zip(head, row, strict=True))
    assert shown["verdict of these runs"].split(" ", 1)[1].startswith(expected)
    words = {"no": "failed", "mixed": "in some seeds", "undecided": "undecided", "not run": "not run"}
    counts = [f"{holds.count(kind)} {text}" for kind, text in words.items() if kind in holds]
    told = re.sub(r"( failed) \(.*?\)(?=,|$)", r"\1", shown["verdict of these runs"])  # which ones: test_criteria
    assert ", ".join([f"{holds.count('yes')} of {len(holds)} criteria hold", *counts]) in told
    ours = row[-4]
    if not known(values).size:
        assert "not run" in ours
    else:
        mean = np.mean(known(values))
        assert ours.startswith(f"{mean:.2f} " if claim is label_corruption else f"{100 * mean:.2f} %")
        if bounds and not math.isnan(bounds[0]):
            assert shown["95 % interval"] == f"{100 * bounds[0]:.2f} % to {100 * bounds[1]:.2f} %"
    line = next(line for line in overview.README.read_text().splitlines() if line.startswith(f"| **{title(claim)}**"))
    assert f"**{expected}**" in line.split("|")[{"paper": 2, "cpu": 3, "quick": 4}[profile]]


def title(claim):
    return claim.__name__.replace("_", " ").capitalize()
