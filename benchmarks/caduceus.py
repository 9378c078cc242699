"""Claim: Caduceus reads at least 5 times as fast through the compiled scan as through the reference, 131 kb in bounded memory.

The published size d_model 256, 16 layers, PS, with random weights: the same sequences through both scans in one process, then
bases a second and the process's peak over growing lengths, each in a process of its own.

    python benchmarks/caduceus.py [LENGTH …]         (default: 1024 8192 32768 131072)
"""

import random
import subprocess
import sys
import time
from pathlib import Path

import torch

from encoders import caduceus
from encoders.caduceus import Caduceus, CaduceusEncoder
from encoders.caduceus_config import CaduceusConfig
from encoders.mamba import MambaMixer

CONFIG = CaduceusConfig(d_model=256, n_layer=16, rcps=True, complement_map=(0, 1, 2, 3, 4, 5, 6, 10, 9, 8, 7, *range(11, 16)))
COMPARED, SEQUENCES = 2048, 8
LENGTHS = (1024, 8192, 32_768, 131_072)


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        measure(int(sys.argv[2]))
        return
    compare()
    print("bases a second, float32, 2 threads, a process each", flush=True)
    for length in map(int, sys.argv[1:] or LENGTHS):
        subprocess.run([sys.executable, __file__, "one", str(length)], check=True)


def encoder() -> CaduceusEncoder:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    return CaduceusEncoder(Caduceus(CONFIG), "random weights (seed 0)", None, torch.device("cpu"))


def sequences(length: int, count: int) -> list[str]:
    generator = random.Random(0)
    return ["".join(generator.choices("ACGT", k=length)) for _ in range(count)]


def compare() -> None:
    """Both scans over the same sequences, the compiled one twice as it compiles; then the reference in batches that suit it."""
    network, texts = encoder(), sequences(COMPARED, SEQUENCES)
    seconds, vectors = {}, {}
    for name, backend in (("compiled", "cpu"), ("compiled", "cpu"), ("reference", "reference"), ("large", "reference")):
        for module in network.model.modules():
            if isinstance(module, MambaMixer):
                module.backend = backend
        if name == "large":
            network.batch_tokens, caduceus.CPU_BYTES = 4 * COMPARED, 2**28
        start = time.perf_counter()
        vectors[name] = network.embed(texts)
        seconds[name] = time.perf_counter() - start
    largest = vectors["reference"].abs().max()
    difference = ((vectors["compiled"] - vectors["reference"]).abs().max() / largest).item()
    ours = seconds["compiled"]
    print(f"Caduceus-PS, d_model 256, 16 layers, {SEQUENCES} x {COMPARED} bases, float32, 2 threads")
    print(f"  compiled scan  {ours:5.1f} s, vectors within {difference:.0e} of the reference's")
    print(f"  reference scan {seconds['reference']:5.1f} s in the same batches: {seconds['reference'] / ours:.1f} x")
    print(
        f"  reference scan {seconds['large']:5.1f} s in batches eight times as large: {seconds['large'] / ours:.1f} x", flush=True
    )


def measure(length: int) -> None:
    network, texts = encoder(), sequences(length, max(1, 16_384 // length))
    network.embed(sequences(256, 1))
    start = time.perf_counter()
    network.embed(texts)
    took = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()  # getrusage would count what the parent held
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
    print(
        f"  {len(texts):2} x {length:7,} bases  {took:6.1f} s  {len(texts) * length / took:6,.0f} bases/s  peak {peak:.2f} GiB",
        flush=True,
    )


if __name__ == "__main__":
    main()
