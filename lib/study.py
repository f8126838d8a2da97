"""One claim at one size: what a notebook works with. Opening it trains what has no record."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from lib.agreement import against_paper, contradictions
from lib.claims import CLAIMS, Claim
from lib.config import ROOT, one_of, resolve_device, store_root
from lib.criteria import PAPER_CHANCE, comparisons_frame, criteria_frame, verdict
from lib.data import load_dataset, resolve_dataset
from lib.experiments import PROFILES, Arm, Profile, arms_frame, claim_arms, resolve_profile, with_parameters
from lib.runs import Record, Run, RunStore, history_frame
from lib.splits import Dataset
from lib.sweep import records

RECORDED = ROOT / "report" / "runs"  # the records that come with the repository


@dataclass(frozen=True)
class Study:
    """A claim, the profile and data set it is asked of, the arms that ask it, and the records that answer.

    dataset: None where the records were only read, on whatever machine they were made.
    """

    claim: Claim
    profile: Profile
    data: str
    chance: float  # accuracy of guessing one of the classes
    store: RunStore
    arms: list[Arm]
    records: list[Record]
    dataset: Dataset | None = None

    @property
    def is_full(self) -> bool:
        """Whether this is the paper's setting, whose numbers may be held against the paper's."""
        return self.profile.name == "paper" and self.data == "cifar10"

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """One row per arm, see experiments.arms_frame."""
        return arms_frame(self.arms, self.records)

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """One row per arm and epoch: the record's history with the arm's group and name."""
        parts = self.frame[["group", "arm", "key"]].dropna().astype(object)  # without a record, too
        return parts.merge(history_frame(self.records), on="key")

    @functools.cached_property
    def criteria(self) -> pd.DataFrame:
        """One row per criterion, see criteria.criteria_frame."""
        return criteria_frame(self.claim.criteria(self.frame, self.chance))

    @functools.cached_property
    def comparisons(self) -> pd.DataFrame:
        """One row per comparison with and without something, see criteria.comparisons_frame."""
        return comparisons_frame(self.claim.comparisons(self.frame), self.chance)

    @functools.cached_property
    def agreement(self) -> pd.DataFrame:
        """One row per number of the paper's, see agreement.rows_frame."""
        return against_paper(self.claim.name, self.frame)

    @functools.cached_property
    def contradictions(self) -> pd.DataFrame:
        """Where the paper disagrees with itself, see agreement.contradictions; claim 3 has the runs."""
        return contradictions(self.frame)

    @functools.cached_property
    def recorded(self) -> "Study":
        """The repository's own records at the paper's size: the column between the paper's and these runs."""
        return self if self.is_full and self.store.root == RECORDED else recorded_study(self.claim.name)

    @property
    def headline(self) -> pd.Series:
        """The row of `criteria` that decides first."""
        return self.criteria[self.criteria["headline"]].iloc[0]

    @property
    def verdict(self) -> str:
        """The claim's verdict, see criteria.verdict; a profile that is no result gives none."""
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
        seeds: number of seeds; None: the profile's, and all further ones that are recorded.
        rates: label corruption rates; None: the profile's.

    Raises:
        InputError: a value that is not allowed.
    """
    one_of("claim", claim, CLAIMS)
    device = resolve_device(device)
    size = with_parameters(resolve_profile(profile, device), seeds, rates)
    data = load_dataset(resolve_dataset(dataset))
    store = RunStore(store_root())
    if seeds is None:
        size = _with_recorded_seeds(claim, size, data.name, lambda run: store.load(run, data.fingerprint) is not None)
    arms = claim_arms(claim, size, data.name)
    found = records([arm.run for arm in arms], data, store, device)
    return Study(CLAIMS[claim], size, data.name, 1 / len(data.classes), store, arms, found, data)


def recorded_study(claim: str, profile: str = "paper") -> Study:
    """What the repository's own records of CIFAR-10 say of a claim: nothing is trained, no data set is needed."""
    found = {record.run: record for record in stored_records(RECORDED / "cifar10")}
    size = _with_recorded_seeds(claim, PROFILES[profile], "cifar10", found.__contains__)
    arms = claim_arms(claim, size, "cifar10")
    known = [found[run] for run in dict.fromkeys(arm.run for arm in arms) if run in found]
    return Study(CLAIMS[claim], size, "cifar10", PAPER_CHANCE, RunStore(RECORDED), arms, known)


def _with_recorded_seeds(claim: str, profile: Profile, data: str, is_recorded: Callable[[Run], bool]) -> Profile:
    """The profile with every further seed of which all of the claim's runs are recorded: no evidence is left out."""
    while True:
        seed = len(profile.seeds)
        wider = replace(profile, seeds=(*profile.seeds, seed))
        if not all(is_recorded(arm.run) for arm in claim_arms(claim, wider, data) if arm.run.seed == seed):
            return profile
        profile = wider


def is_current(path: Path) -> bool:
    """Whether a record's file is whole and of today's recipe; another is no evidence."""
    try:
        Record.from_json(path.read_text())
    except (ValueError, KeyError, TypeError):
        return False
    return True


@functools.cache
def stored_records(folder: Path) -> list[Record]:
    """Every current record below a folder, in the order of the files' names."""
    return [Record.from_json(path.read_text()) for path in sorted(folder.rglob("*.json")) if is_current(path)]
