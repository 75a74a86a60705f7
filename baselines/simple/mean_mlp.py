"""The mean of a bag's features, classified by a small network: no instance is looked at alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from mil_bench.bags.segments import segment_mean
from mil_bench.methods import Float, Int, Method, Output, Recipe
from mil_bench.methods.fused.dropout import Dropout

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy


class MeanMLP(Method):
    """Mean MLP: average the features of the bag, then two linear layers.

    Mean pooling embeds every instance before it averages; this method averages what the encoder
    gave. For slide vectors, which are bags of one row, it is a plain network.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        hidden: width between the layers; 500 as ABMIL's embedding, for a fair comparison.
        dropout: on the hidden layer.
    """

    # ABMIL's, since there are no authors to follow.
    recipe = Recipe(learning_rate=5e-4, weight_decay=1e-4, epochs=20)
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "hidden": Int(64, 1024),
        "dropout": Float(0.0, 0.5),
    }
    without_map = "averages the features before its first layer, so no instance has a value"

    def __init__(
        self, in_dim: int, hierarchy: LabelHierarchy, hidden: int = 500, dropout: float = 0.0
    ) -> None:
        super().__init__(in_dim, hierarchy)
        self.layers = nn.Sequential(
            nn.Linear(in_dim, hidden),
            nn.ReLU(inplace=True),
            Dropout(dropout),
            nn.Linear(hidden, hierarchy.n_fine),
        )

    def forward(self, bags: BagBatch) -> Output:
        """Logits of the mean."""
        return Output(fine=self.layers(segment_mean(bags.features, bags)))
