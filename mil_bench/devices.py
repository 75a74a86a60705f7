"""The one place that knows kinds of devices: the CPU, and GPUs that torch calls "cuda".

Everything else asks here and never looks at a device's type itself, so that a further kind of
device is a change of this module. What is fastest on a CPU is written for the CPU alone: every
other device, torch's meta device included, takes the way of a GPU. So tests on the meta device find
tensors that would be on the wrong device, without a GPU.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from typing import TYPE_CHECKING, TypeVar

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import torch
    from torch import Tensor
    from torch.cuda import Event as Arrival
    from torch.cuda import Stream as CopyStream

Made = TypeVar("Made")

CPU, GPU = "cpu", "cuda"
_NAMES = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
_OUT_OF_MEMORY = (
    "CUDA error: out of memory",  # not torch's own allocator: the first use of a full GPU
    "CUBLAS_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
)
_NO_CUDA = "this torch ({version}) was built without CUDA: install one of pytorch.org with it"
_NO_DRIVER = "this torch ({version}) supports GPUs, so look at the driver: nvidia-smi"


def kind_of(where: Tensor | torch.device | str) -> str:
    """The kind of a device, of a tensor's device or of a device's name: "cuda:3" is "cuda"."""
    device = getattr(where, "device", where)
    return str(getattr(device, "type", device)).partition(":")[0]


def is_cpu(where: Tensor | torch.device | str) -> bool:
    """Whether a device, or a tensor's, is the CPU."""
    return kind_of(where) == CPU


def is_gpu(where: Tensor | torch.device | str) -> bool:
    """Whether a device, or a tensor's, is a GPU that torch can be asked about."""
    return kind_of(where) == GPU


def problem_of_name(name: object) -> str:
    """Why a user's name of a device is none, in one clause; "" if it is one.

    Needs no torch, so it does not say whether the device is there; see ``present``.
    """
    if _NAMES.fullmatch(str(name)):
        return ""
    if str(name).partition(":")[0] == "mps":
        return (
            f"device={name}: Apple's GPUs are not supported, since no result of mil-bench has been "
            "compared on one with those of a CPU; device=cpu uses all cores of a Mac"
        )
    return (
        f"device must be auto, cpu, cuda or cuda:NUMBER, not {name!r}; torch calls GPUs of NVIDIA "
        "and of AMD cuda"
    )


def present(name: str) -> str:
    """The device of this machine that a name means; "auto" is "cuda" if there is a GPU, or "cpu".

    Raises:
        InputError: torch does not find the GPU.
    """
    gpus = gpu_names()
    if name == "auto":
        return GPU if gpus else CPU
    _, _, number = name.partition(":")
    if is_gpu(name) and int(number or 0) >= len(gpus):
        remedy = "Use --device auto or --device cpu."
        if gpus:
            found = f"only the GPUs 0 to {len(gpus) - 1} on this machine"
        else:
            found = f"no GPU on this machine; {why_no_gpu()}"
        raise InputError("the request", [f"device={name}, but torch finds {found}"], remedy)
    return name


def gpu_names() -> list[str]:
    """Names of all GPUs that torch may use: ["cuda:0", "cuda:1"]."""
    import torch

    if not torch.cuda.is_available():
        return []
    return [f"{GPU}:{number}" for number in range(torch.cuda.device_count())]


def model_of(device: torch.device) -> str:
    """The model of a device, as its maker calls it."""
    import torch

    if is_gpu(device):
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def memory_of(device: torch.device) -> tuple[int, int]:
    """Bytes of a GPU's memory that no process uses, and of all its memory."""
    import torch

    return torch.cuda.mem_get_info(device)


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory that no process uses."""
    return memory_of(device)[0]


def peak_memory(device: torch.device) -> int:
    """The most bytes of a GPU's memory that this process has used at once."""
    import torch

    return torch.cuda.max_memory_allocated(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's memory, or this machine's, is used up."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
    )


def release_memory(device: torch.device) -> None:
    """Give back to the device what this process has freed and holds for its next tensors."""
    import torch

    if is_gpu(device):
        torch.cuda.empty_cache()


def synchronize(device: torch.device | str) -> None:
    """Wait until a device has done its work; a CPU's is done when a call returns."""
    import torch

    if is_gpu(device):
        torch.cuda.synchronize(device)


def pinned(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor without values in memory of this machine from which a GPU copies by itself."""
    import torch

    return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)


def send(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; from the CPU to a GPU, the copy is queued and not waited for.

    ``values.to(device)`` waits until the GPU has done all that was queued before.
    """
    if is_gpu(device) and is_cpu(values):
        values = pinned(values.shape, values.dtype).copy_(values)
    return values.to(device, non_blocking=is_cpu(values))


def copy_stream(device: torch.device) -> CopyStream:
    """A queue of a GPU for copies, which go on while it computes what is in its other queue."""
    import torch

    return torch.cuda.Stream(device)


def copied_on(stream: CopyStream, make: Callable[[], Made]) -> tuple[Made, Arrival]:
    """What ``make`` returns, its copies queued in a stream; and the event of their arrival."""
    import torch

    with torch.cuda.stream(stream):
        return make(), stream.record_event()


def take_over(tensors: Iterable[Tensor], arrival: Arrival, device: torch.device) -> None:
    """Let a GPU, and not the host, wait for copied tensors before it computes what comes next.

    Their memory is not used for other copies before the GPU has computed what was queued with them.
    """
    import torch

    computing = torch.cuda.current_stream(device)
    computing.wait_event(arrival)
    for tensor in tensors:
        tensor.record_stream(computing)


def bfloat16_products(device: torch.device) -> contextlib.AbstractContextManager:
    """Matrix products of a device in bfloat16 inside the block."""
    return _autocast(device, enabled=True)


def exact_products(device: torch.device) -> contextlib.AbstractContextManager:
    """Matrix products of a device in the type of their factors inside the block."""
    return _autocast(device, enabled=False)


@contextlib.contextmanager
def same_order(device: torch.device) -> Iterator[None]:
    """Inside the block a GPU computes everything in the same order; what it cannot, it refuses.

    A process has to enter it before its first matrix product on a GPU, since cuBLAS looks at the
    environment once. A CPU computes in the same order anyway.
    """
    import torch

    if is_cpu(device):
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    was_on = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on)


def _autocast(device: torch.device, *, enabled: bool) -> contextlib.AbstractContextManager:
    import torch

    if not torch.amp.is_autocast_available(device.type):  # the meta device: nothing to cast
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def why_no_gpu() -> str:
    """What to look at if torch finds no GPU, in one clause."""
    import torch

    reason = _NO_DRIVER if torch.version.cuda or torch.version.hip else _NO_CUDA
    return reason.format(version=torch.__version__)
