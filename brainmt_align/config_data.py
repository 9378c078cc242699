"""Configuration of files, stores and DNA encoder: values of `data`, `stores` and `dna` flow in, checked dataclasses flow out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainmt_align.data.alleles import FIRST_ALLELES, GenotypeOptions
from brainmt_align.data.genotypes_by_contig import PLACE, name_files
from brainmt_align.data.haplotype_settings import (
    MISMATCH_POLICIES,
    MISSING_POLICIES,
    ORIENTATIONS,
    SYMBOLIC_POLICIES,
    UNDECIDED_POLICIES,
    UNPHASED_POLICIES,
    HaplotypeSettings,
)
from brainmt_align.data.phenotype_presets import PRESETS
from brainmt_align.data.region_shapes import KINDS, RegionShape, check_shape
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
    genotypes: str = "genotypes.vcf.gz"  # VCF, BCF, PGEN, BGEN or PLINK 1 bed; {contig} in it: one file a contig
    sample_file: str | None = None  # .sample, .psam or .fam, where ids are neither in the genotypes nor beside them
    contig: str | None = None  # of genotypes whose chromosome field is blank
    min_probability: float = 0.9  # of a genotype or allele of a BGEN that counts as called
    first_allele: str = "unknown"  # unknown | ref: of a BGEN's records; ref as UK Biobank and plink2's ref-first write them
    reference: str = "reference.fa"  # FASTA with its index
    regions: str = "regions.bed"  # BED, 0-based and half-open, or GTF
    region_kind: str = "gene"  # gene | tss | exons: the whole region, bases around its start site, its exons joined
    flanks: tuple[int, int] = (0, 0)  # bases upstream and downstream, by strand
    genes: tuple[str, ...] | None = None  # names or ids of those to read, in this order; None: all
    gene_types: tuple[str, ...] = ("protein_coding",)  # of a GTF, where no genes are named
    oriented: str = "plus"  # plus | gene: regions on "-" are read as their reverse complement
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
    symbolic: str = "apply"  # apply | skip: deletions written as <DEL>
    mismatch: str = "error"  # error | skip: records whose REF is not the FASTA's; of at most 0.1 % of all
    undecided: str = "error"  # error | skip | file: records whose REF neither the file says nor the FASTA

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
        require_choice("data.symbolic", self.symbolic, SYMBOLIC_POLICIES)
        require_choice("data.mismatch", self.mismatch, MISMATCH_POLICIES)
        require_choice("data.undecided", self.undecided, UNDECIDED_POLICIES)
        require_choice("data.first_allele", self.first_allele, FIRST_ALLELES)
        require_choice("data.oriented", self.oriented, ORIENTATIONS)
        require_choice("data.region_kind", self.region_kind, KINDS)
        require_range("data.min_probability", self.min_probability, 0.5001, 1, DataConfig.min_probability)
        if self.tr_s is not None:
            require_range("data.tr_s", self.tr_s, 0.01, 100, "null")
        if self.region_window is not None:
            require_range("data.region_window", self.region_window, 1, None)
        check_shape(self.region_shape(), self.region_window)

    def path(self, key: str) -> Path | None:
        """The path under `key` with `root` in front; None where the key is unset."""
        value = getattr(self, key)
        return None if value is None else Path(self.root or ".") / value

    def tables(self) -> dict[str, Path | None]:
        """The files whose hashes a run records, by key; None where a key is unset.

        Genotypes of one file a contig are under `genotypes 22`, what is beside them under `genotypes.pvar`, `genotypes 22.pvar`.
        """
        keys = ("participants", "kinship", "genotypes", "sample_file", "reference", "regions", "pairs", "id_map", "mask", "truth")
        files = {key: self.path(key) for key in keys}
        files |= {f"genotypes{key}": path for key, path in name_files(files.pop("genotypes"), self.path("sample_file")).items()}
        if PLACE in (self.sample_file or ""):
            del files["sample_file"]
        return files

    def cohort_words(self, scans: bool = True, genomes: bool = True) -> dict[str, Any]:
        """What `read_cohort` is called with for people with scans, genomes or both."""
        files = {key: self.path(key) for key in ("mask", "participants", "pairs")}
        files |= {"bold": self.path("bold") if scans else None}
        files |= {key: self.path(key) if genomes else None for key in ("genotypes", "id_map")}
        own = {key: getattr(self, key) for key in ("space", "unmatched", "mask_rule", "preset", "instance")}
        return {**files, **own, "root": Path(self.root), "scans": scans, "options": self.genotype_options()}

    def genotype_options(self) -> GenotypeOptions:
        """What the genotypes do not say of themselves."""
        return GenotypeOptions(self.contig, self.path("sample_file"), self.min_probability, self.first_allele)

    def region_shape(self) -> RegionShape:
        """What of each region is read."""
        genes = None if self.genes is None else tuple(self.genes)
        return RegionShape(self.region_kind, tuple(self.flanks), genes, tuple(self.gene_types))

    def genomes_of(self, samples: list[str], cache: str | None = None) -> dict[str, Any]:
        """What `check_genotypes` and `read_haplotypes` are called with for these people; cache: folder of packed alleles."""
        files = {key: self.path(key) for key in ("genotypes", "reference", "regions")}
        made = {key: getattr(self, key) for key in ("symbolic", "oriented", "mismatch", "undecided")}
        settings = HaplotypeSettings(options=self.genotype_options(), shape=self.region_shape(), cache=cache, **made)
        policies = {"unphased": self.unphased, "missing": self.missing}
        return {**files, "samples": samples, "window": self.region_window, **policies, "settings": settings}

    def dosages_of(self, samples: list[str]) -> dict[str, Any]:
        """What `read_dosages` is called with for these people."""
        files = {key: self.path(key) for key in ("genotypes", "regions")}
        how = {"window": self.region_window, "shape": self.region_shape(), "options": self.genotype_options()}
        return {**files, "samples": samples, **how}


@dataclass
class StoresConfig:
    """Where prepared scans and sequence embeddings are kept; None: runs/stores/<name and hash of data.root>/."""

    bold: str | None = None
    dna: str | None = None
    alleles: str | None = None  # packed, so that genotypes are read once; None: beside the store of DNA


@dataclass
class DNAConfig:
    """The frozen DNA encoder and how its sequence embeddings become a person's features."""

    encoder: str = "caduceus"
    checkpoint: str | None = None  # folder in the published layout or hub id; None: small random weights
    layer: int | str | None = None  # None: the encoder's default
    dtype: str = "float32"  # float32 | bfloat16: of the weights and the arithmetic
    options: dict[str, Any] = field(default_factory=dict)  # what this encoder alone has, such as frames or truncation
    pooling: str = "mean"  # mean | last | variant: all tokens, the last, those near the region's variant sites
    strands: str = "both"  # forward | reverse | both
    overlap: int | None = None  # bases shared by the windows of a sequence too long for the encoder; None: refused
    audit_regions: int = 4  # whose noise recipes/embed_dna.py measures, evenly spread; 0: of none. That recipe's alone
    region_pooling: str = "concatenate"  # concatenate | mean, over regions; of no use in recipes/embed_dna.py
    seed: int = 0  # of the random weights

    def __post_init__(self):
        require_choice("dna.encoder", self.encoder, tuple(DNA_ENCODERS))
        require_choice("dna.dtype", self.dtype, ("float32", "bfloat16"))
        require_choice("dna.pooling", self.pooling, ("mean", "last", "variant"))
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
