"""Threads on the processor: a compiled kernel and its arrays, or batches of work, flow in, shared among PyTorch's threads.

The kernels release the interpreter lock, so plain threads are enough: no threading layer, and it works in forked workers
and in autograd's threads. A kernel's last two arguments are the tasks that it shall do, first <= task < last; tasks must not
share anything that they write, so that results do not depend on the number of threads.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import torch

Batch, Part = TypeVar("Batch"), TypeVar("Part")

SLICES_PER_THREAD = 4  # more slices than threads: a slow core does not hold up the rest


def share_out(kernel: Callable[..., None], arguments: tuple, tasks: int) -> None:
    """Runs kernel(*arguments, first, last) over slices of range(tasks), on as many threads as PyTorch may use.

    Args:
        kernel: a compiled function that releases the interpreter lock.
        arguments: tensors in main memory, which the kernel sees as numpy arrays that share their memory, and plain values.
        tasks: how many there are.
    """
    arrays = [a.detach().numpy() if isinstance(a, torch.Tensor) else a for a in arguments]
    threads = min(torch.get_num_threads(), tasks)
    if threads <= 1:
        kernel(*arrays, 0, tasks)
        return
    slices = min(tasks, SLICES_PER_THREAD * threads)
    edges = [tasks * i // slices for i in range(slices + 1)]
    futures = [_pool(os.getpid(), threads).submit(kernel, *arrays, first, last) for first, last in pairwise(edges)]
    for future in futures:
        future.result()


def map_in_threads(work: Callable[[Batch], Part], batches: list[Batch]) -> Iterator[Part]:
    """`work` on all batches, in order, one single-threaded batch a core: small operators shared among cores mostly wait.

    Args:
        work: called in threads of its own where there are as many batches as PyTorch may use threads.
        batches: what it is called with.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(batches) < threads:
        yield from map(work, batches)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, batches)
    finally:
        torch.set_num_threads(threads)  # what a worker sets also becomes the default of threads that start later


@lru_cache(maxsize=4)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads do not survive a fork, hence one pool a process."""
    return ThreadPoolExecutor(threads, thread_name_prefix="encoders")
