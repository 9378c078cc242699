"""Projectors: encoder features (B, D) flow in, rows of the shared space (B, E) flow out."""

from torch import Tensor, nn

HIDDEN_DIM = 1024


class BrainMTProjector(nn.Module):
    """The head that carries one modality's features into the shared space.

    `layers` = Linear(input_dim, 1024), GELU, Dropout, Linear(1024, output_dim), LayerNorm(output_dim). The output is not yet
    of unit norm: `AlignmentModel` normalises, so that a head can also feed a regression.

    Args:
        input_dim: width D of the features.
        output_dim: width E of the shared space.
        dropout: probability in [0, 1) after the non-linearity.
    """

    def __init__(self, input_dim: int = 512, output_dim: int = 512, dropout: float = 0.1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(input_dim, HIDDEN_DIM),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN_DIM, output_dim),
            nn.LayerNorm(output_dim),
        )

    def forward(self, features_BD: Tensor) -> Tensor:
        """(B, input_dim) → (B, output_dim)."""
        return self.layers(features_BD)
