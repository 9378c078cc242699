"""Configuration of all recipes: defaults, a YAML file and key=value words flow in, one checked dataclass flows out."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from brainmt_align.config_data import LARGEST_SEED, DataConfig, DNAConfig, StoresConfig
from brainmt_align.config_evaluation import AttributionConfig, EvaluationConfig, ExportConfig
from brainmt_align.config_phenotype import ComparisonConfig, FoldsConfig, PhenotypeTargetsConfig, PhenotypeTrainConfig
from brainmt_align.config_training import FMRIConfig, SplitConfig, TrainConfig
from brainmt_align.config_words import merge_words, settings_of_run
from brainmt_align.data.simulate import CohortParameters
from brainmt_align.data.splits import FAMILIES
from brainmt_align.data.stored_dna import DNAStore
from brainmt_align.limits import complain, require_choice, require_range
from brainmt_align.model.brain import OFFICIAL_ORIENTATION
from brainmt_align.training.run_folder import FIT_FOLDER

SIMULATED_ROOT = Path("runs/simulated_cohort")
SIMULATED_PHENOTYPES = {"phenotypes": True, "age": True, "sex": True, "family_size": 2}
SIMULATED_TARGETS = {"cognition": "regression", "diagnosis": "binary"}


@dataclass
class AlignmentConfig:
    """The loss that draws the two modalities together."""

    loss: str = "clip"  # clip | siglip
    temperature: float = 0.07  # initial
    label_smoothing: float = 0.0  # clip only
    embedding_dim: int = 512

    def __post_init__(self):
        require_choice("alignment.loss", self.loss, ("clip", "siglip"))
        require_range("alignment.temperature", self.temperature, 0.01, None, AlignmentConfig.temperature)
        require_range("alignment.label_smoothing", self.label_smoothing, 0, 0.99, AlignmentConfig.label_smoothing)
        require_range("alignment.embedding_dim", self.embedding_dim, 1, None)


@dataclass
class RecipeConfig:
    """Keys that all recipes share; those in UNUSED have no use in a recipe and are refused there rather than ignored."""

    UNUSED: ClassVar[tuple[str, ...]] = ("checkpoint", "tracker", "data.kinship")

    data: DataConfig = field(default_factory=DataConfig)
    stores: StoresConfig = field(default_factory=StoresConfig)
    simulation: CohortParameters = field(default_factory=CohortParameters)  # of the cohort that data.root=null stands for
    out: str = "runs/out"
    seed: int = 0
    threads: int | None = None  # None: usable cores ÷ processes on this machine
    checkpoint: str | None = None
    tracker: str | None = None  # wandb, tensorboard …; None: nothing leaves this machine

    def __post_init__(self):
        for key in self.UNUSED:
            group, _, name = key.rpartition(".")
            values = getattr(self, group) if group else self
            default, got = getattr(type(values), name), getattr(values, name)
            if got != default:
                complain(f"{key} has no use in {type(self).__name__} and must be left at {default}", got, f"{key}={default}")
        require_range("seed", self.seed, 0, LARGEST_SEED)
        if self.threads is not None:
            require_range("threads", self.threads, 1, None)


@dataclass
class SimulateCohortConfig(RecipeConfig):
    """recipes/simulate_cohort.py: writes `simulation` under `out`, which is then a `data.root`.

    With the default `out` the cohort lies where data.root=null and the same `simulation` look for it.
    """

    UNUSED: ClassVar[tuple[str, ...]] = ("seed", "checkpoint", "tracker", "data.kinship")  # its seed is simulation.seed

    out: str = str(SIMULATED_ROOT)


@dataclass
class PrepareFMRIConfig(RecipeConfig):
    """recipes/prepare_fmri.py"""

    UNUSED: ClassVar[tuple[str, ...]] = ("seed", "checkpoint", "tracker", "data.kinship")

    workers: int = 1  # processes that read scans at the same time; about 0.8 GB each for a 2 mm run of 490 frames
    out: str = "runs/prepare_fmri"

    def __post_init__(self):
        super().__post_init__()
        require_range("workers", self.workers, 1, None)


@dataclass
class EmbedDNAConfig(RecipeConfig):
    """recipes/embed_dna.py"""

    UNUSED: ClassVar[tuple[str, ...]] = (
        "seed",
        "checkpoint",
        "tracker",
        "data.kinship",
        "dna.region_pooling",
    )  # its seed is dna.seed

    dna: DNAConfig = field(default_factory=DNAConfig)
    out: str = "runs/embed_dna"


@dataclass
class _TrainingConfig(RecipeConfig):
    """What the recipes that train a brain's tower share."""

    fmri: FMRIConfig = field(default_factory=FMRIConfig)
    dna: DNAConfig = field(default_factory=DNAConfig)

    def __post_init__(self):
        super().__post_init__()
        if self.fmri.checkpoint and self.data.orientation != OFFICIAL_ORIENTATION:
            expected = f"Official BrainMT weights need scans in {OFFICIAL_ORIENTATION} orientation, as others would be mirrored"
            complain(expected, f"data.orientation={self.data.orientation}", f"data.orientation={OFFICIAL_ORIENTATION}")

    def describe_input(
        self, volume_shape: tuple[int, int, int] | None, stores: dict[str, DNAStore], inputs: str = "both"
    ) -> dict[str, Any]:
        """What a model of these inputs (fmri | dna | both) must be fed, as its checkpoint records it.

        Args:
            volume_shape: (D, H, W) of the scans; of no use to a model of genomes alone.
            stores: by the name of the DNA encoder; of no use to a model of scans alone.
            inputs: what the model reads.
        """
        scans = {"volume_shape": volume_shape, "orientation": self.data.orientation, "normalisation": self.data.normalisation}
        dna = {name: store.description for name, store in stores.items()}
        described = {} if inputs == "dna" else {**scans, "fmri_pooling": self.fmri.pooling}
        return described | ({} if inputs == "fmri" else {"region_pooling": self.dna.region_pooling, "dna": dna})


@dataclass
class ContrastiveConfig(_TrainingConfig):
    """recipes/contrastive.py"""

    UNUSED: ClassVar[tuple[str, ...]] = ("dna.audit_regions",)  # stores that it fills are not audited

    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    out: str = "runs/contrastive"

    def __post_init__(self):
        super().__post_init__()
        _refuse_families_as_strata(self.evaluation, self.split.family_columns())


@dataclass
class PhenotypeConfig(_TrainingConfig):
    """recipes/phenotype.py: its simulated cohort has families, confounds, and phenotypes of known make-up."""

    UNUSED: ClassVar[tuple[str, ...]] = ("dna.audit_regions",)

    simulation: CohortParameters = field(default_factory=lambda: CohortParameters(**SIMULATED_PHENOTYPES))
    phenotype: PhenotypeTargetsConfig = field(default_factory=PhenotypeTargetsConfig)
    split: FoldsConfig = field(default_factory=FoldsConfig)
    train: PhenotypeTrainConfig = field(default_factory=PhenotypeTrainConfig)
    evaluation: ComparisonConfig = field(default_factory=ComparisonConfig)
    out: str = "runs/phenotype"

    def __post_init__(self):
        super().__post_init__()
        if self.phenotype.official_head and (not self.fmri.checkpoint or self.phenotype.reads() != "published"):
            complain(
                "phenotype.official_head needs fmri.checkpoint and the published readout",
                f"fmri.checkpoint={self.fmri.checkpoint}, phenotype.readout={self.phenotype.reads()}",
                "phenotype.official_head=false",
            )
        if self.checkpoint and self.split.folds is not None:
            expected = "Folds test everyone, also whom the checkpoint was trained on; it goes with its own split"
            complain(expected, f"split.folds={self.split.folds}", "split.folds=null split.file=RUN/split.json")
        if self.checkpoint and self.fmri.checkpoint:
            complain("A run starts from one checkpoint", f"fmri.checkpoint={self.fmri.checkpoint}", "checkpoint=null")


@dataclass
class EvaluateConfig(RecipeConfig):
    """recipes/evaluate.py: what a checkpoint makes of people; how it reads them is written in the checkpoint.

    Without `data.root` the people are those of the checkpoint's own run: `data`, `stores`, `simulation`, `dna`, `evaluation` and
    the columns of families come from the config.yaml beside it. With another `data.root` only `dna` does.
    """

    UNUSED: ClassVar[tuple[str, ...]] = (
        "tracker",
        "data.orientation",
        "data.normalisation",
        "dna.audit_regions",
        "dna.region_pooling",
    )

    simulation: CohortParameters = field(default_factory=lambda: CohortParameters(**SIMULATED_PHENOTYPES))
    checkpoint: str | None = "runs/phenotype/fmri_seed0_fold0/best.safetensors"  # of the default run of recipes/phenotype.py

    dna: DNAConfig = field(default_factory=DNAConfig)  # of a checkpoint that reads genomes: where its encoder lies
    windows_at_once: int = 8  # in one forward pass
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)  # of a phenotype model: resamples alone
    attribution: AttributionConfig = field(default_factory=AttributionConfig)  # of an alignment
    export: ExportConfig = field(default_factory=ExportConfig)  # of an alignment
    groups: str | None = None  # participants' column of families: drawn together, and as seen as any of their members
    relatives: tuple[str, ...] = ()  # further columns whose equal values make relatives
    out: str = "runs/evaluate"

    def __post_init__(self):
        super().__post_init__()
        require_range("windows_at_once", self.windows_at_once, 1, None)
        _refuse_families_as_strata(self.evaluation, [self.groups, *self.relatives])
        if self.checkpoint is None:
            complain("A checkpoint to evaluate was expected", None, "checkpoint=RUN/best.safetensors")


def _refuse_families_as_strata(evaluation: EvaluationConfig, columns: list[str | None]) -> None:
    """Families have a test of their own, and the names of strata go into reports."""
    if both := sorted(set(evaluation.strata) & set(columns)):
        complain(
            "Columns of families are no strata: what survives within families is told anyway", both[0], "evaluation.strata=[]"
        )


Config = TypeVar("Config", bound=RecipeConfig)


def load_config(schema: type[Config], argv: list[str]) -> Config:
    """Defaults ← YAML ← command line, checked before any work.

    Args:
        schema: the recipe's dataclass.
        argv: words `config=FILE` and `key=value` (dotted keys), without the program's name.

    Returns:
        An instance of `schema` with the store folders, and for data.root=null the simulated cohort's place, filled in.

    Raises:
        ValueError: a word that is no key=value, an unknown key, a value of the wrong kind or out of range.
        FileNotFoundError: the YAML file does not exist.
    """
    merged = merge_words(schema, argv)
    if issubclass(schema, EvaluateConfig) and merged.checkpoint is not None:
        run = Path(merged.checkpoint).parent
        run = run.parent if FIT_FOLDER.fullmatch(run.name) else run
        merged = merge_words(schema, argv, settings_of_run(schema, run / "config.yaml", same_people=merged.data.root is None))
    try:
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ValueError(
            f"Values that can be resolved were expected, got: {str(error).splitlines()[0]}\n"
            "  where: the configuration\n  fix: write the value out."
        ) from error
    config = _fill_in_places(config)
    _require_places_apart(config)
    return config


def _require_places_apart(config: RecipeConfig) -> None:
    """A run folder is for one run alone: what several runs share may not lie in it."""
    if isinstance(config, SimulateCohortConfig):
        return
    shared = {f"stores.{key}": place for key, place in dataclasses.asdict(config.stores).items()}
    shared |= {"data.root": config.data.root} if config.data.simulate else {}
    for key, place in shared.items():
        if place is not None and Path(place).resolve().is_relative_to(Path(config.out).resolve()):
            complain(
                f"{key} must lie outside of the run folder out={config.out}", place, "out or the store to a folder of its own"
            )


def to_yaml(config: RecipeConfig) -> str:
    """The resolved configuration as YAML; `config=` reads it back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def default_yaml(schema: type[RecipeConfig]) -> str:
    """What a recipe runs with when it is told nothing, as YAML; the report lists what differs from it."""
    return to_yaml(_fill_in_places(OmegaConf.to_object(OmegaConf.structured(schema))))


def _simulated_root(parameters: CohortParameters) -> Path:
    """A folder of its own for every set of parameters."""
    if parameters == CohortParameters():
        return SIMULATED_ROOT
    text = json.dumps(dataclasses.asdict(parameters), sort_keys=True)
    return SIMULATED_ROOT.with_name(f"{SIMULATED_ROOT.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")


def _fill_in_places(config: Config) -> Config:
    usual = type(config)().simulation
    if config.data.root is not None and not config.data.simulate and config.simulation not in (usual, CohortParameters()):
        complain("simulation.* describes the cohort of data.root=null alone", config.data.root, "data.root=null")
    if config.data.root is None:
        root = str(_simulated_root(config.simulation))
        config.data.root, config.data.truth, config.data.simulate = root, "truth.json", True
    if isinstance(config, SimulateCohortConfig) and config.out == SimulateCohortConfig.out:
        config.out = str(_simulated_root(config.simulation))
    if isinstance(config, _TrainingConfig) and config.data.simulate and config.simulation.family_size > 1:
        config.split.groups = config.split.groups or FAMILIES
    if isinstance(config, EvaluateConfig) and config.data.simulate and config.simulation.family_size > 1:
        config.groups = config.groups or FAMILIES
    if isinstance(config, PhenotypeConfig) and config.data.simulate and config.simulation.phenotypes:
        _fill_in_targets(config)
    if isinstance(config, ContrastiveConfig) and config.data.simulate:
        config.evaluation.strata = config.evaluation.strata or _simulated_strata(config.simulation)
    root = Path(config.data.root).resolve()
    stores = Path("runs/stores") / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
    config.stores.bold = config.stores.bold or str(stores / "bold")
    config.stores.dna = config.stores.dna or str(stores / "dna")
    config.stores.alleles = config.stores.alleles or str(Path(config.stores.dna).with_name("alleles"))
    return config


def _simulated_strata(simulation: CohortParameters) -> tuple[str, ...]:
    """Columns of whatever confounds was simulated, where none were named."""
    there = {"population": simulation.populations > 1, "site": simulation.sites > 1, "sex": simulation.sex, "age": simulation.age}
    return tuple(column for column, simulated in there.items() if simulated)


def _fill_in_targets(config: PhenotypeConfig) -> None:
    """The simulated phenotypes and confounds, where none were named."""
    if not config.phenotype.targets:
        config.phenotype.targets = dict(SIMULATED_TARGETS)
        config.phenotype.classes = {"diagnosis": ["control", "case"], **config.phenotype.classes}
        confounds = [name for name in ("age", "sex") if getattr(config.simulation, name)]
        config.phenotype.residualise = config.phenotype.residualise or tuple(confounds)
