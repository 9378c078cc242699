"""AlignmentModel: BOLD windows and region embeddings flow in, unit-norm rows of the shared space flow out."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brainmt_align.model.projectors import BrainMTProjector

FMRI_POOLINGS = ("cls", "mean")
REGION_POOLINGS = ("concatenate", "mean")
MAX_LOG_SCALE = math.log(100.0)
NOISE_EPSILONS = 8  # a mean over thousands of float32 hidden states is exact to a few units in the last place


class Embeddings(NamedTuple):
    """What the model returns: unit-norm rows a modality, and the logits' log scale (and bias, for the sigmoid loss)."""

    fmri_BE: Tensor
    dna_BE: dict[str, Tensor]
    log_scale: Tensor
    logit_bias: Tensor


class BatchStandardisation(nn.Module):
    """Standardise each feature over the people of the gathered batch, without learned scale or shift.

    In training the mean and variance run over the rows of all processes and carry gradient: a CLS token with a large constant
    part does not train without them. Running statistics take over in eval and are saved with the model.

    Args:
        width: number of features.
        sum_over_processes: differentiable elementwise sum over processes; the identity for one process.
        momentum: weight of the newest batch in the running statistics.
    """

    def __init__(self, width: int, sum_over_processes: Callable[[Tensor], Tensor] = lambda values: values, momentum: float = 0.1):
        super().__init__()
        self.sum_over_processes, self.momentum, self.eps = sum_over_processes, momentum, 1e-5
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))

    def forward(self, features_BD: Tensor) -> Tensor:
        """(B, D) → (B, D), in float32.

        Raises:
            ValueError: in training, fewer than two rows over all processes.
        """
        features_BD = features_BD.float()
        if not self.training:
            return (features_BD - self.running_mean) * torch.rsqrt(self.running_var + self.eps)
        count = self.sum_over_processes(features_BD.new_tensor(float(len(features_BD))))
        if count < 2:
            raise ValueError(
                "Batch standardisation needs at least 2 people in the gathered batch, got 1.\n"
                "  where: the fMRI tower in training\n  fix: raise train.batch_size."
            )
        mean_D = self.sum_over_processes(features_BD.sum(0)) / count
        centred_BD = features_BD - mean_D
        var_D = self.sum_over_processes(centred_BD.square().sum(0)) / count
        with torch.no_grad():
            weight = max(self.momentum, 1.0 / (int(self.num_batches) + 1))  # a plain average until the window is filled
            self.running_mean.lerp_(mean_D, weight)
            self.running_var.lerp_(var_D * count / (count - 1), weight)
            self.num_batches += 1
        return centred_BD * torch.rsqrt(var_D + self.eps)


class FMRITower(nn.Module):
    """BrainMT → pooled features → standardisation over the gathered batch → projector; the last two can be left out.

    Args:
        encoder: a BrainMT; what takes no part is frozen: a classification head and, without attention blocks, their norm and MLP.
        pooling: "cls" (the CLS row after the attention blocks) or "mean" (all token rows averaged).
        dropout: the projector's.
        output_dim: E; None: no projector, and E is the encoder's width.
        sum_over_processes: see BatchStandardisation.
        standardise: False: the features go on as they are.

    `output_dim` is E.

    Raises:
        ValueError: an unknown pooling.
    """

    def __init__(
        self,
        encoder: nn.Module,
        pooling: str = "cls",
        dropout: float = 0.1,
        output_dim: int | None = 512,
        sum_over_processes: Callable[[Tensor], Tensor] = lambda values: values,
        standardise: bool = True,
    ):
        super().__init__()
        _require_known("fmri.pooling", pooling, FMRI_POOLINGS)
        self.encoder, self.pooling = encoder, pooling
        if encoder.head is not None:
            encoder.head.requires_grad_(False)
        if not encoder.blocks:  # the attention blocks' norm and MLP have no part then, and DDP waits for every trained gradient
            encoder.norm.requires_grad_(False)
            encoder.mlp.requires_grad_(False)
        width = encoder.config.embed_dim
        self.output_dim = width if output_dim is None else output_dim
        self.standardise = BatchStandardisation(width, sum_over_processes) if standardise else nn.Identity()
        self.projector = nn.Identity() if output_dim is None else BrainMTProjector(width, output_dim, dropout)

    def features(self, bold_BTCDHW: Tensor) -> Tensor:
        """(B, T, C, D, H, W) → (B, embed_dim), before the standardisation."""
        if self.pooling == "cls":
            return self.encoder(bold_BTCDHW, tokens=False).cls
        return self.encoder(bold_BTCDHW).tokens.mean(1)

    def forward(self, bold_BTCDHW: Tensor) -> Tensor:
        """(B, T, C, D, H, W) → (B, E)."""
        return self.projector(self.standardise(self.features(bold_BTCDHW)))


class RegionStatistics(NamedTuple):
    """What a DNA tower learns from the training people before training; see `fit_region_statistics`."""

    kept: Tensor  # (R,) bool: regions that vary among the training people
    mean_RD: Tensor
    sd_RD: Tensor


def fit_region_statistics(chunks_BRHD: Iterable[Tensor], scale_RD: Tensor) -> RegionStatistics:
    """Mean and SD of every region's features over people, both haplotypes averaged.

    People are weighted alike, so that a common haplotype counts as often as it is carried. The SD is floored at numerical
    noise: float32 rounding of the embedding itself (`scale_RD`), which the subtraction of the reference leaves behind.

    Args:
        chunks_BRHD: region embeddings of the training people, some people at a time, the reference's embedding subtracted.
        scale_RD: the embedding that was subtracted.

    Returns:
        The statistics; a region is kept when some feature's SD exceeds its floor.
    """
    people, sum_RD, squares_RD = (
        0,
        torch.zeros(scale_RD.shape, dtype=torch.float64),
        torch.zeros(scale_RD.shape, dtype=torch.float64),
    )
    for chunk_BRHD in chunks_BRHD:
        person_BRD = chunk_BRHD.double().mean(2)
        people += len(person_BRD)
        sum_RD += person_BRD.sum(0)
        squares_RD += person_BRD.square().sum(0)
    mean_RD = sum_RD / people
    sd_RD = (squares_RD / people - mean_RD.square()).clamp_min(0).sqrt()
    noise_RD = NOISE_EPSILONS * torch.finfo(torch.float32).eps * scale_RD.double().abs().amax(1, keepdim=True).expand_as(sd_RD)
    kept_R = (sd_RD > noise_RD).any(1)
    return RegionStatistics(kept_R, mean_RD.float(), sd_RD.clamp_min(noise_RD.clamp_min(torch.finfo(torch.float32).tiny)).float())


def region_statistics_of(state: dict[str, Tensor], name: str) -> RegionStatistics:
    """The statistics that a saved model's tower of the named DNA encoder holds.

    Args:
        state: of an AlignmentModel or a PhenotypeModel.
        name: of the DNA encoder.

    Raises:
        ValueError: the state has no such tower.
    """
    keys = [f"dna.{name}.{buffer}" for buffer in ("kept", "mean", "sd")]
    if any(key not in state for key in keys):
        known = sorted({key.split(".")[1] for key in state if key.startswith("dna.")})
        raise ValueError(
            f"A tower of the DNA encoder {name} was expected in the checkpoint, got {', '.join(known) or 'none'}.\n"
            "  where: the checkpoint\n  fix: set dna.encoder to one that it has, or phenotype.inputs=fmri."
        )
    return RegionStatistics(*(state[key] for key in keys))


class DNATower(nn.Module):
    """Region embeddings → haplotypes averaged → standardised a region → regions pooled → projector.

    The average over the two haplotypes makes the tower blind to their order, as the order in a VCF means nothing across regions.

    Args:
        statistics: of the training people; dropped regions take no part.
        pooling: "concatenate" (each region keeps its own inputs) or "mean" over regions.
        dropout: the projector's.
        output_dim: E.

    `output_dim` is E.

    Raises:
        ValueError: an unknown pooling, or no region left.
    """

    def __init__(self, statistics: RegionStatistics, pooling: str = "concatenate", dropout: float = 0.1, output_dim: int = 512):
        super().__init__()
        _require_known("dna.region_pooling", pooling, REGION_POOLINGS)
        regions, width = statistics.mean_RD.shape
        kept = int(statistics.kept.sum())
        if kept == 0:
            raise ValueError(
                f"At least one region must vary among the training people, got none of {regions}.\n"
                "  where: the DNA store's features of the training split\n"
                "  fix: take regions with common variants, or more training people."
            )
        self.pooling, self.output_dim = pooling, output_dim
        self.register_buffer("kept", statistics.kept.clone())
        self.register_buffer("mean", statistics.mean_RD.clone())
        self.register_buffer("sd", statistics.sd_RD.clone())
        self.projector = BrainMTProjector(kept * width if pooling == "concatenate" else width, output_dim, dropout)

    def features(self, features_BRHD: Tensor) -> Tensor:
        """(B, R, H, D) → (B, kept · D) or (B, D): what the projector reads."""
        person_BRD = (features_BRHD.float().mean(2) - self.mean) / self.sd
        person_BRD = person_BRD[:, self.kept]
        return person_BRD.flatten(1) if self.pooling == "concatenate" else person_BRD.mean(1)

    def dropped(self, regions: list[str]) -> list[str]:
        """Names of the regions that take no part, from the names of all R."""
        return [region for region, kept in zip(regions, self.kept.tolist(), strict=True) if not kept]

    def describe_dropped(self, regions: list[str]) -> str | None:
        """One line on the regions that take no part, None where all do."""
        dropped = self.dropped(regions)
        of_all = f"{len(dropped)} of {len(regions)} regions"
        return f"{of_all} do not vary among the training people and are dropped: {', '.join(dropped)}" if dropped else None

    def forward(self, features_BRHD: Tensor) -> Tensor:
        """(B, R, H, D) → (B, E)."""
        return self.projector(self.features(features_BRHD))


class AlignmentModel(nn.Module):
    """One fMRI tower and one tower a DNA encoder, meeting in one space of unit-norm rows.

    Args:
        fmri: the brain's tower.
        dna: towers by the name of their DNA encoder.
        temperature: initial temperature of the logits; learned, the scale capped at 100.
        logit_bias: initial bias of the sigmoid loss; None for losses without one.

    Reference:
        Radford et al. 2021, section 2.4 (learned temperature, capped at 100); Zhai et al. 2023, section 3.2 (bias).
    """

    def __init__(self, fmri: FMRITower, dna: dict[str, DNATower], temperature: float = 0.07, logit_bias: float | None = None):
        super().__init__()
        self.fmri, self.dna = fmri, nn.ModuleDict(dna)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.initial_bias = logit_bias
        self.logit_bias = nn.Parameter(torch.tensor(float(logit_bias or 0.0)), requires_grad=logit_bias is not None)

    def embed_fmri(self, bold_BTCDHW: Tensor) -> Tensor:
        """(B, T, C, D, H, W) → (B, E) of unit norm, float32."""
        return F.normalize(self.fmri(bold_BTCDHW).float(), dim=-1)

    def embed_dna(self, name: str, features_BRHD: Tensor) -> Tensor:
        """(B, R, H, D) of the named encoder → (B, E) of unit norm, float32."""
        return F.normalize(self.dna[name](features_BRHD).float(), dim=-1)

    def forward(self, bold_BTCDHW: Tensor, dna: dict[str, Tensor]) -> Embeddings:
        """Both modalities of the same people; `dna` maps encoder names to (B, R, H, D)."""
        return Embeddings(
            self.embed_fmri(bold_BTCDHW),
            {name: self.embed_dna(name, features_BRHD) for name, features_BRHD in dna.items()},
            self.log_scale,
            self.logit_bias,
        )

    @torch.no_grad()
    def start_untrained_bias(self) -> None:
        """Start the bias anew after weights were loaded that a loss without a bias has trained: theirs is still exactly 0."""
        if self.initial_bias is not None and self.logit_bias == 0:
            self.logit_bias.fill_(self.initial_bias)

    @torch.no_grad()
    def cap_scale(self) -> None:
        """Bring the logit scale back to at most 100; to be called after every optimiser step."""
        self.log_scale.clamp_(max=MAX_LOG_SCALE)


def _require_known(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(
            f"{key} must be one of {', '.join(known)}, got {value!r}.\n  where: the towers\n  fix: set {key}={known[0]}."
        )
