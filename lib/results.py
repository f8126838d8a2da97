"""All runs in tidy form for a reader's own analysis: results.csv, and results.json with a data dictionary."""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from lib.experiments import arms_of, claim_arms
from lib.profiles import PROFILES
from lib.runs import COPIES, OVERFIT_LOSS, Record, Run, current_record, runs_frame

RESULTS = "results.json"
DICTIONARY = {  # column -> what it is; one row is one run
    "key": "identifier: hash of the settings, the data set's fingerprint and the recipe's version",
    "record": "path of the run's own record, with its history over the epochs, beside this file; in runs/these those "
    "of another store than the repository's own, which may have the same key",
    "roles": "where the run is used: 'profile: claim / group / arm', joined by '; '; empty: by hand only",
    "dataset": "name of the data set",
    "classes": "how many of the data set's classes, evenly spaced; empty: all",
    "model": "network",
    "seed": "of the initial weights, the order of the data, augmentation, corruption and the subset of images",
    "train_size": "images in the stratified training subset; empty: all",
    "test_size": "test images evaluated after every epoch; empty: all; final values take all",
    "validation_size": "training images held out of training and evaluated after every epoch",
    "pixels": "original, shuffled (one permutation for all images), random (one for each) or gaussian (noise)",
    "label_corruption": "probability with which each training label was redrawn uniformly, 0 to 1",
    "width": "factor on the number of filters and hidden units; 1 is the paper's network",
    "optimizer": "sgd, adam or rmsprop",
    "learning_rate": "of the first epoch",
    "decay": "factor on the learning rate after every epoch",
    "momentum": "of SGD and RMSProp",
    "batch_size": "images a step; empty: all of them",
    "epochs": "epochs at most",
    "stop_when_fitted": "whether the run ended once it had fitted",
    "weight_decay": "coefficient of the L2 term on weights",
    "dropout": "probability of dropping a hidden fully connected unit, of Inception V3 an input of its last layer",
    "random_crop": "whether training images were cropped at random",
    "flip_and_rotate": "whether training images were flipped and rotated at random",
    "exact_only": "whether training images that differ from the published ones were left out",
    "photo_augmentation": "whether training images were cropped, mirrored and changed in colour at random",
    "across_channels": "whether shuffled or random pixels move between channels, too",
    "lrn": "constants of AlexNet's local response normalization: TensorFlow's tutorial's, or tf.nn.lrn's default ones",
    "initialization": "of the weights: He (normal), or tutorial (AlexNet's, as in TensorFlow's CIFAR-10 tutorial)",
    "precision": "asked for: auto (bf16 where the hardware is faster in it), fp32 or fp64",
    "randomization": "the paper's name for what was done to the training set",
    "regularizers": "explicit regularizers that were on",
    "outcome": "epochs (all were run), fitted (ended by its stopping rule) or diverged (non-finite loss)",
    "epochs_run": "epochs that were run",
    "overfit_time": f"epochs until the running training loss was below {OVERFIT_LOSS:g}, linear between epochs; "
    "inf (JSON: null): never",
    "steps_to_overfit": "the same in optimizer steps",
    "train_loss": "cross-entropy on all training images at the end, in evaluation mode",
    "train_accuracy": "share of all training images classified as labelled at the end, 0 to 1",
    "train_top5_accuracy": "share of them whose label is among the five classes with the largest outputs, 0 to 1",
    "test_loss": "cross-entropy on all test images at the end",
    "test_accuracy": "share of all test images classified correctly at the end, 0 to 1",
    "test_top5_accuracy": "share of them whose class is among the five with the largest outputs, 0 to 1",
    "changed_test_loss": "cross-entropy on test images changed as the training images were; empty where none were",
    "changed_test_accuracy": "accuracy on test images changed as the training images were, 0 to 1",
    "changed_test_top5_accuracy": "top-5 accuracy on test images changed as the training images were, 0 to 1",
    "overfit_epochs": f"whole epochs until the running training loss was below {OVERFIT_LOSS:g}; empty: never",
    "overfit_steps": "the same in optimizer steps",
    "fitted_epochs": "epochs until every training image was classified as labelled; empty: never",
    "fitted_steps": "the same in optimizer steps",
    "running_train_accuracy": "mean over the last epoch's mini-batches as trained on, 0 to 1",
    "last_test_accuracy": "after the last epoch, on the images evaluated after every epoch, 0 to 1",
    "best_test_accuracy": "the highest of those after an epoch, 0 to 1",
    "best_test_top5_accuracy": "the highest top-5 accuracy of those after an epoch, 0 to 1",
    "early_stopped_test_accuracy": "that of the epoch with the highest accuracy on held-out images, 0 to 1",
    "train_images": "images trained on",
    "parameters": "trainable parameters of the network",
    "arithmetic": "precision computed in, or those where the run went on on other hardware",
    "hardware": "processor that trained the run",
    "seconds": "of training: the run's share of the time of all that were trained with it in one process",
    "started": "when training began, UTC",
    "processes": "how many trained it together",
    "commit": "source commit that trained the run; empty: unknown",
    "dirty": "whether code that bears on results differed from that commit; empty: unknown",
    "training": "key of the run whose training this is: its own, or that of the same one without a stop or with it",
    "data_source": "where the data set was found",
    "fingerprint": "SHA-256 of all arrays of the data set",
}
PROVENANCE = ("train_images", "parameters", "hardware", "seconds", "started", "commit", "dirty")


def roles() -> dict[Run, str]:
    """Where a run of any profile is used, for every data set the profiles know; its seed is left out, as 0."""
    found: dict[Run, dict[str, None]] = {}
    for profile in PROFILES.values():
        for dataset in profile.sizes:
            for claim in arms_of(dataset):
                for arm in claim_arms(claim, profile, dataset):
                    found.setdefault(replace(arm.run, seed=0), {})[
                        f"{profile.name}: {claim} / {arm.group} / {arm.name}"
                    ] = None
    return {run: "; ".join(names) for run, names in found.items()}


def tidy(records: Iterable[tuple[str, Record]]) -> pd.DataFrame:
    """One row per (path, record), sorted by path, with the columns of DICTIONARY."""
    records, used = sorted(records, key=lambda pair: pair[0]), roles()
    frame = runs_frame(record for _, record in records)
    extra = [
        {"record": path, "roles": used.get(replace(record.run, seed=0), ""), "fingerprint": record.fingerprint}
        | {"data_source": record.provenance["data"]["source"], "training": record.training}
        | {"processes": record.provenance.get("processes", 1)}
        | {name: record.provenance[name] for name in PROVENANCE}
        for path, record in records
    ]
    return pd.concat([frame, pd.DataFrame(extra)], axis=1).reindex(columns=list(DICTIONARY))


def write_results(folder: Path) -> None:
    """Write results.csv and results.json beside a report's pages, from the copies of the records."""
    paths = sorted((folder / COPIES).rglob("*.json"))
    frame = tidy((path.relative_to(folder).as_posix(), current_record(path)) for path in paths)
    frame.to_csv(folder / "results.csv", index=False)
    known = frame.astype(object).where(frame.notna() & (frame != math.inf), None)
    document = {"columns": DICTIONARY, "runs": known.to_dict("records")}
    text = json.dumps(document, indent=1, allow_nan=False, default=lambda number: number.item())
    (folder / RESULTS).write_text(text + "\n")
