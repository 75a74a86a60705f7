"""ABMIL, CLAM, DSMIL, TransMIL and HMIL in plain torch, for ``loops``.

ABMIL has a head for several classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 1024


class ABMIL(nn.Module):
    """Plain attention over an embedding of 500."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(WIDTH, 500), nn.ReLU())
        self.attention = nn.Sequential(nn.Linear(500, 128), nn.Tanh(), nn.Linear(128, 1))
        self.classifier = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[1, C]``."""
        h = self.embed(x)
        a = F.softmax(self.attention(h).transpose(1, 0), dim=1)
        return self.classifier(torch.mm(a, h))

    def loss(self, x: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy of the bag."""
        return F.cross_entropy(self(x), label)


class Gated(nn.Module):
    """Scores of gated attention: ``[N, width]`` -> ``[N, columns]``."""

    def __init__(self, width: int, hidden: int, columns: int, dropout: float) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Dropout(dropout))
        self.b = nn.Sequential(nn.Linear(width, hidden), nn.Sigmoid(), nn.Dropout(dropout))
        self.c = nn.Linear(hidden, columns)

    def forward(self, h: Tensor) -> Tensor:
        """See the class."""
        return self.c(self.a(h).mul(self.b(h)))


class CLAM(nn.Module):
    """Single branch, small, dropout 0.25, smooth SVM of the 8 most and least attended instances."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, self.k = classes, 8
        self.net = nn.Sequential(
            nn.Linear(WIDTH, 512), nn.ReLU(), nn.Dropout(0.25), Gated(512, 256, 1, 0.25)
        )
        self.classifiers = nn.Linear(512, classes)
        self.instance_classifiers = nn.ModuleList([nn.Linear(512, 2) for _ in range(classes)])

    def loss(self, x: Tensor, label: Tensor) -> Tensor:
        """0.7 of the bag's cross-entropy, 0.3 of the instances' loss."""
        h = self.net[:3](x)
        a = F.softmax(torch.transpose(self.net[3](h), 1, 0), dim=1)
        instance = h.new_zeros(())
        targets = F.one_hot(label, self.classes).squeeze()
        for c, classifier in enumerate(self.instance_classifiers):
            if targets[c].item() == 1:
                top = torch.topk(a, self.k)[1][-1]
                bottom = torch.topk(-a, self.k, dim=1)[1][-1]
                rows = torch.cat([torch.index_select(h, 0, top), torch.index_select(h, 0, bottom)])
                wanted = torch.cat([torch.ones(self.k), torch.zeros(self.k)]).long().to(x.device)
                instance = instance + _smooth_svm(classifier(rows), wanted)
        return 0.7 * F.cross_entropy(self.classifiers(torch.mm(a, h)), label) + 0.3 * instance


def _smooth_svm(scores: Tensor, labels: Tensor) -> Tensor:
    margin = 1.0 - F.one_hot(labels, scores.shape[1])
    violation = scores + margin - scores.gather(1, labels[:, None])
    best = scores.topk(2, dim=1).values
    hard = best[:, 0] - best[:, 1] >= math.log(1000)
    return torch.where(hard, violation.amax(1), violation.logsumexp(1)).mean()


class DSMIL(nn.Module):
    """Two streams; the best instance is found by sorting all instances."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.i = nn.Linear(WIDTH, classes)
        self.q = nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Linear(128, 128), nn.Tanh())
        self.fcc = nn.Conv1d(classes, classes, kernel_size=WIDTH)

    def loss(self, x: Tensor, label: Tensor) -> Tensor:
        """Mean of the binary cross-entropies of both streams."""
        instances = self.i(x)
        q = self.q(x)
        _, order = torch.sort(instances, 0, descending=True)
        critical = torch.index_select(x, dim=0, index=order[0, :])
        scores = torch.mm(q, self.q(critical).transpose(0, 1))
        scale = torch.sqrt(torch.tensor(128, dtype=torch.float32, device=x.device))
        a = F.softmax(scores / scale, 0)
        bag = self.fcc(torch.mm(a.transpose(0, 1), x)[None]).view(1, -1)
        highest, _ = torch.max(instances, 0)
        target = F.one_hot(label, self.classes).to(x.dtype)
        bce = F.binary_cross_entropy_with_logits
        return 0.5 * bce(bag, target) + 0.5 * bce(highest.view(1, -1), target)


class _Nystrom(nn.Module):
    def __init__(self, width: int, heads: int = 8, landmarks: int = 256) -> None:
        super().__init__()
        self.heads, self.landmarks, self.scale = heads, landmarks, (width // heads) ** -0.5
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.1))
        self.res_conv = nn.Conv2d(heads, heads, (33, 1), padding=(16, 0), groups=heads, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, m = x.shape[1], self.landmarks
        x = F.pad(x, (0, 0, -n % m, 0))
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.to_qkv(x).chunk(3, dim=-1)
        )  # [1, heads, T, 64]
        q = q * self.scale
        length = x.shape[1] // m
        ql = q.unflatten(2, (m, length)).sum(3) / length
        kl = k.unflatten(2, (m, length)).sum(3) / length
        a1 = torch.einsum("bhid,bhjd->bhij", q, kl).softmax(-1)
        a2 = torch.einsum("bhid,bhjd->bhij", ql, kl).softmax(-1)
        a3 = torch.einsum("bhid,bhjd->bhij", ql, k).softmax(-1)
        out = (a1 @ _pinv(a2)) @ (a3 @ v) + self.res_conv(v)
        return self.to_out(out.transpose(1, 2).flatten(2))[:, -n:]


def _pinv(x: Tensor) -> Tensor:
    rows, columns = x.abs().sum(-1), x.abs().sum(-2)
    z = x.transpose(-1, -2) / (rows.max() * columns.max())
    one = torch.eye(x.shape[-1], device=x.device)[None]
    for _ in range(6):
        xz = x @ z
        z = 0.25 * z @ (13 * one - (xz @ (15 * one - (xz @ (7 * one - xz)))))
    return z


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), _Nystrom(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.norm(x))


class TransMIL(nn.Module):
    """Two Nystrom layers over all tokens, with three depth-wise convolutions between them."""

    def __init__(self, classes: int, width: int = 512) -> None:
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(WIDTH, width), nn.ReLU())
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.layer1, self.layer2 = _Layer(width), _Layer(width)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, s, 1, s // 2, groups=width) for s in (7, 5, 3)
        )
        self.norm, self.fc2 = nn.LayerNorm(width), nn.Linear(width, classes)

    def loss(self, x: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy of the bag."""
        h = self.fc1(x[None])
        side = math.ceil(math.sqrt(h.shape[1]))
        h = torch.cat([h, h[:, : side**2 - h.shape[1]]], dim=1)
        h = self.layer1(torch.cat([self.cls_token, h], dim=1))
        image = h[:, 1:].transpose(1, 2).view(1, -1, side, side)
        image = sum((c(image) for c in self.convolutions), image)
        h = torch.cat([h[:, :1], image.flatten(2).transpose(1, 2)], dim=1)
        return F.cross_entropy(self.fc2(self.norm(self.layer2(h))[:, 0]), label)


class HMIL(nn.Module):
    """Two branches; bag by bag, with losses on a batch of 64; every attention is computed twice."""

    parent: Tensor
    lift: Tensor

    def __init__(self, parent: Sequence[int]) -> None:
        super().__init__()
        fine, coarse = len(parent), max(parent) + 1
        self.register_buffer("parent", torch.tensor(parent))
        self.register_buffer("lift", F.one_hot(torch.tensor(parent)).float())
        self.extract = nn.Sequential(nn.Linear(WIDTH, 256), nn.ReLU(), nn.Linear(256, 1024))
        self.reduce = nn.Linear(1024, 256)
        self.coarse, self.fine = Gated(1024, 256, coarse, 0.0), Gated(256, 64, fine, 0.0)
        self.coarse_head, self.fine_head = nn.Linear(1024, 1), nn.Linear(256, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Both attentions, both logits and the normalised fine embeddings of one bag."""
        wide = self.extract(x)
        narrow = self.reduce(wide)
        a1 = F.softmax(torch.transpose(self.coarse(wide), 0, 1), dim=1)
        a2 = F.softmax(torch.transpose(self.fine(narrow), 0, 1), dim=1)
        m1, m2 = a1 @ wide, a2 @ narrow
        shown1 = F.softmax(torch.transpose(self.coarse(wide), 0, 1), dim=1)
        shown2 = F.softmax(torch.transpose(self.fine(narrow), 0, 1), dim=1)
        return (
            shown1,
            shown2,
            self.coarse_head(m1).squeeze(1),
            self.fine_head(m2).squeeze(1),
            F.normalize(m2, dim=1),
        )

    def batch_loss(self, bags: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The paper's loss of a batch, halfway through the training."""
        outs = [self(x) for x in bags]
        coarse, fine, embeddings = (torch.stack([out[i] for out in outs]) for i in (2, 3, 4))
        parents, beta = self.parent[labels], 0.5
        aligned = torch.stack(
            [(1 - F.cosine_similarity(o[0], self.lift.T @ o[1], dim=0)).mean() for o in outs]
        ).mean()
        bag = -(fine.softmax(1) @ self.lift).gather(1, parents[:, None]).log().mean()
        hierarchical = F.cross_entropy(coarse, parents) + aligned + bag
        contrast = _supervised_contrastive(embeddings, labels)
        return beta * hierarchical + (1 - beta) * contrast + F.cross_entropy(fine, labels)


def _supervised_contrastive(embeddings: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    views = torch.cat(torch.unbind(embeddings, dim=1), dim=0)
    labels = labels.repeat(embeddings.shape[1])
    logits = views @ views.T / temperature
    logits = logits - logits.max(dim=1, keepdim=True)[0].detach()
    others = 1 - torch.eye(len(labels), device=labels.device)
    positive = (labels[:, None] == labels).float() * others
    log_p = logits - ((logits.exp() * others).sum(1, keepdim=True) + 1e-6).log()
    return -(temperature / 0.1) * ((positive * log_p).sum(1) / (positive.sum(1) + 1e-6)).mean()
