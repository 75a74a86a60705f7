"""RRT-MIL: instances attend to each other inside regions of a square, then are pooled as in ABMIL.

W. Tang et al., Feature Re-Embedding: Towards Foundation Model-Level Performance in Computational
Pathology, CVPR 2024; released code DearCaat/RRT-MIL (without a licence: written from a
description). Four things about the release may surprise:

- The rows are laid out line by line in a square that zero rows fill up. Nothing masks these, so
  they take part in the attention. The order of the rows is the only position there is.
- **For up to 64 instances each region has one place**: attention inside regions is a map of each
  row, and the attention between regions adds exactly nothing.
- The attention between regions always has 8 x 8 regions, whatever ``regions`` says.
- In its documented commands the epoch is chosen on the test fold.

Its position term, a convolution of the scores along the queries, equals one of the queries
themselves, so no score is held. Of the release's ablations, the position encodings PEG and sine,
the Nystrom attention and a square kernel on the scores are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mil_bench.baselines.rrt.parts import (
    ACTIVATIONS,
    BetweenRegions,
    InRegions,
    Kernel,
    Layer,
    Positions,
)
from mil_bench.baselines.rrt.regions import Regions
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, segment_softmax
from mil_bench.errors import InputError
from mil_bench.methods import Choice, Float, Method, Output, Recipe
from mil_bench.methods.fused.dropout import Dropout
from mil_bench.methods.fused.large_bags import has_large_bag, in_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

_POOLING_DIM = 128
_REMEDY = "The docstring of the method says what each setting means."


class RRT(Method):
    """RRT-MIL: attention inside and between regions of a square, then attention pooling.

    The order of the rows is their position: as the tiler stored them, line by line.

    Memory grows evenly with the rows, as torch's attention holds no scores. Evaluation goes through
    large bags a few regions at a time.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        kernel: length of the position term, odd; 0 leaves it out. 9 to 21 in the documented runs.
        slots: representatives per region, 1, 3 or 5 in the documented runs; 0 leaves out the
            attention between regions.
        slot_heads: heads of the attention between regions.
        slot_mlp: whether two layers give the slots' logits, instead of one.
        shortcut: whether the embedding is added again at the end.
        layers: number of attentions inside regions.
        heads: their heads.
        regions: regions a side inside which rows attend to each other.
        feed_forward: whether each layer has a feed-forward part.
        activation: of the embedding, "relu" or "gelu".
        pooling_activation: "relu", as the release's default, "tanh", as in all its documented runs,
            or "gelu".
        gated: whether the pooling is gated.
        dropout: of the embedding.
        attention_dropout: after each attention.
        embed_dim: width E; 512 in the release.
        positions: "none", or PPEG before the "first" or the "second" attention inside regions. The
            release's default is the second, which its documented runs do not have.
        kernel_on: what the position term is added to: the "scores", or as ablations the "values" or
            the "merged" output of the heads.
        kernel_2d: whether the kernel of values or output is a square instead of a line.
        region_size: places a side of a region; 0 if ``regions`` decides.
        least_rows: a bag with fewer rows is one region.
        least_share: a bag is one region if it has more empty places than its rows divided by this
            number; 0, the default, for never.
        feed_forward_activation: "gelu", "relu" or "tanh".
    """

    # main.py. Without a validation set it chooses the epoch on the test fold; here patience counts
    # on the validation loss, as for every method, from the first epoch on.
    paper = "Tang et al., CVPR 2024"
    link = "https://arxiv.org/abs/2402.17228"
    recipe = Recipe(
        learning_rate=2e-4,
        epochs=200,
        weight_decay=1e-5,
        schedule="cosine",
        patience=30,
    )
    search_space = {
        "learning_rate": Float(1e-5, 1e-3, log=True),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "kernel": Choice((9, 13, 15, 17, 21)),
        "slots": Choice((1, 3, 5)),
        "shortcut": Choice((False, True)),
        "pooling_activation": Choice(("relu", "tanh")),
        "dropout": Float(0.0, 0.5),
    }
    order_matters = True
    # torch's attention has no rule for models that are computed as one on a CPU, and would go
    # through them one by one.
    stackable = False
    newer_settings = frozenset(
        {
            "positions",
            "kernel_on",
            "kernel_2d",
            "region_size",
            "least_rows",
            "least_share",
            "feed_forward_activation",
        }
    )
    map_meaning = (
        "attention of the pooling: the weight of the instance after its neighbours changed it"
    )
    official_names = {
        "patch_to_emb.0.": "embed.0.",
        "online_encoder.norm.": "norm.",
        "online_encoder.layers.": "layers.",
        "online_encoder.cr_msa.": "between.",
        "online_encoder.pos_embedding.": "encoding.",
        "pool_fn.attention.attention.0.": "pool_a.0.",
        "pool_fn.attention.attention.2.": "pool_c.",
        "pool_fn.attention.attention_a.0.": "pool_a.0.",
        "pool_fn.attention.attention_b.0.": "pool_b.0.",
        "pool_fn.attention.attention_c.": "pool_c.",
        "predictor.": "classifier.",
    }

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        kernel: int = 15,
        slots: int = 3,
        slot_heads: int = 8,
        slot_mlp: bool = False,
        shortcut: bool = False,
        layers: int = 1,
        heads: int = 8,
        regions: int = 8,
        feed_forward: bool = False,
        activation: str = "relu",
        pooling_activation: str = "relu",
        gated: bool = False,
        dropout: float = 0.25,
        attention_dropout: float = 0.1,
        embed_dim: int = 512,
        positions: str = "none",
        kernel_on: str = "scores",
        kernel_2d: bool = False,
        region_size: int = 0,
        least_rows: int = 0,
        least_share: float = 0.0,
        feed_forward_activation: str = "gelu",
    ) -> None:
        super().__init__(in_dim, hierarchy)
        counts = {"layers": layers, "heads": heads, "slot_heads": slot_heads, "regions": regions}
        names = {
            "activation": activation,
            "pooling_activation": pooling_activation,
            "feed_forward_activation": feed_forward_activation,
        }
        term = Kernel(kernel, kernel_on, kernel_2d)
        inside = Regions(regions, region_size, least_rows, least_share)
        _refuse(slots, embed_dim, counts, names)
        _refuse_ablations(term, inside, positions, layers)
        self.shortcut, self.positions = shortcut, positions
        activated = feed_forward_activation if feed_forward else ""
        self.embed = nn.Sequential(nn.Linear(in_dim, embed_dim), ACTIVATIONS[activation]())
        self.drop = Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(
                embed_dim,
                InRegions(embed_dim, heads, term, inside, attention_dropout),
                activated,
            )
            for _ in range(layers)
        )
        self.between = None
        if slots:
            crossing = BetweenRegions(embed_dim, slot_heads, slots, slot_mlp, attention_dropout)
            self.between = Layer(embed_dim, crossing, activated)
        self.encoding = None if positions == "none" else Positions(embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        act = ACTIVATIONS[pooling_activation]
        self.pool_a = nn.Sequential(nn.Linear(embed_dim, _POOLING_DIM, bias=False), act())
        self.pool_b = (
            nn.Sequential(nn.Linear(embed_dim, _POOLING_DIM, bias=False), nn.Sigmoid())
            if gated
            else None
        )
        self.pool_c = nn.Linear(_POOLING_DIM, 1, bias=False)
        self.classifier = nn.Linear(embed_dim, hierarchy.n_fine)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, bags: BagBatch) -> Output:
        """Logits, and the attention of the pooling ``[N, 1]``.

        Extras: ``scores`` ``[N, 1]`` before the softmax, ``embedding`` ``[B, E]``.
        """
        is_large = has_large_bag(bags, self)
        rows = self._in_blocks(bags) if is_large else self.stages(bags)["encoder_out"]
        gates = self.pool_a(rows)
        scores = self.pool_c(gates if self.pool_b is None else gates * self.pool_b(rows))
        attention = segment_softmax(scores, bags)
        pooled = attention_pool(attention, rows, bags)[:, 0]
        extras = {"scores": scores, "embedding": pooled}
        return Output(self.classifier(pooled), None, attention, extras)

    def stages(self, bags: BagBatch) -> dict[str, Tensor]:
        """The rows after every part, by the names of the release, each ``[N, E]``."""
        embedded = rows = self.drop(self.embed(bags.features))
        stages = {"embedded": embedded}
        for number, layer in enumerate(self.layers):
            if self.encoding is not None and number == self._encoded:
                rows = self.encoding(rows, bags)
            stages[f"rmsa{number}"] = rows = layer(rows, bags)
        if self.between is not None:
            stages["crmsa"] = rows = self.between(rows, bags)
        if self.shortcut:
            rows = rows + embedded
        stages["encoder_out"] = self.norm(rows)
        return stages

    def _in_blocks(self, bags: BagBatch) -> Tensor:
        """``encoder_out`` of large bags in evaluation; every part changes the rows in place."""
        rows = in_blocks(self.embed, bags.features)
        for part in rows.split(bags.lengths):
            for number, layer in enumerate(cast("Iterable[Layer]", self.layers)):
                if self.encoding is not None and number == self._encoded:
                    self.encoding.add_in_blocks(part)
                layer.add_in_blocks(part)
            if self.between is not None:
                self.between.add_in_blocks(part)
        if self.shortcut:
            rows += in_blocks(self.embed, bags.features)
        return in_blocks(self.norm, rows)

    @property
    def _encoded(self) -> int:
        """Before which attention inside regions there are position encodings."""
        return ("first", "second").index(self.positions)

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The feed-forward part has names of its own; the release's file has the state inside."""
        state = state.get("model", state)  # type: ignore[assignment]  # a dict in a dict
        return {
            name.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.2."): value
            for name, value in super().from_official(state).items()
        }


def _refuse(
    slots: int, embed_dim: int, counts: Mapping[str, int], names: Mapping[str, str]
) -> None:
    """Refuse settings with which the method cannot be built.

    Raises:
        InputError: names them all.
    """
    problems = [
        f"{name}='{value}' is none of {', '.join(ACTIVATIONS)}"
        for name, value in names.items()
        if value not in ACTIVATIONS
    ]
    if slots < 0:
        problems.append(f"slots={slots} is negative")
    problems += [f"{name}={n} is not 1 or more" for name, n in counts.items() if n < 1]
    problems += [
        f"{name}={counts[name]} does not divide embed_dim={embed_dim}"
        for name in ("heads", "slot_heads")
        if counts[name] >= 1 and embed_dim % counts[name]
    ]
    if problems:
        raise InputError("rrt", problems, _REMEDY)


def _refuse_ablations(kernel: Kernel, regions: Regions, positions: str, layers: int) -> None:
    """Refuse settings of the position terms and the regions.

    Raises:
        InputError: names them all.
    """
    problems = []
    if kernel.length < 0 or (kernel.length and kernel.length % 2 == 0):
        problems.append(f"kernel={kernel.length} is not 0 or an odd number")
    if kernel.on not in ("scores", "values", "merged"):
        problems.append(f"kernel_on={kernel.on} is none of scores, values, merged")
    if kernel.flat and kernel.on == "scores":
        problems.append("kernel_2d=true is not for kernel_on=scores")
    if positions not in ("none", "first", "second"):
        problems.append(f"positions={positions} is none of none, first, second")
    if positions == "second" and layers < 2:
        problems.append(f"positions=second: there is one attention inside regions, layers={layers}")
    if regions.length < 0:
        problems.append(f"region_size={regions.length} is negative")
    if regions.least_share < 0:
        problems.append(f"least_share={regions.least_share} is negative")
    if problems:
        raise InputError("rrt", problems, _REMEDY)
