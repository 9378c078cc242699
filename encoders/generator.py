"""GENERator, a causal Llama over 6-mers: DNA strings flow in, hidden states and vectors flow out.

The network is transformers' own LlamaModel, filled from the published files; none of the code published beside them is run.
What differs from the published scripts, on purpose:

* A sequence's frame starts at its first base, and what is left over at its end is not read. The scripts cut at the start, so that
  one inserted base moves every 6-mer before it; truncation="left" gives their cut.
* A 6-mer with an N is the network's <oov>, is counted and left out of the pooling.
* <s> stands in front, once. The second <s> that the scripts and the cards of v2 write behind the sequence has no option here:
  attention is causal, so no 6-mer's state hears of it, and its own state is dropped like that of every special token.

Reference: Wu et al., "GENERator: A Long-Context Generative Genomic Foundation Model", 2025 (arXiv:2502.07272).
"""

from dataclasses import asdict
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from encoders.dna import DNAEncoder
from encoders.dna_identity import fingerprint, resolve_device_and_dtype
from encoders.generator_config import GeneratorConfig
from encoders.generator_tokenizer import BOS, VOCABULARY, K, kmer_ids, read_vocabulary
from encoders.published import read_tensors, refuse_misfits, state_faults, weights_file

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
FILES_BESIDE = ("config.json", "vocab.txt")

CPU_BATCH_TOKENS = 12_288
GPU_BATCH_TOKENS = 196_608
"""Bases that run at once: 2,048 and 32,768 tokens."""

FORWARD_REVISION = 1
"""Part of the fingerprint. Raise it with every change of code, here or in the rooms below, after which the same weights give
other vectors by more than rounding: tokenizer, network, frames, pooling, mean of the strands. Stores are then embedded anew."""

RANDOM_CONFIG = GeneratorConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
)
"""The small network that stands in where no checkpoint is given."""

FRAMES = (1, K)
TRUNCATIONS = ("right", "left")


class GeneratorEncoder(DNAEncoder):
    """Frozen GENERator: one token is 6 bases, read left to right, so that a token's state knows what lies before it alone.

    Example:
        >>> from encoders import load_dna_encoder
        >>> encoder = load_dna_encoder("generator", device="cpu", frames=6)     # random weights: no checkpoint
        >>> encoder.embed(["ACGTAC" * 20, "ACGTAC" * 19 + "ACGTTC"]).shape
        torch.Size([2, 32])
    """

    bases_per_token = K
    masks_n = True
    lora_targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def __init__(
        self, model: LlamaModel, config: GeneratorConfig, layer: int, weights: str, device: torch.device, **frame: int | str
    ) -> None:
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        super().__init__(
            model=model,
            width=config.hidden_size,
            max_bases=config.max_bases,
            fingerprint=fingerprint({"name": "generator", "forward": FORWARD_REVISION, **asdict(config), **frame}, layer, model),
            description=f"GENERator, hidden size {config.hidden_size}, {config.num_hidden_layers} layers, {weights},"
            f" hidden state {layer}, frames {frame['frames']}, {frame['truncation']} truncation, {dtype}",
            device=device,
            batch_tokens=CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS,
        )
        self.frames, self.truncation = frame["frames"], frame["truncation"]

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None,
        *,
        layer: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        seed: int = 0,
        frames: int = 1,
        truncation: str = "right",
    ) -> Self:
        """See `encoders.load_dna_encoder`; what is GENERator's own:

        Args:
            checkpoint: needs config.json, vocab.txt and model.safetensors, or its index and shards, and nothing else.
            layer: k is entry k of transformers' hidden_states, 0 (the embedding) to the number of layers (after the final norm,
                the default). The layers above it are neither kept nor run.
            frames: 1 reads the one frame that `truncation` names; 6 averages the frames that start at bases 0 to 5.
            truncation: where the bases beyond a multiple of 6 are cut, "right" (the frame starts at the first base of the
                strand that is read) or "left" (it ends at its last base). Only with frames=1.

        Raises:
            ValueError: an unknown frames, truncation, layer or dtype; files that are not those of a published kind of network.
            FileNotFoundError: no such checkpoint, or one of its files is missing.
        """
        device, dtype = resolve_device_and_dtype(device, dtype)
        _check_frame(frames, truncation)
        path = None if checkpoint is None else weights_file(checkpoint, WEIGHT_FILES, FILES_BESIDE)
        config = RANDOM_CONFIG if path is None else GeneratorConfig.from_file(path.parent / "config.json")
        layer = _checked_layer(layer, config.num_hidden_layers)
        if path is None:
            model, weights = _random_model(layer, dtype, seed), f"random weights (seed {seed})"
        else:
            read_vocabulary(path.parent / "vocab.txt")
            model, weights = load_published(path, config, layer, device, dtype), f"weights {path}"
        return cls(model, config, layer, weights, device, frames=frames, truncation=truncation)

    def _frames(self, length: int) -> tuple[int, ...]:
        """First bases of the reading frames: of six, those that leave a whole 6-mer."""
        if self.frames == K:
            return tuple(range(max(1, min(K, length - K + 1))))
        return (length % K if self.truncation == "left" else 0,)

    def _tokens(self, sequences: list[str]) -> Tensor:
        kmers_BL = torch.from_numpy(kmer_ids(sequences)).to(self.device)
        ids_BL = nn.functional.pad(kmers_BL, (1, 0), value=BOS)
        whole_BL = torch.ones_like(ids_BL)  # says that nothing is padded: without it transformers 4 writes out an (L, L) mask
        return self.model(input_ids=ids_BL, attention_mask=whole_BL, use_cache=False).last_hidden_state[:, 1:]


def load_published(path: Path, config: GeneratorConfig, layer: int, device: torch.device, dtype: torch.dtype) -> LlamaModel:
    """The network up to hidden state `layer`, in `dtype` on `device`, from a published weights file or index.

    The file is checked whole, the head of the language model set aside, before memory is taken for the layers that are kept:
    those alone, already in `dtype`; tensors are converted one by one.

    Raises:
        ValueError: a file that cannot be read, or whose keys or shapes are not those of the configuration (listed).
        FileNotFoundError: shards that are not there.
    """
    with torch.device("meta"):
        model = _llama(config)
    tensors = read_tensors(path)
    tensors.pop("lm_head.weight", None)
    refuse_misfits(state_faults(tensors, {f"model.{key}": tensor for key, tensor in model.state_dict().items()}), path)
    _cut_behind(model, layer)
    model = model.to(dtype).to_empty(device=device)
    model.load_state_dict({key: tensors[f"model.{key}"] for key in model.state_dict()})
    return _with_exact_positions(model)


def _llama(config: GeneratorConfig) -> LlamaModel:
    sizes = {**asdict(config), "vocab_size": len(VOCABULARY), "head_dim": config.hidden_size // config.num_attention_heads}
    return LlamaModel(LlamaConfig(**sizes, attn_implementation="sdpa", use_cache=False))


def _random_model(layer: int, dtype: torch.dtype, seed: int) -> LlamaModel:
    """The small network with transformers' initialisation, drawn from `seed` without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _llama(RANDOM_CONFIG)
    _cut_behind(model, layer)
    return _with_exact_positions(model.to(dtype))


def _cut_behind(model: LlamaModel, layer: int) -> None:
    """Makes hidden state `layer` the network's output: only the last one, of all layers, is read behind the final norm."""
    if layer < len(model.layers):
        model.layers, model.norm = model.layers[:layer], nn.Identity()
        model.config.num_hidden_layers = layer


def _with_exact_positions(model: LlamaModel) -> LlamaModel:
    """Rotary frequencies computed anew, in float32: rounded to bfloat16 they turn by whole radians within the context."""
    model.rotary_emb = LlamaRotaryEmbedding(model.config)
    return model


def _checked_layer(layer: int | None, last: int) -> int:
    if layer is not None and (type(layer) is not int or layer not in range(last + 1)):
        raise ValueError(
            f"layer of this GENERator must be None or an entry of transformers' hidden_states, 0 to {last}; got {layer!r}.\n"
            "  fix: layer=None reads the last one, after the final norm."
        )
    return last if layer is None else layer


def _check_frame(frames: int, truncation: str) -> None:
    if type(frames) is not int or frames not in FRAMES:
        raise ValueError(f"frames must be one of {', '.join(map(str, FRAMES))}; got {frames!r}.\n  fix: frames=1.")
    if truncation not in TRUNCATIONS:
        raise ValueError(f"truncation must be one of {', '.join(TRUNCATIONS)}; got {truncation!r}.\n  fix: truncation=right.")
    if frames == K and truncation != "right":
        raise ValueError(
            f"truncation={truncation} chooses one frame; frames={K} reads all of them.\n  fix: frames=1, or leave truncation out."
        )
