"""BrainMT: a 4-D fMRI window (B, T, C, D, H, W) in; one CLS vector, token features and a prediction a subject out.

Conv stem on every frame → (bidirectional) Mamba layers over all tokens, temporal-first → attention blocks. Parameters carry the
published names, so that published weights load key for key. Where we differ from the published code, on purpose:

    the Mamba stage is bidirectional by default, as the paper says (the released code drops that switch); unidirectional on demand
    any volume shape, any number of frames up to num_frames (the first positions in time are used), non-contiguous input
    no attention dropout, which the published code leaves on in evaluation, and no head dropout: evaluation is deterministic
    activation checkpointing works, and the stem takes large volumes a few frames at a time
    Δ keeps Mamba's own initialisation; init="published" re-initialises it as the published code does (Δ about 0.69 everywhere)
    no arguments without effect (img_size, patch_size, use_checkpoint)

Reference:
    Kannan et al., BrainMT: A Hybrid Mamba-Transformer Architecture for Modeling Long-Range Dependencies in Functional MRI Data,
    MICCAI 2025.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from encoders.brainmt_config import PUBLISHED_VOLUME, BrainMTConfig
from encoders.brainmt_weights import check_state, fit_positions, own_grid, read_state, sizes_of, token_grid
from encoders.mamba import AddNormBlock, BidirectionalMambaMixer, MambaMixer, RMSNorm, add_residual, drop_path, init_step_sizes

LORA_TARGETS = (
    "in_proj",
    "x_proj",
    "x_proj_b",
    "out_proj",
    "qkv",
    "proj",
)  # projections that peft can wrap; see tests/test_lora.py
STEM_VOXELS = 2**25  # input voxels that the stem takes at a time
STEM_VOXELS_CHECKPOINTED = 2**22  # … where it recomputes: about 4 frames of 2 mm, whose activations bound the memory


class BrainMTOutput(NamedTuple):
    """What BrainMT makes of a batch; row n*T + t of the tokens is voxel n (C order over the token grid) at frame t."""

    cls: Tensor  # (B, embed_dim)
    tokens: Tensor | None  # (B, N*T, embed_dim) after the attention blocks; None with tokens=False
    mamba_cls: Tensor  # the same two after the Mamba stage and its norm
    mamba_tokens: Tensor
    prediction: Tensor | None  # (B, num_classes); None without a head
    frames: int  # T

    def voxel_embeddings(self) -> Tensor:
        """(B, N, embed_dim): the tokens after the Mamba stage, averaged over time."""
        return self.mamba_tokens.unflatten(1, (-1, self.frames)).mean(2)


class Conv3d(nn.Conv3d):
    """nn.Conv3d that trains in float32 on a processor, whatever autocast says; the output then has the input's precision.

    The library behind PyTorch's convolutions there reads memory that nobody wrote when it computes the weight gradient of a
    bfloat16 convolution over an image two voxels wide (seen with AVX-512 without AMX, torch 2.13): silent nonsense or NaN.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super()._conv_forward(input, weight, bias)
        dtype = torch.promote_types(weight.dtype, torch.float32)
        with torch.autocast("cpu", enabled=False):
            bias = None if bias is None else bias.to(dtype)
            return super()._conv_forward(input.to(dtype), weight.to(dtype), bias).to(input.dtype)


class PatchEmbed(nn.Module):
    """Two halving convolutions: (F, C, D, H, W) -> (F, stem_channels[1], D/4, H/4, W/4)."""

    def __init__(self, in_chans: int, channels: tuple[int, int]) -> None:
        super().__init__()
        first = Conv3d(in_chans, channels[0], 3, stride=2, padding=1, bias=False)
        second = Conv3d(channels[0], channels[1], 3, stride=2, padding=1, bias=False)
        self.conv_down = nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_down(x)


class ConvBlock(nn.Module):
    """x + norm(conv(gelu(norm(conv(x))))), the norms over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv3d(channels, channels, 3, padding=1)
        self.norm1 = nn.LayerNorm(channels)
        self.conv2 = Conv3d(channels, channels, 3, padding=1)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x).movedim(1, -1))
        y = F.gelu(y, approximate="tanh").movedim(-1, 1)
        return x + self.norm2(self.conv2(y).movedim(1, -1)).movedim(-1, 1)


class Downsample(nn.Module):
    """One halving convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduction = nn.Sequential(Conv3d(channels, out_channels, 3, stride=2, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(x)


class Attention(nn.Module):
    """Multi-head self-attention over (B, L, D); with cls_only the query is row 0 alone and the output is (B, 1, D)."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BLD: Tensor, cls_only: bool = False) -> Tensor:
        q, k, v = self.qkv(x_BLD).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q[:, :, :1] if cls_only else q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Linear(D, 2 D), GELU, Linear(2 D, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 2 * dim)
        self.fc2 = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class BrainMT(nn.Module):
    """The encoder; see the module's page for what it computes and `BrainMTConfig` for its sizes."""

    def __init__(self, config: BrainMTConfig) -> None:
        super().__init__()
        self.config = config
        dim, stem = config.embed_dim, config.stem_channels
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, math.prod(token_grid(config.volume_shape)) + 1, dim))
        self.temporal_pos_embedding = nn.Parameter(torch.zeros(1, config.num_frames, dim))
        self.norm = nn.LayerNorm(dim)  # one norm and one MLP for all attention blocks, as published
        self.patch_embed = PatchEmbed(config.in_chans, stem)
        self.conv_block0 = ConvBlock(stem[1])
        self.downsample0 = Downsample(stem[1], 2 * stem[1])
        self.conv_block1 = ConvBlock(2 * stem[1])
        self.downsample1 = Downsample(2 * stem[1], dim)
        self.head = nn.Linear(dim, config.num_classes) if config.num_classes > 0 else None
        mixer = BidirectionalMambaMixer if config.bidirectional else MambaMixer
        total = sum(config.depth)
        rates = [config.drop_path_rate * i / max(total - 1, 1) for i in range(total)]
        self.layers = nn.ModuleList(
            AddNormBlock(mixer(dim, config.d_state, config.d_conv, config.expand), dim, rate)
            for rate in [0.0, *rates][: config.depth[0]]
        )
        self.blocks = nn.ModuleList(Attention(dim, config.num_heads, config.qkv_bias) for _ in range(config.depth[1]))
        self.block_drop_path_rates = rates[config.depth[0] :]
        self.mlp = MLP(dim)
        self.norm_f = RMSNorm(dim)
        self._init_weights()

    def forward(self, bold: Tensor, tokens: bool = True) -> BrainMTOutput:
        """One pass over windows of any T up to num_frames.

        Args:
            bold: (B, T, C, D, H, W), any precision (cast to the weights'), any strides.
            tokens: False runs the last attention block for the CLS query alone: the same cls and prediction, `tokens` None.

        Raises:
            ValueError: bold of another number of axes, channels or voxels, or of too many frames; in evaluation also NaN or
                infinite features, naming the frames of the input that are not finite or, if all are, the weights.
        """
        self._check(bold)
        hidden = self._mamba_stage(self._embed(bold))
        mamba_cls, mamba_tokens = hidden[:, 0], hidden[:, 1:]
        for i in range(len(self.blocks)):
            cls_only = not tokens and i == len(self.blocks) - 1
            hidden = self._recompute("attention", self._attention_block, hidden, i, cls_only)
        cls = hidden[:, 0]
        if not self.training and not hidden.is_meta and not hidden.isfinite().all():
            self._complain_of_values(bold)
        prediction = None if self.head is None else self.head(cls)
        return BrainMTOutput(cls, hidden[:, 1:] if tokens else None, mamba_cls, mamba_tokens, prediction, bold.shape[1])

    def _check(self, bold: Tensor) -> None:
        expected = (self.config.in_chans, *self.config.volume_shape)
        if bold.dim() != 6 or tuple(bold.shape[2:]) != expected:
            raise ValueError(
                f"BrainMT: bold (B, T, C, D, H, W) with C, D, H, W = {expected} was expected, got {tuple(bold.shape)}.\n"
                "  fix: resample the scan or build the model with BrainMTConfig(in_chans=…, volume_shape=…) of the data."
            )
        if not 1 <= bold.shape[1] <= self.config.num_frames:
            raise ValueError(
                f"BrainMT: 1 to {self.config.num_frames} frames a window were expected, got {bold.shape[1]}.\n"
                "  fix: shorten the window or build the model with a larger BrainMTConfig(num_frames=…)."
            )

    def _complain_of_values(self, bold: Tensor) -> None:
        """Say where the NaN or infinite values behind a CLS token that is not finite come from."""
        frames = [(i, t) for i, t in (~bold.isfinite()).flatten(2).any(-1).nonzero().tolist()]
        if frames:
            got, fix = f"NaN or infinite voxels in (sample, frame) {frames[:8]}", "mend or leave out these frames of the scan"
        else:
            weights = [name for name, weight in self.named_parameters() if not weight.isfinite().all()]
            got = f"NaN or infinite weights in {', '.join(weights[:8])}" if weights else "finite voxels and weights that overflow"
            fix = "load the weights of an earlier step" if weights else "use float32 or bfloat16 instead of float16"
        raise ValueError(f"BrainMT: finite features were expected, got {got}.\n  where: evaluation\n  fix: {fix}.")

    def _embed(self, bold: Tensor) -> Tensor:
        """Frames → [CLS, tokens] (B, 1 + N*T, embed_dim), temporal-first, with both position embeddings."""
        batch, frames = bold.shape[:2]
        voxels = STEM_VOXELS_CHECKPOINTED if self._recomputes("stem") else STEM_VOXELS
        at_once = max(1, voxels // math.prod(self.config.volume_shape))
        samples = [bold.flatten(0, 1)] if bold.is_contiguous() else bold  # a slice is not copied whole
        parts = [part for frames_of in samples for part in frames_of.split(at_once)]
        stem = torch.cat([self._recompute("stem", self._stem, part) for part in parts])
        grid = stem.flatten(2).unflatten(0, (batch, frames))  # (B, T, D, N)
        tokens = grid.permute(0, 3, 1, 2) + self.pos_embed[:, 1:, None] + self.temporal_pos_embedding[:, None, :frames]
        cls = (self.cls_token + self.pos_embed[:, :1]).to(tokens.dtype)
        return torch.cat([cls.expand(batch, -1, -1), tokens.flatten(1, 2)], dim=1)

    def _stem(self, images: Tensor) -> Tensor:
        """(F, C, D, H, W) of any precision → (F, embed_dim, D', H', W')."""
        images = images.to(self.cls_token.dtype, memory_format=torch.channels_last_3d)  # never a copy of the whole window
        x = self.downsample0(self.conv_block0(self.patch_embed(images)))
        return self.downsample1(self.conv_block1(x))

    def _mamba_stage(self, hidden: Tensor) -> Tensor:
        residual = None
        for layer in self.layers:
            hidden, residual = self._recompute("mamba", layer, hidden, residual)
        return self.norm_f(add_residual(drop_path(hidden, self.config.drop_path_rate, self.training), residual))

    def _attention_block(self, hidden: Tensor, i: int, cls_only: bool) -> Tensor:
        rate = self.block_drop_path_rates[i]
        attended = self.blocks[i](self.norm(hidden), cls_only)
        hidden = hidden[:, : attended.shape[1]] + drop_path(attended, rate, self.training)
        return hidden + drop_path(self.mlp(self.norm(hidden)), rate, self.training)

    def _recompute(self, stage: str, function: Callable, *arguments):
        """Calls the function; where the stage is checkpointed, its activations are not kept for the backward pass."""
        if self._recomputes(stage):
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)

    def _recomputes(self, stage: str) -> bool:
        return torch.is_grad_enabled() and self.config.checkpoints(stage)

    def _init_weights(self) -> None:
        """The published distribution; Mamba's Δ is restored unless config.init is "published"."""
        nn.init.trunc_normal_(self.pos_embed, std=self.config.init_std)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=self.config.init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
                if name.endswith(("out_proj", "fc2")):  # as in GPT-2: the residual stream must not grow with depth
                    nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
                    with torch.no_grad():
                        module.weight /= math.sqrt(sum(self.config.depth))
                if self.config.init == "mamba" and name.endswith(("dt_proj", "dt_proj_b")):
                    init_step_sizes(module)

    @classmethod
    def from_official(
        cls,
        source: str | Path | Mapping,
        volume_shape: tuple[int, int, int] | None = None,
        num_frames: int | None = None,
        trained_volume_shape: tuple[int, int, int] | None = None,
        **settings,
    ) -> "BrainMT":
        """A model in evaluation mode from the published code's weights.

        Direction, depths and widths are told from the keys; what they cannot (num_heads, drop_path_rate, …) goes in settings.

        Args:
            source: a state dict, or the path of one (.safetensors, or a torch file), with or without a
                'model_state_dict' wrapper and 'module.' prefixes.
            volume_shape: (D, H, W) of the data to come; None means trained_volume_shape, or else (109, 91, 91).
            num_frames: most frames a window will have; None keeps the weights' own.
            trained_volume_shape: (D, H, W) that the weights were trained on; None means (109, 91, 91) where the number of
                positions fits it, otherwise volume_shape. Needed for weights of another shape whose number of positions is the
                published one, such as those of (91, 109, 91).
            settings: further fields of BrainMTConfig.

        A token grid or length other than the weights' own interpolates the position embeddings (trilinear, linear), with a
        warning in the log.

        Raises:
            FileNotFoundError: no file there.
            ValueError: keys missing, unexpected or of wrong shape (all of them in one error), a grid that cannot be told, a
                setting out of range.
        """
        state = read_state(source)
        sizes = sizes_of(state)
        sizes["volume_shape"] = volume_shape or trained_volume_shape or PUBLISHED_VOLUME
        sizes["num_frames"] = sizes["num_frames"] if num_frames is None else num_frames
        config = BrainMTConfig(**{**sizes, **settings})
        trained = own_grid(state["pos_embed"].shape[1] - 1, volume_shape, trained_volume_shape)
        state = fit_positions(state, trained, token_grid(config.volume_shape), config.num_frames)
        model = cls(config)
        check_state(state, model.state_dict())
        model.load_state_dict(state)
        return model.eval()

    def to_official(self) -> dict[str, Tensor]:
        """A copy of the weights under the published code's keys.

        The volume shape does not travel with them: from_official(…, volume_shape=…, trained_volume_shape=…) must be told it,
        unless it is the published (109, 91, 91). Nor do num_heads, drop_path_rate and init.
        """
        return {key: value.detach().clone().contiguous() for key, value in self.state_dict().items()}
