"""Tests of the room `dna_audit`: an encoder whose noise is known shows what is measured, what applies, and what is said of it."""

import contextlib

import numpy as np
import pandas as pd
import pytest
import torch

from brainmt_align.data import dna_audit
from brainmt_align.data.dna_audit import choose_evenly, describe_sensitivity, measure_noise, variant_sensitivity
from brainmt_align.data.stored_dna import open_store
from encoders import load_dna_encoder
from tests.dna_files import CountingEncoder, build_quietly, make_region

WORDS = {"pooling": "mean", "strands": "both", "overlap": None}


class NoisyEncoder(CountingEncoder):
    """1,024 + its A's, and the places of its C's in their codon; moved by 0.25 in a batch and by 0.5 in the other precision."""

    width = 2
    bases_per_token = 1
    batch_tokens = 60

    def __init__(self, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.dtype, self.other, self.calls = dtype, None, []

    def vector(self, sequence):
        return [1024 + sequence.count("A"), sum(i % 3 for i, letter in enumerate(sequence) if letter == "C")]

    def embed(self, sequences, pooling="mean", strands="both", overlap=None):
        self.calls.append((len(sequences), self.other))
        moved = 0.25 * (len(sequences) > 1) + 0.5 * (self.other is not None)
        plain = torch.tensor([self.vector(sequence) for sequence in sequences], dtype=torch.float32)
        return plain + torch.tensor([[self.sway(sequence, moved), 0] for sequence in sequences])

    def sway(self, sequence, moved):
        return moved

    @contextlib.contextmanager
    def in_precision(self, dtype):
        self.other = dtype
        yield
        self.other = None


class SwayingEncoder(NoisyEncoder):
    """Moved as much for each A of a sequence, and by 64 as well, whatever the sequence."""

    def sway(self, sequence, moved):
        return (64 + moved * sequence.count("A")) * (moved > 0)


class CodonEncoder(NoisyEncoder):
    bases_per_token = 3


SOME = make_region("A", {"anna": ("AAAAGGGGGG", "GAAAGGGGGG"), "ben": ("GGGAGGGGGG", "GGTTGGGGGGG")}, "AAAAGGGGGG")
SAME = make_region("B", {"anna": ("ACGT", "ACGT"), "ben": ("ACGT", "ACGT")}, "ACGT")


def stored(tmp_path, regions, encoder):
    return open_store(build_quietly(regions, encoder, tmp_path).folder, [region.name for region in regions])


def test_choose_evenly_keeps_the_ends_and_the_order():
    assert choose_evenly(range(10), 4) == [0, 3, 6, 9]
    assert choose_evenly("ab", 4) == ["a", "b"]
    assert choose_evenly("abc", 1) == ["a"] and choose_evenly("abc", 0) == [] and choose_evenly("", 3) == []


@pytest.mark.parametrize(("dtype", "other"), [(torch.float32, "bfloat16"), (torch.bfloat16, "float32")])
def test_measure_noise_compares_a_sequence_with_itself_in_a_full_batch_and_another_precision(dtype, other):
    encoder = SwayingEncoder(dtype)
    table = measure_noise([SOME], encoder, **WORDS)
    assert table["region"].tolist() == ["A"] and table["dtype"].tolist() == [str(dtype).removeprefix("torch.")]
    # numbers of A: 4 in the reference, 3 and 1 in the others of the length of most; so differences of 1, 2 and 3
    assert table.loc[0, ["noise_batch", "noise_precision"]].tolist() == [0.5, 1.0] and np.isnan(table.loc[0, "noise_frame"])
    assert encoder.calls == [(6, None)] + [(1, None)] * 3 + [(1, other)] * 3  # 60 bases at once


def test_measure_noise_embeds_a_reference_of_another_length_alike():
    encoder = SwayingEncoder()
    region = make_region("A", {"anna": ("AAAGG", "AAGGG"), "ben": ("AAAAAC", "AAAAAC")}, "AAAAAC")
    assert measure_noise([region], encoder, **WORDS).loc[0, "noise_batch"] == 0.5  # 5, 3 and 2 A: differences of 2, 3 and 1
    assert encoder.calls[:2] == [(6, None), (6, None)]  # all rotations; 60 bases at once, of which AAAGG and AAGGG have six


def test_measure_noise_has_nothing_to_measure_where_all_carry_the_reference():
    encoder = NoisyEncoder()
    table = measure_noise([SAME], encoder, **WORDS)
    assert table.loc[0, ["noise_batch", "noise_precision", "noise_frame"]].isna().all() and encoder.calls == []


def test_measure_noise_asks_the_encoder_as_the_store_did_and_measures_a_few_sequences():
    asked = []

    class Asking(NoisyEncoder):
        def embed(self, sequences, **words):
            asked.append(words)
            return super().embed(sequences, **words)

    people = {f"p{i}": (f"{'A' * i}{'G' * (20 - i)}", "G" * 20) for i in range(20)}
    encoder, words = Asking(), {"pooling": "last", "strands": "forward", "overlap": 3}
    measure_noise([make_region("A", people, "T" * 20)], encoder, **words)
    assert encoder.calls == [(5, None)] + [(1, None)] * 5 + [(1, "bfloat16")] * 5
    assert all(each == words for each in asked)


def test_measure_noise_is_nothing_in_a_batch_where_sequences_run_alone_anyway():
    encoder = NoisyEncoder()
    encoder.batch_tokens = 1
    region = make_region("A", {"anna": ("AC", "AC")}, "AAAC")
    assert measure_noise([region], encoder, **WORDS).loc[0, "noise_batch"] == 0


def test_measure_noise_reads_sequence_and_reference_in_every_frame():
    encoder = CodonEncoder()
    moves = []
    for texts in (("AACTTC", "ACTTCT", "CTTCTT"), ("AACTCG", "ACTCGA", "CTCGAT")):  # of AACTTCTT and of AACTCGAT
        first, *others = [np.array(encoder.vector(text)) for text in texts]
        moves.append([other - first for other in others])
    distances = np.linalg.norm(np.subtract(*moves), axis=1)
    table = measure_noise([make_region("A", {"anna": ("AACTTCTT", "AACTTCTT")}, "AACTCGAT")], encoder, **WORDS)
    assert table.loc[0, "noise_frame"] == np.median(distances) > 0
    short = make_region("A", {"anna": ("ACTC", "ACTC")}, "ACTCAAAA")
    assert np.isnan(measure_noise([short], encoder, **WORDS).loc[0, "noise_frame"])


@pytest.mark.parametrize("error", [ValueError("no token\nmore"), RuntimeError("no token\nmore")])
def test_measure_noise_leaves_out_what_cannot_be_measured_and_warns_once(tmp_path, caplog, error):
    class Failing(CodonEncoder):
        def embed(self, sequences, **words):
            if self.other is not None or len(sequences) > 1:
                raise error
            return super().embed(sequences, **words)

    others = make_region("B", {"anna": ("AAAAGGGGGG", "GAAAGGGGGG")}, "AAAAGGGGGG")
    table = measure_noise([SOME, others], Failing(), **WORDS)
    assert table[["noise_batch", "noise_precision", "noise_frame"]].isna().all(axis=None)
    told = "DNA audit: 6 noises cannot be measured and are left out, first of all noise_batch of region A (no token)."
    assert [record.getMessage() for record in caplog.records] == [f"{told}\n  fix: dna.audit_regions=0 measures none."]
    judged = variant_sensitivity(stored(tmp_path, [SOME], NoisyEncoder()), table)
    assert judged["verdict"].tolist() == ["above rounding"]


LENGTH = 400
REAL = {
    "generator, one frame": {"frames": 1},
    "generator, six frames": {"frames": 6},
    "caduceus, bfloat16": {"dtype": "bfloat16"},
}


def mutated(reference: str, seed: int) -> str:
    """The reference with three other letters, none near an end, which not every frame reads."""
    rng, letters = np.random.default_rng(seed), list(reference)
    for place in rng.choice(range(24, LENGTH - 24), 3, replace=False):
        letters[place] = "ACGT"["CGTA".index(letters[place])]
    return "".join(letters)


@pytest.fixture(scope="module")
def snps():
    """A region of 400 bases whose people differ from the reference by three SNPs in each haplotype."""
    reference = "".join(np.random.default_rng(0).choice(list("ACGT"), LENGTH))
    return make_region("A", {f"p{i}": (mutated(reference, 2 * i), mutated(reference, 2 * i + 1)) for i in range(4)}, reference)


@pytest.mark.parametrize(
    ("name", "least", "most", "kind", "verdict"),
    [
        ("generator, one frame", 0.2, 1, "frame", "under noise"),
        ("generator, six frames", 20, 500, "frame", "above noise"),
        ("caduceus, bfloat16", 10, 500, "precision", "above noise"),
    ],
)
def test_verdicts_of_real_encoders_are_those_of_features(tmp_path, snps, name, least, most, kind, verdict):
    encoder = load_dna_encoder(name.partition(",")[0], device="cpu", **REAL[name])
    table = variant_sensitivity(stored(tmp_path, [snps], encoder), measure_noise([snps], encoder, **WORDS))
    assert table.loc[0, ["noise_of", "verdict"]].tolist() == [kind, verdict]
    assert least < table.loc[0, "ratio"] < most


def test_measure_noise_is_less_than_what_moves_haplotype_and_reference_alike(snps):
    encoder = load_dna_encoder("generator", device="cpu", frames=6)
    noise = measure_noise([snps], encoder, **WORDS).loc[0]
    a, reference = snps.sequences[0], snps.reference
    moved = {s: [encoder.embed([s[o : o + 390]]).numpy()[0] for o in (0, 1)] for s in (a, reference)}
    assert 0 < 5 * noise["noise_frame"] < np.linalg.norm(moved[a][1] - moved[a][0])
    plain = encoder.embed([a]).numpy()
    with encoder.in_precision("bfloat16"):
        assert 0 < 1.5 * noise["noise_precision"] < np.linalg.norm(encoder.embed([a]).numpy() - plain)


def test_variant_sensitivity_is_the_distance_of_haplotypes_from_each_other_and_from_the_reference(tmp_path):
    table = variant_sensitivity(stored(tmp_path, [SOME, SAME], NoisyEncoder())).set_index("region")
    a = table.loc["A"]  # numbers of A: 4, 3, 1, 0; the reference has 4
    assert (a["sequences"], a["signal"], a["closest"], a["from_reference"]) == (4, 2.5, 1, 3)
    assert a["rounding"] == a["noise"] == 1028.25 * 2.0**-23 and a["noise_of"] == "rounding"
    assert a["ratio"] == 2.5 / a["noise"] and a["below_noise"] == 0 and a["verdict"] == "above rounding"
    assert table.loc["A", ["noise_batch", "noise_precision", "noise_frame"]].isna().all()
    b = table.loc["B"]
    assert b["sequences"] == 1 and np.isnan(b["signal"]) and np.isnan(b["ratio"]) and b["verdict"] == "no variation"


def test_variant_sensitivity_looks_at_pairs_of_sequences_evenly_spread(tmp_path, monkeypatch):
    monkeypatch.setattr(dna_audit, "SPREAD", 3)
    people = {f"p{i}": ("A" * i + "G", "A" * i + "G") for i in range(9)}
    table = variant_sensitivity(stored(tmp_path, [make_region("A", people, "G")], NoisyEncoder()))
    assert table.loc[0, ["sequences", "signal", "closest"]].tolist() == [9, 4, 4]  # of 0, 4 and 8


@pytest.mark.parametrize(
    ("dtype", "noises", "largest", "kind", "verdict"),
    [
        ("float32", (0.5, 9.0, np.nan), 0.5, "batch", "above noise"),
        ("bfloat16", (0.5, 9.0, np.nan), 9.0, "precision", "under noise"),
        ("float32", (0.5, 9.0, 2.5), 2.5, "frame", "under noise"),
        ("float32", (0.0, 9.0, np.nan), 1028.25 * 2.0**-23, "rounding", "above noise"),
    ],
)
def test_variant_sensitivity_takes_the_largest_noise_that_applies(tmp_path, dtype, noises, largest, kind, verdict):
    noise = pd.DataFrame([("A", *noises, dtype)], columns=["region", "noise_batch", "noise_precision", "noise_frame", "dtype"])
    table = variant_sensitivity(stored(tmp_path, [SAME, SOME], NoisyEncoder()), noise).set_index("region")
    assert table.loc["A", ["noise", "noise_of", "ratio", "verdict"]].tolist() == [largest, kind, 2.5 / largest, verdict]
    assert table.loc["A", "below_noise"] == sum(distance <= largest for distance in (1, 3, 4))
    assert table.loc["A", ["noise_batch", "noise_precision"]].tolist() == list(noises[:2])
    assert table.index.tolist() == ["B", "A"] and np.isnan(table.loc["B", "noise_batch"])
    told = describe_sensitivity(table.reset_index(), 1234)
    ratio = f"{2.5 / largest:,.4g}"
    unit = "float32 rounding" if kind == "rounding" else "noise"
    start = "Variant sensitivity: noise measured in 1 of 2 regions (1,234 passes); "
    assert told.startswith(f"{start}signal ÷ {unit} {ratio} in the middle, least {ratio} (A).")
    warning = f"\nWARNING: in 1 regions the haplotypes' embeddings differ by no more than noise: A ({kind})."
    assert told.endswith(warning) == (verdict == "under noise")


def test_variant_sensitivity_says_so_where_an_encoder_gives_all_haplotypes_one_vector(tmp_path):
    class Deaf(NoisyEncoder):
        def vector(self, sequence):
            return [0.0, 0.0]

    table = variant_sensitivity(stored(tmp_path, [SOME], Deaf()))
    assert table.loc[0, ["signal", "noise", "below_noise", "verdict"]].tolist() == [0, table.loc[0, "rounding"], 3, "under noise"]
    assert "; signal ÷ float32 rounding 0 in the middle, least 0 (A).\nWARNING" in describe_sensitivity(table, 0)
    assert "no more than noise: A (rounding)" in describe_sensitivity(table, 0)
    assert describe_sensitivity(variant_sensitivity(stored(tmp_path / "b", [SAME], Deaf())), 0) == (
        "Variant sensitivity: noise measured in 0 of 1 regions (0 passes)."
    )
