import itertools
import re
from dataclasses import replace

from lib import overview, plots
from lib.claims import CLAIMS
from lib.experiments import arms_of, claim_arms
from lib.profiles import PROFILES
from lib.runs import Run, RunStore
from lib.study import recorded_study, shared_runs


def test_the_readme_is_what_the_records_say():
    """Where it is not: make readme."""
    assert overview.verdicts() in overview.README.read_text()
    assert overview.figure_svg() == overview.FIGURE.read_text()


def test_the_readme_quotes_the_last_bench():
    """Where it does not: make readme."""
    assert "img/s" in overview.speeds()
    assert overview.speeds() in overview.README.read_text()


def test_the_readme_tells_how_much_imagenet_asks():
    runs = {arm.run for claim in arms_of("imagenet") for arm in claim_arms(claim, PROFILES["paper"], "imagenet")}
    (epochs,) = {run.epochs for run in runs}
    assert f"ImageNet: {len(runs)} runs of {epochs} epochs" in overview.README.read_text()


def test_a_headline_of_one_seed_has_no_interval():
    two = recorded_study("explicit_regularization", "cpu")
    one = replace(two, arms=[arm for arm in two.arms if arm.run.seed == 0])
    assert re.search(r" % to [\d.]+ %, 3 seeds\)", overview._cell(two, two.claim).replace("\N{NO-BREAK SPACE}", " "))
    assert "% (1 seed)" in overview._cell(one, one.claim)


def test_no_finding_is_told_twice():
    found = overview.findings(*map(recorded_study, CLAIMS)).splitlines()
    told = [line.partition("): ")[2].rstrip(".") for line in found]
    assert len(told) > 1
    assert not any(one in other for one, other in itertools.permutations(told, 2))


def _arms_run(study):
    """How many points of the study's picture have a run."""
    runs = study.group(overview.PICTURED[study.claim.name]).dropna(subset="key")
    return len(set(zip(runs["model"], runs["arm"], strict=True)))


def test_a_picture_is_of_its_own_study_if_that_has_all_of_it_else_of_whichever_has_most(tmp_path):
    (own,) = overview.pictured([recorded_study("label_corruption", "quick")])
    assert own.profile.name == "quick"  # whole, though of fewer corruption rates than others have
    corruption = [recorded_study("label_corruption", profile) for profile in ("paper", "cpu", "quick")]
    most = max(corruption, key=_arms_run)
    empty = [replace(study, records=[], store=RunStore(tmp_path)) for study in corruption]
    assert {study.profile.name for study in overview.pictured(empty)} == {most.profile.name}


def test_only_the_papers_two_pictures_are_shown():
    shown = overview.pictured([recorded_study(claim) for claim in CLAIMS])
    assert [study.claim.name for study in shown] == list(overview.PICTURED)


def test_the_pictures_caption_names_the_networks_that_did_not_fit():
    study = recorded_study("label_corruption", "quick")
    rows = study.group("corruption")
    assert (rows["train_accuracy"] >= 0.99).all()
    assert "unfitted" not in overview.caption([study])
    failed = study.frame.assign(train_accuracy=study.frame["train_accuracy"].mask(rows["seed"].eq(1), 0.5))
    study.__dict__["frame"] = failed  # as the cached property would
    text = overview.caption([recorded_study("randomization", "paper"), study])
    assert text.startswith("Left: profile paper on cifar10; right: profile quick on cifar10.")
    runs = (rows["model"] == "alexnet").sum()
    assert f"AlexNet unfitted at the end in {runs // len(study.profile.seeds)} of {runs} runs" in text


def test_the_pictures_caption_says_whose_errors_cannot_be_compared():
    """On fewer images the test error is higher from the start."""
    cpu, quick = (recorded_study("label_corruption", name) for name in ("cpu", "quick"))
    told = (
        "Inception has 10,000 training images, the others all: its rise can be compared with theirs, its level cannot."
    )
    assert overview.caption([cpu]).endswith(told)
    assert "images" not in overview.caption([quick])  # all have equally many


def test_runs_that_two_columns_have_in_common_are_counted_and_are_no_runs_of_the_same_settings_only():
    full, cpu = ([recorded_study(claim, profile) for claim in CLAIMS] for profile in ("paper", "cpu"))
    runs: list[set[Run]] = [{record.run for study in each for record in study.records} for each in (full, cpu)]
    assert shared_runs(*cpu) == len(runs[0] & runs[1]) > 0
    assert f"of which {shared_runs(*cpu)} are" in overview.verdicts()
    assert shared_runs(*full) == 0  # they are those at the paper's size
    again = [replace(study, store=RunStore(study.store.root / "again")) for study in cpu]
    assert shared_runs(*again) == 0
    assert cpu[1].shares(full[1], "corruption", "mlp_1x512")
    assert not again[1].shares(full[1], "corruption", "mlp_1x512")


def test_a_readme_without_records_says_so(nothing):
    assert "not run yet" in overview.verdicts()
    figure = overview.figure([recorded_study(claim, "quick") for claim in CLAIMS])
    assert len(plots.settle(figure).axes) == 2
