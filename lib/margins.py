"""Every margin and the reason for it, fixed before the runs at the paper's size, and what changed since.

To change a criterion or a margin is to add to VERSIONS, which the pages show.
"""

from lib import paper
from lib.criteria import IMAGENET_CHANCE, PAPER_CHANCE, Margin
from lib.words import in_points, percent

VERSIONS = {  # of the criteria: what changed, and what had been seen by then
    2: "margins from what the paper claims and gives, decided by intervals; before any run at the paper's size; the "
    "one for fitting photographs was lowered by a point after the first runs of quick on Tiny ImageNet, none of which "
    "lies between the two",
    3: "a time to overfit that never came, or a network that did not fit what it was trained on, leaves a criterion "
    "undecided, whichever way it went before, and SGD is asked against batches and rates four times as large, too; "
    "after runs at the paper's size were seen; no margin changed",
    4: "Inception's runs of Fig. 1a end once they have fitted, as those of Fig. 1b and 1c do; before a result of them "
    "was seen; no margin changed",
    5: "random labels that never fit leave undecided whether they cost a constant factor only, as version 3 says, and "
    "the best of many epochs that were judged by few test images leaves undecided whether stopping gains something: "
    "that much is gained by chance; after runs of every profile were seen; no margin changed",
    6: "no criterion changed; among the paper's numbers Fig. 1b's margins are scaled to how far each network's curve "
    "rises, since Inception's would have passed a flat one, and an effect counts as replicated only in the paper's "
    "direction; after runs of every profile were seen",
    7: "what version 3 says of networks that did not fit holds of those on random labels, too, which leave undecided "
    "whether they are at chance and whether test errors grow; what is lost without a regularizer is undecided where "
    "the network with it fitted less than the paper's or, where the paper has no such row, learned nothing; where it "
    "learned there but did not fit, that is noted and decides as before; after runs of every profile were seen; no "
    "margin changed",
}
CRITERIA_VERSION = max(VERSIONS)
LEVELS = (0.1, 0.01)  # losses around OVERFIT_LOSS: the paper defines no level at which it stopped its clock


def _margins() -> dict[str, Margin]:
    """Every margin, from what the paper itself claims, gives and leaves open."""
    true, noise = (paper.table1().query(f"labels == '{labels}'") for labels in ("true", "random"))
    least = min(noise["train_accuracy"].min(), paper.table4()["train_accuracy"].min())
    weakest = true["test_accuracy"].min() - PAPER_CHANCE
    plain = true.query("arm == 'none'").set_index("model")["test_accuracy"] - PAPER_CHANCE
    imagenet = paper.table2()
    least_v3 = imagenet.query("labels == 'random'")["train_top1"].min()
    weakest_v3 = imagenet.query("labels == 'true'")["test_top1"].min() - IMAGENET_CHANCE
    gain = (imagenet["best_test_top1"] - imagenet["test_top1"]).min()
    places = paper.contradictions().query("model != 'inception_v3'").groupby("model")["value"]
    spread = places.max() - places.min()
    steps = paper.steps_to_loss(LEVELS)
    ratios = steps.loc["random labels"] / steps.loc["true labels"]
    levels = f"as its undefined level of 'overfit' goes from a loss of {LEVELS[0]:g} to {LEVELS[1]:g}"
    return {
        "fitted": Margin(
            0.99, f"those of the paper's own rows on random labels that converged reach {percent(least)} at least"
        ),
        "chance": Margin(
            weakest / 20, f"a twentieth of the {percent(weakest)} that Table 1's weakest row learns above chance"
        ),
        "marginal": Margin(
            plain["alexnet"] / plain["inception"],
            "what remains with AlexNet in Inception's place: the paper calls marginal what does less than changing "
            "the architecture, and of Inception this is the smallest such change",
        ),
        "no gain": Margin(
            gain / 2,
            f"half of the smallest gain that the paper calls one, {in_points(gain)} on ImageNet",
        ),
        "fitted, ImageNet": Margin(
            least_v3 - 0.01,
            f"a point below {percent(least_v3)}, the least of the paper's own rows on random labels there",
        ),
        "chance, ImageNet": Margin(
            weakest_v3 / 20, f"a twentieth of the {percent(weakest_v3)} that Table 2's weakest row learns above chance"
        ),
        "kept, ImageNet": Margin(
            0.5, "with less than half of it left, generalization would rest on the regularizers more than on all else"
        ),
        "steady": Margin(0.9, "one swap of neighbours among five corruption rates; none among three, some among 11"),
        "constant factor": Margin(10.0, "an order of magnitude is the loosest reading of 'a small constant factor'"),
        "fit": Margin(0.01, "what the least accuracy that counts as fitting leaves open"),
        "accuracy": Margin(
            spread.median(), "the paper disagrees with itself by as much in the median of the networks given twice"
        ),
        "order": Margin(0.1, "one swap of neighbours among five"),
        "failure": Margin(0.5, "most of our runs do as the paper's one did"),
        "largest": Margin(spread.max(), "the most by which the paper disagrees with itself about a network"),
        "time factor": Margin(ratios.max() / ratios.min(), f"the paper's own ratio changes by this factor {levels}"),
        "time": Margin((ratios.max() - ratios.min()) / 2, f"half of what the paper's own ratio changes by {levels}"),
        "largest time": Margin(
            ratios.max() - ratios.min(), f"the paper's own ratio changes by this difference {levels}"
        ),
    }


MARGINS = _margins()
