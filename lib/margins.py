"""Every margin and the reason for it, fixed before the runs at the paper's size, and what changed since.

To change a criterion or a margin is to add to VERSIONS, which the pages show.
"""

from lib import paper
from lib.criteria import IMAGENET_CHANCE, PAPER_CHANCE, Margin
from lib.words import in_points, percent

VERSIONS = {  # of the criteria: what changed, and what had been seen by then
    2: "margins come from what the paper claims and gives, and intervals decide. Before any run at the paper's size; "
    "the margin for fitting photographs was lowered by a point after the first runs of quick on Tiny ImageNet, none of "
    "which lies between the old one and the new",
    3: "where a time to overfit never came, or a network did not fit what it was trained on, a criterion is undecided, "
    "whichever way it went before; SGD is compared with batches and rates four times as large, too. After runs at "
    "the paper's size had been seen; no margin changed",
    4: "Inception's runs of Fig. 1a end once they have fitted, as those of Fig. 1b and 1c do. Before any result of "
    "them had been seen; no margin changed",
    5: "random labels that were never fitted leave undecided whether they cost only a constant factor, as version 3 "
    "implies; the best of many epochs, if judged by few test images, leaves undecided whether stopping gains "
    "something, since chance alone gains as much. After runs of every profile had been seen; no margin changed",
    6: "no criterion changed. Among the paper's numbers, Fig. 1b's margins are scaled to how far each network's curve "
    "rises, since Inception's would have passed a flat curve, and an effect counts as replicated only in the paper's "
    "direction. After runs of every profile had been seen",
    7: "what version 3 says of networks that did not fit holds for random labels, too: it is undecided whether such "
    "networks are at chance, and whether their test errors grow. What is lost without a regularizer is undecided where "
    "the network with it fitted less than the paper's or, where the paper has no such row, learned nothing; any other "
    "lack of fit with it is noted, and the criterion decided as before. After runs of every profile had been seen; no "
    "margin changed",
    8: "that a network fits at every rate is decided by the first rate at which it does not, whatever others will run. "
    "Among the paper's numbers, the test accuracy of networks that did not fit random labels is inconclusive, as "
    "version 7 says of the criterion. After runs of every profile had been seen; no margin changed",
    9: "Table 1's rows with weight decay, whose coefficient the paper does not state, are held against each of ours: "
    "it is undecided what is lost without the second one, too, where the network fitted less with it than the paper's. "
    "After runs of every profile had been seen; no margin changed",
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
    least_ratio, most_ratio = sorted(
        steps["random labels"] / steps["true labels"] for steps in map(paper.steps_to_loss, LEVELS)
    )
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
            "what remains with AlexNet in Inception's place: the paper finds that changing the architecture does more "
            "than regularizers do, and batch norm apart this is the smallest such change from Inception",
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
        "training accuracy": Margin(0.01, "what the least accuracy that counts as fitting leaves open"),
        "accuracy": Margin(
            spread.median(), "the paper disagrees with itself by as much in the median of the networks given twice"
        ),
        "order": Margin(0.1, "one swap of neighbours among five"),
        "failure": Margin(0.5, "most of our runs do as the paper's one did"),
        "largest": Margin(spread.max(), "the most by which the paper disagrees with itself about a network"),
        "time factor": Margin(
            most_ratio / least_ratio,
            f"a time to overfit is no better defined than this: the paper's own ratio changes by this factor {levels}",
        ),
        "time": Margin((most_ratio - least_ratio) / 2, f"half of what the paper's own ratio changes by {levels}"),
        "largest time": Margin(most_ratio - least_ratio, f"the paper's own ratio changes by this difference {levels}"),
    }


MARGINS = _margins()
