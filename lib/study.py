"""One claim at one size: what a notebook works with. Opening it trains what has no record."""

import functools
from dataclasses import dataclass

import pandas as pd

from lib.claims import CLAIMS, Claim, Context, criteria_frame, verdict
from lib.config import one_of, resolve_device, store_root
from lib.data import Dataset, load_dataset, resolve_dataset
from lib.experiments import Arm, Profile, arms_frame, claim_arms, resolve_profile, with_parameters
from lib.runs import Record, RunStore, history_frame
from lib.sweep import records


@dataclass(frozen=True)
class Study:
    """A claim, the profile and data set it is asked of, the arms that ask it, and the records that answer."""

    claim: Claim
    profile: Profile
    dataset: Dataset
    device: str
    store: RunStore
    arms: list[Arm]
    records: list[Record]

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """One row per arm, see experiments.arms_frame."""
        return arms_frame(self.arms, self.records)

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """One row per arm and epoch: the record's history with the arm's group and name."""
        parts = self.frame[["group", "arm", "key"]].dropna()
        return parts.merge(history_frame(self.records), on="key")

    @property
    def chance(self) -> float:
        """Accuracy of guessing one of the classes."""
        return 1 / len(self.dataset.classes)

    @functools.cached_property
    def criteria(self) -> pd.DataFrame:
        """One row per criterion, see claims.criteria_frame."""
        return criteria_frame(self.claim, self.frame, Context(self.chance, len(self.dataset.test)))

    @property
    def verdict(self) -> str:
        """The claim's verdict, see claims.verdict; a profile that is no result gives none."""
        return verdict(self.criteria) if self.profile.is_result else "inconclusive"

    @property
    def missing(self) -> int:
        """How many of the runs have no record."""
        return len({arm.run for arm in self.arms}) - len(self.records)

    def group(self, name: str) -> pd.DataFrame:
        """The frame's rows of one group of arms."""
        return self.frame[self.frame["group"] == name]

    def group_history(self, name: str) -> pd.DataFrame:
        """The history's rows of one group of arms."""
        return self.history[self.history["group"] == name]


def open_study(
    claim: str,
    profile: str = "auto",
    dataset: str = "auto",
    device: str = "auto",
    seeds: int | None = None,
    rates: list[float] | None = None,
) -> Study:
    """Open a claim of claims.CLAIMS, training on the spot, with a progress bar, what has no record.

    Args:
        claim: name of the claim.
        profile: 'smoke', 'quick', 'paper' or 'auto'.
        dataset: 'cifar10', 'digits' or 'auto'.
        device: 'cpu', 'cuda' or 'auto'.
        seeds: number of seeds; None: the profile's.
        rates: label corruption rates; None: the profile's.

    Raises:
        InputError: a value that is not allowed.
    """
    one_of("claim", claim, CLAIMS)
    device = resolve_device(device)
    size = with_parameters(resolve_profile(profile, device), seeds, rates)
    data = load_dataset(resolve_dataset(dataset))
    arms = claim_arms(claim, size, data.name)
    store = RunStore(store_root())
    found = records([arm.run for arm in arms], data, store, device)
    return Study(CLAIMS[claim], size, data, device, store, arms, found)
