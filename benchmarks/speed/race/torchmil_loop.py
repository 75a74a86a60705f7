"""torchmil 1.0.2 as in its documentation: padded batches of 16 bags, one model after another.

Runs in its own environment, in which mil-bench is not installed:

    python -m venv torchmil && torchmil/bin/pip install torch==2.13.0 torchmil==1.0.2
    torchmil/bin/python benchmarks/speed/race/torchmil_loop.py '{"method": "abmil", ...}'

It communicates like ``contestants.py``.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np
import torch
from torch import nn
from torchmil.data import pad_tensors
from torchmil.models import ABMIL, CLAM_SB, DSMIL, TransMIL

BATCH, WIDTH = 16, 1024


def build(method: str) -> ABMIL | CLAM_SB | DSMIL | TransMIL:
    """The model with the sizes of the authors' release, and two classes, as its losses expect."""

    def embed(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(WIDTH, width), nn.ReLU())

    shape = (WIDTH,)
    if method == "abmil":
        return ABMIL(shape, att_dim=128, feat_ext=embed(500))
    if method == "clam-sb":
        return CLAM_SB(shape, att_dim=256, k_sample=8, gated=True, feat_ext=embed(512))
    if method == "dsmil":
        return DSMIL(shape, att_dim=128, nonlinear_q=True)
    return TransMIL(shape, att_dim=512, n_heads=8, n_landmarks=256, dropout=0.1)


def main() -> None:
    """Build the models, then train one epoch of all folds for every line on standard input."""
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    rng = np.random.default_rng(1)
    device = torch.device(spec["device"])
    made = (torch.from_numpy(rng.standard_normal((n, WIDTH), np.float32)) for n in spec["sizes"])
    bags = [rows.to(device) for rows in made]
    labels = torch.arange(len(bags), device=device).remainder(2).float()
    models = [build(spec["method"]).to(device) for _ in spec["folds"]]
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-4) for model in models]
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, own = time.perf_counter(), time.process_time()
        for part, model, optimizer in zip(spec["trains"], models, optimizers, strict=True):
            order = rng.permutation(part)
            for start in range(0, len(order), BATCH):
                chosen = order[start : start + BATCH].tolist()
                padded, mask = pad_tensors([bags[i] for i in chosen])
                # Its TransMIL has no mask.
                masked = () if spec["method"] == "transmil" else (mask.to(device),)
                _, losses = model.compute_loss(labels[chosen], padded.to(device), *masked)
                optimizer.zero_grad()
                sum(losses.values()).backward()
                optimizer.step()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        if device.type == "cuda":  # mil-bench, which knows devices, is not installed here
            torch.cuda.synchronize()
            memory = torch.cuda.max_memory_allocated() / 1e6
        answer = {
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - own,
            "memory": memory,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
