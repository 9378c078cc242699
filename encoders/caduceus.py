"""Caduceus, a bidirectional Mamba over single bases: DNA strings flow in, hidden states and vectors flow out.

Tokenizer and network of the published models, Ph (one strand) and PS (both strands alike), in plain PyTorch.

Reference: Schiff et al., "Caduceus: Bi-Directional Equivariant Long-Range DNA Sequence Modeling", ICML 2024.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from encoders.caduceus_config import SSM_SHAPE, TOKENS, CaduceusConfig
from encoders.dna import DNAEncoder
from encoders.dna_identity import fingerprint, resolve_device_and_dtype
from encoders.mamba import MambaMixer, RMSNorm, two_way_mixer
from encoders.published import load_weights, weights_file

VOCABULARY = {token: i for i, token in enumerate(TOKENS)}
SEP, UNK = VOCABULARY["[SEP]"], VOCABULARY["[UNK]"]
_SPECIALS = re.compile(r"(\[(?:CLS|SEP|BOS|MASK|PAD|UNK)\])")
_ID_OF_BYTE = np.array([VOCABULARY.get(chr(byte), UNK) for byte in range(128)])

MAX_BASES = 131_072
"""The longest sequences that the published models were trained on."""

CPU_BYTES, GPU_BYTES = 2**23, 2**28
"""Of in_proj's output for the rows, sequences × strands, that a mixer takes at once, unless one is longer; on a processor also
for the sequences of a batch: more would leave its caches, and cost a third of the speed."""

GPU_BATCH_TOKENS = 262_144

FORWARD_REVISION = 2
"""Part of the fingerprint. Raise it with every change of code, here or in the rooms below, after which the same weights give
other vectors by more than rounding: tokenizer, network, scan, pooling, mean of the strands. Stores are then embedded anew."""

RANDOM_CONFIG = CaduceusConfig(d_model=32, n_layer=2, d_state=4, residual_in_fp32=False)
"""The small Caduceus-Ph that stands in where no checkpoint is given."""


class CaduceusOutput(NamedTuple):
    """What the published model returns; C = d_model, or 2·d_model for PS: [forward, reverse strand flipped in L and channels].

    hidden_states are the inputs of all blocks, and with fused_add_norm the last hidden state once more.
    """

    last_hidden_state: Tensor  # (B, L, C), after the final norm
    hidden_states: list[Tensor]  # (B, L, C) each
    logits: Tensor  # (B, L, vocab_size)


class StrandShared(nn.Module):
    """A module that PS applies to both strands; it exists for the `submodule` in the published keys."""

    def __init__(self, submodule: nn.Module) -> None:
        super().__init__()
        self.submodule = submodule

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.submodule(x_BLD)


class ComplementaryEmbedding(nn.Module):
    """Token embedding of PS: the rows of the reverse complement are stacked below the rows as given."""

    def __init__(self, config: CaduceusConfig) -> None:
        super().__init__()
        self.register_buffer("complement_map", torch.tensor(config.complement_map))
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)

    def forward(self, ids_BL: Tensor) -> Tensor:
        """(B, L) → (2B, L, D)."""
        return self.embedding(torch.cat([ids_BL, self.complement_map[ids_BL].flip(1)]))


class ComplementaryHead(nn.Module):
    """Masked-language-model head of PS: the reverse strand votes for the complements, in reversed order."""

    def __init__(self, config: CaduceusConfig) -> None:
        super().__init__()
        self.register_buffer("complement_map", torch.tensor(config.complement_map))
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """(2B, L, D) of stacked strands → (B, L, vocab_size)."""
        forward, reverse = self.lm_head(hidden_BLD).chunk(2)
        return forward + reverse.flip(1)[..., self.complement_map]


class BiMamba(nn.Module):
    """Two Mamba mixers, one reading left to right and one right to left, with tied input and output projections.

    Where they are tied, in_proj runs once, its output being the same for both directions, and so does out_proj where these are
    added: out_proj of a sum is the sum of out_proj's. Long rows run one after another: memory does not grow with their number.
    """

    def __init__(self, config: CaduceusConfig) -> None:
        super().__init__()
        settings = {name: getattr(config, name) for name in SSM_SHAPE}
        self.multiply = config.bidirectional_strategy == "ew_multiply"
        self.tied = config.bidirectional_weight_tie
        self.mamba_fwd = MambaMixer(config.d_model, **settings)
        self.mamba_rev = MambaMixer(config.d_model, **settings)
        if self.tied:
            self.mamba_rev.in_proj, self.mamba_rev.out_proj = self.mamba_fwd.in_proj, self.mamba_fwd.out_proj

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        row_bytes = 4 * hidden_BLD.shape[1] * self.mamba_fwd.in_proj.out_features
        at_once = (CPU_BYTES if hidden_BLD.device.type == "cpu" else GPU_BYTES) // max(1, row_bytes)
        outputs = [self._mix(rows) for rows in hidden_BLD.split(max(1, at_once))]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _mix(self, hidden_BLD: Tensor) -> Tensor:
        if self.tied:
            return two_way_mixer(self.mamba_fwd, self.mamba_rev, hidden_BLD, self.multiply)
        forward, reverse = self.mamba_fwd(hidden_BLD), self.mamba_rev(hidden_BLD, reverse=True)
        return forward * reverse if self.multiply else forward + reverse


class Block(nn.Module):
    """add → norm → mixer. Where `exchange` is set (PS with fused_add_norm) the strands change places on the way in."""

    def __init__(self, config: CaduceusConfig) -> None:
        super().__init__()
        wrap = StrandShared if config.rcps else lambda module: module
        mixer, norm = BiMamba(config), RMSNorm(config.d_model, eps=config.norm_epsilon)
        self.exchange = config.rcps and config.fused_add_norm
        self.residual_in_fp32 = config.residual_in_fp32
        self.mixer = wrap(mixer)
        self.norm = norm if config.fused_add_norm else wrap(norm)

    def forward(self, hidden_BLD: Tensor, residual_BLD: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the mixer's output and the residual stream that it read."""
        residual_BLD = hidden_BLD if residual_BLD is None else hidden_BLD + residual_BLD
        if self.exchange:  # the halves of the channels swap: a strand's row becomes the other's, flipped in length and channels
            residual_BLD = residual_BLD.roll(len(residual_BLD) // 2, dims=0).flip(1, 2)
        if self.residual_in_fp32:
            residual_BLD = residual_BLD.float()
        return self.mixer(self.norm(residual_BLD)), residual_BLD


class Backbone(nn.Module):
    """Embedding → blocks → final norm. PS runs as two stacked rows a sequence: every module sees both strands as a batch."""

    def __init__(self, config: CaduceusConfig) -> None:
        super().__init__()
        embedding = ComplementaryEmbedding(config) if config.rcps else nn.Embedding(config.vocab_size, config.d_model)
        norm = RMSNorm(config.d_model, eps=config.norm_epsilon)
        self.embeddings = nn.ModuleDict({"word_embeddings": embedding})
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm_f = StrandShared(norm) if config.rcps and not config.fused_add_norm else norm

    def states(self, ids_BL: Tensor) -> Iterator[Tensor]:
        """Yields the input of every block, then the last hidden state, (B, L, D) each ((2B, L, D) for PS); lazy."""
        hidden_BLD, residual_BLD = self.embeddings["word_embeddings"](ids_BL), None
        for layer in self.layers:
            yield hidden_BLD
            hidden_BLD, residual_BLD = layer(hidden_BLD, residual_BLD)
        yield self.norm_f(hidden_BLD + residual_BLD)


class Caduceus(nn.Module):
    """The published masked language model; state_dict() has its very keys."""

    def __init__(self, config: CaduceusConfig) -> None:
        super().__init__()
        self.config = config
        self.caduceus = nn.ModuleDict({"backbone": Backbone(config)})
        embedding = self.backbone.embeddings["word_embeddings"]
        if config.rcps:
            self.lm_head = ComplementaryHead(config)
            self.lm_head.lm_head.weight = embedding.embedding.weight
        else:
            self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
            self.lm_head.weight = embedding.weight

    @property
    def backbone(self) -> Backbone:
        return self.caduceus["backbone"]

    def forward(self, ids_BL: Tensor) -> CaduceusOutput:
        """Token ids (B, L) → everything that the published model returns."""
        states = list(self.backbone.states(ids_BL))
        logits = self.lm_head(states[-1])
        joined = [join_strands(state) for state in states] if self.config.rcps else states
        return CaduceusOutput(joined[-1], joined if self.config.fused_add_norm else joined[:-1], logits)


def join_strands(x_BLD: Tensor) -> Tensor:
    """Stacked rows (2B, L, D) → the published layout (B, L, 2D)."""
    forward, reverse = x_BLD.chunk(2)
    return torch.cat([forward, reverse.flip(1, 2)], dim=-1)


class CaduceusEncoder(DNAEncoder):
    """Frozen Caduceus. PS averages the forward half with the channel-flipped reverse half, so both strands give one vector.

    Example:
        >>> from encoders import load_dna_encoder
        >>> encoder = load_dna_encoder("caduceus", device="cpu")     # random weights: no checkpoint
        >>> encoder.embed(["ACGTTGCA", "ACGTAGCA"], pooling="variant", positions=[[4], [4]]).shape
        torch.Size([2, 32])
    """

    lora_targets = ("in_proj", "x_proj", "out_proj")

    def __init__(self, model: Caduceus, weights: str, layer: int | None, device: torch.device) -> None:
        config = model.config
        last = config.n_layer if config.fused_add_norm else config.n_layer - 1
        if layer is not None and (type(layer) is not int or layer not in range(last + 1)):
            raise ValueError(
                f"layer of this Caduceus must be None or an entry of the published hidden states, 0 to {last}; got {layer!r}.\n"
                "  fix: layer=None reads the last hidden state, after the final norm."
            )
        read = config.n_layer if layer is None else layer
        kind, dtype = "PS" if config.rcps else "Ph", str(next(model.parameters()).dtype).removeprefix("torch.")
        depth = "last hidden state" if layer is None else f"hidden state {layer}"
        super().__init__(
            model=model,
            width=config.d_model,
            max_bases=MAX_BASES,
            fingerprint=fingerprint({"name": "caduceus", "forward": FORWARD_REVISION, **asdict(config)}, read, model),
            description=f"Caduceus-{kind}, d_model {config.d_model}, {config.n_layer} layers, {weights}, {depth}, {dtype}",
            device=device,
            batch_tokens=_cpu_batch_tokens(config) if device.type == "cpu" else GPU_BATCH_TOKENS,
        )
        self.strand_symmetric = config.rcps
        self.layer = read

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None,
        *,
        layer: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        seed: int = 0,
    ) -> Self:
        """See `encoders.load_dna_encoder`; what is Caduceus's own:

        Args:
            checkpoint: needs config.json and model.safetensors or pytorch_model.bin.
            layer: entry k of the published output_hidden_states list; None is the last hidden state, after the final norm.

        Raises:
            ValueError: an unknown layer or dtype; files that are not those of a published kind of network.
            FileNotFoundError: no such checkpoint, or one of its files is missing.
        """
        device, dtype = resolve_device_and_dtype(device, dtype)
        if checkpoint is None:
            model, weights = _random_model(seed), f"random weights (seed {seed})"
        else:
            path = weights_file(checkpoint)
            model, weights = load_published(path), f"weights {path}"
        return cls(model.to(dtype), weights, layer, device)

    def _tokens(self, sequences: list[str]) -> Tensor:
        ids_BL = torch.from_numpy(base_ids(sequences)).to(self.device)
        state_BLD = next(islice(self.model.backbone.states(ids_BL), self.layer, None))
        if not self.strand_symmetric:
            return state_BLD
        forward, reverse = state_BLD.chunk(2)
        return (forward + reverse.flip(1)) / 2


def _cpu_batch_tokens(config: CaduceusConfig) -> int:
    channels = 2 * config.expand * config.d_model * (2 if config.rcps else 1)  # x and z of all strands
    return max(1, CPU_BYTES // (4 * channels))


def load_published(path: Path) -> Caduceus:
    """A weights file of a published folder, its config.json beside it → the network in float32.

    Raises:
        ValueError: a configuration or weights that are not those of a published kind of network.
    """
    with torch.random.fork_rng(devices=[]):
        model = Caduceus(CaduceusConfig.from_file(path.parent / "config.json"))
    load_weights(model, path)
    for key, tensor in model.state_dict().items():
        tokens = len(tensor)
        if key.endswith("complement_map") and not tensor[tensor.clamp(0, tokens - 1)].equal(torch.arange(tokens)):
            raise ValueError(
                f"The complement of a complement must be the token itself; {key} is {tensor.tolist()}.\n"
                f"  file: {path}\n  fix: use weights whose {key} pairs A with T and C with G."
            )
    return model


def encode(text: str, specials: bool = True) -> list[int]:
    """The published tokenizer: one id a character, upper-cased; with `specials` [SEP] at the end, nothing is put in front.

    Special tokens such as [MASK] are recognised in the text; what else is not one of ACGTN, IUPAC codes and U too, is [UNK].
    """
    pieces = [[piece] if _SPECIALS.fullmatch(piece) else piece.upper() for piece in _SPECIALS.split(text)]
    return [VOCABULARY.get(token, UNK) for piece in pieces for token in piece] + ([SEP] if specials else [])


def base_ids(sequences: Sequence[str]) -> np.ndarray:
    """Upper-case ASCII strings of one length → (n, L) int64, as `encode(…, specials=False)` gives, at the speed of a table."""
    letters = np.frombuffer("".join(sequences).encode("ascii"), dtype=np.uint8)
    return _ID_OF_BYTE[letters].reshape(len(sequences), -1)


@torch.no_grad()
def _random_model(seed: int) -> Caduceus:
    """The small network with the published initialisation, drawn from `seed` without touching the global random state.

    The mixers initialise themselves; embedding and output projections follow the published model's _init_weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Caduceus(RANDOM_CONFIG)
        nn.init.normal_(model.lm_head.weight, std=0.02)  # tied to the embedding
        for name, weight in model.named_parameters():
            if name.endswith("out_proj.weight"):
                nn.init.kaiming_uniform_(weight, a=math.sqrt(5)).div_(math.sqrt(RANDOM_CONFIG.n_layer))
    return model
