"""Tests of the room `haplotypes` against oracles: a naive builder, published hashes and, where installed, bcftools."""

import csv
import gzip
import hashlib
import random
import subprocess

import pytest

from brainmt_align.data.haplotypes import read_haplotypes
from tests.haplotype_files import SAMPLES, Files, Variant, read_one, sequence_of, write_files
from tests.programs import require_programs


def naive_haplotype(reference: str, variants: list[Variant], alleles: list[int | None], start: int, end: int) -> str:
    """One haplotype, base by base: every reference base owns a piece of output that a variant may replace once."""
    pieces = list(reference[start:end])
    last_touched, last_inserted = -1, False
    for variant, allele in zip(variants, alleles, strict=True):
        at = variant.position - start
        if allele == 0 or not 0 <= at < len(pieces):
            continue
        ref, alt = (variant.ref[0], "N") if allele is None else (variant.ref, variant.alts[allele - 1])
        if alt == "<DEL>":
            ref, alt = reference[variant.position : variant.end], variant.ref[0]
        short, long = sorted((ref, alt), key=len)
        extra = len(long) - len(short)
        pure = extra > 0 and any(long == short[:k] + long[k : k + extra] + short[k:] for k in range(1, len(short) + 1))
        if len(ref) > len(pieces) - at:
            ref, alt = ref[: len(pieces) - at], alt[: len(pieces) - at]
        if at < last_touched or (at == last_touched and (not pure or last_inserted)):
            continue
        pieces[at] = pieces[at] + alt[1:] if at == last_touched else alt
        pieces[at + 1 : at + len(ref)] = [""] * (len(ref) - 1)
        last_touched, last_inserted = at + len(ref) - 1, len(alt) > len(ref)
    return "".join(pieces)


def random_variants(rng: random.Random, reference: str) -> list[Variant]:
    """SNPs, insertions, deletions, replacements and `<DEL>`, multiallelic, overlapping and at the same position."""
    variants = []
    for _ in range(rng.randint(0, 12)):
        position = rng.randrange(len(reference))
        ref = reference[position : position + rng.choice([1, 1, 1, 2, 3, 5])]
        inserted = "".join(rng.choice("ACGT") for _ in range(rng.randint(1, 3)))
        pool = ["".join(rng.choice("ACGT") for _ in ref), ref[0] + inserted + ref[1:], ref[0], inserted]
        alts = tuple(dict.fromkeys(alt for alt in rng.sample(pool, rng.choice([1, 1, 2])) if alt != ref))
        end = None
        if rng.random() < 0.1 and position + 2 <= len(reference):
            ref, alts, end = ref[0], ("<DEL>",), min(len(reference), position + rng.randint(2, 6))
        if alts:
            letters = ["0", "."] + [str(i) for i in range(len(alts) + 1)] * 3
            calls = tuple("|".join(rng.choice(letters) for _ in range(2)) for _ in SAMPLES)
            variants += [Variant(position, ref, alts, calls, end)] * rng.choice([1, 1, 1, 2])
    return sorted(variants, key=lambda v: v.position)


def carried(variants: list[Variant], sample: int, haplotype: int, missing: int | None) -> list[int | None]:
    return [missing if (n := v.calls[sample].split("|")[haplotype]) == "." else int(n) for v in variants]


@pytest.mark.parametrize("seed", range(8))
def test_read_haplotypes_equals_a_naive_builder(tmp_path, seed):
    rng = random.Random(seed)
    for _ in range(25):
        reference = "".join(rng.choice("ACGT") for _ in range(rng.choice([30, 60, 150])))
        variants = random_variants(rng, reference)
        files = write_files(tmp_path, reference, [*variants, Variant(len(reference) - 1, reference[-1], (), ("0|0", "0|0"))])
        start, end = rng.randrange(len(reference) // 3), rng.randrange(2 * len(reference) // 3, len(reference)) + 1
        policy = rng.choice(["reference", "N"])
        region = read_one(files, start, end, missing=policy)
        assert len(set(region.sequences)) == len(region.sequences)
        assert set(region.index.ravel()) == set(range(len(region.sequences)))
        assert region.reference == reference[start:end]
        for i, sample in enumerate(SAMPLES):
            for h in (0, 1):
                alleles = carried(variants, i, h, None if policy == "N" else 0)
                assert sequence_of(region, sample, h) == naive_haplotype(reference, variants, alleles, start, end)


def test_read_haplotypes_equals_the_published_consensus_of_real_people(shared_dir, real_dir):
    folder = real_dir / "genotypes_chr20_b37"
    with gzip.open(shared_dir / "golden" / "consensus_cohortA.tsv.gz", "rt") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    places = {row["region"]: row["interval_1based"].replace(":", "-").split("-") for row in rows}
    regions = [(contig, int(first) - 1, int(last), name) for name, (contig, first, last) in places.items()]
    found = {}
    for region in read_haplotypes(folder / "cohortA_300.phased.vcf.gz", folder / "chr20_1-2Mb.padded.fa.gz", regions):
        digests = [(str(len(s)), hashlib.sha256(s.encode()).hexdigest()) for s in region.sequences]
        for sample, pair in zip(region.samples, region.index, strict=True):
            found |= {(region.name, sample, str(h)): digests[pair[h]] for h in (0, 1)}
        if region.name == "SIRPA":
            assert region.counts["overlapping_skipped"] == 179
    assert len(rows) == len(found)
    assert found == {(row["region"], row["sample"], row["haplotype"]): (row["length"], row["sha256"]) for row in rows}


def run_bcftools(files: Files, contig: str, start: int, end: int, sample: str, haplotype: int) -> str | None:
    """The sequence that samtools and bcftools make; None where bcftools refuses a record."""
    cut = subprocess.run(["samtools", "faidx", files.reference, f"{contig}:{start + 1}-{end}"], capture_output=True).stdout
    command = ["bcftools", "consensus", "-H", str(haplotype + 1), "-s", sample, files.genotypes]
    done = subprocess.run(command, input=cut, capture_output=True)
    return "".join(done.stdout.decode().split("\n")[1:]) if done.returncode == 0 else None


@pytest.fixture
def bcftools():
    """Tests skip without the programs, except in CI, where that is a failure."""
    require_programs("bcftools", "samtools")


@pytest.mark.slow
def test_read_haplotypes_equals_bcftools_on_real_people(bcftools, real_dir):
    folder = real_dir / "genotypes_chr20_b37"
    files = Files(folder / "cohortA_300.phased.vcf.gz", folder / "chr20_1-2Mb.padded.fa.gz")
    rng = random.Random(0)
    starts = rng.sample(range(1_000_000, 1_970_000), 12)
    regions = [("20", start, start + rng.randrange(500, 20_000), f"r{start}") for start in starts]
    regions.append(("20", 1_903_600, 1_903_700, "overlap"))
    compared = [region for region in read_haplotypes(*files, regions) if not region.counts["outside_skipped"]]  # see below
    assert len(compared) >= 10
    for region in compared:
        for sample in rng.sample(region.samples, 8):
            for h in (0, 1):
                assert sequence_of(region, sample, h) == run_bcftools(files, "20", region.start, region.end, sample, h)


@pytest.mark.slow
def test_read_haplotypes_equals_bcftools_on_random_variants(bcftools, tmp_path):
    """But for records that reach into the region from before it: there alone versions of bcftools differ.

    1.16, whose output the golden file holds and this room follows, leaves such a record out; others treat it in ways of
    their own. Which version is installed is not for this test to say.
    """
    rng = random.Random(1)
    compared = 0
    for _ in range(100):
        reference = "".join(rng.choice("ACGT") for _ in range(60))
        start, end = rng.randrange(20), rng.randrange(40, 60)
        variants = [v for v in random_variants(rng, reference) if not v.position < start < (v.end or v.position + len(v.ref))]
        files = write_files(tmp_path, reference, [*variants, Variant(59, reference[-1], (), ("0|0", "0|0"))])
        region = read_one(files, start, end, missing="reference")
        for sample in SAMPLES:
            for h in (0, 1):
                expected = run_bcftools(files, "1", start, end, sample, h)
                if expected is not None:
                    assert sequence_of(region, sample, h) == expected
                    compared += 1
    assert compared > 380


def test_bcftools_must_be_there_in_ci(monkeypatch, request):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="needs bcftools and samtools on PATH"):
        request.getfixturevalue("bcftools")
