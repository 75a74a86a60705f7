"""Processors, GPUs, memory and threads."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mil_bench import devices
from mil_bench.commands.machine.finding import Finding
from mil_bench.running.setup import cores

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, in Linux's cgroups version 2
_MEMORY = Path("/proc/meminfo")
_GB = 1e9


def findings(quota: Path = _QUOTA) -> Iterator[Finding]:
    """What there is to compute with.

    Args:
        quota: the file that says how much processor time a container gets.
    """
    import torch

    cpu = torch.device(devices.CPU)
    yield Finding("processor", f"{devices.model_of(cpu)}, {_memory_of_machine()}")
    yield _cores(quota)
    threads = torch.get_num_threads()
    yield Finding("torch", f"{torch.__version__}, {threads} threads outside of trainings")
    yield from _gpus()
    are_on = torch.are_deterministic_algorithms_enabled()
    yield Finding("deterministic kernels", "on" if are_on else "off")


def _cores(quota: Path) -> Finding:
    usable, allowed = cores(), _allowed(quota)
    seen = f"{usable} of {os.cpu_count()} usable; a run trains as many folds at the same time"
    if allowed >= usable:
        return Finding("cores", seen)
    return Finding(
        "cores",
        seen,
        f"This container gets the time of {allowed:g} cores only, so trainings would wait.",
        f"Use --workers {max(1, math.floor(allowed))}.",
    )


def _allowed(quota: Path) -> float:
    """Number of cores whose time a container gets, infinity if it is not limited."""
    try:
        most, period = quota.read_text().split()
        return math.inf if most == "max" else int(most) / int(period)
    except (OSError, ValueError):
        return math.inf


def _memory_of_machine() -> str:
    """Memory that programs can get and all memory, where Linux says it."""
    try:
        lines = [line.split() for line in _MEMORY.read_text().splitlines()]
        kilobytes = {words[0]: int(words[1]) for words in lines}
        free, total = kilobytes["MemAvailable:"], kilobytes["MemTotal:"]
    except (OSError, ValueError, IndexError, KeyError):
        return "memory not known"
    return f"{1e3 * free / _GB:.1f} of {1e3 * total / _GB:.1f} GB of memory free"


def _gpus() -> Iterator[Finding]:
    import torch

    names = devices.gpu_names()
    for name in names:
        device = torch.device(name)
        free, total = devices.memory_of(device)
        model = devices.model_of(device)
        yield Finding(name, f"{model}, {free / _GB:.1f} of {total / _GB:.1f} GB of memory free")
    if not names:
        problem = remedy = ""
        if shutil.which("nvidia-smi"):
            problem = "There is a driver of NVIDIA, but torch finds no GPU."
            remedy = f"What to look at: {devices.why_no_gpu()}."
        yield Finding("GPU", "none that torch finds", problem, remedy)
    if torch.backends.mps.is_available():
        yield Finding("GPU of Apple", "not used: mil-bench does not support it")
