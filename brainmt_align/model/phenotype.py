"""PhenotypeModel: BOLD windows and region embeddings flow in, the logits of all phenotypes flow out."""

import re
from collections.abc import Callable, Sequence

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from brainmt_align.limits import require_choice, require_range
from brainmt_align.listing import list_faults
from brainmt_align.model.alignment import BatchStandardisation, DNATower, FMRITower
from brainmt_align.model.heads import PhenotypeHead, TargetSpec, require_targets
from encoders.brainmt import LORA_TARGETS
from encoders.published import state_faults

READOUTS = ("standardised", "projected", "published")
ADAPTATIONS = ("full", "probe", "lora")


def build_fmri_tower(
    encoder: nn.Module,
    readout: str = "standardised",
    pooling: str = "cls",
    dropout: float = 0.1,
    output_dim: int = 512,
    sum_over_processes: Callable[[Tensor], Tensor] = lambda values: values,
) -> FMRITower:
    """The fMRI tower of one way to read phenotypes from BrainMT.

    Args:
        encoder: a BrainMT.
        readout: "published": the pooled features as they are, for what the published model computes (with pooling "cls");
            "standardised": the same features standardised over the gathered batch, without which a CLS token with a large
            constant part hardly trains; "projected": the whole tower of the AlignmentModel, projector included.
        pooling: see FMRITower.
        dropout: the projector's.
        output_dim: width of the projector's output.
        sum_over_processes: see BatchStandardisation.

    Raises:
        ValueError: an unknown readout or pooling.
    """
    require_choice("model.readout", readout, READOUTS)
    width = output_dim if readout == "projected" else None
    return FMRITower(encoder, pooling, dropout, width, sum_over_processes, standardise=readout != "published")


class PhenotypeModel(nn.Module):
    """Towers → their outputs side by side (fMRI first, then DNA as given) → one head with the logits of all targets.

    The towers carry the names of the AlignmentModel's. What a projector hands to the head is not normalised. A model starts with
    all of it trained; see `adapt`. A classification head of the encoder takes no part: it is set aside, outside the state dict,
    until `take_official_head` asks for it.

    Args:
        targets: what is predicted.
        fmri: the brain's tower, see `build_fmri_tower`; None: DNA alone.
        dna: towers by the name of their DNA encoder; empty: fMRI alone.
        dropout: of the features, before the head.

    Raises:
        ValueError: no tower, or targets that no head can be built for.
    """

    def __init__(self, targets: Sequence[TargetSpec], fmri: FMRITower | None, dna: dict[str, DNATower], dropout: float = 0.0):
        super().__init__()
        require_targets(targets)
        if fmri is None and not dna:
            raise ValueError(
                "A phenotype model needs a tower to read from, got neither fMRI nor DNA.\n  where: the towers\n"
                "  fix: set inputs=fmri, dna or both."
            )
        self.targets, self.adaptation = tuple(targets), "full"
        self.fmri, self.dna = fmri, nn.ModuleDict(dna)
        self._learns_statistics = True
        self._official_head: list[nn.Linear] = []  # a list, so that the head is no part of this module
        if fmri is not None and fmri.encoder.head is not None:
            self._official_head, fmri.encoder.head = [fmri.encoder.head], None
        width = sum(tower.output_dim for tower in self._towers())
        self.head = PhenotypeHead(width, sum(target.outputs for target in targets), dropout)

    def _towers(self) -> list[nn.Module]:
        return [*([] if self.fmri is None else [self.fmri]), *self.dna.values()]

    def features(self, bold_BTCDHW: Tensor | None, dna: dict[str, Tensor]) -> Tensor:
        """What the head reads: (B, widths of all towers). Arguments and errors as for `forward`."""
        lacking = ["bold"] if self.fmri is not None and bold_BTCDHW is None else []
        lacking += [name for name in self.dna if name not in dna]
        if lacking:
            raise ValueError(
                f"The inputs of all towers were expected, got none for {', '.join(lacking)}.\n  where: the phenotype model\n"
                "  fix: feed them, or build the model without these towers."
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.adaptation != "probe"):
            parts = [] if self.fmri is None else [self.fmri(bold_BTCDHW)]
            return torch.cat([*parts, *(tower(dna[name]) for name, tower in self.dna.items())], 1)

    def forward(self, bold_BTCDHW: Tensor | None, dna: dict[str, Tensor]) -> Tensor:
        """(B, T, C, D, H, W), or None without an fMRI tower, and (B, R, H, D) a DNA tower → logits (B, outputs), float32.

        The head computes in its weights' precision, whatever autocast says: bfloat16 predictions would tie.

        Raises:
            ValueError: the input of a tower is missing.
        """
        features_BD = self.features(bold_BTCDHW, dna)
        with torch.autocast(features_BD.device.type, enabled=False):
            return self.head(features_BD.to(self.head.weight.dtype)).float()

    def train(self, mode: bool = True) -> "PhenotypeModel":
        """As nn.Module.train; the frozen towers of a probe stay in evaluation mode."""
        super().train(mode)
        if self.adaptation == "probe":
            for tower in self._towers():
                tower.eval()
            if self._learns_statistics and self._standardiser() is not None:
                self._standardiser().train(mode)
        return self

    def _standardiser(self) -> BatchStandardisation | None:
        standardise = None if self.fmri is None else self.fmri.standardise
        return standardise if isinstance(standardise, BatchStandardisation) else None

    def _reads_as_published(self) -> bool:
        untouched = isinstance(self.fmri.standardise, nn.Identity) and isinstance(self.fmri.projector, nn.Identity)
        return untouched and self.fmri.pooling == "cls"

    @torch.no_grad()
    def take_official_head(self) -> None:
        """Start the head from the classification head that came with the encoder's official weights.

        Raises:
            ValueError: the encoder brought none, the head reads something else than its pooled features as they are, or the
                targets have another number of outputs.
        """
        fault = None
        if not self._official_head:
            fault = "an encoder without one"
        elif self.dna or not self._reads_as_published():
            fault = "other features than the encoder's own"
        elif self._official_head[0].weight.shape != self.head.weight.shape:
            fault = f"{self._official_head[0].out_features} official outputs for targets with {self.head.out_features}"
        if fault:
            raise ValueError(
                f"The official head serves an encoder that brings one for all targets and is read as published, got {fault}.\n"
                "  where: the official weights and the targets\n  fix: start with a new head, or take the published readout, "
                "inputs=fmri and a target of the official task."
            )
        self.head.load_state_dict(self._official_head[0].state_dict())

    @torch.no_grad()
    def load_alignment(self, state: dict[str, Tensor]) -> None:
        """Fill the towers from an AlignmentModel's state dict; what this model lacks (projector, standardiser, towers) is left.

        Args:
            state: "fmri.…" and "dna.<name>.…".

        Raises:
            ValueError: parts that are missing or of another shape, in one list; or the model has been adapted already.
        """
        self._require_unadapted("load_alignment")
        wanted = {name: value for name, value in self.state_dict().items() if name.startswith(("fmri.", "dna."))}
        taken = {name: value for name, value in state.items() if name in wanted}
        if faults := state_faults(taken, wanted):
            raise ValueError(
                f"The alignment checkpoint must have the towers of this model, got {len(faults)} differences:\n"
                f"{list_faults(faults)}  where: the towers\n"
                "  fix: take data.*, fmri.*, dna.* and window from the config.yaml beside the checkpoint."
            )
        self.load_state_dict(taken, strict=False)

    def adapt(self, kind: str, rank: int = 8) -> None:
        """Choose what is trained, once, after the weights to start from were loaded and before the optimiser is built.

        "full": everything that takes part.
        "probe": the head alone. The towers run without gradient and in evaluation mode (no dropout, no drop path), whatever
            `train` says. A standardiser with statistics keeps them; one without (a new model, official weights) would pass raw
            features on, so that it alone follows `train`: it standardises over the batch and learns its running statistics.
        "lora": low-rank additions to the encoder's projections, of scale 1 at every rank; the rest of the encoder is frozen;
            standardiser, projectors, DNA towers and head are trained. The adapted layers' keys change ("base_layer", "lora_A",
            "lora_B"): a state dict of this model loads into one built and adapted alike.

        Args:
            kind: one of ADAPTATIONS.
            rank: of the low-rank additions, at least 1.

        Raises:
            ValueError: an unknown kind, a rank below 1, LoRA without an fMRI tower, or a model that has been adapted already.

        Reference:
            Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language Models, section 4.1.
        """
        require_choice("adaptation", kind, ADAPTATIONS)
        self._require_unadapted("adapt")
        if kind == "probe":
            for tower in self._towers():
                tower.requires_grad_(False)
            standardiser = self._standardiser()
            self._learns_statistics = standardiser is not None and int(standardiser.num_batches) == 0
        elif kind == "lora":
            require_range("lora_rank", rank, 1, None)
            if self.fmri is None:
                raise ValueError(
                    "LoRA adapts the brain's encoder, got a model without one.\n  where: the towers\n"
                    "  fix: set adaptation=full, or inputs=fmri or both."
                )
            settings = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LORA_TARGETS))
            inject_adapter_in_model(settings, self.fmri.encoder)  # in place: no wrapper; freezes the rest of the encoder
        self.adaptation = kind
        self.train(self.training)

    def _require_unadapted(self, what: str) -> None:
        if self.adaptation != "full":
            raise ValueError(
                f"{what} was expected on a model as it was built, got one adapted by {self.adaptation!r}.\n"
                "  where: the phenotype model\n  fix: load weights first, then adapt once."
            )


def parameter_depths(model: nn.Module) -> dict[str, int]:
    """How deep every parameter lies, for a learning rate that falls towards the input.

    Depth 0 is the stem with the position and CLS embeddings; then one more a Mamba layer and an attention block; the largest,
    sum(depth) + 1, is all behind or beside them: the norms and the MLP that the stages share, standardiser, projectors, head, DNA
    towers. Adapters lie where the layers lie that they adapt.

    Args:
        model: a PhenotypeModel, also one wrapped for several processes.

    Returns:
        Depths by the parameters' names, a leading "module." left out.

    Reference:
        Bao et al. 2022, BEiT (layer-wise decay of the learning rate).
    """
    tower = next((module for module in model.modules() if isinstance(module, FMRITower)), None)
    mamba, attention = (0, 0) if tower is None else tower.encoder.config.depth
    stem = re.compile(r"fmri\.encoder\.(cls_token|pos_embed|temporal_pos_embedding|patch_embed|conv_block\d|downsample\d)\b")
    layer = re.compile(r"fmri\.encoder\.(layers|blocks)\.(\d+)\.")
    depths = {}
    for name, _ in model.named_parameters():
        name = name.removeprefix("module.")
        if stem.match(name):
            depths[name] = 0
        elif found := layer.match(name):
            depths[name] = int(found[2]) + 1 + (mamba if found[1] == "blocks" else 0)
        else:
            depths[name] = mamba + attention + 1
    return depths
