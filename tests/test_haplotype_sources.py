"""Tests of the room `haplotype_sources`: contigs that do not fit are listed together, with lengths, builds and regions."""

from pathlib import Path

import pytest

from brainmt_align.data.haplotype_sources import HaplotypeSources
from tests.haplotype_files import HEADER, Files, Variant, write_files

REFERENCE = "ACGTACGTAGGCCTTAACGATCGATTTACG"
VARIANTS = [Variant(4, "A", ("T",), ("1|0", "0|0"))]


def write_sources(folder: Path, lengths: dict[str, int | None], fasta: dict[str, int], words: str = "") -> Files:
    """A VCF whose header has these contigs and a FASTA whose index claims these lengths; records are on contig 1."""
    contigs = [f"##contig=<ID={name}{'' if n is None else f',length={n}'}{words}>" for name, n in lengths.items()]
    header = HEADER.replace("##contig=<ID=1>", "\n".join([*contigs, "##reference=file:///data/hs37d5.fa"]))
    files = write_files(folder, REFERENCE, VARIANTS, header=header)
    lines = [f"{name}\t{n}\t3\t60\t61\n" for name, n in fasta.items()]  # nothing is fetched, so no bases are needed
    Path(f"{files.reference}.fai").write_text("".join(lines))
    return files


def test_sources_refuse_contigs_whose_lengths_differ_and_name_the_builds(tmp_path):
    files = write_sources(tmp_path, {"1": 30, "20": 63025520}, {"1": 30, "chr20": 64444167}, ",assembly=b37")
    with pytest.raises(
        ValueError, match="contigs that genotypes and FASTA both hold, with the same length, are expected"
    ) as caught:
        HaplotypeSources(*files, [("1", 0, 9, "A"), ("20", 0, 9, "B"), ("20", 5, 9, "C")])
    message = str(caught.value)
    assert "  - contig 20 (regions: B, C) has 63,025,520 bases by the genotypes' header, 64,444,167 in the FASTA\n" in message
    assert "the genotypes are GRCh37 by contig lengths (assembly=b37, reference=hs37d5.fa), the FASTA is GRCh38 by" in message
    assert message.endswith(
        "fix: give the FASTA of the build that the genotypes were called on, with the regions' contigs named as in these files."
    )


def test_sources_compare_only_contigs_of_regions_and_only_lengths_that_are_known(tmp_path):
    files = write_sources(tmp_path, {"1": None, "MT": 16569}, {"1": 30, "MT": 16571})
    with HaplotypeSources(*files, [("1", 0, 9, "A")]) as sources:
        assert sources.regions == [("1", 0, 9, "A", "+")]


def test_sources_list_every_contig_that_a_file_lacks(tmp_path):
    files = write_sources(tmp_path, {"1": 30, "3": 40, "5": 9}, {"1": 30, "2": 50, "5": 8})
    regions = [(contig, 0, 5, f"G{i}") for i, contig in enumerate("12345222")]
    with pytest.raises(ValueError, match="are expected, got:") as caught:
        HaplotypeSources(*files, regions)
    assert str(caught.value).split("\n")[1:7] == [
        "  - contig 2 (regions: G1, G5, G6, … (4 in all)) is not in the genotypes",
        "  - contig 3 (regions: G2) is not in the FASTA",
        "  - contig 4 (regions: G3) is not in the FASTA",
        "  - contig 4 (regions: G3) is not in the genotypes",
        "  - contig 5 (regions: G4) has 9 bases by the genotypes' header, 8 in the FASTA",
        "  known: 1, 2, 5 in the FASTA; 1, 3, 5 in the genotypes; "
        "the genotypes are of unknown build (reference=hs37d5.fa), the FASTA is of unknown build",
    ]


def test_sources_take_a_contig_that_the_header_alone_declares(tmp_path):
    files = write_sources(tmp_path, {"1": 30, "2": 50}, {"1": 30, "2": 50})
    with HaplotypeSources(*files, [("chr2", 0, 5, "A")]) as sources:
        assert sources.read(sources.regions[0]).alleles.positions.size == 0
