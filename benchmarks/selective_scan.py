"""Claim: the compiled scan is more than ten times as fast as a PyTorch time loop, in memory linear in length.

Sizes (B 1, D 1024, N 16, L 2048) with z, D, delta_bias and softplus, float32. `time loop` is the plainest one whose gradient is
linear in L: inputs unbound once, one state kept; `reference` is our readable backend, which recomputes to save memory.
On a GPU: the Triton kernels in bfloat16 at L 50,401, beside mamba-ssm's where installed. Prints milliseconds (the best of
several) and ratios, both sides measured in one process.

    python benchmarks/selective_scan.py [threads]
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from encoders.selective_scan import ScanInputs, bidirectional_scan, cuda, selective_scan

CHANNELS, STATES, LENGTH = 1024, 16, 2048
CASES = [f"{ways}, {what}" for ways in ("one way", "both ways") for what in ("forward", "forward + backward")]
LONG = 50_401  # tokens of a published scan of 200 frames, CLS included


def time_loop(u, delta, A, B, C, D, z, delta_bias) -> Tensor:
    dt = F.softplus(delta + delta_bias[:, None])
    steps = zip(dt.unbind(-1), (dt * u).unbind(-1), B.unbind(-1), C.unbind(-1), strict=True)
    h, outputs = u.new_zeros(*u.shape[:2], A.shape[1]), []
    for dt_t, x_t, B_t, C_t in steps:
        h = torch.exp(dt_t[:, :, None] * A) * h + x_t[:, :, None] * B_t[:, None]
        outputs.append((h * C_t[:, None]).sum(-1))
    return (torch.stack(outputs, -1) + D[:, None] * u) * F.silu(z)


def make_inputs(length: int, device: str = "cpu", dtype: torch.dtype = torch.float32, innermost: str = "positions") -> dict:
    """As the mixers make them when `innermost` is channels."""
    torch.manual_seed(0)
    sequences = dict.fromkeys(("u", "delta", "z"), CHANNELS) | dict.fromkeys(("B", "C"), STATES)
    inputs = {name: torch.randn(1, length, width, device=device, dtype=dtype) for name, width in sequences.items()}
    inputs = {
        name: t.transpose(1, 2) if innermost == "channels" else t.transpose(1, 2).contiguous() for name, t in inputs.items()
    }
    inputs |= {"A": -torch.rand(CHANNELS, STATES, device=device), "D": torch.randn(CHANNELS, device=device)}
    inputs |= {"delta_bias": torch.randn(CHANNELS, device=device)}
    return {name: tensor.requires_grad_() for name, tensor in inputs.items()}


def milliseconds(compute: Callable[[], object], repeats: int) -> float:
    """The best of so many runs, after one that compiles what has to be compiled."""
    times = []
    for i in range(repeats + 1):
        start = time.perf_counter()
        compute()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times += [time.perf_counter() - start] if i else []
    return 1e3 * min(times)


def time_both(scan: Callable[[], Tensor], inputs: dict, repeats: int) -> tuple[float, float]:
    """(forward without gradients, forward + backward to every input)."""
    gradient = torch.randn_like(scan().detach())
    with torch.no_grad():
        forward = milliseconds(scan, repeats)
    return forward, milliseconds(lambda: torch.autograd.grad(scan(), list(inputs.values()), gradient), repeats)


def show_processor() -> None:
    print(f"scan alone, (1, {CHANNELS}, {LENGTH}), {STATES} states, float32, {torch.get_num_threads()} threads")
    for innermost in ("positions", "channels"):
        inputs = make_inputs(LENGTH, innermost=innermost)
        loop = time_both(lambda inputs=inputs: time_loop(**inputs), inputs, 2)
        compiled = time_both(lambda inputs=inputs: selective_scan(**inputs, delta_softplus=True, backend="cpu"), inputs, 10)
        readable = time_both(lambda inputs=inputs: selective_scan(**inputs, delta_softplus=True, backend="reference"), inputs, 2)
        for i, name in enumerate(("forward", "forward + backward")):
            print(
                f"  {innermost} innermost, {name:<18}  cpu {compiled[i]:5.1f} ms  time loop {loop[i]:4.0f} ms = "
                f"{loop[i] / compiled[i]:4.1f} x  reference {readable[i]:4.0f} ms = {readable[i] / compiled[i]:4.1f} x"
            )
    for length in (LENGTH, LONG // 4, LONG):
        out = subprocess.run([sys.executable, __file__, "memory", str(length)], capture_output=True, text=True, check=True)
        print(f"  cpu, L {length:6,}: {out.stdout.strip()}")


def show_memory(length: int) -> None:
    inputs = make_inputs(length)
    start = time.perf_counter()
    selective_scan(**inputs, delta_softplus=True, backend="cpu").sum().backward()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"forward + backward {seconds:.2f} s, peak {peak:.2f} GiB of the whole process, all tensors included")


def show_gpu() -> None:
    inputs = make_inputs(LONG, "cuda", torch.bfloat16, "channels")
    backends = ["triton"] + ([] if cuda.missing_package() else ["cuda"])
    print(f"scan alone on {torch.cuda.get_device_name()}, (1, {CHANNELS}, {LONG}), {STATES} states, bfloat16")
    figures = {}
    way, z = ScanInputs(**{name: tensor for name, tensor in inputs.items() if name != "z"}), inputs["z"]
    for backend in backends:
        options = {"delta_softplus": True, "backend": backend}
        one = time_both(lambda options=options: selective_scan(**inputs, **options), inputs, 10)
        both = time_both(lambda options=options: bidirectional_scan(way, way, z, **options), inputs, 10)
        figures[backend] = [*one, *both]
        for name, took in zip(CASES, figures[backend], strict=True):
            print(f"  {backend:<6}  {name:<29}  {took:7.2f} ms")
    if "cuda" in figures:
        for name, ours, theirs in zip(CASES, figures["triton"], figures["cuda"], strict=True):
            print(f"  triton over mamba-ssm, {name}: {ours / theirs:4.2f} x the time")


def main() -> None:
    if sys.argv[1:2] == ["memory"]:
        show_memory(int(sys.argv[2]))
        return
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    show_processor()
    if torch.cuda.is_available():
        show_gpu()


if __name__ == "__main__":
    main()
