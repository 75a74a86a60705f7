"""TransMIL: two layers of Nystrom attention over a square of instances, with a class token.

Z. Shao et al., TransMIL: Transformer based Correlated Multiple Instance Learning for Whole Slide
Image Classification, NeurIPS 2021; released code szc19990412/TransMIL with the package
nystrom-attention (Xiong et al., Nystromformer, AAAI 2021). The following properties of the release
are kept, since its results depend on them:

- A bag is made square by repeating its first instances, which therefore count twice.
- The attention puts zero rows in front and masks nothing, so they take part in every softmax.
- Which rows are kept after that depends on the version of the package, see ``crop``.
- The pseudo-inverse is scaled by a maximum over all heads. The release takes it over a whole batch;
  here every bag is computed alone, so no bag changes another.

The results equal those of the release up to rounding, but some are computed in another way: see
``_NystromAttention``, ``_convolve_rows`` and ``_PositionLayer``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.devices import exact_products
from mil_bench.errors import InputError
from mil_bench.methods import Choice, Float, InstanceMap, Method, Output, Recipe
from mil_bench.methods.fused.dropout import Dropout
from mil_bench.methods.fused.linear import affine

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

# Constants of the release.
HEADS, HEAD_WIDTH, LANDMARKS, INVERSE_STEPS, REACH = 8, 64, 256, 6, 16
INNER = HEADS * HEAD_WIDTH
_ROWS = 2**14  # of a large bag that are computed at a time in evaluation


class _Landmarks(NamedTuple):
    """The landmarks of a bag; those that are zero are one.

    Args:
        queries: ``[8, m, 64]``.
        keys: ``[8, m, 64]``.
        log_copies: ``[m]``, logarithm of the number of landmarks that each represents.
        inverse: approximate pseudo-inverse of their attention to each other ``[8, m, m]``.
    """

    queries: Tensor
    keys: Tensor
    log_copies: Tensor
    inverse: Tensor


class _NystromAttention(nn.Module):
    """Nystrom attention with a convolution of the values as residual: ``[n, M]`` -> ``[rows, M]``.

    With F, S, G the softmaxes of rows to landmarks, landmarks to landmarks and landmarks to rows,
    it is ``F pinv(S) G v``, computed from the right without ever storing F or G. Landmarks in the
    zero rows are all the same, so they become one landmark that counts as often as it occurs: with
    b copies, ``log b`` is added to its scores. This is exact, and for a bag of 100 instances a
    matrix of 102 rows is inverted instead of one of 256.
    """

    def __init__(self, width: int, dropout: float, crop: str) -> None:
        super().__init__()
        self.crop = crop
        self.to_qkv = nn.Linear(width, 3 * INNER, bias=False)
        self.to_out = nn.Sequential(nn.Linear(INNER, width), Dropout(dropout))
        self.res_conv = nn.Conv2d(HEADS, HEADS, (2 * REACH + 1, 1), groups=HEADS, bias=False)

    def forward(self, tokens: Tensor, rows: int | None = None) -> Tensor:
        """What the first ``rows`` tokens receive (default: all tokens)."""
        queries, keys, values = self._project(tokens, -len(tokens) % LANDMARKS)
        first = self._first_kept(len(tokens))
        kept = slice(first, first + (len(tokens) if rows is None else rows))
        marks = _landmarks(_means(queries), _means(keys), len(tokens), queries.shape[1])
        context = marks.inverse @ _attend(marks.queries, keys, values)  # [8, m, 64]
        return self._received(queries[:, kept], values, context, marks, kept)

    def add_in_blocks(self, tokens: Tensor, norm: nn.LayerNorm, rows: int) -> Tensor:
        """Adds to the first ``rows`` tokens what they receive, in place; without gradients.

        Only keys and values of a bag are held as a whole. Blocks go from the last to the first,
        because with ``crop`` "first" a token receives the row of one before it.

        Args:
            tokens: before the normalisation ``[n, M]``.
            norm: the normalisation.
            rows: number of tokens.
        """
        keys, values, marks = self._held(tokens, norm)
        context = marks.inverse @ _attend(marks.queries, keys, values)
        first = self._first_kept(len(tokens))
        for start in reversed(range(0, rows, _ROWS)):
            stop = min(start + _ROWS, rows)
            kept = slice(first + start, first + stop)
            queries = self._padded_rows(tokens, norm, kept)[0]
            tokens[start:stop] += self._received(queries, values, context, marks, kept)
        return tokens[:rows]

    def class_row(self, tokens: Tensor, norm: nn.LayerNorm) -> Tensor:
        """The row of ``F pinv(S) G`` for the class token ``[8, T]``; entries may be negative."""
        keys, _, marks = self._held(tokens, norm)
        first = self._first_kept(len(tokens))
        queries = self._padded_rows(tokens, norm, slice(first, first + 1))[0]
        scores = queries @ marks.keys.mT + marks.log_copies
        mix = scores.softmax(-1) @ marks.inverse  # [8, 1, m]
        # The softmax of landmarks to rows, in blocks: of a large bag it would take gigabytes.
        blocks = keys.split(_ROWS, dim=1)
        totals = [(marks.queries @ part.mT).logsumexp(-1, keepdim=True) for part in blocks]
        total = torch.stack(totals).logsumexp(0)  # [8, m, 1]
        rows = [mix @ (marks.queries @ part.mT - total).exp() for part in blocks]
        return torch.cat(rows, dim=-1)[:, 0]

    def _project(self, tokens: Tensor, zeros: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (times 1/8), keys and values ``[8, zeros + n, 64]`` behind zero rows."""
        heads = self.to_qkv(tokens).unflatten(1, (3, HEADS, HEAD_WIDTH)).permute(1, 2, 0, 3)
        queries, keys, values = F.pad(heads, (0, 0, zeros, 0))
        return queries * HEAD_WIDTH**-0.5, keys, values

    def _padded_rows(
        self, tokens: Tensor, norm: nn.LayerNorm, rows: slice
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``_project`` for some rows of all those that include the zero rows."""
        zeros = -len(tokens) % LANDMARKS
        block = norm(tokens[max(rows.start - zeros, 0) : max(rows.stop - zeros, 0)])
        return self._project(block, rows.stop - rows.start - len(block))

    def _held(self, tokens: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor, _Landmarks]:
        """Keys and values of all rows ``[8, T, 64]``, and the landmarks, from blocks of rows."""
        length = math.ceil(len(tokens) / LANDMARKS)  # rows per landmark
        keys, values = tokens.new_zeros(2, HEADS, LANDMARKS * length, HEAD_WIDTH)
        means = []
        block = max(1, _ROWS // length) * length
        for start in range(0, keys.shape[1], block):
            rows = slice(start, min(start + block, keys.shape[1]))
            queries, keys[:, rows], values[:, rows] = self._padded_rows(tokens, norm, rows)
            means.append(_means(queries, (rows.stop - rows.start) // length))
        marks = _landmarks(torch.cat(means, dim=1), _means(keys), len(tokens), keys.shape[1])
        return keys, values, marks

    def _received(
        self, queries: Tensor, values: Tensor, context: Tensor, marks: _Landmarks, kept: slice
    ) -> Tensor:
        """What rows receive from the landmarks and the convolution ``[rows, M]``.

        Args:
            queries: of the rows ``[8, rows, 64]``.
            values: of all rows ``[8, T, 64]``.
            context: what the landmarks receive ``[8, m, 64]``.
            marks: the landmarks.
            kept: the rows.
        """
        mixed = _attend(queries, marks.keys, context, marks.log_copies)  # [8, rows, 64]
        around = slice(max(kept.start - REACH, 0), kept.stop + REACH)
        convolved = _convolve_rows(values[:, around], self.res_conv.weight[:, 0, :, 0])
        mixed = mixed + convolved[:, kept.start - around.start :][:, : mixed.shape[1]]
        return self.to_out(mixed.transpose(0, 1).flatten(1))

    def _first_kept(self, n: int) -> int:
        """Index of the first of the n rows that are kept."""
        return 0 if self.crop == "first" else -n % LANDMARKS


def _attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """``softmax(q k^T + bias) v`` per head.

    Args:
        queries: ``[8, a, 64]``.
        keys: ``[8, b, 64]``.
        values: ``[8, b, 64]``.
        bias: ``[b]``.

    Returns:
        ``[8, a, 64]``.
    """
    mask = None if bias is None else bias.expand(1, 1, queries.shape[1], -1)
    q, k, v = queries[None], keys[None], values[None]
    return F.scaled_dot_product_attention(q, k, v, mask, scale=1.0)[0]


def _means(rows: Tensor, count: int = LANDMARKS) -> Tensor:
    """Means of T / count consecutive rows each: ``[8, T, 64]`` -> ``[8, count, 64]``."""
    return rows.unflatten(1, (count, -1)).mean(2)


def _landmarks(queries: Tensor, keys: Tensor, n: int, rows: int) -> _Landmarks:
    """From means of queries and keys ``[8, 256, 64]``; the last n of the ``rows`` are not zero."""
    zero = (rows - n) // (rows // LANDMARKS)
    means = torch.stack([queries, keys])[:, :, max(zero - 1, 0) :]
    # In half precision the inverse would be wrong.
    with exact_products(queries.device):
        means = means.to(torch.promote_types(means.dtype, torch.float32))
        copies = torch.ones_like(means[0, 0, :, 0])
        copies[:1].fill_(max(zero, 1))  # assigned, the number would be copied to a GPU
        log_copies = copies.log()
        attention = (means[0] @ means[1].mT + log_copies).softmax(-1)  # [8, m, m]
        return _Landmarks(means[0], means[1], log_copies, _pseudo_inverse(attention, copies))


def _pseudo_inverse(attention: Tensor, copies: Tensor) -> Tensor:
    """Six steps of a third-order iteration towards the pseudo-inverse ``[8, m, m]``.

    Products equal those of the matrices with all copies, because columns carry the sum over the
    copies. The transpose has to move that factor to the other side. The release also divides by the
    largest row sum, which is 1.

    Args:
        attention: ``[8, m, m]``.
        copies: how often each landmark occurs ``[m]``.
    """
    balanced = attention * (copies[:, None] / copies)
    inverse = balanced.mT / balanced.sum(1).amax()
    one = torch.eye(len(copies), dtype=attention.dtype, device=attention.device)
    for _ in range(INVERSE_STEPS):
        product = attention @ inverse
        inverse = inverse @ (13 * one - product @ (15 * one - product @ (7 * one - product))) / 4
    return inverse


def _convolve_rows(values: Tensor, taps: Tensor) -> Tensor:
    """Convolution along the rows with one kernel per head and zeros around ``[8, T, 64]``.

    Blocks of 32 rows are multiplied by the kernel's band matrix, which is as fast as torch's
    depth-wise convolution. The float32 weight gradient of the latter on CPUs (oneDNN, torch 2.13)
    is wrong at some lengths, by 6 per cent at 256, and the backward pass chooses its backend anew,
    so that no switch around the forward pass helps.

    Args:
        values: ``[8, T, 64]``.
        taps: ``[8, 33]``.
    """
    size, length = taps.shape[1], values.shape[1]
    block = size - 1
    padded = F.pad(values, (0, 0, REACH, REACH + -length % block))
    blocks = padded.unflatten(1, (-1, block))  # [8, blocks + 1, 32, 64]
    windows = torch.cat([blocks[:, :-1], blocks[:, 1:]], dim=2)  # [8, blocks, 64, 64]
    # Each row of the band is the one above, moved right by one: the flat sequence of rows that are
    # one entry longer is cut into rows without that entry.
    flat = F.pad(taps, (0, block)).repeat(1, block)[:, : 2 * block * block]
    band = flat.unflatten(1, (block, 2 * block))
    return (band[:, None] @ windows).flatten(1, 2)[:, :length]


class _Layer(nn.Module):
    """Adds the attention of the normalised tokens to them: ``[n, M]`` -> ``[rows, M]``.

    Without gradients the tokens of a large bag are changed in place: another copy takes hundreds
    of megabytes.
    """

    def __init__(self, width: int, dropout: float, crop: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = _NystromAttention(width, dropout, crop)

    def forward(self, tokens: Tensor, rows: int | None = None) -> Tensor:
        if len(tokens) > _ROWS and not torch.is_grad_enabled():
            return self.attn.add_in_blocks(tokens, self.norm, rows or len(tokens))
        return tokens[:rows] + self.attn(self.norm(tokens), rows)


class _PositionLayer(nn.Module):
    """PPEG: the square of instances plus its three depth-wise convolutions ``[n, M]``.

    The three kernels are first added into one of 7 x 7. The class token stays as it is.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.proj1 = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.proj2 = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, tokens: Tensor) -> Tensor:
        width, side = tokens.shape[1], math.isqrt(len(tokens) - 1)
        image = tokens[1:].mT.reshape(1, width, side, side)
        kernel, bias = affine(self.proj)
        for layer, margin in ((self.proj1, 1), (self.proj2, 2)):
            weight, more_bias = affine(layer)
            kernel, bias = kernel + F.pad(weight, [margin] * 4), bias + more_bias
        image = image + F.conv2d(image, kernel, bias, padding=3, groups=width)
        return torch.cat([tokens[:1], image.reshape(width, -1).mT])


class TransMIL(Method):
    """TransMIL: instances and a class token attend to each other through landmarks.

    The order of instances matters: it decides their positions in the square and their landmarks.

    Args:
        in_dim: feature width D; 1024 in the release.
        hierarchy: the classes.
        dim: width M of the tokens, 512 in the release; the attention always has 8 heads of 64.
        dropout: after both attentions, 0.1 in the release.
        crop: which rows an attention keeps after it has put zero rows in front: "last", those of
            the tokens, as in nystrom-attention since 0.0.10, or "first", as in 0.0.9, which the
            release pins. With "first", tokens receive shifted rows, and the class token that of a
            zero row. Weights trained with one do not work with the other.
    """

    # The released configuration: a step after every second bag, early stopping on the validation
    # loss.
    paper = "Shao et al., NeurIPS 2021"
    link = "https://arxiv.org/abs/2106.00908"
    recipe = Recipe(
        learning_rate=2e-4,
        weight_decay=1e-5,
        epochs=200,
        batch_size=2,
        optimizer="lookahead-radam",
        patience=10,
    )
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "dim": Choice((128, 256, 512, 1024)),
        "dropout": Float(0.0, 0.5),
        "crop": Choice(("last", "first")),
    }
    # The release trains a Lightning module that holds the network as "model".
    map_meaning = (
        "attention of the class token in the second layer, averaged over heads; it is approximate "
        "and may be negative"
    )
    official_names = {"model.": ""}
    order_matters = True

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        dim: int = 512,
        dropout: float = 0.1,
        crop: str = "last",
    ) -> None:
        super().__init__(in_dim, hierarchy)
        if crop not in ("last", "first"):
            raise InputError(
                "building TransMIL", [f"crop is {crop!r}"], 'Set crop to "last" or "first".'
            )
        self._fc1 = nn.Sequential(nn.Linear(in_dim, dim), nn.ReLU(inplace=True))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.layer1 = _Layer(dim, dropout, crop)
        self.pos_layer = _PositionLayer(dim)
        self.layer2 = _Layer(dim, dropout, crop)
        self.norm = nn.LayerNorm(dim)
        self._fc2 = nn.Linear(dim, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        """Logits; the release returns no attention, but see ``class_attention``."""
        embeddings = [self._embed(features) for features in bags.features.split(bags.lengths)]
        return Output(fine=self._fc2(torch.stack(embeddings)))

    def class_attention(self, bags: BagBatch) -> Tensor:
        """Attention of the class token to each instance ``[N, 16]``: 8 heads of each of 2 layers.

        It is an approximation: values can be negative and need not sum to 1 over a bag. The
        attention to repeated instances is added to that of the instances themselves.
        """
        parts = []
        for features in bags.features.split(bags.lengths):
            tokens = self._square(features)
            first = self.layer1.attn.class_row(tokens, self.layer1.norm)
            tokens = self.pos_layer(self.layer1(tokens))
            second = self.layer2.attn.class_row(tokens, self.layer2.norm)
            square = torch.cat([first, second])[:, 1 - len(tokens) :].mT  # [side^2, 16]
            own, repeated = square[: len(features)], square[len(features) :]
            parts.append(own + F.pad(repeated, (0, 0, 0, len(own) - len(repeated))))
        return torch.cat(parts)

    def instance_map(self, bags: BagBatch) -> InstanceMap | None:
        """``class_attention`` of the second layer, averaged over its heads ``[N, 1]``."""
        return InstanceMap(self.class_attention(bags)[:, HEADS:].mean(1, keepdim=True))

    def _square(self, features: Tensor) -> Tensor:
        """The class token and a square number of instances ``[1 + side^2, M]``, some repeated."""
        embedded = self._fc1(features)  # [N, M]
        side = math.isqrt(len(embedded) - 1) + 1
        return torch.cat([self.cls_token[0], embedded, embedded[: side**2 - len(embedded)]])

    def _embed(self, features: Tensor) -> Tensor:
        """The class token after both layers ``[M]``, all that is needed of the second one."""
        tokens = self.pos_layer(self.layer1(self._square(features)))
        return self.norm(self.layer2(tokens, rows=1))[0]
