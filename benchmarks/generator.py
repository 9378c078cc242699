"""Claim: bases a second of a GENERator of the 1.2b's shape. In: nothing. Out: one line a precision and sequence length.

The checkpoint is written to a temporary folder in the published layout, with random weights and the first LAYERS of 26 layers.
Run: python benchmarks/generator.py [layers]
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from encoders import load_dna_encoder
from encoders.generator_tokenizer import VOCABULARY

PUBLISHED_LAYERS, LAYERS, TRIALS = 26, 2, 3
SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 16_384,
    "rms_norm_eps": 1e-5,
}
LENGTHS = {6_144: 2, 49_152: 1}
"""Bases of a sequence, and how many of them run at once."""


def main() -> None:
    layers = int(sys.argv[1]) if len(sys.argv) > 1 else LAYERS
    print(f"{layers} of {PUBLISHED_LAYERS} layers of the 1.2b's shape, {torch.get_num_threads()} threads, best of {TRIALS}")
    print(f"{'precision':10}{'load s':>8}{'bases':>8}{'at once':>8}{'seconds':>9}{'bases/s':>10}{'all layers':>11}")
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), layers)
        for dtype in ("bfloat16", "float32"):
            start = time.perf_counter()
            encoder = load_dna_encoder("generator", folder, dtype=dtype)
            loaded = time.perf_counter() - start
            for length, count in LENGTHS.items():
                seconds = best_time(encoder, length, count)
                speed = length * count / seconds
                whole = speed * layers / PUBLISHED_LAYERS
                print(f"{dtype:10}{loaded:8.2f}{length:8}{count:8}{seconds:9.2f}{speed:10.0f}{whole:11.0f}", flush=True)


def write_checkpoint(folder: Path, layers: int) -> None:
    """A float32 checkpoint in the published layout."""
    torch.manual_seed(0)
    save_file(LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=layers)).state_dict(), folder / "model.safetensors")
    config = {**SIZES, "num_hidden_layers": layers, "model_type": "llama", "rope_theta": 500_000.0}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("".join(f"{token} {i}\n" for token, i in VOCABULARY.items()))


def best_time(encoder, length: int, count: int) -> float:
    """Seconds for `count` random sequences of `length` bases, forward strand, pooled."""
    generator = random.Random(0)
    sequences = ["".join(generator.choices("ACGT", k=length)) for _ in range(count)]
    times = []
    for _ in range(TRIALS):
        start = time.perf_counter()
        encoder.embed(sequences, strands="forward")
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
