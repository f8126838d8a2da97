"""Which runs each claim needs, at which size.

A claim's arms are a function of a profile and a data set. Claims share runs: the same settings are one run.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product

import pandas as pd

from lib import paper
from lib.config import one_of
from lib.corruption import PERMUTED
from lib.models import HAS_DROPOUT
from lib.profiles import PHOTOGRAPHS, V3, Profile, Setting
from lib.runs import Record, Run, runs_frame

ADAM_LEARNING_RATE = 1e-3  # Kingma & Ba's default
LARGE_BATCH = 4  # times the usual batch, at a constant rate or at so many times the usual one (Goyal et al., 2017)
FIG1A = (  # pixels, label corruption: the five of Fig. 1a
    ("original", 0.0),
    ("original", 1.0),
    ("shuffled", 0.0),
    ("random", 0.0),
    ("gaussian", 0.0),
)
SLOWER, DEFAULT_LRN, TUTORIAL_WEIGHTS = "slower decay", "default LRN", "tutorial weights"
ACROSS_CHANNELS, PAPERS_RATE = "across channels", "the paper's learning rate"
VARIANTS = {  # other settings, which the paper has or may have had: for which networks, and what they are
    SLOWER: (("alexnet", "mlp_1x512"), {"decay": 0.98}),  # the paper's may be spent before they overfit
    DEFAULT_LRN: (("alexnet",), {"lrn": "default"}),  # the paper names no constants
    TUTORIAL_WEIGHTS: (("alexnet",), {"initialization": "tutorial"}),  # nor the initialization
    ACROSS_CHANNELS: (("inception",), {"across_channels": True}),  # nor whether channels move together
    PAPERS_RATE: (("inception_no_bn",), {"learning_rate": 0.1}),  # which it gives for Inception, either way
}
TRAINING_VARIANTS = (SLOWER, DEFAULT_LRN, TUTORIAL_WEIGHTS)  # of Fig. 1b-c's networks and training, not of images
HELD_OUT = "one tenth held out"  # arm: images for early stopping, one of profiles.VALIDATION_SHARE
DATA_CONTROL, CONTROL_MODEL = "data control", "mlp_1x512"  # group and network: without images that are not bit-exact
CORRUPTION_MODELS = ("inception", "alexnet", "mlp_1x512")
NOISE_OF_FIG_1C = "Fig. 1c at rate 1"  # group: random labels, with TRAINING_VARIANTS beside it
UNREGULARIZED = "Table 1, true labels", "Fig. 1c at rate 0"  # groups: where the paper has these networks' test accuracy
DROPOUT = 0.5  # of CIFAR-10's networks, for which the paper has no row
V3_DROPOUT, V3_WEIGHT_DECAY = 0.2, 4e-5  # TF-Slim's defaults for Inception V3 at the time; the paper states neither


def base_run(profile: Profile, dataset: str, model: str, seed: int, setting: Setting | None = None) -> Run:
    """A network trained the profile's way, without any regularizer, on the unchanged data."""
    setting = setting or profile.settings[model]
    sizes = setting.sizes or profile.sizes[dataset]
    return Run(
        dataset,
        model,
        seed,
        sizes.train,
        sizes.test,
        classes=sizes.classes,
        width=setting.width,
        optimizer=setting.optimizer,
        learning_rate=setting.learning_rate,
        epochs=setting.epochs,
        decay=setting.decay,
        batch_size=setting.batch_size,
        stop_when_fitted=profile.stop_when_fitted or setting.sizes is not None,
    )


def curve_run(profile: Profile, dataset: str, model: str, seed: int) -> Run:
    """The same for Fig. 1: on as many images as it gets in this profile, and until it has fitted, for the figure asks
    how soon that is."""
    run = base_run(profile, dataset, model, seed)
    return replace(run, train_size=profile.sizes_of(model, dataset).curve, stop_when_fitted=True)


@dataclass(frozen=True)
class Arm:
    """One run in the part it plays for a claim: a run may be an arm of several comparisons."""

    comparison: str
    name: str  # what differs within it, beside the network and the seed
    run: Run
    variant: str = ""  # which of VARIANTS its settings are; '': the profile's

    @property
    def group(self) -> str:
        """The arms that are held against one another: those of a comparison and variant."""
        return group_of(self.comparison, self.variant)


def randomization(profile: Profile, dataset: str) -> Iterator[Arm]:
    """Claim 1: Inception under the five randomizations of Fig. 1a, on photographs under the two of Table 2; and random
    labels for every network; with shuffled and random pixels that move across channels beside them, and with Fig. 1c's
    runs on random labels, which TRAINING_VARIANTS of them stand beside."""
    make, main, kinds = curve_run, "inception", FIG1A
    if dataset in PHOTOGRAPHS:
        make, main, kinds = base_run, V3, FIG1A[:2]
    for seed in profile.seeds:
        for pixels, rate in kinds:
            run = replace(make(profile, dataset, main, seed), pixels=pixels, label_corruption=rate)
            yield Arm("randomizations", run.randomization, run)
            for name, variant in _variants(profile, run, [ACROSS_CHANNELS] if pixels in PERMUTED else []):
                yield Arm("randomizations", run.randomization, variant, name)
        for model in profile.networks(dataset):
            run = replace(base_run(profile, dataset, model, seed), label_corruption=1.0)
            yield Arm("random labels", "random labels", run)
            if profile.fp32_control and seed == profile.seeds[0]:
                yield Arm("precision control", "fp32", replace(run, precision="fp32"))
        if profile.data_control and dataset == "cifar10":
            run = base_run(profile, dataset, CONTROL_MODEL, seed)
            yield Arm(DATA_CONTROL, "all images", run)
            yield Arm(DATA_CONTROL, "bit-exact images only", replace(run, exact_only=True))
        for model in CORRUPTION_MODELS if profile.variants and dataset not in PHOTOGRAPHS else ():
            run = replace(curve_run(profile, dataset, model, seed), label_corruption=1.0)
            for name, variant in [("", run), *_variants(profile, run, TRAINING_VARIANTS)]:
                yield Arm(NOISE_OF_FIG_1C, "random labels", variant, name)


def label_corruption(profile: Profile, dataset: str) -> Iterator[Arm]:
    """Claim 2, Fig. 1b and 1c: three networks over the corruption rates; with TRAINING_VARIANTS beside them."""
    for seed, model, rate in product(profile.seeds, CORRUPTION_MODELS, profile.rates):
        run = replace(curve_run(profile, dataset, model, seed), label_corruption=rate)
        yield Arm("corruption", f"{rate:g}", run)
        for name, variant in _variants(profile, run, TRAINING_VARIANTS):
            yield Arm("corruption", f"{rate:g}", variant, name)


def group_of(comparison: str, variant: str = "") -> str:
    """The name of a comparison's group of arms with one of VARIANTS, '' for the settings as the profile has them."""
    return f"{comparison}, {variant}" if variant else comparison


def _variants(profile: Profile, run: Run, names: Iterable[str]) -> Iterator[tuple[str, Run]]:
    """A run with the settings of each of these VARIANTS that its network has."""
    for name in names if profile.variants else ():
        models, settings = VARIANTS[name]
        if run.model in models:
            yield name, replace(run, **settings)


def explicit_regularization(profile: Profile, dataset: str) -> Iterator[Arm]:
    """Claim 3: Table 1's rows, dropout where there is a place for it, Table 4's rows, and Fig. 1c's runs on true
    labels, of which Table 1 has other values."""
    for seed in profile.seeds:
        for row in paper.table1().itertuples():
            run = replace(base_run(profile, dataset, row.model, seed), random_crop=row.random_crop)
            run = replace(run, label_corruption=float(row.labels == "random"))
            for coefficient in profile.weight_decays if row.weight_decay else (0.0,):
                name, regularized = _regularized(replace(run, weight_decay=coefficient), profile)
                yield Arm(row.group, name, regularized)
                for variant, changed in _variants(profile, regularized, [DEFAULT_LRN]):
                    yield Arm(row.group, name, changed, variant)
        for model in [model for model in profile.networks(dataset) if model in HAS_DROPOUT]:
            run = replace(base_run(profile, dataset, model, seed), dropout=DROPOUT)
            yield Arm(UNREGULARIZED[0], *_regularized(run, profile))
        for row in paper.table4().itertuples():
            for name, run in _table4_runs(profile, dataset, row.model, row.arm, seed):
                yield Arm(row.group, name, run)
        for model in CORRUPTION_MODELS if profile.variants else ():
            run = curve_run(profile, dataset, model, seed)
            for name, variant in [("", run), *_variants(profile, run, TRAINING_VARIANTS)]:
                yield Arm(UNREGULARIZED[1], "none", variant, name)


def _regularized(run: Run, profile: Profile) -> tuple[str, Run]:
    """A run under the name of its regularizers, with the weight decay's coefficient where it is not the main one."""
    main = run.weight_decay in (0.0, profile.weight_decays[0])
    return (run.regularizers if main else f"{run.regularizers} {run.weight_decay:g}"), run


def _table4_runs(profile: Profile, dataset: str, model: str, regularizer: str, seed: int) -> Iterator[tuple[str, Run]]:
    """Of a row of Table 4, with each coefficient of weight decay, under the arms' names."""
    if regularizer == "weight decay":
        run = replace(base_run(profile, dataset, model, seed), label_corruption=1.0)
        for coefficient in profile.weight_decays:
            yield _regularized(replace(run, weight_decay=coefficient), profile)
    else:
        run = replace(base_run(profile, dataset, model, seed, profile.slow), label_corruption=1.0)
        switches = {"random_crop": regularizer == "random crop", "flip_and_rotate": regularizer == "augmentation"}
        yield regularizer, replace(run, **switches, stop_when_fitted=True)  # the question is whether it ever fits


def implicit_regularization(profile: Profile, dataset: str) -> Iterator[Arm]:
    """Claim 4: batch norm on and off (Fig. 2b), the latter at PAPERS_RATE, too, early stopping, and other optimizers
    than SGD."""
    for seed in profile.seeds:
        yield Arm("batch norm", "on", base_run(profile, dataset, "inception", seed))
        run = base_run(profile, dataset, "inception_no_bn", seed)
        for name, variant in [("", run), *_variants(profile, run, [PAPERS_RATE])]:
            yield Arm("batch norm", "off", variant, name)
        for model in CORRUPTION_MODELS:
            run = replace(base_run(profile, dataset, model, seed), stop_when_fitted=False)
            run = replace(run, validation_size=profile.held_out(run.model, dataset))
            yield Arm("early stopping", HELD_OUT, run)
        for model, setting in profile.large_steps.items():
            run = base_run(profile, dataset, model, seed)
            yield Arm("optimizer", "SGD", run)
            large = replace(base_run(profile, dataset, model, seed, setting), stop_when_fitted=True)  # of many epochs
            size = {"batch_size": LARGE_BATCH * run.batch_size, "epochs": LARGE_BATCH * run.epochs}  # steps as many
            larger = replace(large, **size)
            yield Arm("optimizer", f"SGD, batch x {LARGE_BATCH}, constant rate {setting.learning_rate:g}", larger)
            scaled = {"batch_size": LARGE_BATCH * run.batch_size, "learning_rate": LARGE_BATCH * run.learning_rate}
            yield Arm("optimizer", f"SGD, batch and rate x {LARGE_BATCH}", replace(run, **scaled))
            yield Arm("optimizer", "full-batch gradient descent", replace(large, batch_size=None))
            yield Arm("optimizer", "Adam", replace(run, optimizer="adam", learning_rate=ADAM_LEARNING_RATE))


def table2(profile: Profile, dataset: str) -> Iterator[Arm]:
    """Claim 3 on photographs: Table 2's rows, Inception V3 on true and on random labels."""
    for seed, row in product(profile.seeds, paper.table2().itertuples()):
        run = _photo_run(profile, dataset, seed, row)
        yield Arm(row.group, row.arm, replace(run, label_corruption=float(row.labels == "random")))


def _photo_run(profile: Profile, dataset: str, seed: int, row) -> Run:
    """With the regularizers of a row of Table 2."""
    run = replace(base_run(profile, dataset, V3, seed), photo_augmentation=row.augmentation)
    return replace(run, dropout=V3_DROPOUT * row.dropout, weight_decay=V3_WEIGHT_DECAY * row.weight_decay)


def early_stopping_on_photographs(profile: Profile, dataset: str) -> Iterator[Arm]:
    """Claim 4 on photographs: Fig. 2a's curves; and with images held out, where the paper tells of a best epoch."""
    rows = paper.table2().query("labels == 'true'")
    for seed, row in product(profile.seeds, rows.itertuples()):
        run = _photo_run(profile, dataset, seed, row)
        if row.arm in paper.FIG2A.values():
            yield Arm("Fig. 2a", row.arm, run)
        if not math.isnan(row.best_test_top1):
            held_out = replace(run, validation_size=profile.held_out(run.model, dataset), stop_when_fitted=False)
            yield Arm("early stopping", row.arm, held_out)


CLAIM_ARMS: dict[str, Callable[[Profile, str], Iterator[Arm]]] = {
    "randomization": randomization,
    "label_corruption": label_corruption,
    "explicit_regularization": explicit_regularization,
    "implicit_regularization": implicit_regularization,
}
PHOTO_ARMS: dict[str, Callable[[Profile, str], Iterator[Arm]]] = {  # what the paper asks of ImageNet
    "randomization": randomization,
    "explicit_regularization": table2,
    "implicit_regularization": early_stopping_on_photographs,
}


def arms_of(dataset: str) -> dict[str, Callable[[Profile, str], Iterator[Arm]]]:
    """The claims asked of a data set, with their arms."""
    return PHOTO_ARMS if dataset in PHOTOGRAPHS else CLAIM_ARMS


def claim_arms(claim: str, profile: Profile, dataset: str) -> list[Arm]:
    """The arms of a claim.

    Raises:
        InputError: a claim that is unknown or not asked of this data set, or a data set that the profile has not.
    """
    one_of("claim", claim, CLAIM_ARMS)
    one_of(f"claim for {dataset}", claim, arms_of(dataset))
    one_of(f"data set of profile {profile.name}", dataset, profile.sizes)
    return list(arms_of(dataset)[claim](profile, dataset))


def runs_of(claims: Iterable[str], profile: Profile, dataset: str) -> list[Run]:
    """The runs of some claims, each once; errors as claim_arms's."""
    return list(dict.fromkeys(arm.run for claim in claims for arm in claim_arms(claim, profile, dataset)))


def arms_frame(arms: list[Arm], records: list[Record]) -> pd.DataFrame:
    """One row per arm: group, comparison, variant, arm and, from runs_frame, its run's settings and results.

    Arms without a record stay, with nothing in their results.
    """
    found = runs_frame(records)
    results = {record.run: row for record, row in zip(records, found.to_dict("records"), strict=True)}
    rows = [
        {"group": arm.group, "comparison": arm.comparison, "variant": arm.variant, "arm": arm.name}
        | (asdict(arm.run) | arm.run.names | results.get(arm.run, {}))
        for arm in arms
    ]
    return pd.DataFrame(rows).reindex(columns=["group", "comparison", "variant", "arm", *found.columns])
