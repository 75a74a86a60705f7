"""DTFD, ACMIL, WiKG and SimpleMIL in plain torch, for ``loops``: the default settings."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mil_bench.benchmarks.speed.race.core_models import WIDTH, Gated
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Tier(nn.Module):
    """The second tier: gated attention on what is distilled, and a head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.gate, self.head = Gated(512, 128, 1, 0.0), nn.Linear(512, classes)

    def forward(self, h: Tensor) -> Tensor:
        """``[L, 512]`` -> ``[1, C]``."""
        a = F.softmax(self.gate(h).transpose(1, 0), dim=1)
        return self.head(torch.mm(a, h))


class DTFD(nn.Module):
    """Four random pseudo-bags, whose embeddings are the second tier's bag (AFS).

    The first tier does not learn from the second. One backward pass through the sum of both losses
    and one Adam over all parameters do what the script does with two of each.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.pseudo_bags = 4
        self.embed = nn.Linear(WIDTH, 512, bias=False)
        self.gate, self.head = Gated(512, 128, 1, 0.0), nn.Linear(512, classes)
        self.second = _Tier(classes)

    def order(self, rows: int) -> Tensor:
        """The rows in the order in which they are cut into pseudo-bags; random in training."""
        if self.training:
            return torch.randperm(rows)
        return torch.cat([torch.arange(g, rows, self.pseudo_bags) for g in range(self.pseudo_bags)])

    def loss(self, x: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy of the pseudo-bags, plus that of the second tier."""
        x = x.index_select(0, self.order(len(x)).to(x.device))
        h = F.relu(self.embed(x))
        scores = self.gate(h)
        pairs = zip(
            scores.tensor_split(self.pseudo_bags), h.tensor_split(self.pseudo_bags), strict=True
        )
        pooled = torch.cat(
            [torch.mm(F.softmax(s.transpose(1, 0), dim=1), rows) for s, rows in pairs]
        )
        first = F.cross_entropy(self.head(pooled), label.repeat(self.pseudo_bags))
        return first + F.cross_entropy(self.second(pooled.detach()), label)


class ACMIL(nn.Module):
    """Five gated branches; of the ten highest scores of each, six are hidden in training."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.branches, self.top, self.share = 5, 10, 0.6
        self.embed = nn.Linear(WIDTH, 512, bias=False)
        self.gate = Gated(512, 128, self.branches, 0.0)
        self.branch_heads = nn.ModuleList(nn.Linear(512, classes) for _ in range(self.branches))
        self.head = nn.Linear(512, classes)

    def draw(self, top: int, like: Tensor) -> Tensor:
        """Random numbers that choose which of the highest scores are hidden ``[K, top]``."""
        return torch.rand(self.branches, top, device=like.device)

    def hide(self, scores: Tensor) -> Tensor:
        """Scores ``[K, N]`` with some of the highest at -1e9."""
        top = min(self.top, scores.shape[1])
        _, highest = torch.topk(scores, top, dim=1)
        chosen = self.draw(top, scores).argsort(dim=1)[:, : int(top * self.share)]
        hidden = torch.zeros_like(scores, dtype=torch.bool)
        hidden.scatter_(1, highest.gather(1, chosen), True)
        return scores.masked_fill(hidden, -1e9)

    def loss(self, x: Tensor, label: Tensor) -> Tensor:
        """Cross-entropies of bag and branches, plus the mean cosine of two branches' attentions."""
        h = F.relu(self.embed(x))
        scores = self.gate(h).transpose(1, 0)
        if self.training:
            scores = self.hide(scores)
        a = F.softmax(scores, dim=1)  # [K, N]
        pooled = torch.mm(a, h)
        logits = torch.cat([head(pooled[k : k + 1]) for k, head in enumerate(self.branch_heads)])
        branches = F.cross_entropy(logits, label.repeat(self.branches))
        bag = F.cross_entropy(self.head(torch.mm(a.mean(0, keepdim=True), h)), label)
        pairs = list(combinations(range(self.branches), 2))
        alike = sum(F.cosine_similarity(a[i], a[j], dim=0) for i, j in pairs) / len(pairs)
        return bag + branches + alike


class WiKG(nn.Module):
    """Messages from the six best tails, out of the scores of all pairs; mean pooling."""

    def __init__(self, classes: int, width: int = 512) -> None:
        super().__init__()
        self.neighbours, self.scale = 6, width**-0.5
        self.embed = nn.Sequential(nn.Linear(WIDTH, width), nn.LeakyReLU())
        self.head, self.tail = nn.Linear(width, width), nn.Linear(width, width)
        self.linear1, self.linear2 = nn.Linear(width, width), nn.Linear(width, width)
        self.activation, self.dropout = nn.LeakyReLU(), nn.Dropout(0.3)
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, classes)

    def loss(self, x: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy of the bag."""
        h = self.embed(x)
        h = (h + h.mean(dim=0, keepdim=True)) * 0.5
        heads, tails = self.head(h), self.tail(h)
        scores = torch.mm(heads * self.scale, tails.transpose(1, 0))  # [N, N]
        best, index = torch.topk(scores, min(self.neighbours, len(x)), dim=1)
        found = tails[index]  # [N, k, H]
        p = F.softmax(best, dim=1)[:, :, None]
        heads_of = heads[:, None]
        gate = torch.tanh(heads_of + p * found + (1 - p) * heads_of)
        knowledge = F.softmax(found.sum(dim=2) * gate.sum(dim=2), dim=1)
        message = torch.bmm(knowledge[:, None], found)[:, 0]
        updated = self.activation(self.linear1(heads + message))
        updated = updated + self.activation(self.linear2(heads * message))
        pooled = self.dropout(updated).mean(dim=0, keepdim=True)
        return F.cross_entropy(self.fc(self.norm(pooled)), label)


class SimpleMIL(nn.Module):
    """Gated attention that sees 256 random channels, the same for the bags of a batch.

    Only training is written here; evaluation sees windows of the channels.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.channels = 256
        self.v, self.u = nn.Linear(WIDTH, self.channels), nn.Linear(WIDTH, self.channels)
        self.dropout, self.w = nn.Dropout(0.25), nn.Linear(self.channels, 1)
        self.head = nn.Linear(WIDTH, classes)

    def batch_loss(self, bags: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean cross-entropy of the bags."""
        seen = torch.randperm(WIDTH)[: self.channels].to(labels.device)
        to_v, to_u = self.v.weight.index_select(1, seen), self.u.weight.index_select(1, seen)
        logits = []
        for x in bags:
            part = x.index_select(1, seen)
            v = self.dropout(torch.tanh(F.linear(part, to_v, self.v.bias)))
            u = self.dropout(torch.sigmoid(F.linear(part, to_u, self.u.bias)))
            a = F.softmax(self.w(v * u).transpose(1, 0), dim=1)
            logits.append(self.head(torch.mm(a, x)))
        return F.cross_entropy(torch.cat(logits), labels)
