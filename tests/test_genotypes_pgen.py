"""Tests of the room `genotypes_pgen`: small PGENs and those of real people flow in; alleles and every refusal are checked."""

import random
import subprocess
import sys
import tracemalloc

import numpy as np
import pysam
import pytest

from brainmt_align.data import genotypes_pgen
from brainmt_align.data.alleles import NO_OPTIONS, Alleles, GenotypeOptions
from brainmt_align.data.genotypes import open_genotypes
from brainmt_align.data.genotypes_pgen import PGENReader
from brainmt_align.data.haplotypes import read_haplotypes
from brainmt_align.data.regions import read_regions
from tests.pgen_files import SAMPLES, write_pgen
from tests.programs import require_programs
from tests.test_genotypes_vcf import read as read_vcf
from tests.test_genotypes_vcf import write_vcf

RECORDS = [
    "101 c t . 0|1 1/0 ./.",
    "110 A C,G,T . 3|2 0|3 0/0",
    "120 ACGT A . 0|1 1|1 0/1",
    "130 G . . 0/0 0/0 0/0",
]


def read(path, contig="20", start=0, end=1000, samples=None, options=NO_OPTIONS) -> Alleles:
    with PGENReader(path, samples, options) as genotypes:
        return genotypes.read(contig, start, end)


def assert_same(found: Alleles, expected: Alleles) -> None:
    for name, a, b in zip(Alleles._fields, found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a, dtype=object), np.asarray(b, dtype=object), err_msg=name)


@pytest.fixture
def pgen(tmp_path):
    """Phased and unphased heterozygotes, a missing call, three ALT alleles, a site without ALT."""
    return write_pgen(tmp_path, RECORDS)


@pytest.fixture
def plink2():
    """A function that runs plink2. Tests skip without the program, except in CI, where that is a failure."""
    require_programs("plink2")

    def run(*words) -> None:
        subprocess.run(["plink2", "--threads", "1", "--memory", "1000", *map(str, words)], check=True, capture_output=True)

    return run


def test_read_gives_numbers_and_phase(pgen):
    found = read(pgen)
    assert found.samples == list(SAMPLES)
    assert found.positions.tolist() == [100, 109, 119, 129]
    assert found.stops.tolist() == [101, 110, 123, 130]
    assert found.refs == ["C", "A", "ACGT", "G"]
    assert found.alts == [("T",), ("C", "G", "T"), ("A",), ()]
    assert found.ids == ["r0", "r1", "r2", "r3"]
    assert found.alleles.dtype == np.int8
    assert found.alleles.transpose(2, 0, 1).tolist() == [
        [[0, 1], [0, 1], [-1, -1]],
        [[3, 2], [0, 3], [0, 0]],
        [[0, 1], [1, 1], [0, 1]],
        [[0, 0], [0, 0], [0, 0]],
    ]
    assert found.phased.T.tolist() == [[True, False, True], [True] * 3, [True, True, False], [True] * 3]
    assert not found.haploid.any()
    assert found.dosages is None
    assert found.phase_sets is None
    assert found.ref_known is None


@pytest.mark.parametrize("block", [1, 7, 2**21])
def test_read_keeps_the_order_of_the_request(pgen, monkeypatch, block):
    monkeypatch.setattr(genotypes_pgen, "BLOCK", block)
    everyone = read(pgen)
    for names in (["carl", "anna"], ["ben"], ["carl", "ben", "anna"]):
        some = read(pgen, samples=names)
        rows = [SAMPLES.index(name) for name in names]
        assert some.samples == names
        np.testing.assert_array_equal(some.alleles, everyone.alleles[rows])
        np.testing.assert_array_equal(some.phased, everyone.phased[rows])


def test_read_takes_variants_that_overlap_the_region_only(pgen):
    assert read(pgen, start=101, end=109).positions.tolist() == []
    assert read(pgen, start=101, end=109).alleles.shape == (3, 2, 0)
    assert read(pgen, start=109, end=110).positions.tolist() == [109]
    assert read(pgen, start=122, end=125).positions.tolist() == [119]
    assert read(pgen, contig="chr20", start=122, end=125).positions.tolist() == [119]


SHAPES = [("A", "C"), ("ACG", "A"), ("A", "ACC"), ("ACGTACGT", "A,T"), ("a", "<DEL>"), ("ACGTA", "<DEL>,<INV>"), ("A", "<INS>")]
ENDS = [".", "END={}", "AEND=9;END={}", "END=3", "END=.", "X=1;END={}"]
LENGTHS = [".", "END={};SVLEN=-30", "SVLEN=12", "SVLEN=.,20", "END={};SVLEN=-7,-25", "SVLEN=0"]


@pytest.mark.parametrize("infos", [ENDS, LENGTHS])
@pytest.mark.parametrize("seed", range(4))
def test_read_equals_the_vcf_reader(tmp_path, seed, infos):
    rng = random.Random(seed)
    info = [rng.choice(infos).format(rng.randrange(10, 240)) for _ in range(40)]
    sites = sorted((rng.randrange(10, 200), *rng.choice(SHAPES)) for _ in info)
    calls = [" ".join(rng.choices(["0|0", "0|1", "1|0", "1|1", "0/1", ".|."], k=3)) for _ in info]
    pgen = write_pgen(tmp_path, [f"{p} {r} {a} {i} {c}" for (p, r, a), i, c in zip(sites, info, calls, strict=True)])
    lines = [f"{p} {r} {a} GT {c}" for (p, r, a), c in zip(sites, calls, strict=True)]
    vcf = write_vcf(tmp_path / "small.vcf.gz", lines, info=info)
    for start in [0, *rng.choices(range(240), k=10)]:
        end = start + rng.randrange(1, 60) if start else 1000
        expected = read_vcf(vcf, "20", start, end)
        found = read(pgen, "20", start, end)
        alike = expected.alleles[:, 0] == expected.alleles[:, 1]
        assert_same(found, expected._replace(ids=found.ids, phased=expected.phased | alike))


@pytest.mark.parametrize("more", [[], ["vzs"]])
def test_read_equals_the_vcf_reader_on_real_people(plink2, real_dir, tmp_path, more):
    folder = real_dir / "genotypes_chr20_b37"
    vcf = folder / "cohortA_300.phased.vcf.gz"
    plink2("--vcf", vcf, "--make-pgen", *more, "--out", tmp_path / "real")
    genes = read_regions(folder / "genes.b37.bed")
    names = ["HG00238", "HG00096", "HG00311"]
    assert len(genes) == 19
    with open_genotypes(tmp_path / "real.pgen") as found, open_genotypes(vcf) as expected:
        assert isinstance(found, PGENReader)
        assert found.samples == expected.samples
        for gene in genes:
            assert_same(found.read(gene.contig, gene.start, gene.end), expected.read(gene.contig, gene.start, gene.end))
    with open_genotypes(tmp_path / "real.pgen", names) as found, open_genotypes(vcf, names) as expected:
        assert_same(found.read("chr20", 1_200_000, 1_300_000), expected.read("chr20", 1_200_000, 1_300_000))


def test_read_gives_dosages_where_the_file_holds_them(plink2, tmp_path):
    records = ["5 A C GT:DS 0|1:1.25 0/0:0.5 ./.:.", "9 A C GT:DS 1|1:2 0/0:0 0|1:1", "12 G T GT:DS 0|0:0.01 ./.:1.5 0/1:1"]
    vcf = write_vcf(tmp_path / "small.vcf.gz", records)
    plink2("--vcf", vcf, "dosage=DS", "--make-pgen", "--out", tmp_path / "doses")
    found = read(tmp_path / "doses.pgen", samples=["carl", "anna", "ben"])
    assert found.dosages.dtype == np.float32
    expected = np.array([[np.nan, 1.25, 0.5], [1, 2, 0], [1, 0.01, 1.5]])
    np.testing.assert_allclose(found.dosages.T, expected, atol=2 / 2**14)
    plink2("--vcf", vcf, "--make-pgen", "--out", tmp_path / "calls")
    assert read(tmp_path / "calls.pgen").dosages is None


def test_read_counts_all_alts_in_dosages(tmp_path):
    path = write_pgen(tmp_path, RECORDS)
    with PGENReader(path) as genotypes:
        genotypes._has_dosages = True
        found = genotypes.read("20", 0, 1000)
    expected = np.where(found.alleles < 0, np.nan, found.alleles > 0).sum(axis=1)
    np.testing.assert_array_equal(found.dosages, expected)


def test_read_says_where_ref_is_provisional(plink2, real_dir, tmp_path):
    plink2("--bfile", real_dir / "genotypes_chr20_b37" / "cohortA_300.chr20_1-2Mb", "--make-pgen", "--out", tmp_path / "bed")
    assert not read(tmp_path / "bed.pgen", "20", 1_200_000, 1_210_000).ref_known.any()
    assert read(tmp_path / "bed.pgen", "20", 0, 10).ref_known is None
    mixed = write_pgen(tmp_path, ["5 A C . 0|0 0|0 0|0", "9 A C X=1;PR 0|0 0|0 0|0", "20 A C SPR;PRX=2 0|0 0|0 0|0"])
    assert read(mixed, end=8).ref_known is None
    assert read(mixed, end=25).ref_known.tolist() == [True, False, True]
    assert read(mixed, start=15).ref_known is None


def test_read_haplotypes_swaps_provisional_records_alone_where_a_region_has_both_kinds(tmp_path):
    fasta = tmp_path / "reference.fa"
    fasta.write_text(">20\n" + "ACGTTGCAAC" * 100 + "\n")
    pysam.faidx(str(fasta))
    records = ["2 C T . 1|1 0|0 0|1", "6 A G PR 0|0 0|0 1|1"]
    (region,) = read_haplotypes(write_pgen(tmp_path, records), fasta, [("20", 0, 10, "A")])
    assert [[region.sequences[i][5] for i in pair] for pair in region.index] == [["A", "A"], ["A", "A"], ["G", "G"]]
    records.insert(1, "4 G T . 1|1 0|0 0|1")  # known, and not what the FASTA has
    with pytest.raises(ValueError, match=r"REF differs from the FASTA at 1 of 3 variants: 20:4 \(REF G, FASTA T\)"):
        list(read_haplotypes(write_pgen(tmp_path, records), fasta, [("20", 0, 10, "A")]))


def test_read_widens_when_a_site_has_many_alts(tmp_path):
    alts = ",".join("C" * n for n in range(2, 202))
    found = read(write_pgen(tmp_path, [f"5 C {alts} . 200|0 0|0 1|127", "7 C T . 0|1 0|0 0|0"]), "20", 0, 10)
    assert found.alleles.dtype == np.int16
    assert found.alleles[:, :, 0].tolist() == [[200, 0], [0, 0], [1, 127]]
    assert read(tmp_path / "small.pgen", "20", 6, 10).alleles.dtype == np.int8


def test_read_holds_four_bytes_a_sample_and_variant_and_little_more_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(genotypes_pgen, "BLOCK", 500)
    names = tuple(f"s{i}" for i in range(500))
    path = write_pgen(tmp_path, [f"{i + 1} A C . {' '.join(['0|1'] * 500)}" for i in range(400)], names)
    with PGENReader(path, names[::-1]) as genotypes:
        genotypes.read("20", 0, 5)
        tracemalloc.start()
        found = genotypes.read("20", 0, 1000)
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert found.alleles.nbytes + found.phased.nbytes + found.haploid.nbytes == 4 * 500 * 400
    assert kept < 5 * 500 * 400
    assert peak < 6 * 500 * 400


def test_pgen_reader_knows_contigs_lengths_and_build(tmp_path):
    header = "##contig=<ID=chr20,length=64444167,assembly=b38>\n##contig=<ID=chr7,length=70>\n##reference=file:///a/GRCh38.fa\n"
    with PGENReader(write_pgen(tmp_path, RECORDS, header=header)) as genotypes:
        assert genotypes.contigs == ["20", "chr7"]
        assert genotypes.lengths == {"20": 64444167, "chr7": 70}
        assert genotypes.build_words == ["assembly=b38", "reference=GRCh38.fa"]
        assert genotypes.find_contig("chr20") == "20"
        assert genotypes.find_contig("8") is None
        assert genotypes.read("7", 0, 10).positions.tolist() == []


@pytest.mark.parametrize(
    "text",
    [
        "#FID\tIID\tSID\tSEX\nf\tanna\t0\t2\nf\tben\t0\t1\nf\tcarl\t0\t1\n",
        "## a remark\n#IID\nanna\nben\ncarl\n",
        "f anna 0 0 2 -9\nf ben 0 0 1 -9\nf carl 0 0 1 -9\n",
    ],
)
def test_pgen_reader_takes_ids_from_another_file(pgen, tmp_path, text):
    (tmp_path / "people").write_text(text)
    pgen.with_suffix(".psam").unlink()
    assert read(pgen, options=GenotypeOptions(sample_file=tmp_path / "people")).samples == list(SAMPLES)


@pytest.mark.parametrize("text", ["", "#IID\n", "#FID\tSEX\nf\t1\n", "#FID\tIID\nf\nf\tb\nf\tc\n"])
def test_pgen_reader_refuses_samples_without_ids(pgen, text):
    pgen.with_suffix(".psam").write_text(text)
    with pytest.raises(
        ValueError, match=r"a table of samples with IID in every line is expected, got .*\n.*small\.psam\n  fix: "
    ):
        PGENReader(pgen)


def test_pgen_reader_refuses_absent_files(pgen, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a PGEN is expected, got no such file\.\n"):
        PGENReader(tmp_path / "absent.pgen")
    with pytest.raises(
        FileNotFoundError, match=r"a table of samples is expected .*\n.*other\.psam\n  fix: put small\.psam beside it"
    ):
        PGENReader(pgen, options=GenotypeOptions(sample_file=tmp_path / "other.psam"))
    pgen.with_suffix(".pvar").unlink()
    with pytest.raises(FileNotFoundError, match=r"small\.pvar or small\.pvar\.zst is expected beside the PGEN, got neither\.\n"):
        PGENReader(pgen)


def test_pgen_reader_refuses_other_numbers_of_variants_or_samples(pgen):
    people, variants = pgen.with_suffix(".psam"), pgen.with_suffix(".pvar")
    whole = people.read_text()
    people.write_text(whole + "dora\tNA\n")
    with pytest.raises(ValueError, match=r"3 samples are expected as in the PGEN, got 4 in .*\n.*small\.psam\n"):
        PGENReader(pgen)
    people.write_text(whole)
    variants.write_text(variants.read_text().rsplit("\n", 2)[0] + "\n")
    with pytest.raises(
        ValueError, match=r"4 variants are expected as in the PGEN, got 3 in .*\n.*small\.pvar\n  fix: give the \.pvar"
    ):
        PGENReader(pgen)


def test_pgen_reader_refuses_unknown_samples(pgen):
    with pytest.raises(ValueError, match=r"1 of 1 samples are not in the file, e\.g\. zoe"):
        PGENReader(pgen, ["zoe"])


def test_read_refuses_an_unknown_contig(pgen):
    with pytest.raises(ValueError, match=r"Contig 7 is not in the file; known are: 20\."):
        read(pgen, "7")


@pytest.mark.parametrize(("name", "apart"), [("X", "PAR1"), ("chrX", "PAR2"), ("23", "25")])
def test_read_refuses_x_when_its_pseudo_autosomal_variants_are_apart(tmp_path, name, apart):
    path = write_pgen(tmp_path, [f"{apart}:5 A C . 0|0 0|0 0|0", f"{name}:9 A C . 0|0 0|0 0|0", "20:3 A C . 0|0 0|0 0|0"])
    with pytest.raises(
        ValueError, match=rf"all variants of {name} are expected on it, got .* apart \({apart}\)\.\n.*\n.*--merge-par"
    ):
        read(path, name)
    assert read(path).positions.tolist() == [2]


def test_read_refuses_a_call_of_an_allele_that_the_site_lacks(tmp_path):
    path = write_pgen(tmp_path, ["5 A C . 0|0 0|1 0|0", "9 A . . 0|0 0|1 0|0"])
    with pytest.raises(
        ValueError, match=r"allele numbers up to 0 are expected at 20:9, which has 0 ALT alleles, got 1\.\n.*\n  fix: "
    ):
        read(path)


@pytest.mark.parametrize("alts", [".", "C", "C,G"])
@pytest.mark.parametrize("other", ["C", "C,G"])
def test_read_refuses_a_table_with_fewer_alts_than_the_pgen(tmp_path, alts, other):
    path = write_pgen(tmp_path, [f"5 A {other} . 0|0 0|1 0|0", "9 A C,G,T . 0|3 1|2 3|3", "12 A G . 0|0 0|0 0|1"])
    table = path.with_suffix(".pvar").read_text()
    path.with_suffix(".pvar").write_text(table.replace("A\tC,G,T", f"A\t{alts}"))
    with pytest.raises(ValueError, match=r"a whole PGEN that fits its \.pvar is expected, got one of which .* cannot be read \("):
        read(path)


@pytest.mark.parametrize("kept", [0, 2, 11, 13])
def test_pgen_reader_refuses_a_truncated_file(pgen, kept):
    pgen.write_bytes(pgen.read_bytes()[:kept])
    with pytest.raises(
        ValueError, match=r"Genotypes: a (whole )?PGEN .*is expected, got .*\n  file: .*small\.pgen\n  fix: copy (it|both) again"
    ):
        PGENReader(pgen)


def test_read_refuses_a_file_without_its_end(pgen):
    pgen.write_bytes(pgen.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"got one of which a region's genotypes cannot be read \(.*\)\.\n.*small\.pgen"):
        read(pgen)


def test_read_refuses_damaged_dosages(pgen):
    pgen.write_bytes(pgen.read_bytes()[:-1])
    with PGENReader(pgen) as genotypes, pytest.raises(ValueError, match=r"one of which a region's dosages cannot be read"):
        genotypes._read_dosages(np.arange(4, dtype=np.uint32))


def test_pgen_reader_says_what_to_install(pgen, monkeypatch):
    monkeypatch.setitem(sys.modules, "pgenlib", None)
    with pytest.raises(ImportError, match=r'PGEN needs pgenlib\.\n  fix: pip install "brainmt-align\[genotypes\]"'):
        PGENReader(pgen)


def test_reader_notes_variants_without_a_place(tmp_path):
    path = write_pgen(tmp_path, ["0:1 C T . 1|1 0|0 0|1", "20:5 C T . 1|1 0|0 0|1"])
    with PGENReader(path) as genotypes:
        assert genotypes.notes == ["Without a place, so in no region: 1 of 2 variants of small.pgen."]
    with PGENReader(write_pgen(tmp_path, ["20:5 C T . 1|1 0|0 0|1"])) as genotypes:
        assert genotypes.notes == []
