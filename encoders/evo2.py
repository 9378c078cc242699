"""Evo 2, a StripedHyena 2 over single bases: DNA strings flow in, the outputs of one published module flow out.

    >>> from encoders import load_dna_encoder
    >>> encoder = load_dna_encoder("evo2", device="cpu")  # "evo2_7b", its hub id or its file in the place of random weights
    >>> encoder.embed(["ACGTTGCA", "TTTTACGT"]).shape
    torch.Size([2, 64])

Reference: Brixi et al., "Genome modeling and design across all domains of life with Evo 2", 2025.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from encoders.dna import DNAEncoder
from encoders.dna_identity import fingerprint, resolve_device_and_dtype
from encoders.evo2_checkpoint import fetch, find_source
from encoders.evo2_config import Evo2Config
from encoders.evo2_fp8 import FP8Linear, TransformerEngineLinear, engine_refusal
from encoders.evo2_network import Evo2, RotaryEmbedding, depth
from encoders.evo2_weights import KEPT_IN_FLOAT32, cast, fill, open_checkpoint, told_by_shapes

CPU_BATCH_TOKENS = 8_192
GPU_BATCH_TOKENS = 32_768

FORWARD_REVISION = 1
"""Part of the fingerprint. Raise it with every change of code, here or in the rooms below, after which the same weights give
other vectors by more than rounding."""

RANDOM_CONFIG = Evo2Config(
    published_name=None,
    hidden_size=64,
    num_layers=8,
    num_attention_heads=4,
    inner_mlp_size=176,
    attn_layer_idxs=(3, 7),
    hcs_filter_groups=8,
    hcm_filter_groups=4,
    rotary_emb_base=1e4,
    rotary_emb_scaling_factor=1,
    max_seqlen=131_072,
    use_fp8_input_projections=False,
)
"""The small network that stands in where no checkpoint is given."""

FP8 = {"off": None, "emulated": FP8Linear, "transformer_engine": TransformerEngineLinear}
"""How projections that were trained in FP8 run."""


class Evo2Encoder(DNAEncoder):
    """Frozen Evo 2.

    `layer` is a published module that gives one vector of the stream's width a base: "embedding_layer"; "blocks.N", the stream
    behind block N; "blocks.N.pre_norm", ".filter", ".out_filter_dense" or ".inner_mha_cls", ".post_norm", ".mlp" and ".mlp.l3"
    (the MLP's output before it joins the stream); "norm", the last normed state. Blocks behind the layer are not loaded or run.

    None is "blocks.28.mlp.l3" for the 7b models and "blocks.20" for the 40b ones, the layers that their authors speak of. For
    1b_base and 20b no recommendation was published: None is our choice, the 7b's at their depth, "blocks.21.mlp.l3" in both.
    """

    lora_targets = ("projections", "out_filter_dense", "Wqkv", "out_proj", "l1", "l2", "l3")
    float32_weights = KEPT_IN_FLOAT32

    def __init__(self, model: Evo2, weights: str, device: torch.device, fp8: str = "off", chunk_bases: int | None = None) -> None:
        config, dtype = model.config, model.embedding_layer.weight.dtype
        default = CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS
        settings = {"name": "evo2", "forward": FORWARD_REVISION, "fp8": fp8, **asdict(config)}
        name = config.published_name or f"Evo 2 of width {config.hidden_size} and {config.num_layers} blocks"
        projections = "" if fp8 == "off" else f", FP8 {fp8.replace('_', ' ')}"
        super().__init__(
            model=model,
            width=config.hidden_size,
            max_bases=config.max_seqlen,
            fingerprint=fingerprint(settings, model.layer, model),
            description=f"{name}, {weights}, {model.layer}, {str(dtype).removeprefix('torch.')}{projections}",
            device=device,
            batch_tokens=default,
        )
        self.chunk_bases = default if chunk_bases is None else chunk_bases

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None,
        *,
        layer: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        seed: int = 0,
        model: str | None = None,
        fp8: str | None = None,
        chunk_bases: int | None = None,
    ) -> Self:
        """See `encoders.load_dna_encoder`; the options that Evo 2 has of its own:

        Args:
            model: the published name of a local file that has neither this name nor a config.json beside it.
            fp8: "off", "emulated" or "transformer_engine". Models of 7 billion parameters run without FP8 (None is "off").
                evo2_1b_base was trained in FP8 and falls from 80 % of bases right to a third without it, so that it must be
                chosen: "emulated" rounds the projections to e4m3 in software, reported to give 74.5 to 78.7 %;
                "transformer_engine" has them multiplied in FP8 where it is installed and the GPU has FP8; "off" knowingly does
                neither. The 20b and 40b models need "transformer_engine", which is what None is for them.
            chunk_bases: longer sequences run in chunks of so many bases, with equal results but for rounding; None: 8,192 on a
                CPU, 32,768 on a GPU.

        Raises:
            ValueError: an unknown layer or option; a model that needs FP8, where there is none; a checkpoint of another model.
            FileNotFoundError: no such checkpoint.
        """
        if fp8 not in (None, *FP8):
            raise ValueError(f"fp8 must be one of {', '.join(FP8)}; got {fp8!r}.\n  fix: fp8=off.")
        if chunk_bases is not None and (type(chunk_bases) is not int or chunk_bases < 1):
            raise ValueError(f"chunk_bases must be a whole number of at least 1; got {chunk_bases!r}.\n  fix: leave it out.")
        device, dtype = resolve_device_and_dtype(device, dtype)
        if checkpoint is None:
            _check_random(model, fp8)
            network = cast(random_model(seed, layer), dtype)
            return cls(network, f"random weights (seed {seed})", device, chunk_bases=chunk_bases)
        files, config = find_source(checkpoint, model)
        if config is not None:
            fp8 = _checked_fp8(config, fp8, device)  # before anything is fetched
            depth(config, config.default_layer if layer is None else layer)
        opened = open_checkpoint(files or fetch(config.published_name))
        if config is None:
            config = told_by_shapes(opened)
            fp8 = _checked_fp8(config, fp8, device)
        with torch.device("meta"):
            network = Evo2(config, config.default_layer if layer is None else layer)
        fill(network, opened, device, dtype)
        if FP8[fp8] is not None:
            _project_in_fp8(network, opened.scales, FP8[fp8])
        return cls(network, f"weights {opened.origin}", device, fp8, chunk_bases)

    def _tokens(self, sequences: list[str]) -> Tensor:
        letters = torch.frombuffer(bytearray("".join(sequences).encode("ascii")), dtype=torch.uint8)
        ids_BL = letters.view(len(sequences), -1).to(self.device, torch.int64)
        length = ids_BL.shape[1]
        return self.model(ids_BL, edges=range(self.chunk_bases, length, self.chunk_bases))


def _checked_fp8(config: Evo2Config, fp8: str | None, device: torch.device) -> str:
    """How the projections run, decided.

    Raises:
        ValueError: a model that was trained in FP8, without a choice or without a way; Transformer Engine where it cannot run.
    """
    name, why = config.published_name or "This Evo 2", engine_refusal(device)
    if config.use_fp8_input_projections and config.hidden_size >= 8192:
        if fp8 in (None, "transformer_engine") and why is None:
            return "transformer_engine"
        raise ValueError(
            f"{name} was trained with projections in FP8 and is not accurate without FP8 hardware and Transformer Engine;"
            f" emulation was reported to leave a model of this size at chance. Here {why or f'fp8={fp8!r} was asked for'}.\n"
            "  fix: install transformer-engine on a GPU with FP8 and leave fp8 out; or use evo2_7b, or weights of this size that"
            " were finetuned for bfloat16, with a config.json beside them that says use_fp8_input_projections: false."
        )
    if fp8 == "transformer_engine" and why is not None:
        raise ValueError(f'fp8={fp8!r} needs Transformer Engine on a GPU with FP8; {why}.\n  fix: choose fp8="emulated".')
    if not config.use_fp8_input_projections or (config.hidden_size, config.num_layers) == (4096, 32):
        return fp8 or "off"
    if fp8 is None:
        raise ValueError(
            f"{name} was trained with projections in FP8: without it, a third of the bases are predicted right instead of 80 %.\n"
            '  fix: choose fp8="emulated" (rounding in software, near the published accuracy) or fp8="off" (knowingly without).'
        )
    return fp8


def _check_random(model: str | None, fp8: str | None) -> None:
    if model is not None or fp8 not in (None, "off"):
        given = f"model={model!r}" if model is not None else f"fp8={fp8!r}"
        raise ValueError(f"{given} belongs to a checkpoint; got none.\n  fix: name the checkpoint, or leave this out.")


def _project_in_fp8(network: Evo2, scales: Callable[[str], Tensor], kind: type[nn.Linear]) -> None:
    for i, block in enumerate(network.blocks):
        if not block.attends:
            block.projections = kind(block.projections, scales(f"blocks.{i}.projections"))


@torch.no_grad()
def random_model(seed: int, layer: str | None = None, config: Evo2Config = RANDOM_CONFIG) -> Evo2:
    """A network with random weights drawn from `seed` without touching the global random state.

    Filters are drawn so that they reach: explicit ones decay slowly, implicit ones remember between 1 and some 1,000 bases.
    """
    draw = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = Evo2(config, config.default_layer if layer is None else layer)
    model = model.to_empty(device="cpu")
    for name, weight in model.named_parameters():
        part = name.rpartition(".")[2]
        if part == "scale":
            weight.fill_(1)
        elif part == "log_poles":
            weight.copy_(-(10 ** -(3 * torch.rand(weight.shape, generator=draw))))
        else:
            fan_in = 1 if name == "embedding_layer.weight" or weight.ndim == 1 else weight[0].numel()
            weight.copy_(torch.randn(weight.shape, generator=draw) * fan_in**-0.5)
    for module in model.modules():
        if isinstance(module, RotaryEmbedding):
            module.inv_freq.copy_(config.rotary_emb_base ** -(torch.arange(len(module.inv_freq)) / len(module.inv_freq)))
    return model
