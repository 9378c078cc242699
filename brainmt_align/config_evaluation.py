"""Configuration of an alignment's evaluation: its words flow in, checked dataclasses flow out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from brainmt_align.evaluation.confounds import EvaluationSettings
from brainmt_align.limits import complain, require_range


@dataclass
class EvaluationConfig:
    """How the test people are scored, and which covariates must not explain the score."""

    permutations: int = 10_000
    resamples: int = 2000  # of the bootstrap over families
    strata: tuple[str, ...] = ()  # participants' columns within which people are compared, the most important first
    bands: dict[str, float] = field(default_factory=dict)  # column of numbers: width of its bands; without one: quarters
    min_stratum: int = 10  # people; smaller strata are merged by forgetting the last columns
    covariates: tuple[str, ...] | None = None  # of the model that sees covariates only and of the pools; None: those of strata
    categories: tuple[str, ...] = ()  # covariates that are categories though they hold numbers
    pool_size: int = 20  # people most alike by covariates among whom each query looks for its partner

    def __post_init__(self):
        require_range("evaluation.permutations", self.permutations, 1, None)
        require_range("evaluation.resamples", self.resamples, 100, None)
        require_range("evaluation.min_stratum", self.min_stratum, 2, None)
        require_range("evaluation.pool_size", self.pool_size, 2, None)
        for column, width in self.bands.items():
            require_range(f"evaluation.bands.{column}", width, 1e-12, None, f"evaluation.bands.{column}=10")
            if column not in self.strata:
                complain("evaluation.bands widens columns of evaluation.strata", column, f"evaluation.strata=[{column}]")

    def regressors(self) -> tuple[str, ...]:
        """Columns that the covariates-only model sees."""
        return self.strata if self.covariates is None else self.covariates

    def settings(self, families: Sequence[str], seed: int, shares: np.ndarray | None = None) -> EvaluationSettings:
        """What `evaluate_alignment` is called with for people of these families, who share that much with their relatives."""
        named = {key: getattr(self, key) for key in ("strata", "bands", "min_stratum", "categories", "pool_size")}
        drawn = {"permutations": self.permutations, "resamples": self.resamples, "seed": seed}
        return EvaluationSettings(groups_N=families, covariates=self.regressors(), shared_N=shares, **named, **drawn)


@dataclass
class AttributionConfig:
    """What of the genome and of the brain makes an alignment; the rivals that read connectivity and dosages."""

    draws: int = 20  # of other people's haplotypes, a region; 0: regions are not looked at
    permutations: int = 1000  # of regions' sign flips, canonical correlations and CKA
    people: int = 8  # of as many families, whose voxels are looked at; 0: nobody's
    steps: int = 32  # of the integral along which a window fades in
    max_steps: int = 128  # to which they are doubled while the parts do not add up
    connectivity_regions: int = 100  # of the grid whose connectivity CCA and its rivals see
    components: int = 10  # at most, of either side, of CCA

    def __post_init__(self):
        for key in ("draws", "people"):
            require_range(f"attribution.{key}", getattr(self, key), 0, None)
        require_range("attribution.permutations", self.permutations, 1, None)
        if self.people == 1:
            complain("attribution.people is 0 or 2 and more: a map of one person is no group's", 1, "attribution.people=8")
        require_range("attribution.steps", self.steps, 2, None)
        require_range("attribution.max_steps", self.max_steps, self.steps, None, f"attribution.max_steps={self.steps}")
        require_range("attribution.connectivity_regions", self.connectivity_regions, 2, None)
        require_range("attribution.components", self.components, 1, None)


@dataclass
class ExportConfig:
    """The phenotype files for PLINK 2 and REGENIE."""

    components: int | None = 20  # leading principal components of the embeddings; null: all of their dimensions
    family_ids: str | None = None  # participants' column of FID, sample_id for FID = IID; null: 0, as of genotypes in a VCF
    inverse_normal: bool = False  # ranks brought to a normal distribution

    def __post_init__(self):
        if self.components is not None:
            require_range("export.components", self.components, 1, None)
