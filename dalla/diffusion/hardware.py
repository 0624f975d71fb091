"""Where to compute and in which number format, and whether the model fits there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dalla.errors import DallaError, NotConfigured, UpstreamError

GIB = 1024**3
#: Kept free beside the weights: activations of one picture, the CUDA context, the VAE's peak.
HEADROOM = 2.5 * GIB
#: Below this many parameters one CPU thread is as fast as all, and far faster on a busy computer.
ONE_THREAD_PARAMETERS = 50_000_000
_threads: list[int] = []  # how many torch chose at the start


@dataclass
class Hardware:
    """A device and a number format, with sentences for the user."""

    device: str  # cpu | cuda | mps
    precision: str  # fp32 | fp16 | bf16
    notes: list[str] = field(default_factory=list)

    @property
    def dtype(self) -> Any:
        import torch

        return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[self.precision]


def choose(device: str, precision: str) -> Hardware:
    """Decide from the settings (`auto` = the best there is). Raises NotConfigured for a missing device."""
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        device = "cuda" if cuda else "mps" if mps else "cpu"
    elif (device == "cuda" and not cuda) or (device == "mps" and not mps):
        raise NotConfigured(
            f"The setting 'device' asks for {device}, but PyTorch finds no such device here.",
            remedy="Set DALLA_DEVICE to auto or cpu, or install a PyTorch build for this graphics card.",
        )
    if precision == "auto":
        if device == "cuda":
            # Cards before Ampere compute bf16 by emulation: many times slower than fp16.
            precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        else:
            precision = "fp16" if device == "mps" else "fp32"
    return Hardware(device, precision)


def place(pipe: Any, hardware: Hardware) -> None:
    """Move the pipeline to the device; when it does not fit, keep its parts in main memory and say so."""
    import torch

    if hardware.device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        sizes = [_bytes(part) for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
        if sum(sizes) + HEADROOM > free:
            if max(sizes) + HEADROOM <= free:
                pipe.enable_model_cpu_offload()
                hardware.notes.append(
                    "The graphics card's memory does not hold the whole model, so its parts take turns. That is slower."
                )
            else:
                pipe.enable_sequential_cpu_offload()
                hardware.notes.append(
                    "The graphics card's memory does not hold even one part of the model, "
                    "so it is computed layer by layer from main memory. That is much slower."
                )
            return
    elif hardware.device == "cpu":
        _set_threads(pipe)
    pipe.to(hardware.device)


def _set_threads(pipe: Any) -> int:
    """Choose the CPU threads inside every operation; return how many workers (workers.py) may share the work.

    One, unless the model is so small that an operation gets a single thread.
    """
    import torch

    from dalla.diffusion import workers

    if not _threads:
        _threads.append(torch.get_num_threads())
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    small = sum(p.numel() for part in parts for p in part.parameters()) < ONE_THREAD_PARAMETERS
    torch.set_num_threads(_threads[0])
    count = workers.usable() if small else 1
    if small:
        torch.set_num_threads(1)
    return count


def out_of_memory(exc: BaseException) -> bool:
    """Say whether an exception means that memory ran out, on whatever device."""
    import torch

    if isinstance(exc, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(exc)
    return isinstance(exc, RuntimeError) and any(
        # The last two: cuBLAS and cuDNN take memory of their own, past PyTorch, and say it in their own way.
        sign in text
        for sign in (
            "out of memory",
            "can't allocate memory",
            "not enough memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_ALLOC_FAILED",
        )
    )


def memory_error(hardware: Hardware | None) -> DallaError:
    """Return the error a person can act on."""
    where = "The graphics card" if hardware and hardware.device == "cuda" else "This computer"
    half = "" if hardware and hardware.precision != "fp32" else " or DALLA_PRECISION=bf16"
    return UpstreamError(
        f"{where} ran out of memory while drawing.",
        service="builtin",
        remedy=f"Use a smaller size, a smaller model{half}, or close other programs that use the memory.",
    )


def let_go(exc: BaseException | None) -> None:
    """Drop the variables of the calls in which an exception was raised: they hold the memory that ran out."""
    import traceback

    while exc is not None:
        traceback.clear_frames(exc.__traceback__)
        exc = exc.__cause__ or exc.__context__


def free_cache(device: str) -> None:
    """Give unused memory back to the system."""
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def _bytes(module: Any) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())
