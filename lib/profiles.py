"""How large an experiment is: how much data, which seeds and rates, how each network is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lib.config import InputError, one_of
from lib.corruption import check_probability
from lib.data import IMAGES

VALIDATION_SHARE = 10  # one of so many training images is held out for early stopping
V3 = "inception_v3"
MAX_SEEDS = 1000  # more would be a slip, and fill the memory with plans
PHOTOGRAPHS = ("tiny-imagenet", "imagenet")  # the data sets of the paper's Table 2 and Fig. 2a


@dataclass(frozen=True)
class Sizes:
    """How many images of a data set; None: all."""

    train: int | None = None
    curve: int | None = None  # for Fig. 1a-c, whose times to fit differ only where there is enough to learn
    test: int | None = None  # after every epoch; the final evaluation takes all
    classes: int | None = None
    validation: int | None = None  # held out for early stopping; None: one in VALIDATION_SHARE


@dataclass(frozen=True)
class Setting:
    """How one network is trained in a profile."""

    learning_rate: float
    epochs: int
    width: float = 1.0
    decay: float = 0.95
    batch_size: int = 128
    optimizer: str = "sgd"
    sizes: Sizes | None = None  # of its own, in place of the profile's; its runs end once they have fitted


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
    takes_days: bool = False  # on a CPU: a report shows what is recorded and trains nothing there
    variants: bool = False  # whether other settings that the paper has, or may have had, are tried beside these
    data_control: bool = False  # whether a network is trained without the images that are not bit-exact, too
    fp32_control: bool = False  # whether random labels are fitted in full precision, too, once by each network
    weight_decays: tuple[float, ...] = (5e-4,)  # the paper never states its own; the first is the one judged

    def is_reduced(self, dataset: str) -> bool:
        """Whether it takes less than all of a data set."""
        sizes = [self.sizes_of(model, dataset) for model in self.networks(dataset)]
        return any(each.train or each.classes for each in sizes)

    def sizes_of(self, model: str, dataset: str) -> Sizes:
        """How many images a network gets."""
        return self.settings[model].sizes or self.sizes[dataset]

    def held_out(self, model: str, dataset: str) -> int:
        """Training images held out for early stopping."""
        sizes = self.sizes_of(model, dataset)
        return sizes.validation or (sizes.train or IMAGES[dataset]["train"]) // VALIDATION_SHARE

    def networks(self, dataset: str) -> list[str]:
        """The networks that the paper trains on such a data set."""
        return [model for model in self.settings if (model == V3) == (dataset in PHOTOGRAPHS)]


TEN_THOUSAND = Sizes(10_000, 10_000, 2_000)
PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke",
            "seconds, to test the machinery; never a result",
            sizes=dict.fromkeys(IMAGES, Sizes(100, 100, 100))
            | dict.fromkeys(PHOTOGRAPHS, Sizes(30, 30, 20, classes=3)),
            seeds=(0,),
            rates=(0.0, 0.5, 1.0),
            settings={
                "inception": Setting(0.1, 2, width=0.05, batch_size=50),
                "inception_no_bn": Setting(0.01, 2, width=0.05, batch_size=50),
                "alexnet": Setting(0.01, 2, width=0.1, batch_size=50),
                "mlp_3x512": Setting(0.01, 2, width=0.1, batch_size=50),
                "mlp_1x512": Setting(0.01, 2, width=0.1, batch_size=50),
                V3: Setting(0.005, 2, width=1 / 16, batch_size=10, optimizer="rmsprop"),
            },
            slow=Setting(0.1, 2, width=0.05, batch_size=50, decay=0.999),
            large_steps={"mlp_1x512": Setting(0.1, 2, width=0.1, decay=1.0)},
            stop_when_fitted=True,
            is_result=False,
        ),
        Profile(
            "quick",
            "all claims on two CPU cores in minutes: fewer images, narrower convolutional networks",
            sizes={"cifar10": Sizes(500, 1500, 500), "digits": Sizes(300, 300)}
            | dict.fromkeys(PHOTOGRAPHS, Sizes(400, 400, 250, classes=10)),
            seeds=(0, 1),
            rates=(0.0, 0.25, 0.5, 0.75, 1.0),
            settings={
                "inception": Setting(0.1, 40, width=0.25, batch_size=64),
                "inception_no_bn": Setting(0.03, 160, width=0.25, batch_size=32, decay=0.985),
                "alexnet": Setting(0.01, 60, width=0.5, batch_size=32, decay=0.97),
                "mlp_3x512": Setting(0.01, 100, batch_size=32, decay=0.98),
                "mlp_1x512": Setting(0.01, 100, batch_size=32, decay=0.98),
                V3: Setting(0.001, 60, width=0.25, batch_size=32, decay=0.96, optimizer="adam"),
            },
            slow=Setting(0.1, 150, width=0.25, batch_size=64, decay=0.985),
            large_steps={
                "mlp_1x512": Setting(0.03, 200, decay=1.0),
                "alexnet": Setting(0.02, 300, width=0.5, decay=1.0),
            },
            stop_when_fitted=True,
        ),
        Profile(
            "cpu",
            "the paper's setting as far as two CPU cores go in days: both Inceptions on 10,000 images, all else on all",
            sizes={"cifar10": Sizes()},
            seeds=(0, 1, 2),
            rates=(0.0, 0.5, 1.0),
            settings={
                "inception": Setting(0.1, 64, sizes=TEN_THOUSAND),
                "inception_no_bn": Setting(0.01, 64, sizes=TEN_THOUSAND),
                "alexnet": Setting(0.01, 100),
                "mlp_3x512": Setting(0.01, 100),
                "mlp_1x512": Setting(0.01, 100),
            },
            slow=Setting(0.1, 300, decay=0.999, sizes=TEN_THOUSAND),
            large_steps={"mlp_1x512": Setting(0.1, 3000, decay=1.0)},
            stop_when_fitted=False,
            takes_days=True,
            variants=True,
            data_control=True,
            weight_decays=(5e-4, 5e-5),
        ),
        Profile(
            "paper",
            "the paper's setting, for a GPU",
            sizes=dict.fromkeys(IMAGES, Sizes()) | dict.fromkeys(PHOTOGRAPHS, Sizes(validation=5_000)),
            seeds=(0, 1, 2),
            rates=tuple(tenth / 10 for tenth in range(11)),
            settings={
                "inception": Setting(0.1, 64),
                "inception_no_bn": Setting(0.01, 64),
                "alexnet": Setting(0.01, 100),
                "mlp_3x512": Setting(0.01, 100),
                "mlp_1x512": Setting(0.01, 100),
                V3: Setting(0.045, 100, decay=0.94**0.5, optimizer="rmsprop"),  # Szegedy et al. (2016), section 8
            },
            slow=Setting(0.1, 300, decay=0.999),
            large_steps={name: Setting(0.1, 3000, decay=1.0) for name in ("mlp_1x512", "alexnet")},
            stop_when_fitted=False,
            takes_days=True,
            variants=True,
            data_control=True,
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
        InputError: seeds not from 1 to MAX_SEEDS, no rates, or a rate outside [0, 1].
    """
    if seeds is not None:
        if not isinstance(seeds, int) or isinstance(seeds, bool) or not 1 <= seeds <= MAX_SEEDS:
            raise InputError(f"seeds {seeds!r} is not allowed: a whole number from 1 to {MAX_SEEDS}")
        profile = replace(profile, seeds=tuple(range(seeds)))
    if rates is not None:
        if not isinstance(rates, list | tuple) or not rates:
            raise InputError(f"rates {rates!r} is not allowed: a list of numbers from 0 to 1")
        for rate in rates:
            check_probability(rate)
        profile = replace(profile, rates=tuple(sorted({float(rate) for rate in rates})))
    return profile
