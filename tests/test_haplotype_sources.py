"""Tests of the room `haplotype_sources`: contigs that do not fit are listed together, with lengths, builds and regions."""

from pathlib import Path

import numpy as np
import pytest

from brainmt_align.data.alleles import take_records
from brainmt_align.data.haplotype_sources import HaplotypeSources
from brainmt_align.data.regions import Region
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
        assert sources.regions == [Region("1", 0, 9, "A")]


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


def test_fetch_around_puts_n_where_the_contig_has_no_bases(tmp_path):
    files = write_files(tmp_path, REFERENCE, VARIANTS)
    with HaplotypeSources(*files, [("1", 0, 30, "A")]) as sources:
        assert sources.fetch_around(Region("1", 0, 30, "A"), 3) == f"NNN{REFERENCE}NNN"
        assert sources.fetch_around(Region("1", 2, 28, "A"), 3) == f"N{REFERENCE}N"
        assert sources.fetch_around(Region("1", 10, 12, "A"), 3) == REFERENCE[7:15]


def test_sources_take_a_contig_that_the_header_alone_declares(tmp_path):
    files = write_sources(tmp_path, {"1": 30, "2": 50}, {"1": 30, "2": 50})
    with HaplotypeSources(*files, [("chr2", 0, 5, "A")]) as sources:
        assert sources.read(sources.regions[0]).alleles.positions.size == 0


@pytest.mark.parametrize("kept", [0, 10])  # bases
def test_fetch_bases_refuses_a_fasta_that_is_cut_short(tmp_path, kept):
    files = write_files(tmp_path, REFERENCE, VARIANTS)
    files.reference.write_text(f">1\n{REFERENCE[:kept]}")
    message = (
        r"the bases of 1:6-20 that its index promises are expected, got .*cut short(?s:.*)file: .*reference\.fa\n  fix: copy"
    )
    with HaplotypeSources(*files, [("1", 5, 20, "A")]) as sources:
        with pytest.raises(ValueError, match=message):
            sources.fetch_bases(sources.regions[0])
        with pytest.raises(ValueError, match=message):
            sources.read(sources.regions[0])


def test_read_sorts_records_that_a_reader_gives_in_another_order(tmp_path, monkeypatch):
    variants = [Variant(4, "A", ("T",), ("1|0", "0|0")), Variant(6, "G", ("C",), ("0|0", "0|1"))]
    with HaplotypeSources(*write_files(tmp_path, REFERENCE, variants), [("1", 0, 20, "A")]) as sources:
        expected = sources.read(sources.regions[0]).alleles
        backwards = take_records(expected, np.array([1, 0]))
        monkeypatch.setattr(sources._variants, "read", lambda *place: backwards)
        found = sources.read(sources.regions[0]).alleles
    assert backwards.positions.tolist() == [6, 4] and found.positions.tolist() == [4, 6] and found.refs == ["A", "G"]
    np.testing.assert_array_equal(found.alleles, expected.alleles)


def test_sources_note_contigs_that_are_read_under_another_name(tmp_path):
    files = write_files(tmp_path, REFERENCE, VARIANTS, ("1", "chr1"))
    with HaplotypeSources(*files, [("chr1", 0, 9, "A")]) as sources:
        assert sources.notes == ["Contigs of the regions are read under another name: chr1 as 1 of the genotypes."]
        assert sources.contig_of(sources.regions[0]) == "1"
        assert [file.name for file in sources.files_of(sources.regions[0])] == ["genotypes.vcf.gz", "genotypes.vcf.gz.tbi"]
