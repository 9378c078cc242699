"""Processes: tensors of one process flow in, tensors of all processes flow out, gradients included."""

import os
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numba
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor

PATIENCE = timedelta(hours=24)  # the others wait while the main process fills the stores
PAUSE = 0.5  # seconds
RANKS = {"RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK"}  # every launcher sets one of them


def is_distributed() -> bool:
    """Whether this process is one of several that have met."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def start_processes(
    out: Path, threads: int | None, mixed_precision: str | None = None, tracker: str | None = None
) -> Accelerator:
    """Let the processes of this launch meet, on GPUs where there are any and on CPUs otherwise.

    Args:
        out: folder for the tracker's files.
        threads: see `set_threads`.
        mixed_precision: "no", "fp16", "bf16"; None = as the launcher says.
        tracker: name of one of Accelerate's trackers; None = none.

    Raises:
        RuntimeError: another number of processes met than the launcher promised.
        ValueError: a tracker that is not installed.
    """
    installed = [str(each.value) for each in get_available_trackers()]
    if tracker is not None and tracker not in installed:
        raise ValueError(
            f"tracker must be one of the installed {', '.join(installed) or '(none)'}; got {tracker!r}.\n"
            f"  where: the configuration\n  fix: pip install {tracker}, or leave tracker unset."
        )
    if not RANKS & os.environ.keys():
        require_processes(1)  # nothing launched this process; Accelerate would wait for the others, or miss their address
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=mixed_precision,
        log_with=tracker,
        project_dir=out,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    require_processes(accelerator.num_processes)
    set_threads(threads, local_processes=int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes)))
    return accelerator


def share_of_work(accelerator: Accelerator) -> dict[str, Any]:
    """What a function that shares work among processes wants to know: `process`, `num_processes` and how to `wait` for all."""
    process, num_processes = accelerator.process_index, accelerator.num_processes
    return {"process": process, "num_processes": num_processes, "wait": accelerator.wait_for_everyone}


def end_processes(accelerator: Accelerator) -> None:
    """Wait for all processes, close the tracker and part.

    Then a moment's pause: gloo's thread still lets go of its last piece of work, and where that meets an interpreter that is
    closing down, the process is aborted although all its work is done.
    """
    accelerator.wait_for_everyone()
    several = is_distributed()
    accelerator.end_training()
    if several:
        time.sleep(PAUSE)


def require_processes(num_processes: int) -> None:
    """Refuse to train as one process where the launcher promised several.

    Args:
        num_processes: how many processes Accelerate sees.

    Raises:
        RuntimeError: the environment variable WORLD_SIZE names another number.
    """
    promised = int(os.environ.get("WORLD_SIZE", "1"))
    if promised != num_processes:
        raise RuntimeError(
            f"The launcher promised {promised} processes (WORLD_SIZE), but {num_processes} met.\n"
            "  where: the start of this recipe\n"
            "  fix: on CPUs launch with --config_file recipes/configs/accelerate/cpu2.yaml or with torchrun; "
            "`accelerate launch --cpu --num_processes N` starts a single process."
        )


def set_threads(threads: int | None, local_processes: int) -> int:
    """Give torch and numba their share of this machine's cores; `accelerate launch` leaves each process a single thread.

    Args:
        threads: threads of this process, at most the usable cores; None = usable cores ÷ local processes.
        local_processes: processes on this machine.

    Returns:
        The number of threads in force.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = min(threads or max(1, usable // local_processes), usable)
    numba.set_num_threads(min(share, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(share)  # last: starting numba's threads sets the number of the OpenMP library that torch may share
    return torch.get_num_threads()


class _GatherWithGrad(torch.autograd.Function):
    """all_gather of equally or unequally long rows; its adjoint is the sum over processes of the matching slices."""

    @staticmethod
    def forward(ctx, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        longest = max(counts)
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        rank = dist.get_rank()
        start = sum(ctx.counts[:rank])
        return grad[start : start + ctx.counts[rank]], None


def gather_with_grad(rows: Tensor) -> Tensor:
    """Rows of all processes in rank order, differentiable.

    The backward pass sums the gradients of all processes. Every process computes the same loss on the gathered rows, so the
    sum is (number of processes) × the exact gradient, and DDP's mean over processes makes it exact: the gradient of one
    process that held the whole batch.

    Args:
        rows: (n, …), n may differ between processes.

    Returns:
        (Σn, …), the same on every process.
    """
    if not is_distributed():
        return rows
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    return _GatherWithGrad.apply(rows, [int(each) for each in counts])


def share_text(text: str | None) -> str:
    """The main process's text, on every process; a rendezvous without a pickle.

    Args:
        text: what to share; looked at on the main process only.
    """
    if not is_distributed():
        return text or ""
    device = _meeting_device()
    content = torch.tensor(list((text or "").encode()) if dist.get_rank() == 0 else [], dtype=torch.uint8, device=device)
    length = torch.tensor([len(content)], device=device)
    dist.broadcast(length, 0)
    if dist.get_rank() != 0:
        content = torch.empty(int(length), dtype=torch.uint8, device=device)
    dist.broadcast(content, 0)
    return bytes(content.tolist()).decode()


def _meeting_device() -> torch.device:
    """Where tensors must lie for the processes to exchange them."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


class _SumOverProcesses(torch.autograd.Function):
    """all_reduce; its adjoint is all_reduce again."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad


def sum_with_grad(values: Tensor) -> Tensor:
    """Elementwise sum over processes, differentiable; the identity where there is one process.

    Args:
        values: any shape, the same on every process.
    """
    return _SumOverProcesses.apply(values) if is_distributed() else values


def sum_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """Each count summed over processes.

    Args:
        counts: non-negative; the same keys in the same order on every process.
    """
    if not is_distributed():
        return dict(counts)
    device = _meeting_device()
    values = torch.tensor(list(counts.values()), dtype=torch.int64, device=device)
    dist.all_reduce(values)
    return dict(zip(counts, values.tolist(), strict=True))
