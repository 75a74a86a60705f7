"""Detection-based MIL: an instance classifier trained on instance labels, aggregated per bag.

HMIL's paper asks whether such frameworks suffice for fine-grained slide classification (its
question 1, table 5). It does not describe which detectors it compares with, so this is the plain
form of the idea: every instance is classified as background or as a witness of a fine class, a
bag's evidence for a class is the mean probability of its most probable instances, and a linear
layer on the logarithms of the evidence classifies the bag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import extreme_rows, segment_mean
from mil_bench.methods import Float, InstanceMap, Int, Method, Output, Recipe, weighted_mean

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy


class Detector(Method):
    """Detector: an instance classifier trained on instance labels; top instances classify the bag.

    It learns from more than slide labels, so a difference from other methods is not only due to the
    architecture.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        hidden: width of the instance classifier; 500 as ABMIL's embedding, for a fair comparison.
        top: instances per class that form its evidence; few, since witnesses are few. Smaller bags
            use all they have.
    """

    needs_instance_labels = True
    # ABMIL's, since there are no authors to follow.
    recipe = Recipe(learning_rate=5e-4, weight_decay=1e-4, epochs=20)
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "hidden": Int(64, 1024),
        "top": Int(1, 50),
    }
    map_meaning = "instance score: the probability that the instance is a witness of the class"

    def __init__(
        self, in_dim: int, hierarchy: LabelHierarchy, hidden: int = 500, top: int = 3
    ) -> None:
        super().__init__(in_dim, hierarchy)
        self.top = top
        self.instance_classifier = nn.Sequential(
            nn.Linear(in_dim, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hierarchy.n_fine + 1),
        )
        self.classifier = nn.Linear(hierarchy.n_fine, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        """Logits; the instance logits ``[N, C + 1]``, background last, are in the extras."""
        logits = self.instance_classifier(bags.features)
        log_probabilities = logits.log_softmax(1)[:, :-1]  # [N, C]
        rows, filled = extreme_rows(log_probabilities.detach(), bags, self.top)
        rows, filled = rows[:, : self.top], filled[:, : self.top, None]  # [B, k, C], [B, k, 1]
        best = log_probabilities.gather(0, rows.flatten(0, 1)).reshape(rows.shape)
        best = torch.where(filled, best, torch.finfo(best.dtype).min)
        evidence = best.logsumexp(1) - filled.sum(1).to(best.dtype).log()  # [B, C]
        return Output(fine=self.classifier(evidence), extras={"instance_logits": logits})

    def instance_map(self, bags: BagBatch) -> InstanceMap | None:
        """Probability of being a witness, for every instance and class ``[N, C]``."""
        probabilities = self.instance_classifier(bags.features).softmax(1)[:, :-1]
        return InstanceMap(probabilities, tuple(range(self.hierarchy.n_fine)))

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:  # noqa: ARG002  # of the contract
        """Cross-entropy of the bag, plus the mean cross-entropy of its instances."""
        background = out.fine.shape[1]
        shown = bags.instance_labels
        assert shown is not None, "needs_instance_labels keeps this method from data without them"
        targets = torch.where(shown < 0, background, shown)
        per_row = F.cross_entropy(out.extras["instance_logits"], targets, reduction="none")  # [N]
        per_bag = F.cross_entropy(out.fine, bags.labels, reduction="none")
        return weighted_mean(per_bag + segment_mean(per_row, bags), weight)
