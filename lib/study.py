"""One claim at one size: what a notebook works with.

Records that answer all of it are rendered, whichever copy of the data set they were made on: a copy's fingerprint
differs where some of its images are not bit-exact. Else opening it trains what the copy at hand has no record of, but
for what takes days on a CPU, unless RETRAIN=1: that is rendered from the records there are.
"""

import functools
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace
from itertools import product

import pandas as pd

from lib.agreement import against_paper, contradictions
from lib.claims import CLAIMS, Claim
from lib.config import RECORDED, InputError, one_of, resolve_device, retrains, store_root
from lib.criteria import QUESTION, comparisons_frame, criteria_frame, verdict
from lib.data import CLASSES, IMAGES, load_dataset, resolve_dataset
from lib.experiments import Arm, arms_frame, arms_of, claim_arms, runs_of
from lib.imagenet import image_size, own_size
from lib.packing import UNREADABLE_SHARE, pixels_text
from lib.photo_claims import claims_of
from lib.profiles import PHOTOGRAPHS, PROFILES, Profile, resolve_profile, with_parameters
from lib.runs import Record, Run, RunStore, history_frame, stored_records
from lib.splits import Dataset
from lib.sweep import train_missing

PUBLISHED, DATA_SETS = ("paper", "cpu", "quick"), ("cifar10", *PHOTOGRAPHS)  # that the repository may have records of


@dataclass(frozen=True)
class Study:
    """A claim, the profile and data set it is asked of, the arms that ask it, and the records that answer.

    dataset: None where the records were only read, on whatever machine they were made.
    asked: seeds and rates, where others than the profile's were asked for.
    """

    claim: Claim
    profile: Profile
    data: str
    pixels: int  # of a side of its photographs; 0: they are none
    chance: float  # accuracy of guessing one of the classes
    store: RunStore
    arms: list[Arm]
    records: list[Record]
    dataset: Dataset | None = None
    asked: dict[str, int | list[float]] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether this is the paper's setting, whose numbers may be held against the paper's."""
        copies = (record.provenance["data"] for record in self.records)
        return is_papers(self.profile, self.data, self.pixels) and all(_is_all_of(self.data, copy) for copy in copies)

    @property
    def on_photographs(self) -> bool:
        """Whether the data set is of the kind of ImageNet."""
        return self.data in PHOTOGRAPHS

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
    def planned_verdict(self) -> str:
        """The verdict by the profile's own seeds alone: more are recorded where it was open, and who looks again and
        again is likelier to see what is only chance."""
        planned = self.frame[self.frame["seed"].isin(PROFILES[self.profile.name].seeds)]
        return self._verdict(criteria_frame(self.claim.criteria(planned, self.chance)))

    @functools.cached_property
    def answers(self) -> pd.DataFrame:
        """`criteria` by criteria.QUESTION."""
        return self.criteria.set_index(QUESTION)

    @functools.cached_property
    def comparisons(self) -> pd.DataFrame:
        """One row per comparison with and without something, see criteria.comparisons_frame."""
        return comparisons_frame(self.claim.comparisons(self.frame, self.chance), self.chance)

    @functools.cached_property
    def agreement(self) -> pd.DataFrame:
        """One row per number of the paper's, see agreement.rows_frame."""
        return against_paper(self.claim.name, self.frame, self.on_photographs)

    @functools.cached_property
    def contradictions(self) -> pd.DataFrame:
        """Where the paper disagrees with itself, see agreement.contradictions; claim 3 has the runs."""
        return contradictions(self.frame)

    @functools.cached_property
    def recorded(self) -> "Study":
        """The repository's own records at the paper's size: the column between the paper's and these runs. Of
        photographs those of the same data set, else of CIFAR-10. With RETRAIN=1 those of the same data set, profile and
        seeds."""
        if retrains() and self.store.root != RECORDED:
            store = RunStore(RECORDED)
            return _read(self.claim.name, self.profile, self.data, store, False, pixels=self.pixels)
        data = self.data if self.on_photographs else "cifar10"
        asked = self.profile.name, self.profile.rates, self.data, self.pixels, self.store.root
        if asked == ("paper", PROFILES["paper"].rates, data, own_size(data), RECORDED):
            return self
        return recorded_study(self.claim.name, "paper", data)

    @functools.cached_property
    def elsewhere(self) -> list["Study"]:
        """The repository's own records of what the page's columns do not show: other profiles and data sets, as far as
        there are any."""
        shown = {(each.profile.name, each.data) for each in (self, self.recorded) if each.store.root == RECORDED}
        studies = [
            recorded_study(self.claim.name, profile, data)
            for data, profile in product(DATA_SETS, PUBLISHED)
            if (profile, data) not in shown and data in PROFILES[profile].sizes and self.claim.name in claims_of(data)
        ]
        return [study for study in studies if study.records]

    @property
    def headline(self) -> pd.Series:
        """The row of `criteria` that decides first."""
        return self.criteria[self.criteria["headline"]].iloc[0]

    @property
    def verdict(self) -> str:
        """The claim's verdict, see criteria.verdict; a profile that is no result gives none."""
        return self._verdict(self.criteria)

    def _verdict(self, criteria: pd.DataFrame) -> str:
        found = verdict(criteria)
        return found if self.profile.is_result or found == "not run" else "inconclusive"

    def group(self, name: str) -> pd.DataFrame:
        """The frame's rows of one group of arms."""
        return self.frame[self.frame["group"] == name]

    def keys(self, group: str, model: str) -> set[str]:
        """Of the records of a group and network; '': of all its networks."""
        rows = self.group(group)
        return set(rows.loc[(rows["model"] == model) | (not model), "key"].dropna())

    def shares(self, other: "Study", group: str, model: str) -> bool:
        """Whether all records of a group and network are also another study's, not only runs of the same settings."""
        return self.store.root == other.store.root and self.keys(group, model) <= other.keys(group, model)

    def needed(self, group: str, model: str) -> int:
        """How many runs a group and network has; '': all its networks."""
        return len({arm.run for arm in self.arms if arm.group == group and model in ("", arm.run.model)})

    def group_like(self, start: str) -> pd.DataFrame:
        """The frame's rows of the groups whose names start so."""
        return self.frame[self.frame["group"].str.startswith(start)]

    def group_history(self, name: str) -> pd.DataFrame:
        """The history's rows of one group of arms."""
        return self.history[self.history["group"] == name]


def is_papers(profile: Profile, data: str, pixels: int) -> bool:
    """Whether a profile on a data set, of photographs of so many pixels, is the paper's setting, with all its
    corruption rates."""
    is_own = data in ("cifar10", "imagenet") and pixels == own_size(data)
    return is_own and (profile.name, profile.rates) == ("paper", PROFILES["paper"].rates)


def _is_all_of(name: str, copy: dict) -> bool:
    """Whether a copy of a data set, as a record describes it, has all its images, but for a few that are damaged."""
    counts = (copy.get(split, count) >= (1 - UNREADABLE_SHARE) * count for split, count in IMAGES[name].items())
    return copy.get("classes", CLASSES[name]) == CLASSES[name] and all(counts)


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
        profile: 'smoke', 'quick', 'cpu', 'paper' or 'auto'.
        dataset: 'cifar10', 'tiny-imagenet', 'imagenet', 'digits' or 'auto'.
        device: 'cpu', 'cuda' or 'auto'.
        seeds: number of seeds; None: the profile's, and all further ones that are recorded.
        rates: label corruption rates; None: the profile's.

    Raises:
        InputError: a value that is not allowed, data that is needed and damaged or not to be had, a store that cannot
            be written, or runs that failed.
    """
    one_of("claim", claim, CLAIMS)
    device = resolve_device(device)
    size = with_parameters(resolve_profile(profile, device), seeds, rates)
    store = RunStore(store_root())
    name = dataset_of(size, dataset, device, store)
    runs = runs_of([claim], size, name)  # refuses what the paper does not ask of this data set, or the profile has not
    read = functools.partial(_read, claim, size, name, store, seeds is None, pixels=image_size(name))
    study = read()
    data = _data_for(size, name, needed=not _is_whole(study)) if trains(size, device) else None
    if data is not None:
        study = read(data.fingerprint)
        if not _is_whole(study):
            train_missing(runs, data, store, device).check()
            study = read(data.fingerprint)
    asked = {name: value for name, value in {"seeds": seeds, "rates": rates}.items() if value is not None}
    return replace(study, dataset=data, asked=asked)


def _data_for(profile: Profile, name: str, needed: bool) -> Dataset | None:
    """A profile's data set, whose images pages draw; None where it is not to be had whole, unless it is needed."""
    try:
        return load_dataset(name, classes=profile.sizes[name].classes)
    except InputError:
        if needed:
            raise
        return None


def run_counts(*studies: Study) -> tuple[int, int]:
    """How many runs some studies have records of, and how many they need; one that several share counts once."""
    recorded = {record.run for study in studies for record in study.records}
    return len(recorded), len({arm.run for study in studies for arm in study.arms})


def shared_runs(*studies: Study) -> int:
    """How many of the records of some studies are also among those at the paper's size, where they are others."""
    same = [study for study in studies if study.recorded is not study and study.store.root == study.recorded.store.root]
    full = {record.run for study in same for record in study.recorded.records}
    return len(full & {record.run for study in same for record in study.records})


def _is_whole(study: Study) -> bool:
    recorded, needed = run_counts(study)
    return recorded == needed


def trains(profile: Profile, device: str) -> bool:
    """Whether a page may train what has no record: not what takes days on a CPU, unless all is to be trained again.
    (lib.sweep always does.)"""
    return not profile.takes_days or device == "cuda" or retrains()


def dataset_of(profile: Profile, dataset: str, device: str, store: RunStore) -> str:
    """The data set's name. What only renders a store's records needs no data: 'auto' is CIFAR-10 then.

    Raises:
        InputError: unknown name, or damaged data.
    """
    if dataset == "auto":
        runs = runs_of(arms_of("cifar10"), profile, "cifar10")
        if not trains(profile, device) or all_recorded(runs, "cifar10", store):
            return "cifar10"
    return resolve_dataset(dataset)


def all_recorded(runs: Iterable[Run], dataset: str, store: RunStore) -> bool:
    """Whether a store has all of these runs, made on one copy of the data set."""
    return recorded_runs(runs, dataset, store, image_size(dataset)).keys() >= set(runs)


def recorded_runs(runs: Iterable[Run], dataset: str, store: RunStore, pixels: int, own: str = "") -> dict[Run, Record]:
    """A store's records, all made on one copy of a data set: on that which has the most of these runs, of such copies
    on the own one, by its fingerprint. Photographs of another size are another data set; pixels: see image_size."""
    copies, runs = defaultdict(dict), set(runs)
    for record in stored_records(store.root / dataset):
        if record.provenance["data"]["source"].endswith(pixels_text(pixels) if pixels else ""):
            copies[record.fingerprint][record.run] = record
    most = max(copies, key=lambda copy: (len(runs & copies[copy].keys()), copy == own), default=None)
    return copies[most] if most else {}


def _read(
    claim: str, size: Profile, dataset: str, store: RunStore, more_seeds: bool, own: str = "", pixels: int | None = None
) -> Study:
    """What a store's records say of a claim; own: fingerprint of the copy of the data set at hand; pixels: as
    recorded_runs', None for the data set's own."""
    pixels = own_size(dataset) if pixels is None else pixels
    found = recorded_runs(runs_of([claim], size, dataset), dataset, store, pixels, own)
    if more_seeds:
        size = _with_recorded_seeds(claim, size, dataset, found)
    arms = claim_arms(claim, size, dataset)
    known = [found[run] for run in dict.fromkeys(arm.run for arm in arms) if run in found]
    classes = size.sizes[dataset].classes or CLASSES[dataset]  # older records do not say of how many
    classes = max((record.provenance["data"].get("classes", classes) for record in known), default=classes)
    return Study(claims_of(dataset)[claim], size, dataset, pixels, 1 / classes, store, arms, known)


def open_studies(
    profile: str = "auto",
    dataset: str = "auto",
    device: str = "auto",
    seeds: int | None = None,
    rates: list[float] | None = None,
) -> list[Study]:
    """Open every claim that is asked of a data set; arguments and errors as open_study's."""
    size = with_parameters(resolve_profile(profile, resolve_device(device)), seeds, rates)
    name = dataset_of(size, dataset, resolve_device(device), RunStore(store_root()))
    return [open_study(claim, profile, name, device, seeds, rates) for claim in claims_of(name)]


def recorded_study(claim: str, profile: str = "paper", dataset: str = "cifar10") -> Study:
    """What the repository's own records say of a claim: nothing is trained, no data set is needed."""
    return _read(claim, PROFILES[profile], dataset, RunStore(RECORDED), more_seeds=True)


def _with_recorded_seeds(claim: str, profile: Profile, data: str, found: Container[Run]) -> Profile:
    """The profile with every further seed of which all of the claim's runs are recorded: no evidence is left out."""
    while True:
        seed = len(profile.seeds)
        wider = replace(profile, seeds=(*profile.seeds, seed))
        if not all(arm.run in found for arm in claim_arms(claim, wider, data) if arm.run.seed == seed):
            return profile
        profile = wider
