"""Claim: forward + backward through the compiled scan is several times as fast as step by step; BrainMT beats the published.

First the scan alone, (2, 1024, 433) with 16 states; then BrainMT with either backend, input (2, 16, 1, 48, 48, 48), width 512,
depth (2, 2), float32, beside the published code's own time (2 threads, its reference scan). Prints milliseconds and the ratios.

    python benchmarks/selective_scan.py [threads]
"""

import sys
import time
from collections.abc import Callable

import torch

from encoders import BrainMT, BrainMTConfig
from encoders.mamba import MambaMixer
from encoders.selective_scan import selective_scan

PUBLISHED_S = {False: (1.15, 33.9), True: (1.56, 58.6)}  # forward, forward + backward; by direction
REPEATS = 3


def seconds(compute: Callable[[], torch.Tensor]) -> tuple[float, float]:
    """The best of REPEATS for a forward pass without gradients and for forward + backward."""
    forward, both = [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        with torch.no_grad():
            compute()
        forward.append(time.perf_counter() - start)
        start = time.perf_counter()
        compute().sum().backward()
        both.append(time.perf_counter() - start)
    return min(forward), min(both)


def show(title: str, timed: dict[str, tuple[float, float]], published: tuple[float, float] | None = None) -> None:
    """Two lines, forward and forward + backward, with the ratios to the cpu backend."""
    print(f"{title} ({torch.get_num_threads()} threads)")
    for i, name in enumerate(("forward", "forward + backward")):
        cpu = timed["cpu"][i]
        reference = timed["reference"][i]
        line = f"  {name:<18}  cpu {1e3 * cpu:6.0f} ms  reference {1e3 * reference:6.0f} ms = {reference / cpu:4.1f} x"
        print(line + (f"  published {1e3 * published[i]:6.0f} ms = {published[i] / cpu:4.1f} x" if published else ""))


def time_scan(backend: str) -> tuple[float, float]:
    u, delta, z = (torch.randn(2, 433, 1024).transpose(1, 2).requires_grad_() for _ in range(3))
    B, C = (torch.randn(2, 16, 433, requires_grad=True) for _ in range(2))
    A = -torch.rand(1024, 16)
    return seconds(lambda: selective_scan(u, delta, A, B, C, z=z, delta_softplus=True, backend=backend))


def time_model(model: BrainMT, bold: torch.Tensor, backend: str) -> tuple[float, float]:
    for module in model.modules():
        if isinstance(module, MambaMixer):
            module.backend = backend
    return seconds(lambda: model(bold).prediction)


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    torch.manual_seed(0)
    show("selective scan", {backend: time_scan(backend) for backend in ("reference", "cpu")})
    bold = torch.randn(2, 16, 1, 48, 48, 48)
    for bidirectional, published in PUBLISHED_S.items():
        model = BrainMT(BrainMTConfig(volume_shape=(48, 48, 48), num_frames=16, depth=(2, 2), bidirectional=bidirectional))
        timed = {backend: time_model(model, bold, backend) for backend in ("reference", "cpu")}
        show("BrainMT, bidirectional" if bidirectional else "BrainMT, unidirectional", timed, published)


if __name__ == "__main__":
    main()
