"""Claim: BrainMT costs little more than its convolutions, in time and memory linear in the number of frames up to attention.

In order: a training step (forward + backward) against the stem's alone, input (2, 16, 1, 48, 48, 48), width 512, depth (2, 2),
beside the same with the reference scan (the published code's path) and with each kind of activation checkpointing; the Mamba
stage over 50 to 400 frames; and, on demand, one scan of the published size. On a GPU the published size in bfloat16, with TFLOP/s
(matrix products, convolutions, attention; not the scan) over those of a large matrix product in the same run.

    python benchmarks/brainmt.py [step] [frames] [published] [gpu]        (default: step frames, and gpu where there is one)
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from brainmt_align.training.allocator import keep_freed_memory
from encoders import BrainMT, BrainMTConfig
from encoders.mamba import MambaMixer
from encoders.selective_scan import cuda

SMALL = {"volume_shape": (48, 48, 48), "num_frames": 16, "depth": (2, 2), "drop_path_rate": 0.0}
PUBLISHED_STEP_S, PUBLISHED_PEAK_GIB = 58.6, 2.1  # the published code, measured once on 2 CPU threads elsewhere
VARIANTS = ("cpu", "reference", "stem", "mamba", "attention", "all")


def seconds(compute: Callable[[], object], repeats: int = 3) -> float:
    """The best of so many runs after a first one."""
    times = []
    for i in range(repeats + 1):
        start = time.perf_counter()
        compute()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times += [time.perf_counter() - start] if i else []
    return min(times)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def use_backend(model: nn.Module, backend: str | None) -> None:
    for module in model.modules():
        if isinstance(module, MambaMixer):
            module.backend = backend


def training_step(model: BrainMT, bold: Tensor) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad()
        model(bold).prediction.sum().backward()

    return step


def show_step() -> None:
    """Each variant in a process of its own, one after another, so that peaks do not mix."""
    print("training step, input (2, 16, 1, 48, 48, 48), width 512, depth (2, 2), bidirectional, float32, 2 threads")
    figures = {}
    for variant in VARIANTS:
        ran = subprocess.run([sys.executable, __file__, "variant", variant], check=True, capture_output=True, text=True)
        figures[variant] = json.loads(ran.stdout)
        took, stem, peak = (figures[variant][key] for key in ("step_s", "stem_s", "peak_gib"))
        scan, recomputed = (variant, "-") if variant in ("cpu", "reference") else ("cpu", variant)
        line = f"  scan {scan:<9}  recomputed: {recomputed:<9}  {took:5.2f} s  peak {peak:4.2f} GiB"
        print(
            f"{line}  {took / figures['cpu']['step_s']:4.2f} x the first  stem alone {stem:4.2f} s: {took / stem:4.2f} x",
            flush=True,
        )
    print(f"  the published code, measured once on 2 threads elsewhere: {PUBLISHED_STEP_S} s, peak {PUBLISHED_PEAK_GIB} GiB")


def show_variant(variant: str) -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    checkpointing = variant == "all" or ((variant,) if variant in ("stem", "mamba", "attention") else False)
    model = BrainMT(BrainMTConfig(**SMALL, activation_checkpointing=checkpointing)).train()
    use_backend(model, "reference" if variant == "reference" else "cpu")
    bold = torch.randn(2, 16, 1, 48, 48, 48)
    took, peak = seconds(training_step(model, bold)), peak_gib()

    def stem() -> None:
        model.zero_grad()
        model._embed(bold).sum().backward()

    print(json.dumps({"step_s": took, "peak_gib": peak, "stem_s": seconds(stem)}))


def show_frames() -> None:
    """With train.keep_freed_memory of the recipes, then without, each in a process of its own."""
    print("Mamba stage, 2 layers of width 512, 27 tokens a frame, float32, 2 threads", flush=True)
    for how in ("kept", "freed"):
        subprocess.run([sys.executable, __file__, "frame_costs", how], check=True)


def show_frame_costs(how: str) -> None:
    """The Mamba stage alone, inference and training."""
    keeps = how == "kept" and keep_freed_memory()
    print("  freed memory kept (train.keep_freed_memory=true)" if keeps else "  as the allocator is", flush=True)
    torch.set_num_threads(2)
    model = BrainMT(BrainMTConfig(**{**SMALL, "num_frames": 400})).train()
    first = None
    for frames in (50, 100, 200, 400):
        hidden = torch.randn(1, 1 + 27 * frames, 512, requires_grad=True)

        def forward(hidden: Tensor = hidden) -> None:
            with torch.no_grad():
                model._mamba_stage(hidden)

        both = seconds(lambda hidden=hidden: model._mamba_stage(hidden).sum().backward())
        rate = hidden.shape[1] / both
        first = first or rate
        print(
            f"    T {frames:3}  forward {1e3 * seconds(forward):6.0f} ms  forward + backward {1e3 * both:6.0f} ms  "
            f"{rate:7,.0f} tokens/s, a token costs {first / rate:4.2f} x that at T 50",
            flush=True,
        )
    print(f"    peak {peak_gib():4.2f} GiB", flush=True)


def show_published() -> None:
    torch.set_num_threads(2)
    model = BrainMT(BrainMTConfig()).eval()
    bold = torch.randn(1, 200, 1, 109, 91, 91).half()
    start = time.perf_counter()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(bold, tokens=False)
    print(
        "published size, one scan of 200 frames of (109, 91, 91), 50,401 tokens, bfloat16 autocast, inference, 2 threads: "
        f"{time.perf_counter() - start:.0f} s, peak {peak_gib():.2f} GiB",
        flush=True,
    )


def show_gpu() -> None:
    device = torch.device("cuda")
    print(f"published size on {torch.cuda.get_device_name()}, one scan of 200 frames, bfloat16 autocast")
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    ceiling = 2 * 8192**3 / seconds(lambda: a @ a, 10) / 1e12
    bold = torch.randn(1, 200, 1, 109, 91, 91, device=device, dtype=torch.float16)
    variants = [("ours, triton", "triton", True, False), ("ours, triton, all recomputed", "triton", True, True)]
    if not cuda.missing_package():  # as published: one way, nothing recomputed, mamba-ssm's kernels
        variants = [("as published, mamba-ssm", "cuda", False, False), ("ours, mamba-ssm", "cuda", True, False), *variants]
    first = None
    for name, backend, bidirectional, checkpointing in variants:
        config = BrainMTConfig(bidirectional=bidirectional, activation_checkpointing=checkpointing)
        model = BrainMT(config).to(device).train()
        use_backend(model, backend)

        def step(model: BrainMT = model) -> None:
            model.zero_grad()
            with torch.autocast("cuda", torch.bfloat16):
                loss = model(bold, tokens=False).prediction.float().sum()
            loss.backward()

        torch.cuda.reset_peak_memory_stats()
        with FlopCounterMode(display=False) as counted:
            step()
        took, peak = seconds(step), torch.cuda.max_memory_allocated() / 2**30
        rate = counted.get_total_flops() / took / 1e12
        first = first or (took, peak)
        print(
            f"  training step, {name:<29} {took:6.2f} s = {first[0] / took:4.2f} x as fast as the first, peak {peak:5.1f} GiB = "
            f"{peak / first[1]:4.2f} x, {rate:4.0f} TFLOP/s = {rate / ceiling:4.0%} of a matrix product's {ceiling:4.0f}",
            flush=True,
        )


def main() -> None:
    words = sys.argv[1:]
    parts = {"variant": show_variant, "frame_costs": show_frame_costs}
    if len(words) == 2 and words[0] in parts:
        parts[words[0]](words[1])
        return
    shows = {
        "step": show_step,
        "frames": show_frames,
        "published": show_published,
        "gpu": show_gpu,
    }
    for word in words or ["step", "frames", *(["gpu"] if torch.cuda.is_available() else [])]:
        shows[word]()


if __name__ == "__main__":
    main()
