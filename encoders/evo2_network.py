"""StripedHyena 2, the network of Evo 2, in plain PyTorch: byte tokens (B, L) flow in, the output of one named module flows out.

Module names, keys and shapes of state_dict() are the published ones, Wqkv in the order of the published files.

Reference: Brixi et al., "Genome modeling and design across all domains of life with Evo 2", 2025.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.evo2_config import ATTENTION, Evo2Config
from encoders.evo2_filters import HyenaFilter, Past, wide

MLP_TOKENS = 2_048
"""Positions × sequences whose inner MLP activations exist at once."""

MASK_ENTRIES = 2**25
"""Upper bound of queries × keys of one attention mask."""

_COMMON_PARTS = ("pre_norm", "post_norm", "mlp", "mlp.l3")
_HYENA_PARTS, _ATTENTION_PARTS = ("filter", "out_filter_dense"), ("inner_mha_cls",)


class RMSNorm(nn.Module):
    """scale · x / (rms(x) + eps), all in the precision of x; eps is added to the root."""

    def __init__(self, config: Evo2Config) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(config.hidden_size))
        self.eps = config.eps

    def forward(self, x: Tensor) -> Tensor:
        root = x.norm(dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return self.scale * (x / (root + self.eps))


class GatedMLP(nn.Module):
    """l3(act(l1 x) · l2 x); act is the exact GELU in the first block and nothing in all others."""

    def __init__(self, config: Evo2Config, first: bool) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.inner_mlp_size
        self.l1, self.l2 = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.l3 = nn.Linear(inner, width, bias=False)
        self.act = nn.GELU() if first else nn.Identity()

    def forward(self, x_BLD: Tensor) -> Tensor:
        slices = x_BLD.split(max(1, MLP_TOKENS // len(x_BLD)), dim=1)
        return torch.cat([self.l3(self.act(self.l1(x)) * self.l2(x)) for x in slices], dim=1)


class RotaryEmbedding(nn.Module):
    """Rotates the halves of a head's channels by an angle that grows with the position, which the interpolated models divide."""

    def __init__(self, config: Evo2Config) -> None:
        super().__init__()
        self.scale = config.rotary_emb_scaling_factor
        self.register_buffer("inv_freq", torch.empty(config.hidden_size // config.num_attention_heads // 2))

    def forward(self, x_BhLd: Tensor, start: int) -> Tensor:
        """x of the positions from `start` on; rotated in float32 by a cosine and sine of the precision of x."""
        positions = torch.arange(start, start + x_BhLd.shape[2], device=x_BhLd.device, dtype=self.inv_freq.dtype)
        angles = torch.outer(positions / self.scale, self.inv_freq)
        cos, sin = (wide(turn.to(x_BhLd.dtype)) for turn in (angles.cos(), angles.sin()))
        a, b = wide(x_BhLd).chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x_BhLd.dtype)


class Attention(nn.Module):
    """Causal multi-head attention with rotary positions; the rows of Wqkv are ordered [head][q | k | v][head width]."""

    def __init__(self, config: Evo2Config) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.Wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.rotary_emb = RotaryEmbedding(config)

    def forward(self, x_BLD: Tensor, past: Past) -> Tensor:
        q, k, v = self.Wqkv(x_BLD).unflatten(-1, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4)
        q, k = (self.rotary_emb(x, past.position) for x in (q, k))
        keys, values = remember(k, v, past)
        return self.out_proj(attend(q, keys, values).transpose(1, 2).flatten(2))


def remember(k: Tensor, v: Tensor, past: Past) -> tuple[Tensor, Tensor]:
    """The keys and values of all positions up to a chunk's last, (B, heads, position + L, d) each; `past` keeps them.

    Without a gradient they are written into room for the whole sequence: joining them anew would hold them twice.
    """
    end = past.position + k.shape[2]
    if end == past.total and past.keys is None:
        return k, v
    if torch.is_grad_enabled():
        before = () if past.keys is None else (past.keys, past.values)
        past.keys, past.values = (torch.cat(pair, dim=2) for pair in zip(before, (k, v), strict=True)) if before else (k, v)
    else:
        if past.keys is None:
            past.keys, past.values = (k.new_empty(*k.shape[:2], past.total, k.shape[3]) for _ in range(2))
        past.keys[:, :, past.position : end], past.values[:, :, past.position : end] = k, v
    return past.keys[:, :, :end], past.values[:, :, :end]


def attend(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention of the last L of M positions: (B, h, L, d), (B, h, M, d) twice → (B, h, L, d).

    PyTorch's `is_causal` takes query and key 0 for the same position, which holds where L = M. Elsewhere a mask says which keys
    lie ahead, for so few queries at a time that it stays small.
    """
    length, before = q.shape[2], keys.shape[2] - q.shape[2]
    if not before:
        return F.scaled_dot_product_attention(q, keys, values, is_causal=True)
    size = max(1, MASK_ENTRIES // keys.shape[2])
    parts = []
    for start in range(0, length, size):  # all keys each time: masks that grow would leave a hole in memory a piece
        queries = q[:, :, start : start + size]
        mask = torch.ones(queries.shape[2], keys.shape[2], dtype=torch.bool, device=q.device).tril(before + start)
        parts.append(F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask))
    return torch.cat(parts, dim=2)


class Block(nn.Module):
    """x + mixer(norm x), then x + mlp(norm x)."""

    def __init__(self, config: Evo2Config, index: int) -> None:
        super().__init__()
        kind, width = config.kinds[index], config.hidden_size
        self.pre_norm, self.post_norm = RMSNorm(config), RMSNorm(config)
        self.attends = kind == ATTENTION
        if self.attends:
            self.inner_mha_cls = Attention(config)
        else:
            self.projections = nn.Linear(width, 3 * width, bias=False)
            self.filter = HyenaFilter(config, kind)
            self.out_filter_dense = nn.Linear(width, width)
        self.mlp = GatedMLP(config, first=index == 0)

    @property
    def parts(self) -> tuple[str, ...]:
        """The modules of a block that give (B, L, H)."""
        return (*_COMMON_PARTS, *(_ATTENTION_PARTS if self.attends else _HYENA_PARTS))

    def forward(self, x_BLD: Tensor, past: Past, part: str | None = None) -> Tensor:
        """The stream behind the block, or the output of one of its `parts`; `past` moves on by the chunk."""
        out_BLD = self._forward(x_BLD, past, part)
        past.position += x_BLD.shape[1]
        return out_BLD

    def _forward(self, x_BLD: Tensor, past: Past, part: str | None) -> Tensor:
        normed_BLD = self.pre_norm(x_BLD)
        if part == "pre_norm":
            return normed_BLD
        if self.attends:
            mixed_BLD = self.inner_mha_cls(normed_BLD, past)
        else:
            mixed_BLD = self.filter(self.projections(normed_BLD), past)
            if part == "filter":
                return mixed_BLD
            mixed_BLD = self.out_filter_dense(mixed_BLD)
        if part in ("inner_mha_cls", "out_filter_dense"):
            return mixed_BLD
        x_BLD = mixed_BLD + x_BLD
        normed_BLD = self.post_norm(x_BLD)
        if part == "post_norm":
            return normed_BLD
        branch_BLD = self.mlp(normed_BLD)
        return branch_BLD if part in ("mlp", "mlp.l3") else branch_BLD + x_BLD


class Evo2(nn.Module):
    """The published network up to one of its modules.

    Args:
        config: sizes and switches.
        layer: the module that is read (see `layers`); blocks behind it are not made. None: the whole network.

    Raises:
        ValueError: no such layer.
    """

    def __init__(self, config: Evo2Config, layer: str | None = None) -> None:
        super().__init__()
        self.config, self.layer = config, "norm" if layer is None else layer
        blocks, self.part = depth(config, self.layer)
        self.embedding_layer = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(blocks))
        if self.layer == "norm":
            self.norm = RMSNorm(config)

    def forward(self, ids_BL: Tensor, edges: Sequence[int] = ()) -> Tensor:
        """Tokens (B, L) → (B, L, H), the output of `layer`.

        Args:
            ids_BL: token ids, one a base.
            edges: where the sequence is cut into chunks that run one after the other, ascending, in 1 … L - 1. The result is
                that of one shot; beside the stream and one attention block's keys and values, memory goes by the longest chunk.
        """
        length = ids_BL.shape[1]
        sizes = [end - start for start, end in pairwise([0, *edges, length])]
        stream_BLD = self.embedding_layer(ids_BL)
        for i, block in enumerate(self.blocks):
            past = Past(length)
            part = self.part if i == len(self.blocks) - 1 else None
            stream_BLD = replace_chunks(stream_BLD, sizes, partial(block, past=past, part=part))
        return replace_chunks(stream_BLD, sizes, self.norm) if self.layer == "norm" else stream_BLD

    def logits(self, normed_BLD: Tensor) -> Tensor:
        """The output of layer "norm" → (B, L, vocab_size): the embedding is the output head too."""
        return F.linear(normed_BLD, self.embedding_layer.weight)


def replace_chunks(stream_BLD: Tensor, sizes: Sequence[int], compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Each chunk of so many positions replaced by what becomes of it, in order; without a gradient in the stream's own memory.

    Many pieces of a long stream, freed and taken anew, would leave several times its memory in holes.
    """
    results = map(compute, stream_BLD.split(list(sizes), dim=1))
    if len(sizes) == 1:
        return next(results)
    if torch.is_grad_enabled():
        return torch.cat(list(results), dim=1)
    start = 0
    for size, result in zip(sizes, results, strict=True):
        stream_BLD[:, start : start + size] = result
        start += size
    return stream_BLD


def depth(config: Evo2Config, layer: str) -> tuple[int, str | None]:
    """How many blocks a layer needs, and which part of the last one it is; None: the stream behind it.

    Raises:
        ValueError: no module that gives one vector of the stream's width a base.
    """
    if layer == "embedding_layer":
        return 0, None
    if layer == "norm":
        return config.num_layers, None
    if isinstance(layer, str) and (named := re.fullmatch(r"blocks\.(0|[1-9]\d*)(?:\.([\w.]+))?", layer)):
        index, part = int(named[1]), named[2]
        if index < config.num_layers:
            mixer = _ATTENTION_PARTS if config.kinds[index] == ATTENTION else _HYENA_PARTS
            if part is None or part in (*_COMMON_PARTS, *mixer):
                return index + 1, part
    hyena, attention = (", ".join(parts) for parts in (_HYENA_PARTS, _ATTENTION_PARTS))
    raise ValueError(
        f"layer of this Evo 2 must be a published module of {config.hidden_size} channels a base; got {layer!r}.\n"
        f"  known: embedding_layer, norm, blocks.N and blocks.N.PART with N = 0 to {config.num_layers - 1} and PART one of"
        f" {', '.join(_COMMON_PARTS)}; in Hyena blocks {hyena}; in attention blocks"
        f" ({', '.join(map(str, config.blocks(ATTENTION)))}) {attention}\n"
        f"  fix: layer={config.default_layer} is the default."
    )
