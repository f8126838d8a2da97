"""Where this replication departs from the paper, or fills in what the paper leaves open: one table a claim.

Every number comes from the profile, the paper's tables or the code that acts on it.
"""

from collections.abc import Iterator

import pandas as pd

from lib.data import TRAIN_IMAGES
from lib.experiments import ADAM_LEARNING_RATE, LARGE_BATCH, PROFILES, VALIDATION_SHARE, Profile, Setting, at_most
from lib.preprocessing import MAX_ROTATION
from lib.runs import OVERFIT_LOSS

CURVES = ("randomization", "label_corruption")  # claims whose runs take Profile.curve_size images
Row = tuple[str, str, str, str, str]


def deviations(claim: str, profile: Profile, dataset: str) -> pd.DataFrame:
    """Numbered rows: what, paper, ours, why, expected effect; first what holds for all claims."""
    rows = [*_size(profile, dataset, claim in CURVES), *_training(profile), *CLAIM_ROWS[claim](profile)]
    frame = pd.DataFrame(rows, columns=["what", "paper", "ours", "why", "expected effect"])
    frame.insert(0, "no.", range(1, len(frame) + 1))
    return frame


def _size(profile: Profile, dataset: str, curve: bool) -> Iterator[Row]:
    if dataset != "cifar10":
        yield (
            "data set", "CIFAR-10", dataset, "CIFAR-10 was not to be had, or another set was asked for",
            "an easier task: higher test accuracy and faster fitting; the contrasts are the same in kind",
        )  # fmt: skip
    if size := at_most(profile.curve_size if curve else profile.train_size, dataset):
        yield (
            "training images", f"{TRAIN_IMAGES['cifar10']:,}", f"{size:,}, stratified, another subset for every seed",
            "two CPU cores", "far lower test accuracy on true labels; fewer epochs and steps to fit",
        )  # fmt: skip
    if profile.test_size:
        yield (
            "test images", "10,000", f"{profile.test_size:,} after every epoch, all at the end", "two CPU cores",
            "curves over the epochs are noisier; final values are not",
        )  # fmt: skip
    widths = {model: setting.width for model, setting in profile.settings.items() if setting.width != 1}
    if widths:
        text = ", ".join(f"{model} x {width:g}" for model, width in widths.items())
        yield "network width", "x 1", text, "two CPU cores", "fewer parameters: slower fitting, lower accuracy"


def _training(profile: Profile) -> Iterator[Row]:
    published = PROFILES["paper"].settings
    for what, text, stated in (
        ("learning rate", lambda s: f"{s.learning_rate:g}", "0.1 Inception, 0.01 others"),
        ("learning-rate decay an epoch", lambda s: f"{s.decay:g}", "0.95"),
        ("batch size", lambda s: f"{s.batch_size}", "128 (inferred)"),
    ):
        differs = _differing(profile.settings, text, {"learning rate": _paper_rate}.get(what), published)
        if differs:
            yield what, stated, differs, "fewer images make fewer steps an epoch", "none intended: all runs still fit"
    epochs = ", ".join(f"{model} {setting.epochs}" for model, setting in profile.settings.items())
    if profile.stop_when_fitted:
        yield (
            "epochs", "not stated (Fig. 1a shows 64)", f"at most {epochs}; a run ends once its loss is below "
            f"{OVERFIT_LOSS:g} and every example is fitted", "two CPU cores",
            "the last learning rate is higher than the paper's, which may cost a little test accuracy",
        )  # fmt: skip
    else:
        yield "epochs", "not stated (Fig. 1a shows 64)", epochs, "not stated", "small once all is fitted"
    yield "initialization", "not stated", "He normal, biases zero", "a common default", "shifts when fitting starts"
    yield (
        "batch norm", "constants not stated", "PyTorch's: momentum 0.1, epsilon 1e-5", "a common default",
        "small",
    )  # fmt: skip
    yield (
        "arithmetic", "fp32", "bf16 in convolutions and matrix products where the hardware has it; weights, batch-norm "
        "statistics and loss in fp32", "speed", "below the spread of the seeds",
    )  # fmt: skip


def _paper_rate(model: str) -> str:
    return "0.1" if model.startswith("inception") else "0.01"


def _differing(settings: dict[str, Setting], text, stated, published: dict[str, Setting]) -> str:
    """The settings that differ from what the paper states (or, where it states one for all, our paper profile)."""
    reference = {model: stated(model) if stated else text(published[model]) for model in settings}
    return ", ".join(f"{model} {text(s)}" for model, s in settings.items() if text(s) != reference[model])


def _randomization(profile: Profile) -> Iterator[Row]:
    yield (
        "shuffled and random pixels", "not stated whether channels move together", "positions are permuted, channels "
        "move together, after the center crop", "keeps every image's colours", "small",
    )  # fmt: skip
    yield (
        "Gaussian images", "mean and variance of the data set, over what not stated", "per channel; drawn before "
        "standardization; the test set gets noise of its own", "a plain reading", "small",
    )  # fmt: skip


def _label_corruption(profile: Profile) -> Iterator[Row]:
    rates = len(PROFILES["paper"].rates)
    if len(profile.rates) != rates:
        ours = ", ".join(f"{rate:g}" for rate in profile.rates)
        yield "corruption rates", f"{rates}, 0 to 1", ours, "time", "a coarser curve"
    yield (
        "time to overfit", "'relative convergence time', not defined", f"epochs until the running training loss is "
        f"below {OVERFIT_LOSS:g}, linear between epochs", "agrees with Fig. 1b's integer fractions for Inception",
        "none on the order of the rates",
    )  # fmt: skip


def _explicit_regularization(profile: Profile) -> Iterator[Row]:
    coefficients = " and ".join(f"{value:g}" for value in profile.weight_decays)
    yield (
        "weight decay", "'the default coefficient for each model', not stated", f"{coefficients} (as an L2 term on "
        "weights, not on biases)", "within what other replications used", "a larger one regularizes more",
    )  # fmt: skip
    yield (
        "dropout", "used on ImageNet only", f"{profile.dropout:g} on hidden fully connected layers",
        "the claim names it; CIFAR-10 has no row for it", "rows without a value of the paper's",
    )  # fmt: skip
    yield (
        "Table 4's augmented runs", "decay 0.999, epochs not stated",
        f"decay {profile.slow.decay:g}, at most {profile.slow.epochs} epochs", "fewer images make fewer steps an epoch"
        if profile.train_size else "a bound is needed", "a run cut short looks unfitted",
    )  # fmt: skip
    yield (
        "Table 4's augmentation", f"left-right flip and rotation up to {MAX_ROTATION:g} degrees",
        "the same, then the center crop", "not stated whether it is cropped at random too", "small",
    )  # fmt: skip


def _implicit_regularization(profile: Profile) -> Iterator[Row]:
    yield (
        "early stopping", "judged by the best test epoch", f"also by images held out of training, one in "
        f"{VALIDATION_SHARE}; these runs never stop early", "choosing on the test set flatters", "a smaller gain",
    )  # fmt: skip
    models = ", ".join(profile.large_steps)
    yield (
        "optimizers", "an argument about linear models; no experiment", f"{models}: full-batch gradient descent with "
        f"momentum, batches {LARGE_BATCH} times as large (both at a constant learning rate), Adam at "
        f"{ADAM_LEARNING_RATE:g}",
        "asks of SGD what the paper asks of the others", "rows without a value of the paper's",
    )  # fmt: skip


CLAIM_ROWS = {
    "randomization": _randomization,
    "label_corruption": _label_corruption,
    "explicit_regularization": _explicit_regularization,
    "implicit_regularization": _implicit_regularization,
}
