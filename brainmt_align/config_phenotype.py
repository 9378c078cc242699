"""Configuration of the phenotype recipe: values of its own sections flow in, checked dataclasses flow out."""

from dataclasses import dataclass, field
from typing import Any

from brainmt_align.config_training import SplitConfig, TrainConfig
from brainmt_align.data.covariates import MISSING_RULES
from brainmt_align.data.targets import TASKS
from brainmt_align.limits import complain, require_choice, require_range

INPUTS = ("fmri", "dna", "both")
READOUTS = ("published", "standardised", "projected")
BASELINES = ("connectivity", "covariates", "mean", "permuted")


@dataclass
class PhenotypeTargetsConfig:
    """What is predicted, from what, by which head."""

    targets: dict[str, str] = field(default_factory=dict)  # column: regression | binary | multiclass | ordinal
    classes: dict[str, Any] = field(default_factory=dict)  # column: labels in order; needed for an ordinal target of words
    inputs: str = "fmri"  # fmri | dna | both; both also trains each alone on the same folds
    readout: str | None = (
        None  # published | standardised | projected; None: projected for dna, both and alignments, else standardised
    )
    residualise: tuple[str, ...] = ()  # covariates that regressions, and their linear models' features, are freed of in the fold
    missing_covariates: str = "error"  # error | mean
    categories: tuple[str, ...] = ()  # covariates that are categories though they hold numbers, such as a site's code
    regression_loss: str = "mse"  # mse | huber
    balanced: bool = False  # classes weigh alike in the loss; their probabilities then speak of equal shares, not of the cohort
    adapt: str = "full"  # full | lora | probe: what of the towers is trained
    lora_rank: int = 8
    projected_dim: int = 512  # of the projected readout; an alignment's towers have their own
    head_dropout: float = 0.0
    official_head: bool = False  # start from the head of fmri.checkpoint as well

    def __post_init__(self):
        for name, task in self.targets.items():
            require_choice(f"phenotype.targets.{name}", task, TASKS)
        for name, labels in self.classes.items():
            if isinstance(labels, (list, tuple)) and any(isinstance(label, bool) for label in labels):
                quoted = ",".join(f'"{label}"' for label in ("no", "yes"))
                expected = f"phenotype.classes.{name} must hold text; YAML reads yes, no, on and off as true and false"
                complain(expected, labels, f"'phenotype.classes.{name}=[{quoted}]', in quotes")
            if not isinstance(labels, (list, tuple)):
                complain(f"phenotype.classes.{name} must be a list", labels, f"'phenotype.classes.{name}=[lowest,…,highest]'")
        require_choice("phenotype.inputs", self.inputs, INPUTS)
        require_choice("phenotype.readout", self.readout, (None, *READOUTS))
        if self.inputs != "fmri" and self.readout not in (None, "projected"):
            complain(f"phenotype.inputs={self.inputs} needs the projected readout", self.readout, "phenotype.readout=null")
        require_choice("phenotype.missing_covariates", self.missing_covariates, MISSING_RULES)
        require_choice("phenotype.regression_loss", self.regression_loss, ("mse", "huber"))
        require_choice("phenotype.adapt", self.adapt, ("full", "lora", "probe"))
        require_range("phenotype.lora_rank", self.lora_rank, 1, None)
        require_range("phenotype.projected_dim", self.projected_dim, 1, None)
        require_range("phenotype.head_dropout", self.head_dropout, 0, 0.99, PhenotypeTargetsConfig.head_dropout)

    def reads(self, aligned: bool = False) -> str:
        """The readout in force; `aligned`: the towers come from an alignment."""
        return self.readout or ("projected" if aligned or self.inputs != "fmri" else "standardised")

    def adaptation_of(self, arm: str) -> str:
        """What of the towers is trained; LoRA is the brain's, so that beside it a model of genomes alone is trained in full."""
        return "full" if arm == "dna" and self.adapt == "lora" else self.adapt

    def coding_words(self) -> dict[str, Any]:
        """How the training people code the targets, in the words of `fit_targets`."""
        keys = ("residualise", "balanced", "missing_covariates", "categories")
        return {key: getattr(self, key) for key in keys}

    def arms(self) -> tuple[str, ...]:
        """The inputs that a model each is trained on, the reference first."""
        return ("both", "fmri", "dna") if self.inputs == "both" else (self.inputs,)


@dataclass
class FoldsConfig(SplitConfig):
    """Who trains, chooses and tests; K folds, several seeds."""

    parts: tuple[float, float, float] = (5, 1, 3)  # train : validation : test; of folds, train : validation of the others
    folds: int | None = None  # everyone is tested once; None: one train/validation/test split
    repeats: int = 1  # seeds: the seed of the dealing, and the next ones
    sites: str | None = None  # participants' column that is kept whole too, so that sites are predicted unseen

    def __post_init__(self):
        super().__post_init__()
        require_range("split.repeats", self.repeats, 1, None)
        if self.folds is not None:
            require_range("split.folds", self.folds, 2, None, "null")
        if self.file is not None and (self.folds is not None or self.repeats > 1):
            complain("split.file holds one split, without folds and repeats", self.file, "split.folds=null split.repeats=1")


@dataclass
class PhenotypeTrainConfig(TrainConfig):
    """The supervised loop; recipes/configs/phenotype_published.yaml holds the published settings."""

    epochs: int = 30
    batch_size: int = 16
    layer_decay: float = 1.0  # learning rate of a layer, as a share of the next one's
    cycles: int = 1  # cosine descents, each with its warm-up
    cycle_decay: float = 1.0  # peak of a cycle, as a share of the one before
    accumulate: int = 1  # batches an optimiser step
    patience: int | None = None  # epochs without a better validation loss that end the training; None: never

    def __post_init__(self):
        super().__post_init__()
        require_range("train.layer_decay", self.layer_decay, 1e-6, 1, PhenotypeTrainConfig.layer_decay)
        require_range("train.cycle_decay", self.cycle_decay, 1e-6, 1, PhenotypeTrainConfig.cycle_decay)
        require_range("train.cycles", self.cycles, 1, None)
        require_range("train.accumulate", self.accumulate, 1, None)
        if self.patience is not None:
            require_range("train.patience", self.patience, 1, None, "null")


@dataclass
class ComparisonConfig:
    """What the model is held against, on the same folds."""

    baselines: tuple[str, ...] = BASELINES  # connectivity | covariates | mean | permuted
    regions: int = 100  # of the data-driven grid, for connectivity
    covariates: tuple[str, ...] | None = None  # of the rivals that see covariates; None: those of phenotype.residualise
    atlas: str | None = None  # NIfTI of integer labels, relative to data.root, in place of the grid
    resamples: int = 2000  # of the bootstrap over families

    def __post_init__(self):
        for name in self.baselines:
            require_choice("evaluation.baselines", name, BASELINES)
        require_range("evaluation.regions", self.regions, 2, None)
        require_range("evaluation.resamples", self.resamples, 100, None)
