"""Mean and max pooling: attention MIL without the attention.

Both share ABMIL's embedding and head, so the difference from ABMIL is the effect of attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from mil_bench.bags.segments import segment_max, segment_mean
from mil_bench.methods import Choice, Float, InstanceMap, Int, Method, Output, Recipe
from mil_bench.methods.fused.dropout import Dropout

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy


class MeanPool(Method):
    """Mean pooling: embed every instance, average over the bag, classify linearly.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        embed_dim: width of the embedding; 500 as in ABMIL's released code.
        dropout: on the embedding; none, as in ABMIL.
    """

    recipe = Recipe(learning_rate=5e-4, weight_decay=1e-4, epochs=20)  # ABMIL's
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "embed_dim": Int(64, 1024),
        "dropout": Float(0.0, 0.5),
    }
    map_meaning = "instance score: the logit of the class; the slide's is their mean"

    def __init__(
        self, in_dim: int, hierarchy: LabelHierarchy, embed_dim: int = 500, dropout: float = 0.0
    ) -> None:
        super().__init__(in_dim, hierarchy)
        self.embed = nn.Sequential(
            nn.Linear(in_dim, embed_dim), nn.ReLU(inplace=True), Dropout(dropout)
        )
        self.classifier = nn.Linear(embed_dim, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        """Logits from the pooled embedding."""
        embedded = self.embed(bags.features)  # [N, M]
        return Output(fine=self.classifier(segment_mean(embedded, bags)))

    def instance_map(self, bags: BagBatch) -> InstanceMap | None:
        """Logits of every instance ``[N, C]``, as the classifier is linear."""
        logits = self.classifier(self.embed(bags.features))
        return InstanceMap(logits, tuple(range(self.hierarchy.n_fine)))


class MaxPool(MeanPool):
    """Max pooling: score every instance for every class, take the highest score of the bag.

    This is what tables in this field call max pooling (DSMIL's first stream, for example). The
    "embedding" level of Ilse et al. instead takes the maximum of each embedding unit, before the
    classifier.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        embed_dim: as in MeanPool.
        dropout: as in MeanPool.
        level: "instance" or "embedding", what the maximum is taken over.
    """

    search_space = {**MeanPool.search_space, "level": Choice(("instance", "embedding"))}
    map_meaning = "instance score: the logit of the class; the slide's is the highest"

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        embed_dim: int = 500,
        dropout: float = 0.0,
        level: str = "instance",
    ) -> None:
        super().__init__(in_dim, hierarchy, embed_dim, dropout)
        self.level = level
        if level == "embedding":
            self.without_map = "takes each unit of the embedding from another instance"

    def forward(self, bags: BagBatch) -> Output:
        """Logits: the highest of the bag's instances, or those of the highest embedding units."""
        embedded = self.embed(bags.features)  # [N, M]
        if self.level == "embedding":
            return Output(fine=self.classifier(segment_max(embedded, bags)))
        return Output(fine=segment_max(self.classifier(embedded), bags))

    def instance_map(self, bags: BagBatch) -> InstanceMap | None:
        """Logits of every instance ``[N, C]``; None if embedding units are pooled."""
        return None if self.level == "embedding" else super().instance_map(bags)
