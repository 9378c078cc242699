"""Configuration of files, stores and DNA encoder: values of `data`, `stores` and `dna` flow in, checked dataclasses flow out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainmt_align.data.genotype_checks import MISSING_POLICIES, UNPHASED_POLICIES
from brainmt_align.data.phenotype_presets import PRESETS
from brainmt_align.data.scan_table import MASK_RULES
from brainmt_align.limits import complain, require_choice, require_orientation, require_range
from encoders import DNA_ENCODERS, OWN_WORDS

LARGEST_SEED = 2**32 - 1  # that every generator takes


@dataclass
class DataConfig:
    """Where the files of a cohort lie; every path but `root` is relative to `root`."""

    root: str | None = None  # None: a simulated cohort under runs/
    simulate: bool = False  # write the cohort that `simulation` describes at `root` when it is not there
    bold: str | None = "bold"  # folder of BIDS/fMRIPrep derivatives; None: the pair table names the runs
    space: str | None = None  # BIDS space entity, needed where a folder holds several
    mask: str | None = None  # one brain mask for all runs; None: the mask beside each run
    mask_rule: str = "file"  # file | nonzero: a run without a mask is an error, or its voxels non-zero in any frame count
    participants: str | None = "participants.tsv"
    preset: str | None = None  # uk_biobank | hcp: the id column and the fields' codings of the participants table
    instance: int = 2  # of UK Biobank's fields: 2 is the imaging visit
    kinship: str | None = None  # KING, PLINK 2 or UK Biobank table of related pairs; relatives then stay in one part
    kinship_threshold: float = 0.0442  # least kinship of relatives: third degree; 0.0884 is second
    genotypes: str = "genotypes.vcf.gz"  # phased VCF or BCF with its index
    reference: str = "reference.fa"  # FASTA with its index
    regions: str = "regions.bed"  # 0-based, half-open
    pairs: str | None = None  # TSV participant_id, sample_id[, bold_path]: only these people take part
    id_map: str | None = None  # TSV participant_id, sample_id, for ids that differ between scans and genomes
    truth: str | None = None  # truth.json of a simulated cohort, for the oracle
    unmatched: str = "error"  # error | drop: people that one of the tables lacks
    artificial_pairs: bool = False  # scans and genomes are not of the same people: chance is the right answer
    orientation: str = "RAS"  # LAS with official BrainMT weights
    normalisation: str = "global"  # global | voxel
    tr_s: float | None = None  # repetition time in seconds where the files do not say it
    region_window: int | None = None  # bases around each region's centre; None: the whole region
    unphased: str = "error"  # error | as_written | skip
    missing: str = "error"  # error | reference | N

    def __post_init__(self):
        require_orientation(self.orientation)
        require_choice("data.preset", self.preset, (None, *PRESETS))
        require_range("data.instance", self.instance, 0, None)
        require_range("data.kinship_threshold", self.kinship_threshold, 1e-6, 0.5, DataConfig.kinship_threshold)
        require_choice("data.unmatched", self.unmatched, ("error", "drop"))
        require_choice("data.mask_rule", self.mask_rule, MASK_RULES)
        require_choice("data.normalisation", self.normalisation, ("global", "voxel"))
        require_choice("data.unphased", self.unphased, UNPHASED_POLICIES)
        require_choice("data.missing", self.missing, MISSING_POLICIES)
        if self.tr_s is not None:
            require_range("data.tr_s", self.tr_s, 0.01, 100, "null")
        if self.region_window is not None:
            require_range("data.region_window", self.region_window, 1, None)

    def path(self, key: str) -> Path | None:
        """The path under `key` with `root` in front; None where the key is unset."""
        value = getattr(self, key)
        return None if value is None else Path(self.root or ".") / value

    def tables(self) -> dict[str, Path | None]:
        """The files whose hashes a run records, by key; None where a key is unset."""
        keys = ("participants", "kinship", "genotypes", "reference", "regions", "pairs", "id_map", "mask", "truth")
        return {key: self.path(key) for key in keys}

    def cohort_words(self, scans: bool = True, genomes: bool = True) -> dict[str, Any]:
        """What `read_cohort` is called with for people with scans, genomes or both."""
        files = {key: self.path(key) for key in ("mask", "participants", "pairs")}
        files |= {"bold": self.path("bold") if scans else None}
        files |= {key: self.path(key) if genomes else None for key in ("genotypes", "id_map")}
        own = {key: getattr(self, key) for key in ("space", "unmatched", "mask_rule", "preset", "instance")}
        return {**files, **own, "root": Path(self.root), "scans": scans}

    def genomes_of(self, samples: list[str]) -> dict[str, Any]:
        """What `check_genotypes` and `read_haplotypes` are called with for these people."""
        files = {key: self.path(key) for key in ("genotypes", "reference", "regions")}
        return {**files, "samples": samples, "window": self.region_window, "unphased": self.unphased, "missing": self.missing}


@dataclass
class StoresConfig:
    """Where prepared scans and sequence embeddings are kept; None: runs/stores/<name and hash of data.root>/."""

    bold: str | None = None
    dna: str | None = None


@dataclass
class DNAConfig:
    """The frozen DNA encoder and how its sequence embeddings become a person's features."""

    encoder: str = "caduceus"
    checkpoint: str | None = None  # folder in the published layout or hub id; None: small random weights
    layer: int | str | None = None  # None: the encoder's default
    dtype: str = "float32"  # float32 | bfloat16: of the weights and the arithmetic
    options: dict[str, Any] = field(default_factory=dict)  # what this encoder alone has, such as frames or truncation
    pooling: str = "mean"  # mean | last, over the tokens of a sequence
    strands: str = "both"  # forward | reverse | both
    overlap: int | None = None  # bases shared by the windows of a sequence too long for the encoder; None: refused
    audit_regions: int = 4  # whose noise recipes/embed_dna.py measures, evenly spread; 0: of none. That recipe's alone
    region_pooling: str = "concatenate"  # concatenate | mean, over regions; of no use in recipes/embed_dna.py
    seed: int = 0  # of the random weights

    def __post_init__(self):
        require_choice("dna.encoder", self.encoder, tuple(DNA_ENCODERS))
        require_choice("dna.dtype", self.dtype, ("float32", "bfloat16"))
        require_choice("dna.pooling", self.pooling, ("mean", "last"))
        require_choice("dna.strands", self.strands, ("forward", "reverse", "both"))
        require_choice("dna.region_pooling", self.region_pooling, ("concatenate", "mean"))
        if self.overlap is not None:
            require_range("dna.overlap", self.overlap, 0, None, "null")
        require_range("dna.audit_regions", self.audit_regions, 0, None)
        require_range("dna.seed", self.seed, 0, LARGEST_SEED)
        if taken := sorted(set(OWN_WORDS) & self.options.keys()):
            complain(
                "dna.options holds what one encoder alone has", f"dna.options.{taken[0]}", "dna.encoder, dna.layer … instead"
            )

    def encoder_words(self) -> dict[str, Any]:
        """What `load_dna_encoder` is called with, the device aside."""
        own = {key: getattr(self, key) for key in ("checkpoint", "layer", "dtype", "seed")}
        return {"name": self.encoder, **own, **self.options}

    def store_words(self) -> dict[str, Any]:
        """How the encoder is asked: what `dna_store.build` is called with besides regions, encoder and place."""
        return {key: getattr(self, key) for key in ("pooling", "strands", "overlap")}
