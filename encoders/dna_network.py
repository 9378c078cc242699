"""The network of a DNA encoder: frozen weights flow in; adapters, other precisions and a fingerprint of it all flow out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from encoders.dna_identity import DTYPES, fingerprint, resolve_device_and_dtype
from encoders.published import refuse_misfits, state_faults


class FrozenNetwork:
    """Published weights on a device, frozen; what is trained of them is added beside them.

    Attributes:
        model: the network.
        device: where it lives.
        fingerprint: SHA-256 (hex) over weights, configuration, layer, precision, adapters and the revision of the network's code:
            equal fingerprints, equal vectors, up to the rounding of another device, batch or library. It follows `adapt` and
            `in_precision`.
        dtype: precision of the weights and the arithmetic.
    """

    lora_targets: tuple[str, ...] = ()  # ends of the names of the projections that `adapt` adapts
    float32_weights: tuple[str, ...] = ()  # ends of the names of weights that stay in float32 in every precision

    def __init__(self, model: nn.Module, fingerprint: str, device: torch.device) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = device
        self._fingerprint = fingerprint
        self._adapters: dict[str, nn.Parameter] = {}
        self._precision: str | None = None

    @property
    def fingerprint(self) -> str:
        if not self._adapters and self._precision is None:
            return self._fingerprint
        adapters = nn.ParameterDict({name.replace(".", "/"): weight for name, weight in self._adapters.items()})
        return fingerprint({"frozen": self._fingerprint, "precision": self._precision}, None, adapters)

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for name, p in self.model.named_parameters() if not self._stays_float32(name)), torch.float32)

    def adapt(
        self, rank: int = 8, alpha: float = 16, dropout: float = 0.0, weights: Mapping[str, Tensor] | None = None
    ) -> list[nn.Parameter]:
        """Put LoRA adapters on the network's projections, for those who do not want it frozen; they start as no change at all.

        From here on `embed` and `hidden_states` keep the graph where gradients are on, and `fingerprint` follows the adapters.
        The published weights stay frozen. `model.train()` turns the adapters' dropout on.

        Example:
            >>> from encoders import load_dna_encoder
            >>> encoder = load_dna_encoder("caduceus", device="cpu")
            >>> optimiser = torch.optim.AdamW(encoder.adapt(rank=4), lr=1e-3)
            >>> encoder.embed(["ACGTACGT"]).sum().backward()
            >>> optimiser.step()
            >>> trained = encoder.adapter_weights()     # to be kept, say with safetensors' save_file
            >>> again = load_dna_encoder("caduceus", device="cpu")
            >>> _ = again.adapt(rank=4, weights=trained)
            >>> again.fingerprint == encoder.fingerprint
            True

        Args:
            rank: of the adapters, 1 or more.
            alpha: their output is scaled by alpha / rank; above 0.
            dropout: share of their input that is left out in training, 0 to below 1.
            weights: of `adapter_weights`, to go on from; None starts anew.

        Returns:
            The adapters' parameters, for an optimiser.

        Raises:
            ValueError: the encoder has adapters already; a rank, alpha or dropout out of range; weights of other adapters.

        Reference:
            Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2022, equation 3.
        """
        from peft import LoraConfig, inject_adapter_in_model  # slow to import, and needed by those alone who adapt

        if self._adapters:
            raise ValueError("adapt expects an encoder without adapters; this one has them.\n  fix: load the encoder anew.")
        if not (type(rank) is int and rank >= 1 and alpha > 0 and 0 <= dropout < 1):
            raise ValueError(
                "adapt needs a whole rank of at least 1, an alpha above 0 and a dropout from 0 to below 1; got "
                f"rank={rank!r}, alpha={alpha!r}, dropout={dropout!r}.\n  fix: adapt(rank=8, alpha=16)."
            )
        settings = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(self.lora_targets))
        self.model = inject_adapter_in_model(settings, self.model)
        self._adapters = {name: weight for name, weight in self.model.named_parameters() if ".lora_" in name}
        for name, weight in self.model.named_parameters():
            weight.requires_grad_(name in self._adapters)
        if weights is not None:
            refuse_misfits(state_faults(weights, self._adapters), "the weights of the adapters")
            self.model.load_state_dict(dict(weights), strict=False)
        return list(self._adapters.values())

    def adapter_weights(self) -> dict[str, Tensor]:
        """The adapters' tensors by name, for `adapt` of another encoder with the same weights; empty without adapters."""
        return {name: weight.detach().clone() for name, weight in self._adapters.items()}

    @contextmanager
    def in_precision(self, dtype: str | torch.dtype) -> Iterator[None]:
        """Run the network in another precision for a while; its weights are then what they were, bit for bit.

        Args:
            dtype: "float32" or "bfloat16". Both sets of weights are in memory meanwhile.

        Raises:
            ValueError: another precision.
        """
        wanted = resolve_device_and_dtype(self.device, dtype)[1]
        own, before = {name: weight.data for name, weight in self.model.named_parameters()}, self._precision
        try:
            self._precision = str(wanted) if wanted != self.dtype else before
            for name, weight in self.model.named_parameters():
                if weight.dtype in DTYPES.values() and not self._stays_float32(name):
                    weight.data = weight.data.to(wanted)
            yield
        finally:
            for name, weight in self.model.named_parameters():
                weight.data = own[name]
            self._precision = before

    def _stays_float32(self, name: str) -> bool:
        return name.endswith(self.float32_weights)

    def _keeps_graph(self) -> bool:
        return bool(self._adapters) and torch.is_grad_enabled()
