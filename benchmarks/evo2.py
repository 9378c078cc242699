"""Claim: Evo 2's long filters and long input cost little beside its matrix products, in memory linear in the length.

A slice of the published evo2_1b_base or evo2_7b, two blocks of each kind with random weights, in a process a measurement: bases a
second, the share of the time that is spent in matrix products and attention, and the peak of the process over what it held
before the run (Linux), weights included in neither. A run of several chunks is measured once, without one to warm up.

    python benchmarks/evo2.py [1b|7b] [float32|bfloat16] LENGTH [LENGTH …]         (default: 1b bfloat16 2048 8192 32768)
"""

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from encoders.evo2 import CPU_BATCH_TOKENS, random_model
from encoders.evo2_config import PUBLISHED
from encoders.evo2_weights import cast

MODELS = {"1b": "evo2_1b_base", "7b": "evo2_7b"}
PRODUCTS = ("aten::mm", "aten::addmm", "aten::_scaled_dot_product_flash_attention_for_cpu")


def main(argv: list[str]) -> None:
    words = argv or ["1b", "bfloat16", "2048", "8192", "32768"]
    if os.environ.get("EVO2_BENCHMARK_ONE"):
        measure(*words)
        return
    model, dtype, *lengths = words
    print("| model | precision | bases | s | bases/s, 8 blocks | bases/s, whole model | products | peak over the weights, GiB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for length in lengths:
        subprocess.run(
            [sys.executable, __file__, model, dtype, length], check=True, env={**os.environ, "EVO2_BENCHMARK_ONE": "1"}
        )


@torch.no_grad()
def measure(model: str, dtype: str, length: str) -> None:
    published = PUBLISHED[MODELS[model]]
    config = replace(published, num_layers=8, attn_layer_idxs=(3, 7))
    network = cast(random_model(0, "blocks.7", config), getattr(torch, dtype))
    bases = int(length)
    ids = torch.tensor([65, 67, 71, 84])[torch.randint(4, (1, bases))]
    edges = range(CPU_BATCH_TOKENS, bases, CPU_BATCH_TOKENS)
    if bases <= 2 * CPU_BATCH_TOKENS:
        network(ids, edges)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, start = status("VmRSS"), time.perf_counter()
    network(ids, edges)
    seconds, peak = time.perf_counter() - start, status("VmHWM") - before
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        network(ids[:, :CPU_BATCH_TOKENS])
    events = {event.key: event.self_cpu_time_total for event in recorded.key_averages()}
    products = sum(events[key] for key in events if key in PRODUCTS) / sum(events.values())
    whole = bases / seconds * 8 / published.num_layers
    print(
        f"| {model} | {dtype} | {bases:,} | {seconds:.1f} | {bases / seconds:,.0f} | {whole:,.0f} | {products:.0%} |"
        f" {peak / 2**20:.2f} |",
        flush=True,
    )


def status(name: str) -> int:
    """KiB of memory, as the system counts it for this process."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


if __name__ == "__main__":
    main(sys.argv[1:])
