"""Which runs each claim needs, at which size.

A claim's arms are a function of a profile and a data set. Claims share runs: the same settings are one run.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product

import pandas as pd

from lib import paper
from lib.config import InputError, one_of
from lib.corruption import check_probability
from lib.data import IMAGES
from lib.models import HAS_DROPOUT
from lib.runs import Record, Run, runs_frame

ADAM_LEARNING_RATE = 1e-3  # Kingma & Ba's default
LARGE_BATCH = 4  # times the usual batch
VALIDATION_SHARE = 10  # one of so many training images is held out for early stopping
RANDOMIZATIONS = (  # pixels, label corruption: the five of Fig. 1a
    ("original", 0.0),
    ("original", 1.0),
    ("shuffled", 0.0),
    ("random", 0.0),
    ("gaussian", 0.0),
)
CORRUPTION_MODELS = ("inception", "alexnet", "mlp_1x512")


@dataclass(frozen=True)
class Setting:
    """How one network is trained in a profile."""

    learning_rate: float
    epochs: int
    width: float = 1.0
    decay: float = 0.95
    batch_size: int = 128


@dataclass(frozen=True)
class Sizes:
    """How many images of a data set; None: all."""

    train: int | None = None
    curve: int | None = None  # for Fig. 1a-c, whose times to fit differ only where there is enough to learn
    test: int | None = None  # after every epoch; the final evaluation takes all


@dataclass(frozen=True)
class Profile:
    """The size of an experiment: how much data, which seeds, how the networks are trained."""

    name: str
    about: str
    sizes: Mapping[str, Sizes]  # by data set
    seeds: tuple[int, ...]
    rates: tuple[float, ...]  # label corruption
    settings: dict[str, Setting]
    slow: Setting  # Inception on random labels with augmentation: the paper's Table 4 decays more slowly
    large_steps: dict[str, Setting]  # gradient descent on the whole training set or on large batches, by network
    stop_when_fitted: bool
    is_result: bool = True
    fp32_control: bool = False  # whether random labels are fitted in full precision, too, once by each network
    weight_decays: tuple[float, ...] = (5e-4,)  # the paper never states its own; the first is the one judged
    dropout: float = 0.5

    @property
    def is_reduced(self) -> bool:
        """Whether it takes less than all of any data set."""
        return any(size != Sizes() for size in self.sizes.values())


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke",
            "seconds, to test the machinery; never a result",
            sizes=dict.fromkeys(IMAGES, Sizes(100, 100, 100)),
            seeds=(0,),
            rates=(0.0, 0.5, 1.0),
            settings={
                "inception": Setting(0.1, 2, width=0.05, batch_size=50),
                "inception_no_bn": Setting(0.01, 2, width=0.05, batch_size=50),
                "alexnet": Setting(0.01, 2, width=0.1, batch_size=50),
                "mlp_3x512": Setting(0.01, 2, width=0.1, batch_size=50),
                "mlp_1x512": Setting(0.01, 2, width=0.1, batch_size=50),
            },
            slow=Setting(0.1, 2, width=0.05, batch_size=50, decay=0.999),
            large_steps={"mlp_1x512": Setting(0.1, 2, width=0.1, decay=1.0)},
            stop_when_fitted=True,
            is_result=False,
        ),
        Profile(
            "quick",
            "all claims on two CPU cores in minutes: fewer images, narrower convolutional networks",
            sizes={"cifar10": Sizes(500, 1500, 500), "digits": Sizes(300, 300)},
            seeds=(0, 1),
            rates=(0.0, 0.25, 0.5, 0.75, 1.0),
            settings={
                "inception": Setting(0.1, 40, width=0.25, batch_size=64),
                "inception_no_bn": Setting(0.03, 160, width=0.25, batch_size=32, decay=0.985),
                "alexnet": Setting(0.01, 60, width=0.5, batch_size=32, decay=0.97),
                "mlp_3x512": Setting(0.01, 100, batch_size=32, decay=0.98),
                "mlp_1x512": Setting(0.01, 100, batch_size=32, decay=0.98),
            },
            slow=Setting(0.1, 150, width=0.25, batch_size=64, decay=0.985),
            large_steps={
                "mlp_1x512": Setting(0.03, 200, decay=1.0),
                "alexnet": Setting(0.02, 300, width=0.5, decay=1.0),
            },
            stop_when_fitted=True,
        ),
        Profile(
            "paper",
            "the paper's setting, for a GPU",
            sizes=dict.fromkeys(IMAGES, Sizes()),
            seeds=(0, 1, 2),
            rates=tuple(tenth / 10 for tenth in range(11)),
            settings={
                "inception": Setting(0.1, 64),
                "inception_no_bn": Setting(0.01, 64),
                "alexnet": Setting(0.01, 100),
                "mlp_3x512": Setting(0.01, 100),
                "mlp_1x512": Setting(0.01, 100),
            },
            slow=Setting(0.1, 300, decay=0.999),
            large_steps={name: Setting(0.1, 3000, decay=1.0) for name in ("mlp_1x512", "alexnet")},
            stop_when_fitted=False,
            fp32_control=True,
            weight_decays=(5e-4, 5e-5),
        ),
    )
}


def resolve_profile(name: str, device: str) -> Profile:
    """The profile of this name; 'auto' is paper on CUDA, else quick.

    Raises:
        InputError: unknown name.
    """
    one_of("profile", name, (*PROFILES, "auto"))
    return PROFILES[("paper" if device == "cuda" else "quick") if name == "auto" else name]


def with_parameters(profile: Profile, seeds: int | None = None, rates: list[float] | None = None) -> Profile:
    """The profile with another number of seeds or other corruption rates; None leaves them as they are.

    Raises:
        InputError: fewer than one seed, no rates, or a rate outside [0, 1].
    """
    if seeds is not None:
        if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
            raise InputError(f"seeds {seeds!r} is not allowed: a whole number from 1 up")
        profile = replace(profile, seeds=tuple(range(seeds)))
    if rates is not None:
        if not isinstance(rates, list | tuple) or not rates:
            raise InputError(f"rates {rates!r} is not allowed: a list of numbers from 0 to 1")
        for rate in rates:
            check_probability(rate)
        profile = replace(profile, rates=tuple(sorted({float(rate) for rate in rates})))
    return profile


def base_run(profile: Profile, dataset: str, model: str, seed: int, setting: Setting | None = None) -> Run:
    """A network trained the profile's way, without any regularizer, on the unchanged data."""
    setting = setting or profile.settings[model]
    return Run(
        dataset,
        model,
        seed,
        profile.sizes[dataset].train,
        profile.sizes[dataset].test,
        width=setting.width,
        learning_rate=setting.learning_rate,
        epochs=setting.epochs,
        decay=setting.decay,
        batch_size=setting.batch_size,
        stop_when_fitted=profile.stop_when_fitted,
    )


def curve_run(profile: Profile, dataset: str, model: str, seed: int) -> Run:
    """The same on as many images as the paper's Fig. 1 gets in this profile."""
    return replace(base_run(profile, dataset, model, seed), train_size=profile.sizes[dataset].curve)


@dataclass(frozen=True)
class Arm:
    """One run in the part it plays for a claim: a run may be an arm of several comparisons."""

    group: str  # the comparison
    name: str  # what differs within the group, beside the network and the seed
    run: Run


def randomization(profile: Profile, dataset: str) -> Iterator[Arm]:
    """Claim 1, Fig. 1a: Inception under the five randomizations; and random labels for every network."""
    for seed in profile.seeds:
        for pixels, rate in RANDOMIZATIONS:
            run = replace(curve_run(profile, dataset, "inception", seed), pixels=pixels, label_corruption=rate)
            yield Arm("five randomizations", run.randomization, run)
        for model in profile.settings:
            run = replace(base_run(profile, dataset, model, seed), label_corruption=1.0)
            yield Arm("random labels", "random labels", run)
            if profile.fp32_control and seed == profile.seeds[0]:
                yield Arm("precision control", "fp32", replace(run, precision="fp32"))


def label_corruption(profile: Profile, dataset: str) -> Iterator[Arm]:
    """Claim 2, Fig. 1b and 1c: three networks over the corruption rates, each until it has fitted."""
    for seed, model, rate in product(profile.seeds, CORRUPTION_MODELS, profile.rates):
        run = replace(curve_run(profile, dataset, model, seed), label_corruption=rate, stop_when_fitted=True)
        yield Arm("corruption", f"{rate:g}", run)


def explicit_regularization(profile: Profile, dataset: str) -> Iterator[Arm]:
    """Claim 3: Table 1's rows, dropout where there is a place for it, and Table 4's rows."""
    for seed in profile.seeds:
        for row in paper.table1().itertuples():
            run = replace(base_run(profile, dataset, row.model, seed), random_crop=row.random_crop)
            run = replace(run, label_corruption=float(row.labels == "random"))
            group = f"Table 1, {row.labels} labels"
            for coefficient in profile.weight_decays if row.weight_decay else (0.0,):
                yield Arm(group, *_regularized(replace(run, weight_decay=coefficient), profile))
        for model in HAS_DROPOUT:
            run = replace(base_run(profile, dataset, model, seed), dropout=profile.dropout)
            yield Arm("Table 1, true labels", *_regularized(run, profile))
        for row in paper.table4().itertuples():
            yield Arm("Table 4", row.arm, _table4_run(profile, dataset, row.model, row.arm, seed))


def _regularized(run: Run, profile: Profile) -> tuple[str, Run]:
    """A run under the name of its regularizers, with the weight decay's coefficient where it is not the main one."""
    main = run.weight_decay in (0.0, profile.weight_decays[0])
    return (run.regularizers if main else f"{run.regularizers} {run.weight_decay:g}"), run


def _table4_run(profile: Profile, dataset: str, model: str, regularizer: str, seed: int) -> Run:
    if regularizer == "weight decay":
        run = replace(base_run(profile, dataset, model, seed), weight_decay=profile.weight_decays[0])
    else:
        run = base_run(profile, dataset, model, seed, profile.slow)
        switches = {"random_crop": regularizer == "random crop", "flip_and_rotate": regularizer == "augmentation"}
        run = replace(run, **switches, stop_when_fitted=True)  # the question is whether it ever fits
    return replace(run, label_corruption=1.0)


def implicit_regularization(profile: Profile, dataset: str) -> Iterator[Arm]:
    """Claim 4: batch norm on and off (Fig. 2b), early stopping, and other optimizers than SGD."""
    for seed in profile.seeds:
        yield Arm("batch norm", "on", base_run(profile, dataset, "inception", seed))
        yield Arm("batch norm", "off", base_run(profile, dataset, "inception_no_bn", seed))
        for model in CORRUPTION_MODELS:
            run = replace(base_run(profile, dataset, model, seed), stop_when_fitted=False)
            held_out = (run.train_size or IMAGES[dataset]["train"]) // VALIDATION_SHARE
            yield Arm("early stopping", "one tenth held out", replace(run, validation_size=held_out))
        for model, setting in profile.large_steps.items():
            run = base_run(profile, dataset, model, seed)
            yield Arm("optimizer", "SGD", run)
            large = replace(base_run(profile, dataset, model, seed, setting), stop_when_fitted=True)  # of many epochs
            size = {"batch_size": LARGE_BATCH * run.batch_size, "epochs": LARGE_BATCH * run.epochs}  # steps as many
            larger = replace(large, **size)
            yield Arm("optimizer", f"SGD, batch x {LARGE_BATCH}", larger)
            yield Arm("optimizer", "full-batch gradient descent", replace(large, batch_size=None))
            yield Arm("optimizer", "Adam", replace(run, optimizer="adam", learning_rate=ADAM_LEARNING_RATE))


CLAIM_ARMS: dict[str, Callable[[Profile, str], Iterator[Arm]]] = {
    "randomization": randomization,
    "label_corruption": label_corruption,
    "explicit_regularization": explicit_regularization,
    "implicit_regularization": implicit_regularization,
}


def claim_arms(claim: str, profile: Profile, dataset: str) -> list[Arm]:
    """The arms of one of CLAIM_ARMS.

    Raises:
        InputError: unknown claim.
    """
    one_of("claim", claim, CLAIM_ARMS)
    return list(CLAIM_ARMS[claim](profile, dataset))


def arms_frame(arms: list[Arm], records: list[Record]) -> pd.DataFrame:
    """One row per arm: group, arm, model, seed and, from runs_frame, its run's settings and results.

    Arms without a record stay, with nothing in their results.
    """
    found = runs_frame(records)
    results = {record.run: row for record, row in zip(records, found.to_dict("records"), strict=True)}
    rows = [{"group": arm.group, "arm": arm.name} | asdict(arm.run) | results.get(arm.run, {}) for arm in arms]
    return pd.DataFrame(rows).reindex(columns=["group", "arm", *found.columns])
