"""HMIL: two branches over one embedding, aligned with each other.

C. Jin, L. Luo, H. Lin, J. Hou, H. Chen, HMIL: Hierarchical Multi-Instance Learning for Fine-Grained Whole Slide Image
Classification, IEEE Transactions on Medical Imaging 2025, doi 10.1109/TMI.2024.3520602; released code
ChengJin-git/HMIL. Architecture and constants are those of the release, the loss is the paper's:

    beta (CE_coarse + instance alignment + bag alignment) + (1 - beta) contrastive + CE_fine,   beta = 1 - progress
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmil.losses import bag_alignment, instance_alignment, supervised_contrastive
from mil_bench.data.batch import BagBatch
from mil_bench.data.hierarchy import LabelHierarchy
from mil_bench.data.segments import attention_pool, segment_softmax
from mil_bench.methods import Choice, Float, Method, Output, Recipe, weighted_mean


class _GatedAttention(nn.Module):
    """Gated attention with one score column a class: ``[N, M]`` -> ``[N, K]``, before the softmax."""

    def __init__(self, width: int, hidden: int, classes: int, dropout: float):
        super().__init__()
        self.attention_a = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Dropout(dropout))
        self.attention_b = nn.Sequential(nn.Linear(width, hidden), nn.Sigmoid(), nn.Dropout(dropout))
        self.attention_c = nn.Linear(hidden, classes)

    def forward(self, embedded: Tensor) -> Tensor:
        return self.attention_c(self.attention_a(embedded) * self.attention_b(embedded))


class HMIL(Method):
    """Hierarchical MIL: coarse and fine attention branches aligned at instance and bag level, contrastive embeddings.

    With a flat hierarchy every coarse class has one fine class, and both branches learn the same labels.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        temperature: of the contrastive loss; 0.1 is the paper's best (its table 6).
        dropout: in both attentions; the release has it off, and 0.25 where it is on.
    """

    # Adam, learning rate, epochs and batch of the released configuration; its plateau schedule is in code that never
    # runs, and it keeps no checkpoint.
    recipe = Recipe(learning_rate=1e-4, epochs=200, batch_size=64)
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(0.0, 1e-2),
        "temperature": Choice((0.05, 0.07, 0.1, 0.2, 0.5, 1.0)),
        "dropout": Float(0.0, 0.5),
    }

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy, temperature: float = 0.1, dropout: float = 0.0):
        super().__init__(in_dim, hierarchy)
        self.temperature = temperature
        # Widths 256, 1024, 256 and attention widths 256 (coarse) and 64 (fine): the released model.
        self.feature_extractor = nn.Sequential(nn.Linear(in_dim, 256), nn.ReLU(), nn.Linear(256, 1024))
        self.feature_reducer = nn.Sequential(nn.Linear(1024, 256))
        self.coarse_attention = nn.Sequential(_GatedAttention(1024, 256, hierarchy.n_coarse, dropout))
        self.fine_attention = nn.Sequential(_GatedAttention(256, 64, hierarchy.n_fine, dropout))
        self.coarse_classifier = nn.Linear(1024, 1)
        self.fine_classifier = nn.Linear(256, 1)
        self.register_buffer("_lift", torch.tensor(hierarchy.lift_matrix, dtype=torch.float32), persistent=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, bags: BagBatch) -> Output:
        """Logits of both heads, the fine attention ``[N, C]`` and what the loss needs."""
        wide = self.feature_extractor(bags.features)  # [N, 1024]
        narrow = self.feature_reducer(wide)  # [N, 256]
        coarse_attention = segment_softmax(self.coarse_attention(wide), bags)  # [N, G]
        fine_attention = segment_softmax(self.fine_attention(narrow), bags)  # [N, C]
        coarse_embeddings = attention_pool(coarse_attention, wide, bags)  # [B, G, 1024]
        fine_embeddings = attention_pool(fine_attention, narrow, bags)  # [B, C, 256]
        return Output(
            fine=self.fine_classifier(fine_embeddings)[..., 0],
            coarse=self.coarse_classifier(coarse_embeddings)[..., 0],
            attention=fine_attention,
            extras={
                "coarse_attention": coarse_attention,
                "embeddings": F.normalize(fine_embeddings, dim=2, eps=1e-12),
            },
        )

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """The paper's loss with its linear schedule."""
        terms = self.loss_terms(out, bags, weight)
        beta = 1 - progress
        hierarchy_terms = terms["ce_coarse"] + terms["instance_alignment"] + terms["bag_alignment"]
        return beta * hierarchy_terms + (1 - beta) * terms["contrastive"] + terms["ce_fine"]

    def loss_terms(self, out: Output, bags: BagBatch, weight: Tensor) -> dict[str, Tensor]:
        """Every term by name, unweighted by the schedule."""
        coarse_labels = self.coarse_labels(bags)
        lift = self._lift.to(out.fine.dtype)
        per_bag = {
            "ce_coarse": F.cross_entropy(out.coarse, coarse_labels, reduction="none"),
            "ce_fine": F.cross_entropy(out.fine, bags.labels, reduction="none"),
            "bag_alignment": bag_alignment(out.fine, coarse_labels, lift),
            "instance_alignment": instance_alignment(out.extras["coarse_attention"], out.attention, lift, bags),
        }
        terms = {name: weighted_mean(values, weight) for name, values in per_bag.items()}
        embeddings = out.extras["embeddings"]
        terms["contrastive"] = supervised_contrastive(embeddings, bags.labels, weight, self.temperature)
        return terms
