"""Tower comparison: both towers' embeddings of people flow in; canonical correlations and CKA for metrics.json flow out."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from brainmt_align.evaluation.canonical import canonical_correlations
from brainmt_align.evaluation.similarity import linear_cka


def compare_towers(
    z_fmri_NE: np.ndarray,
    z_dna_NE: np.ndarray,
    covariates_NK: np.ndarray | None = None,
    families_N: Sequence[Hashable] | None = None,
    components: int = 10,
    permutations: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """What two towers say alike of the same people, beyond covariates.

    Args:
        z_fmri_NE: (N, E) of people whose pairs did not train the towers.
        z_dna_NE: (N, E), same people.
        covariates_NK: (N, K) taken out of both sides; None for none.
        families_N: (N,) family of each person; families move whole.
        components: principal components that each side keeps at most before the canonical correlations.
        permutations: of both tests.
        seed: of both tests.

    Returns:
        JSON-ready: canonical (correlations, largest first, p_fwer, components, rows, exact) and cka (value, p_value, rows,
        exact).

    Raises:
        ValueError: what `canonical_correlations` and `linear_cka` complain of.
    """
    drawn = {"nuisance_NZ": covariates_NK, "groups_N": families_N, "permutations": permutations, "seed": seed}
    canonical = canonical_correlations(z_fmri_NE, z_dna_NE, components=components, **drawn)
    similarity = linear_cka(z_fmri_NE, z_dna_NE, **drawn)
    return {
        "canonical": {
            "correlations": canonical.correlations_K.tolist(),
            "p_fwer": canonical.p_fwer_K.tolist(),
            "components": list(canonical.components),
            "rows": canonical.rows,
            "exact": canonical.exact,
        },
        "cka": {
            "value": similarity.cka,
            "p_value": similarity.p_value,
            "rows": similarity.rows,
            "exact": similarity.exact,
        },
    }
