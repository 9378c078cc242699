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
from brainmt_align.config_words import merge_words
from brainmt_align.data.simulate import CohortParameters
from brainmt_align.data.splits import FAMILIES
from brainmt_align.limits import complain, require_choice, require_range
from brainmt_align.model.brain import OFFICIAL_ORIENTATION

SIMULATED_ROOT = Path("runs/simulated_cohort")


@dataclass
class FMRIConfig:
    """The brain's tower. The encoder's defaults fit the simulated cohort's small volumes."""

    checkpoint: str | None = None  # official BrainMT weights; the widths and depths below then come from them
    trained_volume_shape: tuple[int, int, int] | None = (
        None  # (D, H, W) of those weights' scans, asked for where it cannot be told
    )
    pooling: str = "cls"  # cls | mean
    embed_dim: int = 48
    stem_channels: tuple[int, int] = (6, 12)
    depth: tuple[int, int] = (1, 1)
    num_heads: int = 2
    d_state: int = 4
    d_conv: int = 4
    expand: int = 2
    bidirectional: bool = True
    drop_path_rate: float = 0.0
    init_std: float = 0.1
    activation_checkpointing: bool = False

    def __post_init__(self):
        require_choice("fmri.pooling", self.pooling, ("cls", "mean"))
        for key in ("embed_dim", "num_heads", "d_state", "d_conv", "expand"):
            require_range(f"fmri.{key}", getattr(self, key), 1, None)
        require_range("fmri.stem_channels", min(self.stem_channels), 1, None, FMRIConfig.stem_channels)
        require_range("fmri.depth", self.depth[0], 1, None, FMRIConfig.depth)
        require_range("fmri.depth", self.depth[1], 0, None, FMRIConfig.depth)
        if self.embed_dim % self.num_heads:
            complain(f"fmri.embed_dim must be a multiple of fmri.num_heads={self.num_heads}", self.embed_dim, "fmri.num_heads=1")
        require_range("fmri.drop_path_rate", self.drop_path_rate, 0, 0.99, FMRIConfig.drop_path_rate)
        require_range("fmri.init_std", self.init_std, 1e-6, None, FMRIConfig.init_std)

    def encoder_settings(self) -> dict[str, Any]:
        """The keys that are fields of BrainMTConfig."""
        others = ("checkpoint", "trained_volume_shape", "pooling")
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in others}


@dataclass
class SplitConfig:
    """Who trains, who chooses the checkpoint, who is scored once at the end."""

    file: str | None = None  # a split.json to keep to, whatever the seeds and parts are now; None: a new split
    seed: int | None = None  # of the dealing; None: `seed`
    parts: tuple[float, float, float] = (6, 1, 2)  # train : validation : test
    groups: str | None = None  # participants' column whose members stay together; None: family_id where families are simulated
    strata: tuple[str, ...] = ()  # participants' columns balanced over the parts

    def __post_init__(self):
        for part in self.parts:
            require_range("split.parts", part, 1e-9, None, SplitConfig.parts)
        if self.seed is not None:
            require_range("split.seed", self.seed, 0, LARGEST_SEED)


@dataclass
class TrainConfig:
    """The contrastive loop."""

    epochs: int = 24
    batch_size: int = 32  # people a process
    window: int = 16  # frames
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.1  # share of all steps
    gradient_clip: float = 1.0  # norm
    projector_dropout: float = 0.1
    workers: int = 0  # loader processes
    keep_freed_memory: bool = False  # on a processor: faster with long windows, at the price of memory (training/allocator.py)
    mixed_precision: str | None = None  # no | fp16 | bf16; None: as `accelerate launch` says

    def __post_init__(self):
        for key in ("epochs", "batch_size", "window"):
            require_range(f"train.{key}", getattr(self, key), 1, None)
        require_range("train.workers", self.workers, 0, None)
        require_range("train.learning_rate", self.learning_rate, 1e-12, None, TrainConfig.learning_rate)
        require_range("train.weight_decay", self.weight_decay, 0, None, TrainConfig.weight_decay)
        require_range("train.warm_up", self.warm_up, 1e-6, 0.999, TrainConfig.warm_up)
        require_range("train.gradient_clip", self.gradient_clip, 1e-12, None, TrainConfig.gradient_clip)
        require_range("train.projector_dropout", self.projector_dropout, 0, 0.99, TrainConfig.projector_dropout)
        require_choice("train.mixed_precision", self.mixed_precision, (None, "no", "fp16", "bf16"))


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
class EvaluationConfig:
    """How the test people are scored."""

    permutations: int = 10_000
    strata: tuple[str, ...] = ()  # participants' columns (ancestry, site …) within which people are permuted

    def __post_init__(self):
        require_range("evaluation.permutations", self.permutations, 1, None)


@dataclass
class RecipeConfig:
    """Keys that all recipes share; those in UNUSED have no use in a recipe and are refused there rather than ignored."""

    UNUSED: ClassVar[tuple[str, ...]] = ("checkpoint", "tracker")

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

    UNUSED: ClassVar[tuple[str, ...]] = ("seed", "checkpoint", "tracker")  # its seed is simulation.seed

    out: str = str(SIMULATED_ROOT)


@dataclass
class PrepareFMRIConfig(RecipeConfig):
    """recipes/prepare_fmri.py"""

    UNUSED: ClassVar[tuple[str, ...]] = ("seed", "checkpoint", "tracker")

    workers: int = 1  # processes that read scans at the same time; about 0.8 GB each for a 2 mm run of 490 frames
    out: str = "runs/prepare_fmri"

    def __post_init__(self):
        super().__post_init__()
        require_range("workers", self.workers, 1, None)


@dataclass
class EmbedDNAConfig(RecipeConfig):
    """recipes/embed_dna.py"""

    UNUSED: ClassVar[tuple[str, ...]] = ("seed", "checkpoint", "tracker", "dna.region_pooling")  # its seed is dna.seed

    dna: DNAConfig = field(default_factory=DNAConfig)
    out: str = "runs/embed_dna"


@dataclass
class ContrastiveConfig(RecipeConfig):
    """recipes/contrastive.py"""

    UNUSED: ClassVar[tuple[str, ...]] = ("dna.audit_regions",)  # stores that it fills are not audited

    fmri: FMRIConfig = field(default_factory=FMRIConfig)
    dna: DNAConfig = field(default_factory=DNAConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    out: str = "runs/contrastive"

    def __post_init__(self):
        super().__post_init__()
        if self.fmri.checkpoint and self.data.orientation != OFFICIAL_ORIENTATION:
            expected = f"Official BrainMT weights need scans in {OFFICIAL_ORIENTATION} orientation, as others would be mirrored"
            complain(expected, f"data.orientation={self.data.orientation}", f"data.orientation={OFFICIAL_ORIENTATION}")


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
    shared = {"stores.bold": config.stores.bold, "stores.dna": config.stores.dna}
    shared |= {"data.root": config.data.root} if config.data.simulate else {}
    for key, place in shared.items():
        if place is not None and Path(place).resolve().is_relative_to(Path(config.out).resolve()):
            complain(
                f"{key} must lie outside of the run folder out={config.out}", place, "out or the store to a folder of its own"
            )


def to_yaml(config: RecipeConfig) -> str:
    """The resolved configuration as YAML; `config=` reads it back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _simulated_root(parameters: CohortParameters) -> Path:
    """A folder of its own for every set of parameters."""
    if parameters == CohortParameters():
        return SIMULATED_ROOT
    text = json.dumps(dataclasses.asdict(parameters), sort_keys=True)
    return SIMULATED_ROOT.with_name(f"{SIMULATED_ROOT.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")


def _fill_in_places(config: Config) -> Config:
    if config.data.root is not None and not config.data.simulate and config.simulation != CohortParameters():
        complain("simulation.* describes the cohort of data.root=null alone", config.data.root, "data.root=null")
    if config.data.root is None:
        root = str(_simulated_root(config.simulation))
        config.data.root, config.data.truth, config.data.simulate = root, "truth.json", True
    if isinstance(config, SimulateCohortConfig) and config.out == SimulateCohortConfig.out:
        config.out = str(_simulated_root(config.simulation))
    if isinstance(config, ContrastiveConfig) and config.data.simulate and config.simulation.family_size > 1:
        config.split.groups = config.split.groups or FAMILIES
    root = Path(config.data.root).resolve()
    stores = Path("runs/stores") / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
    config.stores.bold = config.stores.bold or str(stores / "bold")
    config.stores.dna = config.stores.dna or str(stores / "dna")
    return config
