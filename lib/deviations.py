"""Where this replication departs from the paper, or fills in what the paper leaves open: one table a claim.

Every number of ours comes from the profile or the code that acts on it, the paper's from its tables; what came of a
choice that was tried both ways comes from the runs, by lib/findings.py.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from lib import paper
from lib.claims import CLAIMS, MODEL_NAMES
from lib.data import CLASSES, IMAGES
from lib.experiments import (
    ADAM_LEARNING_RATE,
    DATA_CONTROL,
    DEFAULT_LRN,
    DROPOUT,
    LARGE_BATCH,
    PAPERS_RATE,
    TUTORIAL_WEIGHTS,
    V3_DROPOUT,
    V3_WEIGHT_DECAY,
    VARIANTS,
)
from lib.findings import (
    DECAY,
    EXACT,
    FOUND,
    INITIALIZATION,
    LEARNING_RATE,
    PIXELS,
    PRECISION,
    RESPONSE_NORM,
    SLOWED,
    SLOWER_DECAY,
    TEST_LABELS,
    WEIGHT_DECAY,
)
from lib.imagenet import SIZES, image_size
from lib.models import LRN, MODELS, V3_MIN_SIZE, ShiftBatchNorm
from lib.optimizers import RMSPROP_DECAY, RMSPROP_EPSILON
from lib.preprocessing import AREA, BRIGHTNESS, CONTRAST, HUE, MAX_ROTATION
from lib.profiles import PHOTOGRAPHS, PROFILES, V3, VALIDATION_SHARE, Profile, Setting, Sizes
from lib.runs import OVERFIT_LOSS, Run
from lib.words import count, percent

# What the paper states; its batch size is inferred from the spacing of its curves' points. Of ImageNet it states none
# of this, so there it is what the network's authors do.
INCEPTIONS_RATE = VARIANTS[PAPERS_RATE][1]["learning_rate"]
STATED = {model: Setting(INCEPTIONS_RATE if model.startswith("inception") else 0.01, epochs=64) for model in MODELS}
STATED[V3] = replace(PROFILES["paper"].settings[V3], batch_size=32)
V3_AUTHORS = "Szegedy et al. (2016)"
SETTINGS = (  # attribute of Setting, what it is, why it differs, expected effect
    ("width", "network width (factor)", "two CPU cores", "fewer parameters: slower fitting, lower accuracy"),
    ("learning_rate", LEARNING_RATE, "at that rate it may diverge", "slower fitting"),
    ("decay", "learning-rate decay an epoch", "fewer images make fewer steps an epoch", "shifts the curves"),
    ("batch_size", "batch size", "fewer images make fewer steps an epoch", "shifts the curves"),
)
Row = tuple[str, str, str, str, str]


def deviations(claim: str, profile: Profile, dataset: str, runs: pd.DataFrame) -> pd.DataFrame:
    """Numbered rows: what, paper, ours, why, expected effect, what came of it; first what holds for all claims.

    Args:
        claim: name of the claim.
        profile: the size of the experiment.
        dataset: name of the data set.
        runs: the claim's runs, see experiments.arms_frame; they say what came of what was tried both ways.
    """
    claim_rows = PHOTO_ROWS if dataset in PHOTOGRAPHS else CLAIM_ROWS
    rows = [
        *_size(profile, dataset, claim),
        *_controls(runs),
        *_training(claim, profile, dataset, runs),
        *claim_rows[claim](profile),
    ]
    frame = pd.DataFrame(rows, columns=["what", "paper", "ours", "why", "expected effect"])
    frame.insert(0, "no.", range(1, len(frame) + 1))
    found = {} if dataset in PHOTOGRAPHS else FOUND[claim](runs)
    return frame.assign(**{"what came of it": [found.get(what, "—") for what in frame["what"]]})


def _size(profile: Profile, dataset: str, claim: str) -> Iterator[Row]:
    papers = "imagenet" if dataset in PHOTOGRAPHS else "cifar10"
    if dataset == "digits":
        yield (
            "data set", "CIFAR-10", dataset, "CIFAR-10 was not to be had, or another set was asked for",
            "an easier task: higher test accuracy and faster fitting; the contrasts are the same in kind",
        )  # fmt: skip
    sizes = profile.sizes[dataset]
    if papers == "imagenet":
        yield from _photographs(dataset, sizes)
    ours = {
        "randomization": f"{_images(sizes.curve)} for the randomizations, {_images(sizes.train)} for "
        "random labels on every network",
        "label_corruption": _images(sizes.curve),
    }.get(claim, _images(sizes.train))
    if sizes.curve or sizes.train:
        yield (
            "training images", f"{IMAGES[papers]['train']:,}", f"{ours}; stratified, another subset for every seed",
            "two CPU cores", "far lower test accuracy on true labels; fewer epochs and steps to fit",
        )  # fmt: skip
    own = {model: setting.sizes for model, setting in profile.settings.items() if setting.sizes}
    if own:
        counts = ", ".join(f"{MODEL_NAMES[model]} {each.train:,}" for model, each in own.items())
        yield (
            "training images", f"{IMAGES[papers]['train']:,}", f"{counts}, the other networks all; stratified, another "
            "subset for every seed", "two CPU cores", "lower test accuracy on true labels; fewer steps before the "
            "learning rate has decayed, in which what is slow to fit may not",
        )  # fmt: skip
    for test in dict.fromkeys(each.test for each in (sizes, *own.values()) if each.test):
        names = [MODEL_NAMES[model] for model, each in own.items() if each.test == test != sizes.test]
        whose = f" of {' and '.join(names)}" if names else ""
        yield (
            "test images", f"{IMAGES[papers]['test']:,}", f"{test:,} after every epoch{whose}, all at the end",
            "two CPU cores", "curves over the epochs are noisier, and with them the gain of stopping early; final "
            "values are not",
        )  # fmt: skip


def _controls(runs: pd.DataFrame) -> Iterator[Row]:
    if DATA_CONTROL in set(runs["comparison"]):
        yield (
            EXACT, "none", "those of the copy at hand, counted in its provenance; beside them runs without these",
            "a copy may have lossy ones", "none",
        )  # fmt: skip


def _photographs(dataset: str, sizes: Sizes) -> Iterator[Row]:
    if dataset != "imagenet":
        yield (
            "data set", "ImageNet", dataset, "ImageNet is 140 GB and asks for an account",
            "fewer classes, smaller photographs: other accuracies; the contrasts are the same in kind",
        )  # fmt: skip
    if sizes.classes:
        yield (
            "classes", f"{CLASSES['imagenet']:,}", f"{sizes.classes}, evenly spaced", "two CPU cores",
            "an easier task with fewer images; top-5 says little",
        )  # fmt: skip
    size = image_size(dataset)
    if size != SIZES["imagenet"]:
        yield (
            "image size", f"{SIZES['imagenet']} pixels", f"{size} pixels; smaller ones than {V3_MIN_SIZE} are "
            "enlarged to it on the device", "the data set's own size, or IMAGE_SIZE", "coarser features, far less work",
        )  # fmt: skip


def _images(size: int | None) -> str:
    return f"{size:,}" if size else "all"


def _training(claim: str, profile: Profile, dataset: str, runs: pd.DataFrame) -> Iterator[Row]:
    models = [model for model in profile.networks(dataset) if model in set(runs["model"])]
    yield from _settings(profile, dataset, models)
    yield _epochs(profile, dataset, models, runs)
    if all(profile.settings[model].batch_size == STATED[model].batch_size for model in models):
        why, effect = "the points of the paper's curves are an epoch of such batches apart", "none"
        if dataset in PHOTOGRAPHS:
            why, effect = f"as {V3_AUTHORS}, of each of many workers", "small"
        ours = f"{STATED[models[0]].batch_size} at most; all of an epoch's equal, but for one image"
        yield "batch size", "not stated", ours, why, effect
    if dataset in PHOTOGRAPHS:
        yield from _inception_v3(profile.settings[V3])
    else:
        yield from _cifar10_networks(set(runs["variant"]))
    yield _accuracy_of_training(has_table4=claim == "explicit_regularization" and dataset not in PHOTOGRAPHS)
    yield _arithmetic(runs)


def _accuracy_of_training(has_table4: bool) -> Row:
    paper_measured, ours = "not stated", "at the end, of all training images, prepared as for testing: no crop at "
    ours += "random, no augmentation, no dropout"
    if has_table4:
        paper_measured += "; of Table 4's crops and augmentation the running one, of the batches"
        ours += "; for these rows of Table 4 the running one"
    return (
        "training accuracy", paper_measured, ours, "asks of training images what is asked of test images",
        "higher than a running one with random crops, augmentation or dropout",
    )  # fmt: skip


def _settings(profile: Profile, dataset: str, models: Iterable[str]) -> Iterator[Row]:
    is_photo = dataset in PHOTOGRAPHS
    for attribute, what, why, effect in SETTINGS:
        ours = {model: getattr(profile.settings[model], attribute) for model in models}
        stated = {model: getattr(STATED[model], attribute) for model in ours}
        differs = [model for model in ours if ours[model] != stated[model]]
        if not differs:
            continue
        unstated = f"not stated; {V3_AUTHORS}: " if is_photo else ""
        tried = _listed(ours, differs)
        if attribute == "batch_size" and not profile.is_reduced(dataset):
            why, effect = "that was each of many workers'; here it is all of a step", "less noise in a step"
        if attribute == "learning_rate" and is_photo:
            why = "a choice for few images, compared in no record"
        elif attribute == "learning_rate" and profile.variants:
            page = CLAIMS["implicit_regularization"].title
            tried += f"; under {page} also the paper's, in runs of their own that no criterion takes"
        yield what, unstated + _listed(stated, differs), tried, why, effect


def _cifar10_networks(variants: Container[str]) -> Iterator[Row]:
    """variants: those of experiments.VARIANTS that the claim's runs have beside the profile's settings."""
    norm = ShiftBatchNorm(1)
    ours = "He normal, biases zero"
    if TUTORIAL_WEIGHTS in variants:
        ours += "; beside it, for AlexNet, the weights of TensorFlow's CIFAR-10 tutorial, as runs of their own that no "
        ours += "criterion takes"
    yield (
        INITIALIZATION, "not stated", ours, "a common default", "shifts when fitting starts",
    )  # fmt: skip
    yield (
        "batch norm", "constants not stated", f"momentum {norm.momentum:g}, epsilon {norm.eps:g}",
        "PyTorch's defaults", "small",
    )  # fmt: skip
    yield (
        "padding at stride 2 (Inception)", "not stated; TensorFlow's SAME has its row of zeros behind the image", "it "
        "stands before the image", "PyTorch's way", "small: the mirror image of that network",
    )  # fmt: skip
    size, alpha, beta = LRN["tutorial"]
    ours = f"TensorFlow's CIFAR-10 tutorial's: window {size}, alpha {alpha:g}/{size}, beta {beta:g}"
    if DEFAULT_LRN in variants:
        size, alpha, beta = LRN["default"]
        ours += f"; beside it tf.nn.lrn's default ones (window {size}, alpha {alpha / size:g}, beta {beta:g}), as runs "
        ours += "of their own that no criterion takes"
    yield (
        RESPONSE_NORM, "constants not stated", ours, "the network is like the tutorial's",
        "the tutorial's hardly normalize",
    )  # fmt: skip


def _epochs(profile: Profile, dataset: str, models: Sequence[str], runs: pd.DataFrame) -> Row:
    ours = _listed({model: profile.settings[model].epochs for model in models}, models)
    shown, effect = f" (Fig. 1a shows {STATED['inception'].epochs})", "small once all is fitted"
    if dataset in PHOTOGRAPHS:
        shown = f" (Fig. 2a shows {paper.fig2a()['step'].max() / 1e6:.0f} million steps)"
        effect = "the fewer steps, the less is gained by stopping early"
    which = _ending(runs)
    if not which:
        return "epochs", f"not stated{shown}", ours, "not stated", effect
    why = "two CPU cores" if profile.stop_when_fitted else "how soon it fits is the question"
    if any(setting.sizes for setting in profile.settings.values()):
        why += "; where a network gets fewer images, two CPU cores"
    return (
        "epochs", f"not stated{shown}", f"at most {ours}; {which} ends once its loss has been below {OVERFIT_LOSS:g} "
        "and every example fitted, if not always in the same epoch", why,
        "a run that ends early ends at a higher learning rate than the paper's, which may cost a little test accuracy, "
        "most where it fits soonest, without regularizers; some examples may be lost again in the last epoch",
    )  # fmt: skip


def _ending(runs: pd.DataFrame) -> str:
    """Which runs of a claim end once they have fitted, by comparison, and by network where not all of one do."""
    ends = runs.groupby(["comparison", "model"], sort=False)["stop_when_fitted"].all()
    if ends.all():
        return "a run"
    parts = []
    for name, each in ends.groupby(level=0, sort=False):
        models = [MODEL_NAMES[model] for _, model in each.index[each]]
        parts += [name if each.all() else f"{name} ({', '.join(models)})"] if models else []
    return f"a run of {' or of '.join(parts)}" if parts else ""


def _inception_v3(setting: Setting) -> Iterator[Row]:
    from torchvision.models.inception import BasicConv2d  # a second to import, for those who need it

    ours = f"{setting.optimizer}, momentum {Run.momentum:g}"
    why = f"the network's published recipe is RMSProp with decay {RMSPROP_DECAY:g} and epsilon {RMSPROP_EPSILON:g}; "
    why += "the momentum is TF-Slim's"
    if setting.optimizer != "rmsprop":
        ours, why = setting.optimizer, "a choice for few images; no record compares it with RMSProp, the network's "
        why += "published recipe"
    yield (
        "optimizer", "asynchronous SGD on 50 workers, the rest not stated", f"{ours}; synchronous, one process or "
        "several that share batch statistics", why, "no stale gradients; small once all is fitted",
    )  # fmt: skip
    if (setting.learning_rate, setting.decay) == (STATED[V3].learning_rate, STATED[V3].decay):  # else see _settings
        yield (
            LEARNING_RATE, "not stated", f"{setting.learning_rate:g}, times {setting.decay:.3f} after every epoch",
            f"as {V3_AUTHORS}, who multiply it by {setting.decay**2:g} after every second one", "none",
        )  # fmt: skip
    yield "auxiliary head", "not stated", "none", "one loss, as on CIFAR-10", "slower first epochs on full-size images"
    yield "gradient clipping", "not stated", "none", "no stale gradients, which it is for", "less stable first steps"
    yield (
        "average of the weights", f"not stated; {V3_AUTHORS}: a running one is evaluated", "none", "as on CIFAR-10",
        "noisier curves over the epochs, of which the best then seems to gain more",
    )  # fmt: skip
    yield (
        "label smoothing", f"not stated; {V3_AUTHORS}: 0.1", "none", "a loss of zero means fitted, as on CIFAR-10",
        "another loss; small in accuracies",
    )  # fmt: skip
    norm = BasicConv2d(1, 1, kernel_size=1).bn
    yield (
        "batch norm", "constants not stated", f"momentum {norm.momentum:g}, epsilon {norm.eps:g}", "torchvision's",
        "small",
    )  # fmt: skip
    yield (
        "inputs", "not stated", "in -1..1, as TF-Slim's of the time; tested on all of the central square, one crop, "
        "where that took 87.5 % of each side", "so little of a small image is left out", "small",
    )  # fmt: skip
    yield (
        "initialization", "not stated", "He normal, biases zero", "as the other networks here", "small: batch norm "
        "takes out the scale",
    )  # fmt: skip


def _arithmetic(runs: pd.DataFrame) -> Row:
    ours = "bf16 in convolutions and matrix products where the hardware is faster in it; weights, batch-norm "
    ours += "statistics and loss in fp32"
    without = runs.loc[(runs["precision"] == "auto") & (runs["arithmetic"] == "fp32"), "key"].nunique()
    ours += f"; on other hardware fp32 throughout: {count(without, 'run')}" if without else ""
    return PRECISION, "not stated", ours, "speed", "below the spread of the seeds"


def _listed(values: Mapping[str, float], models: Iterable[str]) -> str:
    return ", ".join(f"{MODEL_NAMES[model]} {values[model]:g}" for model in models)


def _randomization(profile: Profile) -> Iterator[Row]:
    other = "; beside it values move across channels, too, in runs of their own that no criterion takes"
    yield (
        PIXELS, "not stated whether channels move together", "positions are permuted, channels move together, after "
        "the center crop" + (other if profile.variants else ""), "keeps every image's colours",
        "random pixels still tell of the classes, by their colours",
    )  # fmt: skip
    yield (
        "Gaussian images", "mean and variance of the data set, over what not stated", "per channel, of the training "
        "images' center crops; in whole grey levels, not cut to 0..255; drawn before standardization; the test set "
        "gets noise of its own", "a plain reading", "small",
    )  # fmt: skip


def _label_corruption(profile: Profile) -> Iterator[Row]:
    rates = len(PROFILES["paper"].rates)
    if len(profile.rates) != rates:
        ours = ", ".join(f"{rate:g}" for rate in profile.rates)
        yield "corruption rates", f"{rates}, 0 to 1", ours, "time", "a coarser curve"
    yield (
        "time to overfit", "'relative convergence time', not defined", f"epochs until the running training loss is "
        f"below {OVERFIT_LOSS:g}, linear between epochs", "Fig. 1b's ratios for Inception are those of whole epochs to "
        "about this loss", "none on the order of the rates",
    )  # fmt: skip
    yield (
        TEST_LABELS, "not said", "the test set's own; beside them, by calculation, labels corrupted like those trained "
        "on", "the claim is about generalization", "none at rates 0 and 1; between them a lower error than on those",
    )  # fmt: skip
    if profile.variants:
        ours = _listed({model: profile.settings[model].decay for model in SLOWED}, SLOWED)
        yield (
            DECAY, f"{STATED[SLOWED[0]].decay:g}, and overfit at every rate", f"{ours}; beside it {SLOWER_DECAY:g}, as "
            "runs of their own that no criterion takes", "with the paper's, the rate may be spent before they overfit",
            "the learning rate lasts longer: the loss goes on falling at the higher rates",
        )  # fmt: skip


def _explicit_regularization(profile: Profile) -> Iterator[Row]:
    coefficients = " and ".join(f"{value:g}" for value in profile.weight_decays)
    yield (
        WEIGHT_DECAY, "'the default coefficient for each model', not stated", f"{coefficients} (as an L2 term on "
        "weights, not on biases)", "0.0005 is that of AlexNet's authors (Krizhevsky et al., 2012)",
        "a larger one regularizes more",
    )  # fmt: skip
    yield (
        "dropout", "used on ImageNet only", f"{DROPOUT:g} on hidden fully connected layers",
        "the claim names it; CIFAR-10 has no row for it", "rows without a value of the paper's",
    )  # fmt: skip
    papers = PROFILES["paper"].slow.decay
    yield (
        "Table 4's augmented runs", f"decay {papers:g}, epochs not stated", f"decay {profile.slow.decay:g}, at most "
        f"{profile.slow.epochs} epochs, fewer once fitted", "a bound is needed" if profile.slow.decay == papers else
        "fewer images make fewer steps an epoch", "a run cut short looks unfitted; of one that ends once it has "
        "fitted, the running accuracy could have risen further",
    )  # fmt: skip
    yield (
        "Table 4's augmentation", f"left-right flip and rotation up to {MAX_ROTATION:g} degrees",
        "the same, bilinear, corners from outside the image black; then the center crop", "not stated whether it is "
        "cropped at random too", "small",
    )  # fmt: skip


def _implicit_regularization(profile: Profile) -> Iterator[Row]:
    yield (
        "early stopping", "judged by the best test epoch", f"also by images held out of training, one in "
        f"{VALIDATION_SHARE}; these runs never stop early", "choosing on the test set flatters", "a smaller gain",
    )  # fmt: skip
    models = " and ".join(MODEL_NAMES[model] for model in profile.large_steps)
    constant = "; ".join(
        f"{MODEL_NAMES[model]}: {setting.learning_rate:g}, which is not decayed, and at most {setting.epochs:,} epochs "
        f"of the full batch and {LARGE_BATCH * profile.settings[model].epochs:,} of the larger ones, fewer once fitted"
        for model, setting in profile.large_steps.items()
    )
    yield (
        "optimizers", "an argument about linear models; no experiment", f"{models}: full-batch gradient descent with "
        f"momentum and batches {LARGE_BATCH} times as large, both at a constant learning rate ({constant}); such "
        f"batches at {LARGE_BATCH} times the usual rate and its decay; Adam at {ADAM_LEARNING_RATE:g}",
        "asks of SGD what the paper asks of the others", "rows without a value of the paper's",
    )  # fmt: skip


CLAIM_ROWS = {
    "randomization": _randomization,
    "label_corruption": _label_corruption,
    "explicit_regularization": _explicit_regularization,
    "implicit_regularization": _implicit_regularization,
}


def _photo_randomization(profile: Profile) -> Iterator[Row]:
    yield (
        "randomizations", "five on CIFAR-10, random labels on ImageNet", "true and random labels", "as the paper",
        "none",
    )  # fmt: skip


def _table2(profile: Profile) -> Iterator[Row]:
    yield (
        "weight decay and dropout", "not stated", f"{V3_WEIGHT_DECAY:g} (an L2 term on weights of convolutions and the "
        f"last layer) and {V3_DROPOUT:g} before the last layer", "TF-Slim's defaults of the time",
        "on few images the decay is next to nothing",
    )  # fmt: skip
    least, most = AREA
    stated = "cropping, brightness, saturation, hue and contrast, amounts not stated"
    yield (
        "augmentation", stated, f"crops of {percent(least, 0)} to {percent(most, 0)} of the area, mirror "
        f"images, brightness within {BRIGHTNESS:.2f} and hue within {HUE:g} turns, contrast and saturation "
        f"times {CONTRAST[0]:g} to {CONTRAST[1]:g}", "TF-Slim's of the time, but that it crops down to 5 %, and "
        "photographs not yet reduced to a square", "small windows are blurred, and nothing beyond the square is seen",
    )  # fmt: skip


def _fig2a(profile: Profile) -> Iterator[Row]:
    yield from _table2(profile)
    yield (
        "early stopping", "judged by the best test epoch", "also by images held out of training; these runs never stop "
        "early", "choosing on the test set flatters", "a smaller gain",
    )  # fmt: skip


PHOTO_ROWS = {
    "randomization": _photo_randomization,
    "explicit_regularization": _table2,
    "implicit_regularization": _fig2a,
}
